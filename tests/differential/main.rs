//! A real etcd and the embedded one, asked the same by chance: every answer, every refusal in its
//! words and every event must be the same.
//!
//! A sequence of operations begins on empty servers. Revisions are counted from there, since the
//! real server goes on through all sequences. Before a watch is cancelled, and at the end, its first
//! key is put and deleted, so that it is known, not hoped, that nothing is still under way.
//!
//! `SWITCHBOARD_DIFFERENTIAL_OPERATIONS` is how many operations each of the five mixes has, at least
//! (2000 unless it is set), `SWITCHBOARD_DIFFERENTIAL_SEED` repeats a run. What fails is made as
//! small as it can be, and printed with both answers.
//!
//! # What is not compared
//!
//! - Who answers (ids of cluster and member, the term) and ids that a server chooses.
//! - The order of a lease's keys, and of leases, which etcd does not promise.
//! - How events are divided into messages, but that a revision is not torn apart.
//! - Whatever takes time: expiry is in `tests/etcd_suite`.
//!
//! # Where versions differ
//!
//! The reference is Debian's 3.4.23, or whatever `SWITCHBOARD_TEST_ETCD` names. The embedded etcd
//! does as the last 3.6; [`Change`] lists what that does otherwise than earlier ones, and since
//! when. Of a reference that lacks a change:
//!
//! - `OrdersLookedAt`, `StartsLookedAt`: sequences have no order that does not exist, and no watch
//!   from below zero.
//! - `OperationsInOrder`: it may refuse a transaction for a put where the embedded one refuses it
//!   for a read.
//! - `ProgressInTurn`, `NoProgressBeforeTheStart`: only streams are asked whose watches have all
//!   come as far as the server.
//! - `DeletionsKept`: deletions at a compacted revision are passed over.
//!
//! `tests/etcd_suite` has a test of each. Of every reference one thing is left out, since it ends it
//! for good: a put that keeps a part of a key which its own transaction deletes.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod answer;
mod chance;
mod operation;
mod side;

use std::{env, fmt::Write};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestRunner},
};
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::{Change, Etcd, RawEtcd, Version};
use tokio::runtime::{Builder, Runtime};

use crate::{
    chance::{Mix, sequences},
    operation::Operation,
    side::{Logs, Side},
};

/// A mix of nothing.
const NONE: Mix = Mix {
    keys: 0,
    transactions: 0,
    leases: 0,
    watches: 0,
    compactions: 0,
};

#[test]
fn keys_are_read_and_written_alike() {
    both_say_the_same(Mix {
        keys: 12,
        compactions: 1,
        ..NONE
    });
}

#[test]
fn transactions_do_alike() {
    both_say_the_same(Mix {
        keys: 3,
        transactions: 12,
        leases: 1,
        compactions: 1,
        ..NONE
    });
}

#[test]
fn leases_do_alike() {
    both_say_the_same(Mix {
        keys: 6,
        transactions: 2,
        leases: 10,
        ..NONE
    });
}

#[test]
fn watches_tell_alike() {
    both_say_the_same(Mix {
        keys: 14,
        watches: 6,
        compactions: 1,
        ..NONE
    });
}

#[test]
fn all_together_do_alike() {
    both_say_the_same(Mix {
        keys: 8,
        transactions: 8,
        leases: 5,
        watches: 3,
        compactions: 1,
    });
}

/// Runs sequences of a mix on a real server and the embedded one.
fn both_say_the_same(mix: Mix) {
    let number = setting("SWITCHBOARD_DIFFERENTIAL_OPERATIONS").unwrap_or(2000);
    let seed = setting("SWITCHBOARD_DIFFERENTIAL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let etcd = runtime.block_on(Etcd::start());
    let real = runtime.block_on(async { RawEtcd::connect(etcd.endpoint()) });
    let version = runtime.block_on(real.version());

    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_time: 30_000,
        max_shrink_iters: 2000,
        ..Config::default()
    });
    let sequences = sequences(mix, version);
    let mut done = 0;
    while done < number {
        let sequence = sequences.new_tree(&mut runner).unwrap();
        done += sequence.current().len() as u64;
        let compare = |operations| compare(&runtime, (&real, version), operations);
        let outcome = runner.run_one(sequence, compare);
        if let Err(failure) = outcome {
            panic!("SWITCHBOARD_DIFFERENTIAL_SEED={seed}: {failure}");
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    match value.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name}: {value:?} (expected: a number)"),
    }
}

/// Runs one sequence on both.
fn compare(
    runtime: &Runtime,
    real: (&RawEtcd, Version),
    operations: Vec<Operation>,
) -> Result<(), TestCaseError> {
    let mut transcript = String::new();
    let outcome = runtime.block_on(run(real, operations, &mut transcript));
    outcome.map_err(|what| TestCaseError::fail(format!("{what}\nIt was done:\n{transcript}")))
}

async fn run(
    (real, version): (&RawEtcd, Version),
    operations: Vec<Operation>,
    transcript: &mut String,
) -> Result<(), String> {
    let etcd = EmbeddedEtcd::start();
    let address = etcd.listen("127.0.0.1:0").await.unwrap();
    let embedded = RawEtcd::connect(&address.to_string());
    let (mut real, mut embedded) = tokio::join!(
        Side::begin(real.clone(), version),
        Side::begin(embedded, version)
    );
    let in_order = version.has(Change::OperationsInOrder);

    for operation in operations {
        writeln!(transcript, "{operation:?}").unwrap();
        let answers = tokio::join!(real.perform(operation.clone()), embedded.perform(operation),);
        let (of_real, of_embedded) = both(answers)?;
        writeln!(transcript, "    {of_real:?}").unwrap();
        let is_excused = !in_order && of_real.is_of_a_put_and_not_of_a_read(&of_embedded);
        if of_real != of_embedded && !is_excused {
            return Err(format!(
                "two answers:\n    real:     {of_real:?}\n    embedded: {of_embedded:?}"
            ));
        }
    }
    let (of_real, of_embedded) = both(tokio::join!(real.end(), embedded.end()))?;
    for watch in of_real.keys().chain(of_embedded.keys()) {
        let told = |side: &Logs| side.get(watch).cloned().unwrap_or_default();
        let (one, other) = (told(&of_real), told(&of_embedded));
        let same = one
            .iter()
            .zip(&other)
            .take_while(|(one, other)| one == other);
        let same = same.count();
        let (one, other) = (one.get(same), other.get(same));
        if one.is_some() || other.is_some() {
            return Err(format!(
                "watch {watch:?} was told two things, after {same} that were the same:\n    \
                real:     {one:?}\n    embedded: {other:?}"
            ));
        }
    }
    Ok(())
}

fn both<T>((real, embedded): (Result<T, String>, Result<T, String>)) -> Result<(T, T), String> {
    let real = real.map_err(|what| format!("the real one: {what}"))?;
    let embedded = embedded.map_err(|what| format!("the embedded one: {what}"))?;
    Ok((real, embedded))
}
