//! Who leads is told: each once, in order, and none is missed in silence.

use std::time::Duration;

use futures::StreamExt;
use switchboard::{
    Registry,
    coordination::{Failure, Leader, ObserveError, Observer},
    keys::{By, KeyRange, Selection},
};
use switchboard_test_support::eventually;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    deaf::Deaf,
    election::{NAME, campaign, campaign_apart, election_of, keys, standing},
    on_both,
    server::{SOON, Server, begin_elsewhere, delete, put, soon, spawn},
};

on_both! {
    all_who_observe_are_told_every_leader_once_and_in_order,
    all_is_told_over_restarts,
    what_came_and_went_while_nobody_looked_is_told,
    who_leads_is_told_at_once_and_then_nobody,
    proclamations_are_told_in_order_and_those_of_candidates_are_not,
    a_killed_leader_is_told_as_gone,
    a_compacted_history_is_a_gap,
    who_led_all_the_while_is_no_gap,
    a_wiped_etcd_is_a_gap,
    an_etcd_that_was_wiped_and_has_grown_past_is_a_gap,
    an_etcd_that_was_wiped_is_followed_from_its_beginning,
    who_gives_up_looking_misses_nothing,
    what_is_told_can_be_a_stream,
    who_looked_on_a_runtime_that_has_ended_looks_on_another,
}

async fn observer(etcd: &Server) -> Observer {
    election_of(&etcd.registry().await).observe()
}

async fn next(observer: &mut Observer) -> Option<Leader> {
    soon(observer.next()).await.unwrap()
}

async fn value(observer: &mut Observer) -> Option<String> {
    let leader = next(observer).await;
    leader.map(|leader| String::from_utf8(leader.value).unwrap())
}

async fn is_a_gap(observer: &mut Observer) {
    let told = soon(observer.next()).await;
    assert!(matches!(told, Err(ObserveError::Gap)), "{told:?}");
}

async fn expect_nothing(observer: &mut Observer) {
    let told = timeout(Duration::from_millis(300), observer.next()).await;
    assert!(told.is_err(), "{told:?}");
}

/// A leader's proclamation, token and revision; `None` for nobody.
type Led = Option<(Vec<u8>, i64, i64)>;

/// Returns who has led since a revision, as etcd's own history has it.
async fn who_led(etcd: &Server, since: i64) -> Vec<Led> {
    let registry = etcd.registry().await;
    let mut led = Vec::new();
    for revision in since..=etcd.revision().await {
        let all = Selection::of(KeyRange::Under(format!("{NAME}/")));
        let first = all.first(By::Creation).limit(1).at(revision);
        let found = soon(registry.keys().select(&first)).await.unwrap();
        let leader = found.keys.into_iter().next();
        let leader = leader.map(|kv| (kv.value, kv.created, kv.revision));
        if led.last() != Some(&leader) {
            led.push(leader);
        }
    }
    led
}

/// Observes in a task, which sends all that is told.
fn observing(registry: &Registry) -> mpsc::UnboundedReceiver<Led> {
    let (tell, told) = mpsc::unbounded_channel();
    let mut observer = election_of(registry).observe();
    TaskTracker::new().spawn(async move {
        loop {
            match observer.next().await {
                Ok(leader) => {
                    let led = leader.map(|it| (it.value, it.token, it.revision));
                    tell.send(led).unwrap();
                }
                Err(ObserveError::Etcd(Failure::Closed)) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    told
}

/// Sees that this is told, and no more.
async fn expect(told: &mut mpsc::UnboundedReceiver<Led>, led: &[Led]) {
    for leader in led {
        assert_eq!(soon(told.recv()).await.as_ref(), Some(leader));
    }
    let more = timeout(Duration::from_millis(300), told.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

/// Lets leaders follow each other quickly.
async fn succeed(registry: Registry, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let leadership = campaign(&registry, &number.to_string()).await;
        if number % 3 == 0 {
            // Where the leadership is lost, nothing is told of it.
            let _ = leadership.proclaim(format!("{number} again")).await;
        }
        // Where it is lost, it goes all the same.
        let _ = soon(leadership.resign()).await;
    }
}

async fn all_who_observe_are_told_every_leader_once_and_in_order(etcd: &mut Server) {
    let (one, other) = (etcd.registry().await, etcd.registry().await);
    let since = etcd.revision().await;
    let mut told = [observing(&one), observing(&other)];
    for told in &mut told {
        assert_eq!(soon(told.recv()).await, Some(None));
    }
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    tokio::join!(succeed(here, 0..10), succeed(there, 10..20));
    let led = who_led(etcd, since).await;
    let leaders = led.iter().flatten().map(|(_, token, _)| token);
    let leaders: std::collections::BTreeSet<_> = leaders.collect();
    assert_eq!((leaders.len(), &led[0]), (20, &None));
    for told in &mut told {
        expect(told, &led[1..]).await;
    }
    one.close().await;
    other.close().await;
}

async fn all_is_told_over_restarts(etcd: &mut Server) {
    let (one, other) = (etcd.registry().await, etcd.registry().await);
    let since = etcd.revision().await;
    let mut told = [observing(&one), observing(&other)];
    for told in &mut told {
        assert_eq!(soon(told.recv()).await, Some(None));
    }
    let leaders = etcd.registry().await;
    for round in 0..3 {
        succeed(leaders.clone(), 0..4).await;
        let restart = async {
            tokio::time::sleep(Duration::from_millis(3 * round)).await;
            etcd.restart().await;
        };
        tokio::join!(succeed(leaders.clone(), 4..8), restart);
    }
    campaign(&leaders, "last").await.resign().await.unwrap();
    eventually(SOON, "no key is left", async || {
        match keys(etcd).await.len() {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
    let led = who_led(etcd, since).await;
    assert!(led.iter().flatten().count() > 24);
    for told in &mut told {
        expect(told, &led[1..]).await;
    }
    one.close().await;
    other.close().await;
}

async fn what_came_and_went_while_nobody_looked_is_told(etcd: &mut Server) {
    let leaders = etcd.registry().await;
    let mut fresh = observer(etcd).await;
    assert_eq!(value(&mut fresh).await, None);
    campaign(&leaders, "0").await.resign().await.unwrap();
    let mut used = observer(etcd).await;
    assert_eq!(value(&mut used).await, None);
    campaign(&leaders, "1").await.resign().await.unwrap();
    assert_eq!(value(&mut used).await.as_deref(), Some("1"));
    assert_eq!(value(&mut used).await, None);
    // Their connections end, and they do not know.
    etcd.restart().await;
    for name in ["2", "3"] {
        campaign(&leaders, name).await.resign().await.unwrap();
    }
    for (observer, first) in [(&mut fresh, 0), (&mut used, 2)] {
        for name in first..=3 {
            assert_eq!(value(observer).await, Some(name.to_string()));
            assert_eq!(value(observer).await, None);
        }
        expect_nothing(observer).await;
    }
}

async fn who_leads_is_told_at_once_and_then_nobody(etcd: &mut Server) {
    let leadership = campaign(&etcd.registry().await, "ada").await;
    let mut observer = observer(etcd).await;
    let told = next(&mut observer).await.unwrap();
    assert_eq!(told.value, b"ada");
    assert_eq!(told.token, leadership.token());
    expect_nothing(&mut observer).await;
    leadership.resign().await.unwrap();
    assert_eq!(value(&mut observer).await, None);
    expect_nothing(&mut observer).await;
}

async fn proclamations_are_told_in_order_and_those_of_candidates_are_not(etcd: &mut Server) {
    let leadership = campaign(&etcd.registry().await, "0").await;
    let mut observer = observer(etcd).await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("0"));
    let candidate = etcd.registry().await;
    let candidate = spawn(async move { campaign(&candidate, "candidate").await });
    standing(etcd, 2).await;
    for number in 1..=20 {
        let revision = leadership.proclaim(number.to_string()).await.unwrap();
        if number % 5 == 0 {
            let told = next(&mut observer).await.unwrap();
            assert_eq!(told.value, (number - 4).to_string().into_bytes());
            assert_eq!(told.token, leadership.token());
            assert!(told.revision < revision);
            for number in number - 3..=number {
                assert_eq!(value(&mut observer).await, Some(number.to_string()));
            }
        }
    }
    leadership.resign().await.unwrap();
    assert_eq!(value(&mut observer).await.as_deref(), Some("candidate"));
    drop(candidate.joined().await);
    assert_eq!(value(&mut observer).await, None);
}

async fn a_killed_leader_is_told_as_gone(etcd: &mut Server) {
    let (process, leadership) = campaign_apart(etcd, "killed").await;
    let mut observer = observer(etcd).await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("killed"));
    process.shutdown_background();
    assert_eq!(value(&mut observer).await, None);
    drop(leadership);
}

async fn a_compacted_history_is_a_gap(etcd: &mut Server) {
    let leaders = etcd.registry().await;
    let mut nobody = observer(etcd).await;
    assert_eq!(value(&mut nobody).await, None);
    let leadership = campaign(&leaders, "ada").await;
    let mut somebody = observer(etcd).await;
    assert_eq!(value(&mut somebody).await.as_deref(), Some("ada"));
    etcd.restart().await;
    leadership.resign().await.unwrap();
    campaign(&leaders, "missed").await.resign().await.unwrap();
    let leadership = campaign(&leaders, "bob").await;
    put(&leaders, "/other", "1").await;
    etcd.compact().await;
    for observer in [&mut nobody, &mut somebody] {
        // What etcd had sent before the end is told.
        let mut told = soon(observer.next()).await;
        while let Ok(leader) = &told {
            assert_eq!(leader.as_ref().unwrap().value, b"ada");
            told = soon(observer.next()).await;
        }
        assert!(matches!(told, Err(ObserveError::Gap)), "{told:?}");
        assert_eq!(value(observer).await.as_deref(), Some("bob"));
    }
    leadership.resign().await.unwrap();
    assert_eq!(value(&mut nobody).await, None);
}

async fn who_led_all_the_while_is_no_gap(etcd: &mut Server) {
    let leadership = campaign(&etcd.registry().await, "ada").await;
    let mut observer = observer(etcd).await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("ada"));
    let candidates = etcd.registry().await;
    etcd.restart().await;
    for _ in 0..2 {
        let election = election_of(&candidates);
        let limit = Duration::from_millis(100);
        election.campaign_within("bob", limit).await.unwrap_err();
    }
    standing(etcd, 1).await;
    etcd.compact().await;
    expect_nothing(&mut observer).await;
    leadership.proclaim("ada again").await.unwrap();
    assert_eq!(value(&mut observer).await.as_deref(), Some("ada again"));
}

async fn a_wiped_etcd_is_a_gap(etcd: &mut Server) {
    let leaders = etcd.registry().await;
    let leadership = campaign(&leaders, "ada").await;
    let mut observer = observer(etcd).await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("ada"));
    etcd.wipe().await;
    is_a_gap(&mut observer).await;
    assert_eq!(value(&mut observer).await, None);
    soon(leadership.lost()).await;
    drop(leadership);
    let leadership = campaign(&leaders, "bob").await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("bob"));
    leadership.resign().await.unwrap();
    assert_eq!(value(&mut observer).await, None);
}

async fn an_etcd_that_was_wiped_is_followed_from_its_beginning(etcd: &mut Server) {
    let leaders = etcd.registry().await;
    let mut observer = observer(etcd).await;
    assert_eq!(value(&mut observer).await, None);
    let leadership = campaign(&leaders, "ada").await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("ada"));
    for number in 0..8 {
        let number = number.to_string();
        leadership.proclaim(&number).await.unwrap();
        assert_eq!(value(&mut observer).await, Some(number));
    }
    etcd.wipe().await;
    is_a_gap(&mut observer).await;
    drop(leadership);
    // It grows past what was known while nobody asks.
    let others = etcd.registry().await;
    let leadership = campaign(&others, "bob").await;
    for number in 0..20 {
        leadership.proclaim(number.to_string()).await.unwrap();
    }
    assert_eq!(value(&mut observer).await, None);
    assert_eq!(value(&mut observer).await.as_deref(), Some("bob"));
    for number in 0..20 {
        assert_eq!(value(&mut observer).await, Some(number.to_string()));
    }
}

async fn an_etcd_that_was_wiped_and_has_grown_past_is_a_gap(etcd: &mut Server) {
    let leaders = etcd.registry().await;
    let mut observer = observer(etcd).await;
    assert_eq!(value(&mut observer).await, None);
    let leadership = campaign(&leaders, "ada").await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("ada"));
    leadership.resign().await.unwrap();
    assert_eq!(value(&mut observer).await, None);
    let before = etcd.revision().await;
    etcd.wipe().await;
    let others = etcd.registry().await;
    campaign(&others, "missed").await.resign().await.unwrap();
    while put(&others, "/other", "1").await <= before + 5 {}
    let leadership = campaign(&others, "bob").await;
    is_a_gap(&mut observer).await;
    assert_eq!(value(&mut observer).await.as_deref(), Some("bob"));
    leadership.resign().await.unwrap();
    assert_eq!(value(&mut observer).await, None);
}

async fn who_gives_up_looking_misses_nothing(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut observer = observer(etcd).await;
    let leaders = spawn(succeed(registry, 0..5));
    let mut told = Vec::new();
    while told.last() != Some(&"4".to_owned()) {
        // Shorter than what etcd needs.
        let looked = timeout(Duration::from_micros(200), observer.next()).await;
        if let Ok(Some(leader)) = looked.map(Result::unwrap) {
            told.push(String::from_utf8(leader.value).unwrap());
        }
    }
    leaders.joined().await;
    told.retain(|value| !value.ends_with("again"));
    // It may have begun when the first ones had gone.
    let first = 5 - told.len();
    let expected: Vec<_> = (first..5).map(|number| number.to_string()).collect();
    assert_eq!(told, expected);
}

async fn what_is_told_can_be_a_stream(etcd: &mut Server) {
    let (registry, other) = (etcd.registry().await, etcd.registry().await);
    let leadership = campaign(&registry, "ada").await;
    let told = election_of(&other).observe().into_stream();
    let mut told = std::pin::pin!(told);
    let leader = soon(told.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(leader.value, b"ada");
    delete(
        &registry,
        &format!("{NAME}/{:x}", keys(etcd).await[0].lease),
    )
    .await;
    assert_eq!(soon(told.next()).await.unwrap().unwrap(), None);
    drop(leadership);
    soon(other.close()).await;
    assert!(soon(told.next()).await.is_none());
}

async fn who_looked_on_a_runtime_that_has_ended_looks_on_another(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let registry = deaf.registry().await;
    let observer = election_of(&registry).observe();
    deaf.hold();
    let begin = async |observer: &mut Observer| drop(observer.next().await);
    let mut observer = begin_elsewhere(observer, begin).await;
    deaf.release();
    assert!(soon(observer.next()).await.unwrap().is_none());
}
