//! Requests of a leader that arrive late, or whose answers are lost.

use switchboard::keys::{Operation, Transaction};

use crate::{
    detour::{Detour, let_it_leave},
    election::{campaign, key, keys, leader, nothing_is_left},
    on_both,
    server::{Server, soon},
};

on_both! {
    a_proclamation_that_lands_late_changes_nothing,
    a_proclamation_whose_answer_is_lost_is_made_once,
    a_candidate_whose_answer_is_lost_stands_once,
}

async fn a_proclamation_that_lands_late_changes_nothing(etcd: &mut Server) {
    let mut way = Detour::to(etcd).await;
    let leadership = campaign(&way.registry().await, "ada").await;
    way.keep_requests();
    let early = leadership.proclaim("early");
    let broken = async {
        let_it_leave().await;
        way.hang_up();
    };
    let (early, ()) = tokio::join!(soon(early), broken);
    early.unwrap();
    leadership.proclaim("later").await.unwrap();
    way.deliver().await;
    assert_eq!(leader(etcd).await.unwrap().value, b"later");
    assert!(leadership.is_held());
    // Not even where somebody else has put something there.
    put_over(etcd, "theirs").await;
    leadership.proclaim("ours").await.unwrap();
    assert_eq!(leader(etcd).await.unwrap().value, b"ours");
    leadership.resign().await.unwrap();
    nothing_is_left(etcd).await;
}

/// Puts something in the place of what the leader has proclaimed.
async fn put_over(etcd: &Server, value: &str) {
    let lease = keys(etcd).await[0].lease;
    let put = Operation::put(&key(etcd).await, value, Some(lease));
    let registry = etcd.registry().await;
    let put = Transaction::new().then(put);
    soon(registry.keys().commit(put)).await.unwrap();
}

async fn a_proclamation_whose_answer_is_lost_is_made_once(etcd: &mut Server) {
    let way = Detour::to(etcd).await;
    let leadership = campaign(&way.registry().await, "ada").await;
    let before = etcd.revision().await;
    way.lose_answers();
    let broken = async {
        let_it_leave().await;
        way.hang_up();
    };
    let (revision, ()) = tokio::join!(soon(leadership.proclaim("bob")), broken);
    let told = leader(etcd).await.unwrap();
    assert_eq!(told.value, b"bob");
    assert_eq!(
        (told.revision, before + 1),
        (revision.unwrap(), told.revision)
    );
    leadership.proclaim("cyd").await.unwrap();
    assert_eq!(leader(etcd).await.unwrap().value, b"cyd");
    leadership.resign().await.unwrap();
}

async fn a_candidate_whose_answer_is_lost_stands_once(etcd: &mut Server) {
    let way = Detour::to(etcd).await;
    let registry = way.registry().await;
    campaign(&registry, "first").await.resign().await.unwrap();
    way.lose_answers();
    let broken = async {
        let_it_leave().await;
        way.hang_up();
    };
    let (leadership, ()) = tokio::join!(campaign(&registry, "ada"), broken);
    let told = leader(etcd).await.unwrap();
    assert_eq!(told.value, b"ada");
    assert_eq!(
        (told.token, told.revision),
        (leadership.token(), told.token)
    );
    leadership.proclaim("bob").await.unwrap();
    leadership.resign().await.unwrap();
    nothing_is_left(etcd).await;
}
