//! `etcdctl lock` and `etcdctl elect`, beside ours.

use std::pin::pin;

use switchboard::coordination::{Election, Lock};
use switchboard_test_support::{Etcdctl, Process, Signal};
use tokio::time::timeout;

use crate::{
    server::{A_WHILE, LIMIT, Server},
    soon,
};

const NAME: &str = "/shop/stocktaking";
/// Below it are those who are in line.
const LINE: &str = "/shop/stocktaking/";

async fn line(process: &mut Process) -> String {
    process.wait_for_line(LIMIT, |_| true).await
}

async fn waits(process: &mut Process) {
    let line = timeout(A_WHILE, process.next_line()).await;
    assert!(line.is_err(), "{line:?} (expected: nothing yet)");
}

pub(crate) async fn a_lock_of_ours_keeps_it_waiting(server: &Server, etcdctl: Etcdctl) {
    let registry = server.registry().await;
    let lock = Lock::new(&registry, NAME).unwrap();
    let guard = soon(lock.lock()).await.unwrap();
    let command = ["lock", NAME, "--", "sh", "-c", "echo $ETCD_LOCK_REV"];
    let mut theirs = etcdctl.spawn(command);
    server.keys(LINE, 2).await;
    waits(&mut theirs).await;

    let token = guard.token();
    guard.unlock().await.unwrap();
    let revision: i64 = line(&mut theirs).await.parse().unwrap();
    assert!(revision > token, "{revision} after {token}");
    assert!(theirs.wait(LIMIT).await.status.success());
    server.keys(LINE, 0).await;
}

pub(crate) async fn its_lock_keeps_us_waiting(server: &Server, etcdctl: Etcdctl) {
    let mut theirs = etcdctl.spawn(["lock", NAME]);
    let key = line(&mut theirs).await;
    assert!(key.starts_with(LINE), "{key}");
    let registry = server.registry().await;
    let lock = Lock::new(&registry, NAME).unwrap();
    assert!(soon(lock.try_lock()).await.unwrap().is_none());
    let mut ours = pin!(lock.lock());
    tokio::select! {
        _ = &mut ours => panic!("it is taken"),
        () = server.keys(LINE, 2) => {}
    }
    assert!(timeout(A_WHILE, &mut ours).await.is_err(), "it is taken");
    theirs.signal(Signal::INT);
    let guard = soon(ours).await.unwrap();
    assert!(guard.is_held());
}

const ELECTION: &str = "/shop/cashier";
/// Below it are those who stand.
const CANDIDATES: &str = "/shop/cashier/";

/// Waits until etcdctl tells of this leader, by its key and its value.
async fn tells(process: &mut Process, value: &str) {
    let key = line(process).await;
    assert!(key.starts_with(CANDIDATES), "{key}");
    assert_eq!(line(process).await, value);
}

pub(crate) async fn a_leader_of_ours_keeps_it_waiting(server: &Server, etcdctl: Etcdctl) {
    let registry = server.registry().await;
    let election = Election::new(&registry, ELECTION).unwrap();
    let leadership = soon(election.campaign("ours")).await.unwrap();
    let mut listening = etcdctl.spawn(["elect", "--listen", ELECTION]);
    tells(&mut listening, "ours").await;
    soon(leadership.proclaim("ours-again")).await.unwrap();
    tells(&mut listening, "ours-again").await;

    let mut theirs = etcdctl.spawn(["elect", ELECTION, "theirs"]);
    server.keys(CANDIDATES, 2).await;
    waits(&mut theirs).await;
    leadership.resign().await.unwrap();
    tells(&mut theirs, "theirs").await;
    tells(&mut listening, "theirs").await;
}

pub(crate) async fn its_leader_keeps_us_waiting(server: &Server, etcdctl: Etcdctl) {
    let registry = server.registry().await;
    let election = Election::new(&registry, ELECTION).unwrap();
    let mut observer = election.observe();
    assert!(soon(observer.next()).await.unwrap().is_none());
    let mut theirs = etcdctl.spawn(["elect", ELECTION, "theirs"]);
    tells(&mut theirs, "theirs").await;
    let leader = soon(observer.next()).await.unwrap().expect("they lead");
    assert_eq!(leader.value, b"theirs");

    let mut ours = pin!(election.campaign("ours"));
    tokio::select! {
        _ = &mut ours => panic!("two lead"),
        () = server.keys(CANDIDATES, 2) => {}
    }
    assert!(timeout(A_WHILE, &mut ours).await.is_err(), "two lead");
    theirs.signal(Signal::INT);
    let leadership = soon(ours).await.unwrap();
    assert!(leadership.token() > leader.token);
    let leader = soon(observer.next()).await.unwrap().expect("we lead");
    assert_eq!(
        (leader.value, leader.token),
        (b"ours".to_vec(), leadership.token())
    );
}
