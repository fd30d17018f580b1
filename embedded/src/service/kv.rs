//! Keys and values.

use std::sync::Arc;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse,
    PbTxnRequest, PbTxnResponse,
};
use futures::stream::Empty;
use tonic::{Request, Response, Status};

use super::unimplemented;
use crate::shared::Shared;

pub(super) struct Kv(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbKvService for Kv {
    type RangeStreamStream = Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range(
        &self,
        request: Request<PbRangeRequest>,
    ) -> Result<Response<PbRangeResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, _| store.range(&request))?;
        Ok(Response::new(response))
    }

    async fn range_stream(
        &self,
        _: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(unimplemented("RangeStream"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, _| store.put(&request))?;
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, _| store.delete(&request))?;
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, _| store.txn(&request))?;
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let response = self.0.with(|store, _| store.compact(&request))?;
        Ok(Response::new(response))
    }
}
