//! A whole system in one deterministic process: servers, those who publish, those who call and
//! follow, and etcd, over a network in memory, on a clock that nobody waits for.
//!
//! A run is decided by its seed: a [script](script) of what everybody is told and of what goes wrong,
//! and all chance in the registry, the channels and tokio. The same seed gives the same trace, to
//! the millisecond.
//!
//! At every revision of the store, [auditor] checks what must hold; [health] says when a call may
//! fail. When all faults have ended, all must be as it should within 30 s and stay so: the store
//! holds what is wanted and nothing else, everybody sees exactly that, and is connected. When all is
//! closed, no task is left.
//!
//! ```text
//! cargo test --test simulation                            500 seeds, and those that once found something
//! SWITCHBOARD_SEEDS=5000 cargo test --test simulation     more of them
//! SWITCHBOARD_SEED=7 cargo test --test simulation         one of them, with its trace
//! ```

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod auditor;
mod clients;
mod health;
mod publishers;
mod run;
mod script;
mod servers;
mod trace;
mod world;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use run::{Outcome, run};

/// Seeds that have found something.
const REGRESSIONS: &[u64] = &[];

/// Returns the number that a variable holds, if it is set.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}: {text:?} (expected: a number)")))
}

/// Runs a seed. Returns what is wrong with it, with the end of its trace.
fn failure(seed: u64, is_shown: bool) -> Option<String> {
    let Outcome {
        lines, violations, ..
    } = run(seed, is_shown);
    if violations.is_empty() {
        return None;
    }
    Some(format!(
        "seed {seed}, after {} lines:\n  {}\nreplay it: SWITCHBOARD_SEED={seed} cargo test --test simulation",
        lines.len(),
        violations.join("\n  "),
    ))
}

fn survive(seeds: impl Iterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.collect();
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = seeds.get(index) else { break };
                    let failure = failure(*seed, false);
                    failures.lock().unwrap().extend(failure);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let (count, all) = (failures.len(), seeds.len());
    assert!(
        failures.is_empty(),
        "{count} of {all} seeds failed:\n\n{}",
        failures.join("\n\n")
    );
}

#[test]
fn whatever_happens_in_whatever_order_all_is_as_it_should_in_the_end() {
    if let Some(seed) = variable("SWITCHBOARD_SEED") {
        if let Some(failure) = failure(seed, true) {
            panic!("{failure}");
        }
        return;
    }
    let count = variable("SWITCHBOARD_SEEDS").unwrap_or(500);
    survive(REGRESSIONS.iter().copied().chain(0..count));
}

#[test]
#[cfg_attr(
    not(tokio_unstable),
    ignore = "tokio's own chance follows a seed only with tokio_unstable"
)]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..8 {
        let (once, again) = (run(seed, false), run(seed, false));
        let differs = once
            .lines
            .iter()
            .zip(&again.lines)
            .find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(once.hash, again.hash, "seed {seed}");
        assert!(
            once.lines.len() > 100,
            "seed {seed}: only {} lines",
            once.lines.len()
        );
    }
    assert_ne!(run(0, false).hash, run(1, false).hash);
}
