//! Who is alive.

use switchboard::{
    PublicationStatus,
    coordination::{Member, MemberChange, Members},
};

use crate::{
    on_both,
    server::{Server, soon},
};

on_both! {
    who_joins_and_leaves_is_told,
    who_crashes_is_gone_within_the_ttl_and_a_second,
    who_comes_back_under_the_same_id_takes_its_place,
    members_stay_while_etcd_is_away,
    groups_whose_names_begin_alike_are_apart,
    what_is_no_name_is_refused,
    a_member_that_etcd_has_no_room_for_is_told_so,
}

fn member(id: &str) -> Member {
    Member::new(id).unwrap()
}

fn ids(members: &Members) -> Vec<String> {
    members.current().map(|it| it.id().to_string()).collect()
}

async fn who_joins_and_leaves_is_told(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut workers = soon(Members::follow(&registry, "workers")).await.unwrap();
    assert_eq!(workers.current().len(), 0);
    let other = etcd.registry().await;
    let first = Members::join(&other, "workers", member("1").with_metadata("zone", "a")).unwrap();
    soon(first.joined()).await.unwrap();
    let changes = soon(workers.changed()).await.unwrap();
    let joined = member("1").with_metadata("zone", "a");
    assert_eq!(changes, [MemberChange::Joined(joined)]);
    soon(first.update(member("1").with_metadata("zone", "b")))
        .await
        .unwrap();
    let changes = soon(workers.changed()).await.unwrap();
    let updated = member("1").with_metadata("zone", "b");
    assert_eq!(changes, [MemberChange::Updated(updated.clone())]);
    // Several of one registry, and nobody is dialed.
    let second = Members::join(&other, "workers", Member::anonymous()).unwrap();
    soon(second.joined()).await.unwrap();
    soon(workers.changed()).await.unwrap();
    assert_eq!(workers.current().len(), 2);
    soon(first.leave()).await.unwrap();
    assert_eq!(
        soon(workers.changed()).await.unwrap(),
        [MemberChange::Left(updated)]
    );
    drop(second);
    soon(workers.changed()).await.unwrap();
    assert_eq!(workers.current().len(), 0);
}

async fn who_crashes_is_gone_within_the_ttl_and_a_second(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut workers = soon(Members::follow(&registry, "workers")).await.unwrap();
    let endpoint = etcd.endpoint().to_owned();
    // Its runtime ends without a word.
    let process = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let membership = runtime.block_on(async {
            let registry = switchboard::Registry::builder(&*endpoint).unwrap();
            let registry = registry.ttl(std::time::Duration::from_secs(2)).connect();
            let membership = Members::join(&registry.await.unwrap(), "workers", member("1"));
            let membership = membership.unwrap();
            membership.joined().await.unwrap();
            membership
        });
        runtime.shutdown_background();
        drop(membership);
    });
    process.await.unwrap();
    soon(workers.changed()).await.unwrap();
    assert_eq!(ids(&workers), ["1"]);
    let began = tokio::time::Instant::now();
    assert_eq!(
        soon(workers.changed()).await.unwrap(),
        [MemberChange::Left(member("1"))]
    );
    assert!(
        began.elapsed() < std::time::Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

async fn who_comes_back_under_the_same_id_takes_its_place(etcd: &mut Server) {
    let (one, other) = (etcd.registry().await, etcd.registry().await);
    let old = Members::join(&one, "workers", member("1").with_metadata("run", "1")).unwrap();
    soon(old.joined()).await.unwrap();
    let new = Members::join(&other, "workers", member("1").with_metadata("run", "2")).unwrap();
    soon(new.joined()).await.unwrap();
    let mut status = old.status();
    let superseded = |status: &PublicationStatus| matches!(status, PublicationStatus::Superseded);
    drop(soon(status.wait_for(superseded)).await.unwrap());
    let workers = soon(Members::follow(&one, "workers")).await.unwrap();
    let runs: Vec<_> = workers
        .current()
        .map(|it| it.metadata()["run"].clone())
        .collect();
    assert_eq!(runs, ["2"]);
}

async fn members_stay_while_etcd_is_away(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let membership = Members::join(&etcd.registry().await, "workers", member("1")).unwrap();
    soon(membership.joined()).await.unwrap();
    let mut workers = soon(Members::follow(&registry, "workers")).await.unwrap();
    etcd.restart().await;
    let newcomer = Members::join(&etcd.registry().await, "workers", member("2")).unwrap();
    soon(newcomer.joined()).await.unwrap();
    while ids(&workers) != ["1", "2"] {
        let changes = soon(workers.changed()).await.unwrap();
        assert!(
            !changes.iter().any(|it| matches!(it, MemberChange::Left(_))),
            "{changes:?}"
        );
    }
}

async fn groups_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let membership = Members::join(&registry, "workers-2", member("1")).unwrap();
    soon(membership.joined()).await.unwrap();
    let workers = soon(Members::follow(&registry, "workers")).await.unwrap();
    assert_eq!(workers.current().len(), 0);
    // Nor is a member a server.
    assert_eq!(soon(registry.services()).await.unwrap(), []);
}

async fn what_is_no_name_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "a/b", "a\n"] {
        assert!(Member::new(name).is_err());
        assert!(Members::join(&registry, name, member("1")).is_err());
        assert!(Members::follow(&registry, name).await.is_err());
    }
    assert_eq!(etcd.revision().await, before);
}

async fn a_member_that_etcd_has_no_room_for_is_told_so(etcd: &mut Server) {
    let registry = etcd.registry().await;
    for mebibytes in [2, 4] {
        let large = member("1").with_metadata("x", "x".repeat(mebibytes << 20));
        let membership = Members::join(&registry, "workers", large).unwrap();
        let error = soon(membership.joined()).await.unwrap_err();
        let told = format!("{:#}", anyhow::Error::from(error));
        assert!(told.contains("etcd refuses"), "{told}");
        // A smaller one is taken.
        soon(membership.update(member("1"))).await.unwrap();
    }
}
