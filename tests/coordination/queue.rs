//! Queues: their order, their keys, and what they do when there is nothing.

use std::time::Duration;

use switchboard::{
    Registry,
    coordination::{PopError, PriorityQueue, PushError, Queue},
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    on_both,
    server::{Server, delete, is_closed, put, put_all, soon},
};

on_both! {
    the_oldest_is_popped_first_or_the_newest,
    the_smallest_priority_is_popped_first_and_of_one_the_oldest,
    more_than_a_page_is_popped_in_order,
    the_keys_are_those_of_go,
    what_go_has_pushed_is_popped,
    who_waits_gets_what_is_pushed_then,
    of_many_who_wait_each_gets_one,
    keys_of_others_are_passed_over,
    more_keys_of_others_than_a_page_are_passed_over,
    queues_whose_names_begin_alike_are_apart,
    who_waits_goes_on_whatever_becomes_of_etcd,
    waiting_ends_with_the_registry,
    what_cannot_be_pushed_is_refused_and_nothing_is_written,
    pushes_of_one_priority_are_numbered_whoever_pushes,
    a_priority_whose_numbers_are_used_up_takes_no_more,
}

const NAME: &str = "/shop/jobs";

fn fifo(registry: &Registry) -> Queue {
    Queue::fifo(registry, NAME).unwrap()
}

fn lifo(registry: &Registry) -> Queue {
    Queue::lifo(registry, NAME).unwrap()
}

fn by_priority(registry: &Registry) -> PriorityQueue {
    PriorityQueue::new(registry, NAME).unwrap()
}

async fn push(queue: &Queue, value: impl ToString) {
    soon(queue.push(value.to_string())).await.unwrap();
}

async fn pop(queue: &mut Queue) -> String {
    String::from_utf8(soon(queue.pop()).await.unwrap().value).unwrap()
}

async fn pop_first(queue: &mut PriorityQueue) -> String {
    String::from_utf8(soon(queue.pop()).await.unwrap().value).unwrap()
}

async fn the_oldest_is_popped_first_or_the_newest(etcd: &mut Server) {
    let (mut oldest, mut newest) = (fifo(&etcd.registry().await), lifo(&etcd.registry().await));
    for number in 1..=6 {
        push(&oldest, number).await;
    }
    assert_eq!(pop(&mut oldest).await, "1");
    assert_eq!(pop(&mut newest).await, "6");
    push(&newest, 7).await;
    assert_eq!(
        pop(&mut newest).await,
        "7",
        "it is newer than what was read"
    );
    for number in 2..=5 {
        assert_eq!(pop(&mut oldest).await, number.to_string());
    }
    assert!(soon(oldest.try_pop()).await.unwrap().is_none());
    assert!(soon(newest.try_pop()).await.unwrap().is_none());
    push(&oldest, 8).await;
    let item = soon(oldest.try_pop()).await.unwrap().unwrap();
    assert_eq!(item.value, b"8");
    assert_eq!(etcd.value(&item.key).await, None, "popped is deleted");
}

async fn the_smallest_priority_is_popped_first_and_of_one_the_oldest(etcd: &mut Server) {
    let mut queue = by_priority(&etcd.registry().await);
    for (priority, value) in [
        (500, "e"),
        (7, "b"),
        (65535, "f"),
        (7, "c"),
        (0, "a"),
        (7, "d"),
    ] {
        soon(queue.push(priority, value)).await.unwrap();
    }
    for value in ["a", "b"] {
        assert_eq!(pop_first(&mut queue).await, value);
    }
    // It comes before what was read.
    soon(queue.push(1, "urgent")).await.unwrap();
    for value in ["urgent", "c", "d", "e", "f"] {
        assert_eq!(pop_first(&mut queue).await, value);
    }
    assert!(soon(queue.try_pop()).await.unwrap().is_none());
}

async fn more_than_a_page_is_popped_in_order(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut queue = fifo(&registry);
    for number in 0..150 {
        push(&queue, number).await;
    }
    // Others take some of the page that is held.
    assert_eq!(pop(&mut queue).await, "0");
    let mut other = fifo(&etcd.registry().await);
    for number in 1..=90 {
        assert_eq!(pop(&mut other).await, number.to_string());
    }
    for number in 91..150 {
        assert_eq!(pop(&mut queue).await, number.to_string());
    }
    assert!(soon(queue.try_pop()).await.unwrap().is_none());
    assert!(soon(other.try_pop()).await.unwrap().is_none());
}

async fn the_keys_are_those_of_go(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let pushed = soon(fifo(&registry).push("a")).await.unwrap();
    let time = pushed.key.strip_prefix("/shop/jobs/").unwrap();
    assert_eq!(time.parse::<u64>().unwrap().to_string(), time);
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    assert!(since - time.parse::<u128>().unwrap() < 60_000_000_000);
    assert_eq!(etcd.value(&pushed.key).await.unwrap(), b"a");
    for number in 0..3 {
        let pushed = soon(by_priority(&registry).push(42, "b")).await.unwrap();
        assert_eq!(pushed.key, format!("/shop/jobs/00042/{number:016}"));
        assert!(etcd.value("__/shop/jobs/00042").await.is_some());
    }
}

async fn what_go_has_pushed_is_popped(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put(&registry, "/shop/jobs/1764339190000000002", "first").await;
    put(&registry, "/shop/jobs/1764339190000000001", "second").await;
    let mut queue = fifo(&registry);
    assert_eq!(pop(&mut queue).await, "first", "as etcd took them");
    assert_eq!(pop(&mut queue).await, "second");
    let keys: [(&str, &[u8]); 2] = [
        ("__/shop/jobs/00007", b""),
        ("/shop/jobs/00007/0000000000000041", b"go's"),
    ];
    put_all(&registry, &keys).await;
    let mut queue = by_priority(&registry);
    let pushed = soon(queue.push(7, "ours")).await.unwrap();
    assert_eq!(pushed.key, "/shop/jobs/00007/0000000000000042");
    assert_eq!(pop_first(&mut queue).await, "go's");
    assert_eq!(pop_first(&mut queue).await, "ours");
}

async fn who_waits_gets_what_is_pushed_then(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    let (mut oldest, mut smallest) = (fifo(&here), by_priority(&here));
    for number in 0..20 {
        let pushing = async {
            tokio::time::sleep(Duration::from_millis(number % 4 * 5)).await;
            push(&fifo(&there), number).await;
            let pushed = by_priority(&there).push(3, number.to_string()).await;
            pushed.unwrap();
        };
        let popping = async { (pop(&mut oldest).await, pop_first(&mut smallest).await) };
        let (popped, ()) = tokio::join!(popping, pushing);
        assert_eq!(popped, (number.to_string(), number.to_string()));
    }
}

async fn of_many_who_wait_each_gets_one(etcd: &mut Server) {
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let mut queue = fifo(&etcd.registry().await);
        waiting.spawn(async move { pop(&mut queue).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let queue = fifo(&etcd.registry().await);
    for number in 0..10 {
        push(&queue, number).await;
    }
    let mut popped = soon(waiting.join_all()).await;
    popped.sort();
    assert_eq!(popped, Vec::from_iter((0..10).map(|it| it.to_string())));
}

const STRANGERS: [&str; 9] = [
    "/shop/jobs",
    "/shop/jobs/config",
    "/shop/jobs/00001",
    "/shop/jobs/00001/x",
    "/shop/jobs/00001/0000000000000000/0",
    "/shop/jobs/x/1764339190000000000",
    "/shop/jobs/x/00001/0000000000000000",
    "/shop/jobs/-1764339190000000000",
    "/shop/jobs/~",
];

async fn keys_of_others_are_passed_over(etcd: &mut Server) {
    let registry = etcd.registry().await;
    for key in STRANGERS {
        put(&registry, key, "theirs").await;
    }
    let (mut oldest, mut newest) = (fifo(&registry), lifo(&registry));
    let mut smallest = by_priority(&registry);
    assert!(soon(oldest.try_pop()).await.unwrap().is_none());
    assert!(soon(newest.try_pop()).await.unwrap().is_none());
    assert!(soon(smallest.try_pop()).await.unwrap().is_none());
    // Nor do they wake up who waits.
    let waits = timeout(Duration::from_millis(200), async {
        tokio::join!(oldest.pop(), async {
            put(&registry, STRANGERS[1], "theirs").await;
        })
    });
    assert!(waits.await.is_err());
    push(&oldest, "ours").await;
    soon(smallest.push(1, "ours too")).await.unwrap();
    put(&registry, STRANGERS[1], "newest").await;
    assert_eq!(pop(&mut newest).await, "ours");
    push(&oldest, "ours").await;
    assert_eq!(pop(&mut oldest).await, "ours");
    assert_eq!(pop_first(&mut smallest).await, "ours too");
    for key in STRANGERS {
        assert!(etcd.value(key).await.is_some(), "{key}");
    }
}

async fn more_keys_of_others_than_a_page_are_passed_over(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let theirs: Vec<_> = (0..100)
        .map(|it| format!("/shop/jobs/00000/{it:015}"))
        .collect();
    let puts: Vec<_> = theirs.iter().map(|key| (&**key, &b""[..])).collect();
    put_all(&registry, &puts).await;
    push(&fifo(&registry), "ours").await;
    let mut smallest = by_priority(&registry);
    soon(smallest.push(0, "ours too")).await.unwrap();
    soon(smallest.push(9, "ours three")).await.unwrap();
    put_all(&registry, &puts).await;
    assert_eq!(pop(&mut lifo(&registry)).await, "ours");
    push(&fifo(&registry), "ours").await;
    assert_eq!(pop(&mut fifo(&registry)).await, "ours");
    assert_eq!(pop_first(&mut smallest).await, "ours too");
    assert_eq!(pop_first(&mut smallest).await, "ours three");
}

async fn queues_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let names = ["a", "a/b", "ab", "a-b", "/a", "__a", "a/00001"];
    for name in names {
        let queue = Queue::fifo(&registry, name).unwrap();
        push(&queue, name).await;
        let queue = PriorityQueue::new(&registry, name).unwrap();
        soon(queue.push(1, name)).await.unwrap();
    }
    for name in names {
        let mut oldest = Queue::fifo(&registry, name).unwrap();
        assert_eq!(pop(&mut oldest).await, name);
        assert!(soon(oldest.try_pop()).await.unwrap().is_none(), "{name}");
        let mut newest = Queue::lifo(&registry, name).unwrap();
        assert!(soon(newest.try_pop()).await.unwrap().is_none(), "{name}");
        let mut smallest = PriorityQueue::new(&registry, name).unwrap();
        assert_eq!(pop_first(&mut smallest).await, name);
        assert!(soon(smallest.try_pop()).await.unwrap().is_none(), "{name}");
    }
}

async fn who_waits_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    for fault in 0..4 {
        let (mut oldest, mut smallest) = (fifo(&here), by_priority(&here));
        let mut waiting = JoinSet::new();
        waiting.spawn(async move { pop(&mut oldest).await });
        waiting.spawn(async move { pop_first(&mut smallest).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        match fault {
            0 => etcd.restart().await,
            1 => {
                put(&there, "/other", "1").await;
                etcd.compact().await;
                etcd.restart().await;
            }
            2 => {
                etcd.freeze();
                tokio::time::sleep(Duration::from_secs(1)).await;
                etcd.thaw();
            }
            _ => etcd.wipe().await,
        }
        // A push may be in doubt when its connection was old.
        put(&there, "/other", "2").await;
        push(&fifo(&there), fault).await;
        soon(by_priority(&there).push(1, fault.to_string()))
            .await
            .unwrap();
        let popped = soon(waiting.join_all()).await;
        assert_eq!(popped, [fault.to_string(), fault.to_string()]);
    }
}

async fn waiting_ends_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut waiting = JoinSet::new();
    for mut queue in [fifo(&registry), lifo(&registry)] {
        waiting.spawn(async move { queue.pop().await.unwrap_err() });
    }
    let mut queue = by_priority(&registry);
    waiting.spawn(async move { queue.pop().await.unwrap_err() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let late = fifo(&registry);
    soon(registry.close()).await;
    let mut ended = soon(waiting.join_all()).await;
    ended.push(soon(late.clone().try_pop()).await.unwrap_err());
    for error in ended {
        let PopError::Etcd { queue, cause } = error else {
            panic!("{error}");
        };
        assert!(queue == NAME && is_closed(&cause), "{cause}");
    }
    match soon(late.push("late")).await.unwrap_err() {
        PushError::Etcd { cause, .. } => assert!(is_closed(&cause), "{cause}"),
        error => panic!("{error}"),
    }
}

async fn what_cannot_be_pushed_is_refused_and_nothing_is_written(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "/", "/a//b", "/a\n", "/microservices/jobs"] {
        assert!(Queue::fifo(&registry, name).is_err());
        assert!(Queue::lifo(&registry, name).is_err());
        assert!(PriorityQueue::new(&registry, name).is_err());
    }
    let large = vec![b'x'; (1 << 20) + 1];
    let errors = [
        fifo(&registry).push(&large).await.unwrap_err(),
        by_priority(&registry).push(1, &large).await.unwrap_err(),
    ];
    for error in errors {
        let told = "value for the queue /shop/jobs: 1048577 bytes (expected: at most 1048576)";
        assert_eq!(error.to_string(), told);
    }
    assert_eq!(etcd.revision().await, before);
    // The largest is taken, and so is nothing.
    let mut queue = fifo(&registry);
    soon(queue.push(&large[1..])).await.unwrap();
    soon(queue.push("")).await.unwrap();
    assert_eq!(pop(&mut queue).await.len(), 1 << 20);
    assert_eq!(pop(&mut queue).await.len(), 0);
}

async fn pushes_of_one_priority_are_numbered_whoever_pushes(etcd: &mut Server) {
    let mut pushing = JoinSet::new();
    for pusher in 0..4 {
        let queue = by_priority(&etcd.registry().await);
        pushing.spawn(async move {
            for number in 0..10 {
                let value = format!("{pusher} {number}");
                soon(queue.push(1, value)).await.unwrap();
            }
        });
    }
    soon(pushing.join_all()).await;
    let mut queue = by_priority(&etcd.registry().await);
    let mut next = [0; 4];
    for number in 0..40 {
        let item = soon(queue.pop()).await.unwrap();
        assert_eq!(item.key, format!("/shop/jobs/00001/{number:016}"));
        let value = String::from_utf8(item.value).unwrap();
        let (pusher, of_it) = value.split_once(' ').unwrap();
        let next = &mut next[pusher.parse::<usize>().unwrap()];
        assert_eq!(of_it, next.to_string());
        *next += 1;
    }
}

async fn a_priority_whose_numbers_are_used_up_takes_no_more(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let last = "/shop/jobs/00001/9999999999999999";
    put(&registry, last, "last").await;
    let mut queue = by_priority(&registry);
    let error = soon(queue.push(1, "one more")).await.unwrap_err();
    assert!(matches!(error, PushError::Full { priority: 1, .. }));
    soon(queue.push(2, "another")).await.unwrap();
    delete(&registry, last).await;
    soon(queue.push(1, "again")).await.unwrap();
    assert_eq!(pop_first(&mut queue).await, "again");
}
