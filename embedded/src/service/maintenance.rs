//! Status and alarms.

use std::sync::Arc;

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse,
    PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest,
    PbHashResponse, PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse,
    PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use futures::stream::Empty;
use tonic::{Request, Response, Status};

use super::unimplemented;
use crate::{
    shared::Shared,
    store::{MEMBER, Space, TERM, header},
};

/// The etcd whose behaviour this follows where versions differ, marked as not being one.
const VERSION: &str = "3.6.16+embedded";

/// `AlarmRequest.AlarmAction`.
const GET: i32 = 0;
const ACTIVATE: i32 = 1;

/// `AlarmType`.
const ANY: i32 = 0;
const NO_SPACE: i32 = 1;

pub(super) struct Maintenance(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbMaintenanceService for Maintenance {
    type SnapshotStream = Empty<Result<PbSnapshotResponse, Status>>;

    /// Getting alarms, and setting and clearing that of no space.
    async fn alarm(
        &self,
        request: Request<PbAlarmRequest>,
    ) -> Result<Response<PbAlarmResponse>, Status> {
        self.0.admit()?;
        let request = request.into_inner();
        let alarm = PbAlarmMember {
            member_id: MEMBER,
            alarm: NO_SPACE,
        };
        let response = self.0.with(|store, _| {
            let is_meant = matches!(request.alarm, ANY | NO_SPACE);
            let before = store.space();
            match request.action {
                GET => {}
                ACTIVATE if request.alarm == NO_SPACE => store.set_space(Space::Exceeded),
                ACTIVATE => {}
                _ if is_meant => store.set_space(Space::Left),
                _ => {}
            }
            // Clearing tells what was cleared.
            let is_told = is_meant && (before, store.space()) != (Space::Left, Space::Left);
            PbAlarmResponse {
                header: header(store.revision()),
                alarms: is_told.then_some(alarm).into_iter().collect(),
            }
        });
        Ok(Response::new(response))
    }

    async fn status(
        &self,
        _: Request<PbStatusRequest>,
    ) -> Result<Response<PbStatusResponse>, Status> {
        self.0.admit()?;
        let response = self.0.with(|store, _| {
            let errors = match store.space() {
                Space::Left => Vec::new(),
                Space::Exceeded => vec![format!("memberID:{MEMBER} alarm:NOSPACE ")],
            };
            PbStatusResponse {
                header: header(store.revision()),
                version: VERSION.to_owned(),
                db_size: store.size() as i64,
                db_size_in_use: store.size() as i64,
                leader: MEMBER,
                raft_index: store.revision() as u64,
                raft_applied_index: store.revision() as u64,
                raft_term: TERM,
                errors,
                ..PbStatusResponse::default()
            }
        });
        Ok(Response::new(response))
    }

    /// There is nothing to tidy up in memory.
    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        self.0.admit()?;
        Ok(Response::new(PbDefragmentResponse {
            header: header(self.0.with(|store, _| store.revision())),
        }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Err(unimplemented("Hash"))
    }

    async fn hash_kv(
        &self,
        _: Request<PbHashKvRequest>,
    ) -> Result<Response<PbHashKvResponse>, Status> {
        Err(unimplemented("HashKV"))
    }

    async fn snapshot(
        &self,
        _: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(unimplemented("Snapshot"))
    }

    async fn move_leader(
        &self,
        _: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        Err(unimplemented("MoveLeader"))
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(unimplemented("Downgrade"))
    }
}
