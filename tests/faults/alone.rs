//! What befalls an etcd of one member, and the way to it.

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, CompactionOptions, DeleteOptions, GetOptions,
};
use switchboard::Instance;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fleet::SERVICE,
    scene::{LONG, Scene, Seen},
};

/// It is killed, and another one starts on its data later.
pub(crate) async fn killed(scene: &mut Scene) -> Seen {
    killed_for(scene, LONG).await
}

pub(crate) async fn killed_for_a_minute(scene: &mut Scene) -> Seen {
    killed_for(scene, Duration::from_secs(60)).await
}

async fn killed_for(scene: &mut Scene, time: Duration) -> Seen {
    let began = Instant::now();
    scene.cluster.kill(0);
    scene.away(began).await;
    sleep_until(began + time).await;
    scene.cluster.restart(0).await;
    scene.well(Instant::now()).await
}

pub(crate) async fn restarted(scene: &mut Scene) -> Seen {
    scene.cluster.restart(0).await;
    scene.well(Instant::now()).await
}

pub(crate) async fn frozen(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    scene.cluster.freeze(0);
    scene.away(began).await;
    scene.cluster.thaw(0);
    scene.well(Instant::now()).await
}

/// It loses its data, and starts on the same ports as the same cluster.
pub(crate) async fn wiped(scene: &mut Scene) -> Seen {
    scene.cluster.wipe_and_restart().await;
    scene.well(Instant::now()).await
}

/// It starts with a backup, in which somebody is published who has gone since: under a lease that lives on.
pub(crate) async fn restored(scene: &mut Scene) -> Seen {
    let nobody = Instance::new(SERVICE, "127.0.0.1:1").unwrap();
    let publisher = scene.fleet.registry().publish(nobody).unwrap();
    publisher.published().await.unwrap();
    let backup = scene.cluster.back_up().await;
    publisher.stop().await.unwrap();
    scene.well(Instant::now()).await;
    scene.cluster.restore(&backup).await;
    scene.well(Instant::now()).await
}

/// Nothing passes between it and its clients; their leases end meanwhile.
pub(crate) async fn cut_off(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    scene.cluster.relay(0).cut();
    scene.away(began).await;
    scene.cluster.relay(0).heal();
    scene.well(Instant::now()).await
}

/// Connections to it break, and it takes no new ones; leases end meanwhile.
pub(crate) async fn refusing(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    scene.cluster.relay(0).refuse();
    scene.cluster.relay(0).reset();
    scene.away(began).await;
    scene.cluster.relay(0).heal();
    scene.well(Instant::now()).await
}

/// Connections to it break, over and over.
pub(crate) async fn reset(scene: &mut Scene) -> Seen {
    for _ in 0..50 {
        scene.cluster.relay(0).reset();
        sleep(Duration::from_millis(100)).await;
    }
    scene.well(Instant::now()).await
}

/// All that is said to it and by it comes late.
pub(crate) async fn slow(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    scene.cluster.relay(0).delay(Duration::from_millis(300));
    let seen = scene.well(began).await;
    sleep(LONG.saturating_sub(began.elapsed())).await;
    scene.cluster.relay(0).heal();
    seen
}

/// Somebody takes all leases of the greeters away.
pub(crate) async fn leases_revoked(scene: &mut Scene) -> Seen {
    let leases = scene.fleet.leases().unwrap();
    let began = Instant::now();
    for lease in leases {
        scene.operator.lease_revoke(lease).await.unwrap();
    }
    scene.well(began).await
}

/// Somebody deletes all records.
pub(crate) async fn deleted(scene: &mut Scene) -> Seen {
    let options = DeleteOptions::new().with_prefix();
    let began = Instant::now();
    let deleted = scene
        .operator
        .delete("/microservices/", Some(options))
        .await;
    assert!(deleted.unwrap().deleted() > 0);
    scene.well(began).await
}

/// All history is forgotten and the file rewritten, over and over, while others write as fast as they can.
pub(crate) async fn compacted(scene: &mut Scene) -> Seen {
    // Between two defragmentations, in values of 1 KiB: a quarter of what there is room for. One that is full
    // is another fault.
    const WRITES: usize = 8_000;

    let (mut writer, mut operator) = (scene.operator.clone(), scene.operator.clone());
    let room = Semaphore::new(WRITES);
    let writing = async {
        for number in 0u64.. {
            room.acquire().await.unwrap().forget();
            let key = format!("/load/{}", number % 1_000);
            // A defragmentation keeps a write waiting, for longer than its client does at times.
            if let Err(error) = writer.put(key, vec![b'.'; 1_024], None).await {
                assert!(!error.to_string().contains("space exceeded"), "{error}");
            }
        }
    };
    let compacting = async {
        let mut seen = Seen::default();
        for _ in 0..5 {
            sleep(Duration::from_secs(1)).await;
            let head = operator.get("/load/0", None).await.unwrap();
            let head = head.header().unwrap().revision();
            operator
                .compact(head, Some(CompactionOptions::new().with_physical()))
                .await
                .unwrap();
            let began = Instant::now();
            operator.defragment().await.unwrap();
            room.add_permits(WRITES - room.available_permits());
            seen = seen.or_worse(scene.well(began).await);
        }
        seen
    };
    tokio::select! {
        () = writing => unreachable!("it writes without end"),
        seen = compacting => seen,
    }
}

/// History is forgotten while nobody reaches etcd, and what was written is changed.
pub(crate) async fn compacted_meanwhile(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    scene.cluster.relay(0).cut();
    scene.away(began).await;
    let options = Some(GetOptions::new().with_count_only());
    let head = scene.operator.get("/", options).await.unwrap();
    let head = head.header().unwrap().revision();
    scene.operator.put("/load", "", None).await.unwrap();
    scene.operator.compact(head, None).await.unwrap();
    scene.cluster.relay(0).heal();
    scene.well(Instant::now()).await
}

/// There is no room in it: it takes deletions and renewals, and neither a new lease nor a record.
pub(crate) async fn full(scene: &mut Scene) -> Seen {
    let mut number = 0;
    let refused = loop {
        number += 1;
        assert!(number < 10_000, "it takes whatever comes");
        let key = format!("/load/{number}");
        if let Err(error) = scene.operator.put(key, vec![b'.'; 262_144], None).await {
            break error.to_string();
        }
    };
    assert!(refused.contains("space exceeded"), "{refused}");
    let full = Instant::now();
    scene.refused().await;
    sleep_until(full + LONG).await;
    // What stood stands.
    scene.fleet.stands(&mut scene.operator).await.unwrap();
    let all = DeleteOptions::new().with_prefix();
    let deleted = scene.operator.delete("/load/", Some(all)).await.unwrap();
    let head = deleted.header().unwrap().revision();
    let physical = CompactionOptions::new().with_physical();
    scene.operator.compact(head, Some(physical)).await.unwrap();
    scene.operator.defragment().await.unwrap();
    let alarms = scene
        .operator
        .alarm(AlarmAction::Get, AlarmType::None, None);
    for alarm in alarms.await.unwrap().alarms() {
        let mut member = AlarmOptions::new();
        member.with_member(alarm.member_id());
        let disarmed = scene
            .operator
            .alarm(AlarmAction::Deactivate, alarm.alarm(), Some(member));
        disarmed.await.unwrap();
    }
    scene.well(Instant::now()).await
}
