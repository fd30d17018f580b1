//! What Go and Rust push and pop.

use std::collections::HashMap;

use futures::future::{BoxFuture, join, join_all};
use switchboard::coordination::{Item, PriorityQueue, Queue};

use crate::{
    go::{Go, Peer},
    server::Server,
    soon,
};

const NAME: &str = "/shop/jobs";
/// Below it are the items.
const ITEMS: &str = "/shop/jobs/";

fn text<E: std::fmt::Debug>(item: Result<Item, E>) -> String {
    String::from_utf8(item.unwrap().value).unwrap()
}

async fn pop(queue: &mut Queue) -> String {
    text(soon(queue.pop()).await)
}

async fn pop_in_go(peer: &mut Peer) -> String {
    peer.does(&format!("pop {NAME}")).await
}

async fn push_in_go(peer: &mut Peer, value: &str) {
    peer.does(&format!("push {NAME} {value}")).await;
}

pub(crate) async fn items_come_in_the_order_in_which_they_were_pushed(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    let mut queue = Queue::fifo(&registry, NAME).unwrap();
    for number in 0..12 {
        let value = number.to_string();
        // Twos of each, so that each pops its own and the other's.
        if number / 2 % 2 == 0 {
            queue.push(&value).await.unwrap();
        } else {
            push_in_go(&mut peer, &value).await;
        }
    }
    for number in 0..12 {
        let value = match number % 2 {
            0 => pop_in_go(&mut peer).await,
            _ => pop(&mut queue).await,
        };
        assert_eq!(value, number.to_string());
    }
    assert!(soon(queue.try_pop()).await.unwrap().is_none());
    server.keys(ITEMS, 0).await;
}

pub(crate) async fn who_waits_pops_what_the_other_pushes(server: &Server, go: Go) {
    let (registry, other) = (server.registry().await, server.registry().await);
    let [mut peer, mut pushing] = go.peers().await;
    let (mut queue, other) = (
        Queue::fifo(&registry, NAME).unwrap(),
        Queue::fifo(&other, NAME).unwrap(),
    );
    peer.begin(&format!("pop {NAME}"));
    peer.waits().await;
    other.push("from-rust").await.unwrap();
    assert_eq!(peer.done().await, "from-rust");

    let pushed = async {
        push_in_go(&mut pushing, "from-go").await;
    };
    let (popped, ()) = join(pop(&mut queue), pushed).await;
    assert_eq!(popped, "from-go");

    // Both wait, and each gets one.
    peer.begin(&format!("pop {NAME}"));
    peer.waits().await;
    let pushed = async {
        push_in_go(&mut pushing, "1").await;
        other.push("2").await.unwrap();
    };
    let (ours, its, ()) = tokio::join!(pop(&mut queue), peer.done(), pushed);
    let mut both = [ours, its];
    both.sort_unstable();
    assert_eq!(both, ["1", "2"]);
    server.keys(ITEMS, 0).await;
}

/// Sees that items `<who>-<number>` are there once each, and that each who popped them has those of one in
/// their order.
fn are_all_there(popped: &[Vec<String>], expected: usize, each: usize) {
    let all: usize = popped.iter().map(Vec::len).sum();
    assert_eq!(all, expected);
    let mut seen = HashMap::new();
    for popped in popped {
        let mut last = HashMap::new();
        for value in popped {
            let (who, number) = value.rsplit_once('-').expect("<who>-<number>");
            let number: usize = number.parse().unwrap();
            assert!(number < each);
            let times = seen.entry(value).or_insert(0);
            *times += 1;
            assert_eq!(*times, 1, "{value} is popped again");
            let before = last.insert(who, number);
            assert!(before < Some(number), "{value} after {before:?}");
        }
    }
}

pub(crate) async fn what_many_push_and_many_pop_comes_once_and_in_order(server: &Server, go: Go) {
    const EACH: usize = 25;
    let mut peers = go.peers::<4>().await;
    let registries = join_all((0..4).map(|_| server.registry())).await;
    let mut queues: Vec<_> = registries
        .iter()
        .map(|registry| Queue::fifo(registry, NAME).unwrap())
        .collect();
    let (popping, pushing) = queues.split_at_mut(2);
    let (popping_in_go, pushing_in_go) = peers.split_at_mut(2);

    let in_go = pushing_in_go
        .iter_mut()
        .enumerate()
        .map(async |(who, peer)| {
            for number in 0..EACH {
                push_in_go(peer, &format!("go{who}-{number}")).await;
            }
        });
    let in_rust = pushing.iter().enumerate().map(async |(who, queue)| {
        for number in 0..EACH {
            queue.push(format!("rust{who}-{number}")).await.unwrap();
        }
    });
    let mut popped: Vec<BoxFuture<'_, Vec<String>>> = Vec::new();
    for peer in popping_in_go {
        popped.push(Box::pin(async move {
            let mut popped = Vec::new();
            for _ in 0..EACH {
                popped.push(pop_in_go(peer).await);
            }
            popped
        }));
    }
    for queue in popping {
        popped.push(Box::pin(async move {
            let mut popped = Vec::new();
            for _ in 0..EACH {
                popped.push(pop(queue).await);
            }
            popped
        }));
    }
    let (popped, _, _) = tokio::join!(join_all(popped), join_all(in_go), join_all(in_rust));
    are_all_there(&popped, 4 * EACH, EACH);
    server.keys(ITEMS, 0).await;
}

pub(crate) async fn what_is_urgent_comes_first_whoever_pushed_it(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    let mut queue = PriorityQueue::new(&registry, NAME).unwrap();
    let priorities = [3, 1, 2, 1, 65535, 0, 2, 1];
    for (number, priority) in priorities.into_iter().enumerate() {
        let value = format!("{priority}-{number}");
        if number % 2 == 0 {
            queue.push(priority, value).await.unwrap();
        } else {
            let push = format!("push_priority {NAME} {priority} {value}");
            peer.does(&push).await;
        }
    }
    let expected = ["0-5", "1-1", "1-3", "1-7", "2-2", "2-6", "3-0", "65535-4"];
    for (number, expected) in expected.into_iter().enumerate() {
        // Otherwise than they were pushed.
        let value = match number % 3 {
            0 => text(soon(queue.pop()).await),
            _ => peer.does(&format!("pop_priority {NAME}")).await,
        };
        assert_eq!(value, expected);
    }
    server.keys(ITEMS, 0).await;
}

pub(crate) async fn what_many_push_at_one_priority_comes_once_and_in_order(
    server: &Server,
    go: Go,
) {
    const EACH: usize = 15;
    let [mut one, mut two] = go.peers().await;
    let registries = join_all((0..2).map(|_| server.registry())).await;
    let push_in_go = async |peer: &mut Peer, who: &str| {
        for number in 0..EACH {
            let push = format!("push_priority {NAME} 7 {who}-{number}");
            peer.does(&push).await;
        }
    };
    let push = async |who: usize| {
        let queue = PriorityQueue::new(&registries[who], NAME).unwrap();
        for number in 0..EACH {
            let value = format!("rust{who}-{number}");
            soon(queue.push(7, value)).await.unwrap();
        }
    };
    tokio::join!(
        push_in_go(&mut one, "go0"),
        push_in_go(&mut two, "go1"),
        push(0),
        push(1)
    );
    server.keys(ITEMS, 4 * EACH).await;
    let mut queue = PriorityQueue::new(&registries[0], NAME).unwrap();
    let mut popped = Vec::new();
    for number in 0..4 * EACH {
        popped.push(match number % 2 {
            0 => one.does(&format!("pop_priority {NAME}")).await,
            _ => text(soon(queue.pop()).await),
        });
    }
    are_all_there(&[popped], 4 * EACH, EACH);
    server.keys(ITEMS, 0).await;
}
