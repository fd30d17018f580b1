//! One leader at a time.

use std::{pin::pin, time::Duration};

use switchboard::{
    Registry,
    coordination::{Election, ElectionError, Leader, Leadership, Lost, ProclaimError},
    keys::{KeyRange, KeyValue, Operation, Selection, Transaction},
};
use switchboard_test_support::{RawEtcd, eventually};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use crate::{
    on_both,
    server::{SOON, Server, TTL, cancel_after, delete, is_closed, put, soon, spawn},
};

on_both! {
    candidates_lead_in_the_order_in_which_they_came,
    a_leader_that_is_killed_is_followed_within_its_ttl_and_a_second,
    a_leader_whose_lease_is_revoked_is_followed_at_once,
    a_leadership_is_lost_before_its_lease_can_be,
    a_leader_can_be_asked_for,
    who_leads_no_longer_proclaims_nothing,
    work_ends_with_the_leadership,
    who_loses_its_lease_while_it_waits_stands_again,
    who_gives_up_stands_no_longer,
    what_is_cancelled_anywhere_leaves_nothing,
    standing_goes_on_whatever_becomes_of_etcd,
    elections_whose_names_begin_alike_are_apart,
    an_election_ends_with_its_registry,
    what_cannot_be_is_refused_and_nothing_is_written,
    transactions_are_guarded_by_the_leadership,
}

pub(crate) const NAME: &str = "/shop/cashier";

pub(crate) fn election_of(registry: &Registry) -> Election {
    Election::new(registry, NAME).unwrap()
}

pub(crate) async fn campaign(registry: &Registry, value: &str) -> Leadership {
    soon(election_of(registry).campaign(value)).await.unwrap()
}

/// Campaigns in a process of its own, which dies with what this returns.
pub(crate) async fn campaign_apart(etcd: &Server, value: &'static str) -> (Runtime, Leadership) {
    let apart = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let registry = Registry::builder(etcd.endpoint()).unwrap().ttl(TTL);
    let elected = apart.spawn(async move {
        let registry = registry.connect().await.unwrap();
        election_of(&registry).campaign(value).await.unwrap()
    });
    let leadership = soon(elected).await.unwrap();
    (apart, leadership)
}

/// Returns what is in etcd under the election's name.
pub(crate) async fn keys(etcd: &Server) -> Vec<KeyValue> {
    let all = Selection::of(KeyRange::Under(format!("{NAME}/")));
    let registry = etcd.registry().await;
    soon(registry.keys().select(&all)).await.unwrap().keys
}

pub(crate) async fn nothing_is_left(etcd: &Server) {
    eventually(
        SOON,
        "no key is left",
        async || match &keys(etcd).await[..] {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        },
    )
    .await;
}

pub(crate) async fn standing(etcd: &Server, count: usize) {
    let there = async || match keys(etcd).await.len() {
        there if there == count => Ok(()),
        there => Err(there),
    };
    eventually(SOON, "so many stand", there).await;
}

pub(crate) async fn leader(etcd: &Server) -> Option<Leader> {
    let registry = etcd.registry().await;
    soon(election_of(&registry).leader()).await.unwrap()
}

pub(crate) async fn key(etcd: &Server) -> String {
    String::from_utf8(keys(etcd).await.remove(0).key).unwrap()
}

async fn candidates_lead_in_the_order_in_which_they_came(etcd: &mut Server) {
    let first = campaign(&etcd.registry().await, "0").await;
    let (told, mut served) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=5 {
        let (registry, told) = (etcd.registry().await, told.clone());
        tasks.spawn(async move {
            let leadership = campaign(&registry, &number.to_string()).await;
            told.send((number, leadership.token())).unwrap();
            leadership.resign().await.unwrap();
        });
        standing(etcd, 1 + number).await;
    }
    assert_eq!(leader(etcd).await.unwrap().value, b"0");
    let mut last = first.token();
    first.resign().await.unwrap();
    for number in 1..=5 {
        let (served, token) = soon(served.recv()).await.unwrap();
        assert!(served == number && token > last);
        last = token;
    }
    soon(tasks.join_all()).await;
    nothing_is_left(etcd).await;
}

async fn a_leader_that_is_killed_is_followed_within_its_ttl_and_a_second(etcd: &mut Server) {
    let (process, leadership) = campaign_apart(etcd, "killed").await;
    let next = etcd.registry().await;
    let mut next = pin!(campaign(&next, "next"));
    tokio::select! {
        _ = &mut next => panic!("it leads"),
        () = standing(etcd, 2) => {}
    }
    process.shutdown_background();
    let killed = Instant::now();
    let next = next.await;
    let took = killed.elapsed();
    assert!(took <= TTL + Duration::from_secs(1), "{took:?}");
    assert!(next.token() > leadership.token());
    // Nobody was told: it was not etcd's doing alone.
    assert!(took > Duration::from_millis(500), "{took:?}");
    next.resign().await.unwrap();
}

async fn a_leader_whose_lease_is_revoked_is_followed_at_once(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let leadership = campaign(&registry, "first").await;
    let lease = keys(etcd).await[0].lease;
    let next = etcd.registry().await;
    let mut next = pin!(campaign(&next, "next"));
    tokio::select! {
        _ = &mut next => panic!("it leads"),
        () = standing(etcd, 2) => {}
    }
    RawEtcd::connect(etcd.endpoint())
        .revoke(lease)
        .await
        .unwrap();
    let next = soon(next).await;
    soon(leadership.lost()).await;
    assert!(!leadership.is_held() && next.token() > leadership.token());
    leadership.resign().await.unwrap_err();
    // There is another lease to stand with.
    let again = spawn(async move { campaign(&registry, "again").await });
    standing(etcd, 2).await;
    next.resign().await.unwrap();
    again.joined().await.resign().await.unwrap();
}

async fn a_leadership_is_lost_before_its_lease_can_be(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let leadership = campaign(&registry, "ada").await;
    etcd.freeze();
    let start = Instant::now();
    assert_eq!(soon(leadership.lost()).await, Lost::Lease);
    let took = start.elapsed();
    assert!(took <= TTL + Duration::from_millis(500), "{took:?}");
    let error = leadership.proclaim("too late").await.unwrap_err();
    assert!(matches!(error, ProclaimError::Lost(Lost::Lease)), "{error}");
    etcd.thaw();
    // What was lost stays lost, though the lease may have been renewed.
    assert!(!leadership.is_held());
    assert_eq!(leadership.resign().await.unwrap_err(), Lost::Lease);
    nothing_is_left(etcd).await;
    campaign(&registry, "ada").await.resign().await.unwrap();
}

async fn a_leader_can_be_asked_for(etcd: &mut Server) {
    assert_eq!(leader(etcd).await, None);
    let leadership = campaign(&etcd.registry().await, "ada").await;
    let told = leader(etcd).await.unwrap();
    assert_eq!(told.value, b"ada");
    assert_eq!(
        (told.token, told.revision),
        (leadership.token(), told.token)
    );
    let revision = leadership.proclaim("bob").await.unwrap();
    let told = leader(etcd).await.unwrap();
    assert_eq!((told.value, told.revision), (b"bob".to_vec(), revision));
    assert_eq!(told.token, leadership.token());
    leadership.resign().await.unwrap();
    assert_eq!(leader(etcd).await, None);
}

async fn who_leads_no_longer_proclaims_nothing(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let leadership = campaign(&registry, "ada").await;
    let key = key(etcd).await;
    delete(&registry, &key).await;
    let before = etcd.revision().await;
    let error = leadership.proclaim("bob").await.unwrap_err();
    assert!(matches!(error, ProclaimError::Lost(Lost::Key)), "{error}");
    assert!(!leadership.is_held());
    // Not even where the key is there again.
    let other = campaign_without_turn(&registry, &key).await;
    let error = leadership.proclaim("bob").await.unwrap_err();
    assert!(matches!(error, ProclaimError::Lost(Lost::Key)), "{error}");
    assert_eq!(etcd.revision().await, before + 1);
    assert_eq!(leadership.resign().await.unwrap_err(), Lost::Key);
    assert_eq!(keys(etcd).await[0].created, other);
}

/// Puts a key under the registry's lease, as others do who share it; returns the revision.
async fn campaign_without_turn(registry: &Registry, key: &str) -> i64 {
    let lease = soon(registry.keys().tenure()).await.unwrap().lease();
    let put = Transaction::new().then(Operation::put(key, "theirs", Some(lease)));
    soon(registry.keys().commit(put)).await.unwrap().revision
}

async fn work_ends_with_the_leadership(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let leadership = campaign(&registry, "ada").await;
    let proclaimed = leadership.hold(leadership.proclaim("bob")).await;
    proclaimed.unwrap().unwrap();
    let work = std::future::pending::<()>();
    let key = key(etcd).await;
    let (held, ()) = tokio::join!(soon(leadership.hold(work)), delete(&registry, &key));
    assert_eq!(held, Err(Lost::Key));
}

async fn who_loses_its_lease_while_it_waits_stands_again(etcd: &mut Server) {
    let first = campaign(&etcd.registry().await, "first").await;
    let second = etcd.registry().await;
    let mut waits = pin!(campaign(&second, "second"));
    tokio::select! {
        _ = &mut waits => panic!("it leads"),
        () = standing(etcd, 2) => {}
    }
    let there = keys(etcd).await;
    let theirs = there.iter().find(|kv| kv.created != first.token()).unwrap();
    RawEtcd::connect(etcd.endpoint())
        .revoke(theirs.lease)
        .await
        .unwrap();
    for count in [1, 2] {
        tokio::select! {
            _ = &mut waits => panic!("it leads"),
            () = standing(etcd, count) => {}
        }
    }
    first.resign().await.unwrap();
    let second = soon(waits).await;
    assert!(second.token() > theirs.created);
    assert_eq!(leader(etcd).await.unwrap().value, b"second");
    second.resign().await.unwrap();
}

async fn who_gives_up_stands_no_longer(etcd: &mut Server) {
    let first = campaign(&etcd.registry().await, "first").await;
    let limit = Duration::from_millis(300);
    for registry in [etcd.registry().await, etcd.registry().await] {
        let elected = election_of(&registry).campaign_within("ada", limit).await;
        let error = elected.unwrap_err();
        assert!(matches!(error, ElectionError::TimedOut(_)), "{error}");
    }
    standing(etcd, 1).await;
    drop(first);
    nothing_is_left(etcd).await;
}

async fn what_is_cancelled_anywhere_leaves_nothing(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let held = campaign(&etcd.registry().await, "held").await;
    for polls in 0..30 {
        let election = election_of(&registry);
        let campaigning = election.campaign("cancelled");
        cancel_after(polls, campaigning).await;
    }
    standing(etcd, 1).await;
    for polls in 0..10 {
        cancel_after(polls, held.proclaim(polls.to_string())).await;
    }
    held.proclaim("last").await.unwrap();
    assert_eq!(leader(etcd).await.unwrap().value, b"last");
    drop(held);
    nothing_is_left(etcd).await;
    // Whoever has half resigned has resigned.
    let mut resigning = Box::pin(campaign(&registry, "ada").await.resign());
    assert!(futures::poll!(&mut resigning).is_pending());
    drop(resigning);
    nothing_is_left(etcd).await;
}

async fn standing_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    let leadership = campaign(&here, "here").await;
    let waits = spawn(async move { campaign(&there, "there").await });
    standing(etcd, 2).await;
    // Nobody has it any more after that.
    let check = || assert!(!(waits.is_finished() && leadership.is_held()), "two lead");
    etcd.suffer(&here, check).await;
    soon(leadership.lost()).await;
    drop(leadership);
    let leadership = waits.joined().await;
    assert_eq!(leader(etcd).await.unwrap().value, b"there");
    leadership.resign().await.unwrap();
}

async fn elections_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut held = Vec::new();
    for name in ["/a/b", "/ab", "/a-b", "/a", "/a/b/c"] {
        let election = Election::new(&registry, name).unwrap();
        held.push(soon(election.campaign(name)).await.unwrap());
    }
    for name in ["/a/b", "/ab", "/a-b", "/a", "/a/b/c"] {
        let election = Election::new(&registry, name).unwrap();
        let leader = soon(election.leader()).await.unwrap().unwrap();
        assert_eq!(leader.value, name.as_bytes());
        let told = soon(election.observe().next()).await.unwrap().unwrap();
        assert_eq!(told, leader);
    }
    let mut observer = Election::new(&registry, "/a").unwrap().observe();
    soon(observer.next()).await.unwrap().unwrap();
    drop(held.remove(3));
    assert_eq!(soon(observer.next()).await.unwrap(), None);
    let election = Election::new(&registry, "/a").unwrap();
    assert_eq!(soon(election.leader()).await.unwrap(), None);
    let other = etcd.registry().await;
    let election = Election::new(&other, "/a").unwrap();
    let leadership = soon(election.campaign("other")).await.unwrap();
    leadership.resign().await.unwrap();
}

async fn an_election_ends_with_its_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let leadership = campaign(&registry, "ada").await;
    let mut observer = election_of(&registry).observe();
    soon(observer.next()).await.unwrap();
    let other = etcd.registry().await;
    let theirs = election_of(&other);
    let mut waits = pin!(theirs.campaign("bob"));
    tokio::select! {
        _ = &mut waits => panic!("it leads"),
        () = standing(etcd, 2) => {}
    }
    let (waited, ()) = tokio::join!(waits, soon(other.close()));
    let error = waited.unwrap_err();
    assert!(
        matches!(&error, ElectionError::Etcd(failure) if is_closed(failure)),
        "{error}"
    );
    let closing = soon(registry.clone().close());
    let (lost, (), told) = tokio::join!(leadership.lost(), closing, soon(observer.next()));
    assert_eq!(lost, Lost::Lease);
    told.unwrap_err();
    let error = election_of(&registry).campaign("ada").await.unwrap_err();
    assert!(
        matches!(&error, ElectionError::Etcd(failure) if is_closed(failure)),
        "{error}"
    );
    nothing_is_left(etcd).await;
}

async fn what_cannot_be_is_refused_and_nothing_is_written(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let leadership = campaign(&registry, "ada").await;
    let before = etcd.revision().await;
    for name in ["", "/", "/a//b", "/a\n", "/microservices/greeter"] {
        Election::new(&registry, name).unwrap_err();
    }
    let largest = vec![b'a'; 1 << 20];
    let too_large = vec![b'a'; (1 << 20) + 1];
    let error = election_of(&registry).campaign(&too_large).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "proposal: 1048577 bytes (expected: at most 1048576)"
    );
    let error = leadership.proclaim(&too_large).await.unwrap_err();
    assert!(matches!(error, ProclaimError::TooLarge(1_048_577)));
    assert_eq!(etcd.revision().await, before);
    soon(leadership.proclaim(&largest)).await.unwrap();
    leadership.resign().await.unwrap();
    // A key of our own name under a lease that is not ours.
    let lease = soon(registry.keys().tenure()).await.unwrap().lease();
    let key = format!("{NAME}/{lease:x}");
    put(&registry, &key, "theirs").await;
    let before = etcd.revision().await;
    let error = soon(election_of(&registry).campaign("ada")).await;
    let error = error.unwrap_err();
    assert!(
        matches!(&error, ElectionError::Foreign(it) if *it == key),
        "{error}"
    );
    assert_eq!(etcd.revision().await, before);
}

async fn transactions_are_guarded_by_the_leadership(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let succeeds = async |guard| {
        let write = Transaction::new()
            .when(guard)
            .then(Operation::put("/till", "7", None));
        soon(registry.keys().commit(write)).await.unwrap().succeeded
    };
    let leadership = campaign(&registry, "ada").await;
    let guard = leadership.guard();
    leadership.proclaim("bob").await.unwrap();
    assert!(succeeds(guard.clone()).await);
    leadership.resign().await.unwrap();
    let again = campaign(&registry, "ada").await;
    assert!(!succeeds(guard).await);
    assert!(succeeds(again.guard()).await);
}
