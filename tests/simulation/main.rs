//! A whole system in one deterministic process: servers, those who publish, those who call and
//! follow, and etcd, over a network in memory, on a clock that nobody waits for.
//!
//! A run is decided by its seed: a [script](script) of what everybody is told and of what goes wrong,
//! and all chance in the registry, the channels and tokio. The same seed gives the same trace, to
//! the millisecond.
//!
//! Besides what breaks, parties are cut off from everybody at once, or stand still and go on as if
//! nothing was, and all servers are restarted in turn. Those who publish contend for a lock under the
//! same lease ([holders]), and those who discover follow a [setting] by the same registry.
//!
//! At every revision of the store, [auditor] checks what must hold, and the [ledger] that one has the
//! lock at a time; [health] says when a call may fail. When all faults have ended, all must be as it
//! should within 30 s and stay so: the store holds what is wanted and nothing else, everybody sees
//! exactly that, is connected, and can have the lock. When all is closed, no task is left, nor a key
//! under a lease. What happened how often is [counted](counts), and a fault that never came is a failure.
//!
//! ```text
//! cargo test --test simulation                            2,000 seeds, and those that once found something
//! SWITCHBOARD_SEEDS=5000 cargo test --test simulation     more of them
//! SWITCHBOARD_SEED=7 cargo test --test simulation order   one of them, with its trace
//! ```
//!
//! Planted bugs that it catches say so in their patches (`tests/mutants`). It does not catch a list
//! that a compaction or a wipe empties for a moment: those are for the deciders' own histories.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod alarms;
mod auditor;
mod clients;
mod contention;
mod coordination;
mod counts;
mod gate;
mod health;
mod holders;
mod ledger;
mod publishers;
mod records;
mod run;
mod script;
mod servers;
mod setting;
mod stranger;
mod trace;
mod world;

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use counts::{Counts, PrintedAtLast};
use run::{Outcome, RESTORED, run};
use script::Script;

/// Seeds that have found something since the script last changed: with it, seeds mean other runs.
const REGRESSIONS: &[u64] = &[2597, 3639, 7395, 8693];

/// How many seeds are run where nobody says how many.
const SEEDS: u64 = 2_000;

/// In how many of them a backup is restored, beside all else.
const RESTORED_SEEDS: u64 = 300;

/// What happened in all runs of the test.
static COUNTS: Mutex<Counts> = Mutex::new(Counts::new());

/// Returns the number that a variable holds, if it is set.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}: {text:?} (expected: a number)")))
}

/// How long a run may take on a busy machine, which takes milliseconds on an idle one: what takes
/// longer spins.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a seed is run.
type Run = fn(u64, bool) -> Outcome;

/// Runs a seed. Returns what is wrong with it.
fn failure(run: Run, seed: u64, is_shown: bool, tests: &str) -> Option<String> {
    let wrong = match std::panic::catch_unwind(|| run(seed, is_shown)) {
        Ok(Outcome { violations, .. }) if violations.is_empty() => return None,
        Ok(Outcome { violations, .. }) => violations.join("\n  "),
        Err(_) => "it panicked; see above".to_owned(),
    };
    Some(format!(
        "seed {seed}:\n  {wrong}\nreplay it: SWITCHBOARD_SEED={seed} cargo test --test simulation {tests}",
    ))
}

/// Runs the seed that is asked for, or `seeds` of them, those that once found something among them; `tests` is
/// what the test that does is called, or a part of it.
fn survive(run: Run, regressions: &[u64], seeds: u64, tests: &str) {
    if let Some(seed) = variable("SWITCHBOARD_SEED") {
        if let Some(failure) = failure(run, seed, true, tests) {
            panic!("{failure}");
        }
        return;
    }
    let count = variable("SWITCHBOARD_SEEDS").unwrap_or(seeds);
    survive_all(
        run,
        regressions.iter().copied().chain(0..count).collect(),
        tests,
    );
}

/// Runs seeds, on all processors.
fn survive_all(run: Run, seeds: Vec<u64>, tests: &str) {
    let count = seeds.len();
    let seeds = Mutex::new(seeds.into_iter());
    let (begin, begun) = mpsc::channel();
    let mut failures = Vec::new();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (begin, seeds) = (begin.clone(), &seeds);
            scope.spawn(move || {
                while let Some(seed) = { seeds.lock().unwrap().next() } {
                    begin.send((seed, None)).unwrap();
                    begin
                        .send((seed, Some(failure(run, seed, false, tests))))
                        .unwrap();
                }
            });
        }
        drop(begin);
        let mut running = BTreeSet::new();
        loop {
            match begun.recv_timeout(PATIENCE) {
                Ok((seed, None)) => drop(running.insert(seed)),
                Ok((seed, Some(failure))) => {
                    running.remove(&seed);
                    failures.extend(failure);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Its thread cannot be stopped; and what a test prints is shown when it ends.
                    let text = format!("no run has ended in {PATIENCE:?}: seeds {running:?}\n");
                    let _ = std::io::stderr().write_all(text.as_bytes());
                    std::process::exit(101);
                }
            }
        }
    });
    let (failed, text) = (failures.len(), failures.join("\n\n"));
    assert!(
        failures.is_empty(),
        "{failed} of {count} seeds failed:\n\n{text}"
    );
}

#[test]
fn whatever_happens_in_whatever_order_all_is_as_it_should_in_the_end() {
    let run = |seed, is_shown| run(seed, Script::of(seed), is_shown, Some(&COUNTS));
    let _counts = PrintedAtLast(&COUNTS);
    survive(run, REGRESSIONS, SEEDS, "in_whatever_order");
    if variable("SWITCHBOARD_SEED").is_none() && variable("SWITCHBOARD_SEEDS").is_none() {
        let missing = COUNTS.lock().unwrap().missing();
        assert!(missing.is_empty(), "never came: {missing:?}");
    }
}

/// What was written since the backup is gone, and what was taken away stands again, until the lease ends under which
/// it does.
#[test]
fn where_a_backup_was_restored_all_is_as_it_should_in_the_end() {
    static COUNTS: Mutex<Counts> = Mutex::new(Counts::new());
    let run = |seed, is_shown| run(seed, Script::with_restore(seed), is_shown, Some(&COUNTS));
    survive(run, &[], RESTORED_SEEDS, "backup_was_restored");
    if variable("SWITCHBOARD_SEED").is_none() && variable("SWITCHBOARD_SEEDS").is_none() {
        let restored = COUNTS.lock().unwrap().of(RESTORED);
        assert!(restored > RESTORED_SEEDS * 3 / 4, "{restored}");
    }
}

#[test]
#[cfg_attr(
    not(tokio_unstable),
    ignore = "tokio's own chance follows a seed only with tokio_unstable"
)]
fn the_same_seed_gives_the_same_trace() {
    are_repeatable(|seed, is_shown| run(seed, Script::of(seed), is_shown, None));
}

/// Sees that each seed gives the same trace again.
fn are_repeatable(run: Run) {
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
