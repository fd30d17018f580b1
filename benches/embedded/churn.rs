//! Keys, leases and watches that come and go, and memory that must not grow by it.

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use etcd_client::{Client, DeleteOptions, PutOptions, Txn, TxnOp, WatchOptions};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{report::Report, served::Served};

const WRITERS: usize = 4;
/// Within one transaction, so that much is written while little is sent.
const KEYS_OF_EACH: u64 = 100;
const VALUE: [u8; 200] = [b'x'; 200];

/// How often a writer has etcd forget what was before.
const COMPACT_EVERY: u64 = 10;

const SAMPLES: u32 = 20;

/// How long it may take until all who write and read have ended.
const ENDING: Duration = Duration::from_secs(60);

/// How often memory may seem to grow before it does.
const ATTEMPTS: u32 = 3;

/// By how much memory may be more in the second half than in the first: what allocators keep and
/// scatter, of which 1 MiB was seen. 40 bytes lost with each write are 3 MiB and more after 5 s.
const SLACK: u64 = 2 << 20;

pub(crate) async fn run(span: Duration, report: &mut Report) {
    let server = Served::start().await;
    let (stop, writes) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.client().await;
        tasks.spawn(write(client, writer, stop.clone(), writes.clone()));
    }
    tasks.spawn(come_and_go(server.client().await, stop.clone()));
    tasks.spawn(read_along(server.client().await, stop.clone()));

    let mut attempt = 1;
    let resident = loop {
        let resident = sample(span, &server, &mut tasks).await;
        // A reader that falls behind has megabytes kept for it, once; what is lost is lost again.
        if !grows(&resident) || attempt == ATTEMPTS {
            break resident;
        }
        attempt += 1;
    };
    stop.cancel();
    timeout(ENDING, tasks.join_all()).await.expect("all end");

    let writes = writes.load(Ordering::Relaxed);
    report.figure("puts and deletions meanwhile", Some(writes as f64), "");
    let (first, second) = halves(&resident);
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.figure(
        "memory, at most, in the first half",
        first.map(mebibytes),
        "MiB",
    );
    report.figure(
        "memory, at most, in the second half",
        second.map(mebibytes),
        "MiB",
    );
    assert!(
        !grows(&resident),
        "memory grows: {resident:?} over {writes} writes (expected: by {SLACK} bytes at most)"
    );
}

/// Returns how much memory there is, time and again.
async fn sample(span: Duration, server: &Served, tasks: &mut JoinSet<()>) -> Vec<u64> {
    let begin = Instant::now();
    let mut resident = Vec::new();
    for sample in 1..=SAMPLES {
        sleep_until(begin + span * sample / SAMPLES).await;
        // Whoever fails is heard at once, not at the end.
        assert!(tasks.try_join_next().is_none(), "nobody is done yet");
        resident.extend(server.resident());
    }
    resident
}

/// The most of each half; nothing where the system does not tell.
fn halves(resident: &[u64]) -> (Option<u64>, Option<u64>) {
    let (first, second) = resident.split_at(resident.len() / 2);
    (first.iter().max().copied(), second.iter().max().copied())
}

fn grows(resident: &[u64]) -> bool {
    matches!(halves(resident), (Some(first), Some(second)) if second > first + SLACK)
}

/// Puts and deletes keys, always the same ones.
async fn write(mut client: Client, writer: usize, stop: CancellationToken, writes: Arc<AtomicU64>) {
    let prefix = format!("/churn/{writer}/");
    let puts: Vec<_> = (0..KEYS_OF_EACH)
        .map(|number| TxnOp::put(format!("{prefix}{number}"), VALUE, None))
        .collect();
    let puts = Txn::new().and_then(puts);
    for turn in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let put = client.txn(puts.clone()).await.unwrap();
        let all = DeleteOptions::new().with_prefix();
        let deleted = client.delete(prefix.as_str(), Some(all)).await.unwrap();
        writes.fetch_add(KEYS_OF_EACH + deleted.deleted() as u64, Ordering::Relaxed);
        if turn % COMPACT_EVERY == 0 {
            let revision = put.header().unwrap().revision();
            // Another writer may have had it forget more.
            let _ = client.compact(revision, None).await;
        }
    }
}

/// Has leases and watches begin and end.
async fn come_and_go(mut client: Client, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let lease = client.lease_grant(60, None).await.unwrap().id();
        let mut watch = client.watch("/leased", None).await.unwrap();
        assert!(watch.message().await.unwrap().unwrap().created());
        let options = PutOptions::new().with_lease(lease);
        client.put("/leased", VALUE, Some(options)).await.unwrap();
        client.lease_revoke(lease).await.unwrap();
        let mut events = 0;
        while events < 2 {
            let message = watch.message().await.unwrap().unwrap();
            assert!(!message.canceled(), "{message:?}");
            events += message.events().len();
        }
    }
}

/// Hears of everything that it is quick enough for: where it is far behind, a compaction ends its
/// watch, and it begins anew.
async fn read_along(mut client: Client, stop: CancellationToken) {
    let reading = async {
        loop {
            let options = WatchOptions::new().with_prefix().with_prev_key();
            let mut watch = client.watch("/", Some(options)).await.unwrap();
            while !watch.message().await.unwrap().unwrap().canceled() {}
        }
    };
    stop.run_until_cancelled(reading).await;
}
