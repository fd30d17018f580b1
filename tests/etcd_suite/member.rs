//! What a member says of itself and its cluster.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbMemberListRequest, PbMemberListResponse, PbStatusRequest,
    PbStatusResponse,
};

use crate::{on_both, requests::*, servers::Server};

on_both! {
    there_is_one_member_and_it_leads,
    there_is_no_alarm,
}

async fn there_is_one_member_and_it_leads(etcd: Server) {
    let request = PbMemberListRequest { linearizable: true };
    let list: PbMemberListResponse = etcd
        .unary("/etcdserverpb.Cluster/MemberList", request)
        .await
        .unwrap();
    let header = list.header.unwrap();
    let ids: Vec<_> = list.members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [header.member_id]);
    let path = "/etcdserverpb.Maintenance/Status";
    let status: PbStatusResponse = etcd.unary(path, PbStatusRequest {}).await.unwrap();
    assert_eq!(status.leader, header.member_id);
    assert_eq!(revision(&status.header), etcd.revision(0));
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(status.raft_term > 0 && status.errors.is_empty());
}

async fn there_is_no_alarm(etcd: Server) {
    let path = "/etcdserverpb.Maintenance/Alarm";
    let request = PbAlarmRequest::default();
    let answer: PbAlarmResponse = etcd.unary(path, request).await.unwrap();
    assert_eq!(answer.alarms, []);
}
