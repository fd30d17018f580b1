//! Leases.

use std::sync::Arc;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};

use crate::shared::Shared;

pub(super) struct Lease(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbLeaseService for Lease {
    type LeaseKeepAliveStream = BoxStream<'static, Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        self.0.admit()?;
        let (request, random) = (request.into_inner(), fastrand::i64(1..));
        let response = self
            .0
            .with(|store, now| store.grant(&request, random, now))?;
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, _| store.revoke(&request))?;
        Ok(Response::new(response))
    }

    async fn lease_keep_alive(
        &self,
        requests: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.0.admit()?;
        let shared = self.0.clone();
        let answer = move |request: Result<PbLeaseKeepAliveRequest, Status>| {
            let request = request?;
            Ok(shared.with(|store, now| store.keep_alive(&request, now)))
        };
        Ok(Response::new(requests.into_inner().map(answer).boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, now| store.time_to_live(&request, now));
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        self.0.admit()?;
        Ok(Response::new(self.0.with(|store, _| store.leases())))
    }
}
