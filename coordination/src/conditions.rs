//! To go when a set of keys holds a set of values.

use std::{collections::BTreeMap, time::Duration};

use futures::future::select_all;
use switchboard_registry::{
    NameError, Registry,
    keys::{Followed, Freshness, Guard, KeyPath, KeyRange, Keys, KeysError, Transaction},
};
use tokio::time::sleep;

use crate::{Failure, failure::RETRY};

/// How many keys there may be. Each is watched by itself, and etcd compares at most 128 at once.
const MOST_KEYS: usize = 100;

/// A set of keys, and what each is to hold.
///
/// [`met`](Self::met) returns once all of them did at one revision of etcd, as etcd itself has
/// confirmed: not one after another. What is so for a moment only may be missed, and what was so may not
/// be any more when the caller goes on: where that matters, what follows is to be guarded by the same
/// keys, in a transaction.
///
/// ```
/// use switchboard_coordination::Conditions;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// # let put = |key: &'static str, value: &'static str| { let keys = registry.keys(); async move {
/// #     use switchboard_registry::keys::{Operation, Transaction};
/// #     keys.commit(Transaction::new().then(Operation::put(key, value, None))).await
/// # }};
/// # put("/shop/schema", "7").await?;
/// # put("/shop/cache", "warm").await?;
/// let conditions = Conditions::new(&registry)
///     .holds("/shop/schema", "7")?
///     .holds("/shop/cache", "warm")?
///     .absent("/shop/maintenance")?;
/// conditions.met().await?; // go
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "conditions are not looked at until they are waited for"]
pub struct Conditions {
    keys: Keys,
    wanted: BTreeMap<String, Option<Vec<u8>>>,
}

/// That the conditions are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Met {
    /// A revision of etcd at which they were.
    pub revision: i64,
}

/// Why conditions cannot be waited for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionsError {
    /// What is given is not a key.
    #[error(transparent)]
    Key(#[from] NameError),
    /// The key has a condition already.
    #[error("two conditions: {0} (expected: one for each key)")]
    Twice(String),
    /// There are none, or too many.
    #[error("conditions: {0} (expected: from 1 to {MOST_KEYS})")]
    Number(usize),
    /// etcd did not do what it was asked for.
    #[error("cannot wait for conditions")]
    Etcd(#[source] Failure),
}

impl Conditions {
    /// Makes a set without any.
    pub fn new(registry: &Registry) -> Self {
        Self {
            keys: registry.keys(),
            wanted: BTreeMap::new(),
        }
    }

    /// Adds that this key is to hold this value, to the byte.
    ///
    /// # Errors
    ///
    /// What is given is not a key, or has a condition already.
    pub fn holds<K>(self, key: K, value: impl Into<Vec<u8>>) -> Result<Self, ConditionsError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        self.with(key.try_into().map_err(Into::into)?, Some(value.into()))
    }

    /// Adds that there is to be no such key.
    ///
    /// # Errors
    ///
    /// What is given is not a key, or has a condition already.
    pub fn absent<K>(self, key: K) -> Result<Self, ConditionsError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        self.with(key.try_into().map_err(Into::into)?, None)
    }

    fn with(mut self, key: KeyPath, value: Option<Vec<u8>>) -> Result<Self, ConditionsError> {
        let key = key.to_string();
        if self.wanted.contains_key(&key) {
            return Err(ConditionsError::Twice(key));
        }
        self.wanted.insert(key, value);
        Ok(self)
    }

    /// Waits until all of them are met, at one revision; while etcd is away, too.
    ///
    /// # Errors
    ///
    /// There are none, or too many; etcd refuses; or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn met(&self) -> Result<Met, ConditionsError> {
        if !(1..=MOST_KEYS).contains(&self.wanted.len()) {
            return Err(ConditionsError::Number(self.wanted.len()));
        }
        let follow = |(key, value): (&String, &Option<Vec<u8>>)| Condition {
            followed: self.keys.follow(KeyRange::Key(key.clone())),
            wanted: value.clone(),
        };
        let mut conditions: Vec<_> = self.wanted.iter().map(follow).collect();
        loop {
            if conditions.iter().all(Condition::seems_met)
                && let Some(met) = self.confirm().await?
            {
                return Ok(met);
            }
            let news = conditions.iter_mut().map(|it| Box::pin(it.changed()));
            let (changed, ..) = select_all(news).await;
            changed.map_err(ConditionsError::Etcd)?;
        }
    }

    /// Asks etcd whether all are met, at one revision.
    async fn confirm(&self) -> Result<Option<Met>, ConditionsError> {
        let guard = |(key, value): (&String, &Option<Vec<u8>>)| match value {
            Some(value) => Guard::holds(key, value),
            None => Guard::changed_at(key, 0),
        };
        let guarded = self.wanted.iter().map(guard);
        let transaction = guarded.fold(Transaction::new(), Transaction::when);
        let mut attempts = 0;
        loop {
            match self.keys.commit(transaction.clone()).await {
                Ok(outcome) => {
                    let revision = outcome.revision;
                    return Ok(outcome.succeeded.then_some(Met { revision }));
                }
                Err(KeysError::Unreachable(_) | KeysError::Unavailable(_)) => attempts += 1,
                Err(error) => return Err(ConditionsError::Etcd(error.into())),
            }
            sleep(pause(attempts)).await;
        }
    }
}

fn pause(attempts: u32) -> Duration {
    RETRY.delay(attempts, fastrand::f64())
}

/// One key, followed.
struct Condition {
    followed: Followed,
    wanted: Option<Vec<u8>>,
}

impl Condition {
    /// Returns whether it was met when the key was heard of last.
    fn seems_met(&self) -> bool {
        let snapshot = self.followed.snapshot();
        snapshot.is_some_and(|it| it.keys().first().map(|kv| &kv.value) == self.wanted.as_ref())
    }

    async fn changed(&mut self) -> Result<(), Failure> {
        self.followed.changed().await?;
        match self.followed.freshness() {
            Freshness::Denied { cause } => Err(Failure::Denied(cause)),
            _ => Ok(()),
        }
    }
}
