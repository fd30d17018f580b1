//! Processes that write the configurations, well or badly, and the keys of conditions.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use switchboard::coordination::{Config, ConfigError};
use switchboard_registry::keys::{Keys, KeysError, Operation, Transaction};
use tokio::time::sleep;

use super::{
    history::{AT, BELOW, Content, FIELDS, FLAGS, LIMIT, Life},
    process::Hands,
};
use crate::trace::chain;

pub(super) type Limits = BTreeMap<String, u64>;

pub(super) async fn behave(mut hands: Hands) {
    let keys = hands.registry.keys();
    while !hands.world.is_over() {
        let wait = Duration::from_millis(hands.rng.u64(20..800));
        let _ = tokio::time::timeout(wait, hands.world.over().cancelled()).await;
        match hands.rng.u32(..10) {
            0..3 => drop(store(&hands).await),
            3..6 => drop(commit(&hands, &keys, fields(hands.world.number())).await),
            6..8 => {
                let bad = bad(&hands.world.number().to_string(), &mut hands.rng);
                commit(&hands, &keys, bad).await;
            }
            _ => {
                let flags = flags(&mut hands.rng);
                commit(&hands, &keys, flags).await;
            }
        }
    }
    let (name, world) = (hands.name.clone(), hands.world.clone());
    world
        .state()
        .waits(&name, Some("to write at last".to_owned()));
    let go = FLAGS[..2].iter().map(|key| Operation::put(key, "go", None));
    let go = go.chain([Operation::delete(FLAGS[2])]);
    let go = go.fold(Transaction::new(), Transaction::then);
    while !store(&hands).await {
        sleep(Duration::from_millis(200)).await;
    }
    while !commit(&hands, &keys, fields(world.number())).await
        || !commit(&hands, &keys, go.clone()).await
    {
        sleep(Duration::from_millis(200)).await;
    }
    world.state().waits(&name, None);
}

/// Stores the configuration in one key; returns whether that is confirmed.
async fn store(hands: &Hands) -> bool {
    let (world, name, number) = (&hands.world, &hands.name, hands.world.number());
    let config = Config::<Limits>::at(&hands.registry, AT).expect("a key");
    let stored = config
        .store(&Limits::from([("counter".to_owned(), number)]))
        .await;
    match stored {
        Ok(revision) => {
            let good = Content::Good(number);
            let is_there = |life: &Life| life.at.get(&revision) == Some(&good);
            if !world.state().history.lives.iter().any(is_there) {
                world.violation(format!("{name} is told of {number} at {revision}"));
            }
            true
        }
        Err(ConfigError::Etcd { cause, .. }) => {
            world.excused(format!("{name} stores {number}: {}", chain(&cause)));
            false
        }
        Err(error) => {
            world.violation(format!("{name} stores {number}: {}", chain(&error)));
            false
        }
    }
}

async fn commit(hands: &Hands, keys: &Keys, transaction: Transaction) -> bool {
    match keys.commit(transaction).await {
        Ok(_) => true,
        Err(KeysError::Closed) => false,
        Err(error) => {
            let what = format!("{} commits: {}", hands.name, chain(&error));
            hands.world.excused(what);
            false
        }
    }
}

fn fields(number: u64) -> Transaction {
    let put = |field| Operation::put(&format!("{BELOW}/{field}/n"), number.to_string(), None);
    FIELDS
        .iter()
        .map(put)
        .fold(Transaction::new(), Transaction::then)
}

/// What is no configuration.
fn bad(number: &str, rng: &mut Rng) -> Transaction {
    let put = |key: &str, value: String| Transaction::new().then(Operation::put(key, value, None));
    let field = format!("{BELOW}/{}/n", FIELDS[rng.usize(..3)]);
    match rng.u32(..6) {
        0 => put(AT, format!("no JSON {number}")),
        1 => put(AT, format!(r#"{{"counter": "{number}"}}"#)),
        2 => {
            let padding = " ".repeat(LIMIT);
            put(AT, format!(r#"{{"counter": {number}}}{padding}"#))
        }
        3 => put(&field, format!("number {number}")),
        4 => Transaction::new().then(Operation::delete(AT)),
        _ => {
            let (first, end) = (format!("{BELOW}/"), format!("{BELOW}0"));
            Transaction::new().then(Operation::delete_between(&first, &end))
        }
    }
}

fn flags(rng: &mut Rng) -> Transaction {
    let which = FLAGS[rng.usize(..3)];
    let value = ["go", "wait"][rng.usize(..2)];
    let operation = match which == FLAGS[2] && value == "wait" {
        true => Operation::delete(which),
        false => Operation::put(which, value, None),
    };
    Transaction::new().then(operation)
}
