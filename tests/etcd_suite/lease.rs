//! Leases.

use std::time::Duration;

use etcd_client::proto::{PbLeaseTimeToLiveRequest, PbPutRequest};
use tokio::time::{Instant, interval};
use tonic::Code;

use crate::{on_both, requests::*, servers::Server};

on_both! {
    a_lease_has_the_id_it_was_given,
    a_lease_without_an_id_gets_one,
    an_id_is_given_once,
    a_revoked_id_is_free_again,
    a_ttl_is_two_seconds_at_least,
    a_ttl_has_an_upper_bound,
    granting_and_renewing_are_no_revisions,
    revoking_deletes_the_keys_in_one_revision_in_their_order,
    revoking_a_lease_without_keys_is_no_revision,
    revoking_what_is_unknown_is_refused,
    what_is_unknown_has_minus_one_to_live,
    keys_come_only_if_asked_for,
    renewing_what_is_unknown_answers_zero,
    one_stream_renews_many_leases,
    all_leases_are_listed,
    an_expired_lease_deletes_its_keys_in_one_revision_in_their_order,
    a_renewed_lease_outlives_one_that_is_not,
}

const NOT_FOUND: &str = "etcdserver: requested lease not found";

async fn a_lease_has_the_id_it_was_given(etcd: Server) {
    for id in [1, i64::MAX, -5] {
        let answer = etcd.grant(lease(id, 100)).await.unwrap();
        assert_eq!((answer.id, answer.ttl, &*answer.error), (id, 100, ""));
        assert_eq!(revision(&answer.header), etcd.revision(0));
    }
}

async fn a_lease_without_an_id_gets_one(etcd: Server) {
    let one = etcd.grant(lease(0, 100)).await.unwrap().id;
    let two = etcd.grant(lease(0, 100)).await.unwrap().id;
    assert!(one > 0 && two > 0 && one != two, "{one} {two}");
    etcd.put(put_under("a", "1", one)).await.unwrap();
}

async fn an_id_is_given_once(etcd: Server) {
    etcd.grant(lease(7, 100)).await.unwrap();
    let message = "etcdserver: lease already exists";
    refused(
        etcd.grant(lease(7, 200)).await,
        Code::FailedPrecondition,
        message,
    );
    let answer = etcd.time_to_live(left_of(7)).await.unwrap();
    assert_eq!(answer.granted_ttl, 100);
}

async fn a_revoked_id_is_free_again(etcd: Server) {
    etcd.grant(lease(7, 100)).await.unwrap();
    etcd.revoke(7).await.unwrap();
    etcd.grant(lease(7, 200)).await.unwrap();
}

async fn a_ttl_is_two_seconds_at_least(etcd: Server) {
    for (id, asked, granted) in [(1, 1, 2), (2, 0, 2), (3, -9, 2), (4, 2, 2), (5, 3, 3)] {
        let answer = etcd.grant(lease(id, asked)).await.unwrap();
        assert_eq!(answer.ttl, granted, "for {asked}");
    }
}

async fn a_ttl_has_an_upper_bound(etcd: Server) {
    let most = 9_000_000_000;
    assert_eq!(etcd.grant(lease(7, most)).await.unwrap().ttl, most);
    let message = "etcdserver: too large lease TTL";
    for ttl in [most + 1, i64::MAX] {
        refused(etcd.grant(lease(8, ttl)).await, Code::OutOfRange, message);
    }
}

async fn granting_and_renewing_are_no_revisions(etcd: Server) {
    etcd.grant(lease(7, 100)).await.unwrap();
    let answers = etcd.keep_alive([7]).await.unwrap();
    assert_eq!(revision(&answers[0].header), etcd.revision(0));
    assert_eq!((answers[0].id, answers[0].ttl), (7, 100));
}

async fn revoking_deletes_the_keys_in_one_revision_in_their_order(etcd: Server) {
    etcd.grant(lease(7, 100)).await.unwrap();
    for key in ["c", "a", "d", "b"] {
        etcd.put(put_under(key, "1", 7)).await.unwrap();
    }
    etcd.put(put("bb", "1")).await.unwrap();
    let mut stream = etcd.watch(watch_range("a", "z").create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    let answer = etcd.revoke(7).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(6));
    let answer = stream.next().await.unwrap();
    let expected = ["-a@6", "-b@6", "-c@6", "-d@6"];
    assert_eq!(written(&answer.events, etcd.revision(0)), expected);
    assert_eq!(keys(&etcd.range(get_all()).await.unwrap().kvs), ["bb"]);
}

async fn revoking_a_lease_without_keys_is_no_revision(etcd: Server) {
    etcd.grant(lease(7, 100)).await.unwrap();
    let answer = etcd.revoke(7).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(0));
}

async fn revoking_what_is_unknown_is_refused(etcd: Server) {
    for id in [7, 0, -7] {
        refused(etcd.revoke(id).await, Code::NotFound, NOT_FOUND);
    }
}

async fn what_is_unknown_has_minus_one_to_live(etcd: Server) {
    let answer = etcd.time_to_live(left_of(7)).await.unwrap();
    assert_eq!((answer.id, answer.ttl, answer.granted_ttl), (7, -1, 0));
    assert_eq!(revision(&answer.header), etcd.revision(0));
}

async fn keys_come_only_if_asked_for(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put_under("a", "1", 7)).await.unwrap();
    let request = PbLeaseTimeToLiveRequest { id: 7, keys: false };
    let answer = etcd.time_to_live(request).await.unwrap();
    assert_eq!((answer.granted_ttl, answer.keys.len()), (1000, 0));
    assert!((900..=1000).contains(&answer.ttl), "{}", answer.ttl);
    let answer = etcd.time_to_live(left_of(7)).await.unwrap();
    assert_eq!(answer.keys, [b"a"]);
}

async fn renewing_what_is_unknown_answers_zero(etcd: Server) {
    let answers = etcd.keep_alive([7]).await.unwrap();
    assert_eq!((answers.len(), answers[0].id, answers[0].ttl), (1, 7, 0));
}

async fn one_stream_renews_many_leases(etcd: Server) {
    for id in 1..=3 {
        etcd.grant(lease(id, 100 * id)).await.unwrap();
    }
    let answers = etcd.keep_alive([3, 1, 9, 2, 3]).await.unwrap();
    let seen: Vec<_> = answers
        .iter()
        .map(|answer| (answer.id, answer.ttl))
        .collect();
    assert_eq!(seen, [(3, 300), (1, 100), (9, 0), (2, 200), (3, 300)]);
}

async fn all_leases_are_listed(etcd: Server) {
    assert_eq!(etcd.leases().await.unwrap().leases.len(), 0);
    for (id, ttl) in [(5, 300), (6, 100), (7, 200)] {
        etcd.grant(lease(id, ttl)).await.unwrap();
    }
    etcd.revoke(6).await.unwrap();
    let answer = etcd.leases().await.unwrap();
    let mut ids: Vec<_> = answer.leases.iter().map(|lease| lease.id).collect();
    ids.sort();
    assert_eq!(ids, [5, 7]);
}

async fn an_expired_lease_deletes_its_keys_in_one_revision_in_their_order(etcd: Server) {
    let mut stream = etcd.watch(watch_range("a", "z").create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    let granted = Instant::now();
    etcd.grant(lease(7, 2)).await.unwrap();
    let writes = [put_under("b", "1", 7).op(), put_under("a", "1", 7).op()];
    etcd.txn(all_of(writes)).await.unwrap();
    let base = etcd.revision(0);
    let answer = stream.next().await.unwrap();
    assert_eq!(written(&answer.events, base), ["+b=1@1", "+a=1@1"]);

    let answer = stream.next().await.unwrap();
    assert_eq!(written(&answer.events, base), ["-a@2", "-b@2"]);
    assert!(granted.elapsed() >= Duration::from_secs(2));
    let answer = etcd.time_to_live(left_of(7)).await.unwrap();
    assert_eq!(answer.ttl, -1);
    assert_eq!(etcd.keep_alive([7]).await.unwrap()[0].ttl, 0);
    refused(
        etcd.put(put_under("a", "1", 7)).await,
        Code::NotFound,
        NOT_FOUND,
    );
}

async fn a_renewed_lease_outlives_one_that_is_not(etcd: Server) {
    for (id, key) in [(7, "forgotten"), (8, "renewed")] {
        etcd.grant(lease(id, 2)).await.unwrap();
        let request = PbPutRequest {
            lease: id,
            ..put(key, "1")
        };
        etcd.put(request).await.unwrap();
    }
    let mut stream = etcd.watch(watch("forgotten").create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    let mut renewals = interval(Duration::from_millis(200));
    let deleted = stream.next();
    tokio::pin!(deleted);
    let answer = loop {
        tokio::select! {
            answer = &mut deleted => break answer.unwrap(),
            _ = renewals.tick() => {}
        }
        assert_eq!(etcd.keep_alive([8]).await.unwrap()[0].ttl, 2);
    };
    assert_eq!(written(&answer.events, etcd.revision(0)), ["-forgotten@3"]);
    assert_eq!(keys(&etcd.range(get_all()).await.unwrap().kvs), ["renewed"]);
}
