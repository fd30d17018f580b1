//! One setting in etcd, which whoever runs the system changes, and every client follows through the registry
//! by which it discovers.
//!
//! What a client is shown at a revision is what the store held then; what it is shown while etcd is not heard,
//! or after all was lost, the store once held. In the end everybody sees the last value.

use std::collections::BTreeMap;

use switchboard::{
    Registry,
    coordination::{Config, ConfigError, Failure},
};
use switchboard_embedded::KeyValue;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{clients, gate::Gate, script::Party, trace::chain, world::World};

/// Where it lies.
pub(crate) const KEY: &str = "/sim/setting";

/// What the setting is where nobody has set it.
const DEFAULT: u64 = 0;

/// All values that the setting ever had.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// Since the last wipe, by the revisions that brought them.
    history: BTreeMap<i64, u64>,
    /// The histories before.
    wiped: Vec<BTreeMap<i64, u64>>,
}

impl Values {
    /// Reads what the store holds at its next revision.
    pub(crate) fn read(&mut self, revision: i64, keys: &[KeyValue]) {
        let setting = keys.iter().find(|kv| kv.key == KEY.as_bytes());
        let value = setting.map_or(DEFAULT, |kv| {
            let text = std::str::from_utf8(&kv.value).expect("it is text");
            text.parse().expect("it is a number")
        });
        if value != self.current() {
            self.history.insert(revision, value);
        }
    }

    /// All is lost, and revisions begin anew.
    pub(crate) fn wiped(&mut self) {
        self.wiped.push(std::mem::take(&mut self.history));
    }

    fn current(&self) -> u64 {
        at(&self.history, i64::MAX)
    }

    /// Returns whether this was the value at that revision of some history.
    pub(crate) fn was(&self, revision: i64, value: u64) -> bool {
        let mut histories = self.wiped.iter().chain([&self.history]);
        histories.any(|history| at(history, revision) == value)
    }

    /// Returns whether this was the value at any time before the last wipe.
    pub(crate) fn was_lost(&self, value: u64) -> bool {
        let mut values = self.wiped.iter().flat_map(BTreeMap::values);
        values.any(|it| *it == value)
    }
}

fn at(history: &BTreeMap<i64, u64>, revision: i64) -> u64 {
    let last = history.range(..=revision).next_back();
    last.map_or(DEFAULT, |(_, value)| *value)
}

/// A client's sight of the setting.
pub(crate) struct Replica {
    /// What it sees, while that is known to be right.
    seen: watch::Receiver<Option<u64>>,
    _stop: DropGuard,
}

impl Replica {
    /// Begins to follow the setting.
    pub(crate) fn start(world: &World, client: usize, registry: &Registry, gate: &Gate) -> Self {
        let (sender, seen) = watch::channel(None);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let following = follow(world.clone(), client, registry.clone(), sender);
        let following = gate.through(following);
        world.tasks().spawn(async move {
            stopped.run_until_cancelled(following).await;
        });
        Self {
            seen,
            _stop: stop.drop_guard(),
        }
    }

    /// Returns what it does not see yet of what the store holds.
    pub(crate) fn unsettled(&self, values: &Values) -> Option<String> {
        let (seen, expected) = (*self.seen.borrow(), values.current());
        let is_right = seen == Some(expected);
        (!is_right).then(|| format!("the setting is seen as {seen:?} (expected: {expected})"))
    }
}

async fn follow(world: World, client: usize, registry: Registry, seen: watch::Sender<Option<u64>>) {
    let name = clients::name(client);
    let config = loop {
        let began = world.now();
        let setting = Config::at(&registry, KEY).expect("a key").default(DEFAULT);
        let error = match setting.load().await {
            Ok(config) => break config,
            Err(error) => error,
        };
        if let ConfigError::Etcd {
            cause: Failure::Closed,
            ..
        } = &error
        {
            return;
        }
        let what = format!("{name} cannot load the setting: {}", chain(&error));
        world.excused(Party::Client(client), began, what);
    };
    let mut state = config.state();
    loop {
        let (value, revision, is_stale, rejected) = {
            let state = state.borrow_and_update();
            let rejected = state.rejected.as_ref().map(ToString::to_string);
            (
                *state.value,
                state.revision,
                state.stale.is_some(),
                rejected,
            )
        };
        let may_be = {
            let values = &world.state().auditor.setting;
            // What another history held is shown for a while.
            values.was(revision, value) || is_stale && values.was_lost(value)
        };
        let fresh = if is_stale { "stale" } else { "fresh" };
        let shown = format!("{name} has the setting {value} at {revision}, {fresh}");
        world.trace().write(&shown);
        world.count("settings shown");
        if !may_be {
            world.violation(format!("{shown}, and it never was"));
        }
        if let Some(rejected) = rejected {
            world.violation(format!("{name} rejects the setting: {rejected}"));
        }
        seen.send_replace((!is_stale).then_some(value));
        if state.changed().await.is_err() {
            return;
        }
    }
}
