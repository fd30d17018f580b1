//! What is too large.

use etcd_client::proto::PbPutRequest;
use tonic::Code;

use crate::{on_both, requests::*, servers::Server};

on_both! {
    a_request_over_one_and_a_half_mebibytes_is_refused,
    a_transaction_over_one_and_a_half_mebibytes_is_refused,
    a_message_over_what_grpc_takes_is_refused,
}

const MEBIBYTE: usize = 1 << 20;

fn large(key: &str, bytes: usize) -> PbPutRequest {
    put(key, &"x".repeat(bytes))
}

async fn a_request_over_one_and_a_half_mebibytes_is_refused(etcd: Server) {
    etcd.put(large("a", MEBIBYTE * 3 / 2 - 1024)).await.unwrap();
    let answer = etcd.put(large("a", MEBIBYTE * 3 / 2 + 1)).await;
    let message = "etcdserver: request is too large";
    refused(answer, Code::InvalidArgument, message);
    assert_eq!(
        revision(&etcd.range(get("b")).await.unwrap().header),
        etcd.revision(1)
    );
}

async fn a_transaction_over_one_and_a_half_mebibytes_is_refused(etcd: Server) {
    let writes = [large("a", MEBIBYTE).op(), large("b", MEBIBYTE / 2 + 1).op()];
    let message = "etcdserver: request is too large";
    refused(
        etcd.txn(all_of(writes)).await,
        Code::InvalidArgument,
        message,
    );
}

async fn a_message_over_what_grpc_takes_is_refused(etcd: Server) {
    // Two MiB are etcd's bound; the words are those of its gRPC library.
    let status = etcd.put(large("a", MEBIBYTE * 3)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    etcd.put(put("a", "1")).await.unwrap();
}
