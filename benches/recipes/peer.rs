//! One who takes part, in Rust: as `tests/recipes/go` is told, and does the same.

use switchboard::{Registry, coordination::Lock};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// Does what it is told, until its input ends: `load <what> <with> <times>`, to which it says `ok`.
pub(crate) async fn run(endpoint: &str) {
    let registry = Registry::connect(endpoint).await.unwrap();
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
        _ => panic!("what: {what:?} (expected: one of those that cases have)"),
    }
}
