//! One who takes part, in Rust: as `tests/recipes/go` is told, and does the same.

use switchboard::{
    Registry,
    coordination::{Election, Lock, PriorityQueue, Queue},
};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

const PRIORITY: u16 = 7;

/// Does what it is told, until its input ends: `load <what> <with> <times>`, to which it says `ok`.
pub(crate) async fn run(endpoint: String) {
    let registry = Registry::connect(endpoint.as_str()).await.unwrap();
    registry.keys().tenure().await.unwrap();
    println!("ready");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let words: Vec<_> = line.split(' ').collect();
        let &["load", what, with, times] = &words[..] else {
            panic!("line: {line:?} (expected: load <what> <with> <times>)");
        };
        load(&registry, what, with, times.parse().unwrap()).await;
        println!("ok");
    }
    registry.close().await;
}

async fn load(registry: &Registry, what: &str, with: &str, times: usize) {
    match what {
        "lock" => {
            let lock = Lock::new(registry, with).unwrap();
            for _ in 0..times {
                lock.lock().await.unwrap().unlock().await.unwrap();
            }
        }
        "campaign" => {
            let election = Election::new(registry, with).unwrap();
            for _ in 0..times {
                let leadership = election.campaign("leader").await.unwrap();
                leadership.resign().await.unwrap();
            }
        }
        "push" => {
            let queue = Queue::fifo(registry, with).unwrap();
            for _ in 0..times {
                queue.push("item").await.unwrap();
            }
        }
        "pop" => {
            let mut queue = Queue::fifo(registry, with).unwrap();
            for _ in 0..times {
                queue.pop().await.unwrap();
            }
        }
        "push_priority" => {
            let queue = PriorityQueue::new(registry, with).unwrap();
            for _ in 0..times {
                queue.push(PRIORITY, "item").await.unwrap();
            }
        }
        "pop_priority" => {
            let mut queue = PriorityQueue::new(registry, with).unwrap();
            for _ in 0..times {
                queue.pop().await.unwrap();
            }
        }
        _ => panic!("what: {what:?} (expected: one of those that cases have)"),
    }
}
