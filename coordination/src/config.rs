//! A value that all replicas of a program share, and that changes on all of them while they run.

mod adoption;
mod document;
mod error;
mod format;
mod place;
#[cfg(feature = "yaml")]
mod yaml;

use std::{error::Error, fmt, sync::Arc};

use futures::{Stream, stream};
use serde::{Serialize, de::DeserializeOwned};
use switchboard_registry::{
    NameError, Registry,
    keys::{Followed, Freshness, KeyPath, KeyValue, Keys, Operation, Transaction},
};
use switchboard_resolver::Cause;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::error::{ConfigError, InvalidConfig};
use self::{
    adoption::{Adoption, Verdict},
    place::Place,
};
use crate::failure::{Failure, first};

/// How large a configuration may be unless set otherwise. Larger ones are mistakes, more often than
/// not, and every replica would hold them.
const LIMIT: usize = 1 << 20;

/// A value in etcd, which changes while the program runs. Cheap to clone; each clone sees each
/// change once.
///
/// - All replicas see changes in the order in which etcd took them. Of those that follow one another
///   closely a slow one may see the last only; none sees an older one after a newer one.
/// - A value that is not what it should be is reported once, in the log and by
///   [`state`](Self::state), and the last good one stays until there is a better one.
/// - While etcd is away the last value stays.
///
/// It ends with its last clone, or with the registry.
///
/// ```
/// use serde::Deserialize;
/// use switchboard_coordination::Config;
///
/// #[derive(Debug, Default, PartialEq, Deserialize)]
/// #[serde(default)]
/// struct Limits {
///     calls: u32,
///     burst: u32,
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let limits = Config::at(&registry, "/shop/limits.json")?.default(Limits::default());
/// let mut limits = limits.load().await?;
/// assert_eq!(limits.current().calls, 0);
///
/// // etcdctl put /shop/limits.json '{"calls": 100}'
/// # let put = switchboard_registry::keys::Operation::put("/shop/limits.json", r#"{"calls": 100}"#, None);
/// # registry.keys().commit(switchboard_registry::keys::Transaction::new().then(put)).await?;
/// assert_eq!(limits.changed().await?.calls, 100);
/// # Ok(()) }
/// ```
pub struct Config<T> {
    place: Arc<Place>,
    state: watch::Receiver<ConfigState<T>>,
    /// The value that was seen last.
    seen: Arc<T>,
    _stop: Arc<DropGuard>,
}

/// How a configuration is.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigState<T> {
    /// The value to use.
    pub value: Arc<T>,
    /// The revision of etcd that it is known to have been right at.
    pub revision: i64,
    /// What is in etcd, if that is not what it should be: then `value` is the last good one.
    pub rejected: Option<Arc<InvalidConfig>>,
    /// Why there may be a newer one in etcd, if etcd is not heard.
    pub stale: Option<Cause>,
}

/// A configuration that is to be loaded.
#[must_use = "a configuration is not read until it is loaded"]
pub struct ConfigBuilder<T> {
    keys: Keys,
    place: Place,
    default: Option<Arc<T>>,
    limit: usize,
}

impl<T> Config<T> {
    /// A configuration in one key. The key's extension tells how it is written: `.json` or none for
    /// JSON, `.yaml` or `.yml` (feature `yaml`), `.toml` (feature `toml`).
    ///
    /// # Errors
    ///
    /// What is given is not a key, has another extension, or lies in `/microservices`, where clients
    /// of kratos fail on what is not a server.
    pub fn at<K>(registry: &Registry, key: K) -> Result<ConfigBuilder<T>, ConfigError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let key = key.try_into().map_err(Into::into)?;
        Ok(ConfigBuilder::new(registry, Place::at(key)?))
    }

    /// A configuration of all keys below one: each is a field, and those with further segments are
    /// fields of a field. A key's extension tells how it is written; without one it is JSON, or, if it
    /// does not look like it, text.
    ///
    /// So that below `/shop`, the keys `/shop/limits/calls` and `/shop/name` are read as
    /// `{"limits": {"calls": 100}, "name": "corner shop"}`. Of missing keys serde's defaults take the
    /// place.
    ///
    /// # Errors
    ///
    /// As [`at`](Self::at).
    pub fn below<K>(registry: &Registry, key: K) -> Result<ConfigBuilder<T>, ConfigError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let key = key.try_into().map_err(Into::into)?;
        Ok(ConfigBuilder::new(registry, Place::below(key)?))
    }

    /// Returns the value to use now.
    pub fn current(&self) -> Arc<T> {
        self.state.borrow().value.clone()
    }

    /// Waits until there is another value than the one that this returned last, or that there was
    /// when it was loaded.
    ///
    /// # Errors
    ///
    /// The registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: the next call returns at once.
    pub async fn changed(&mut self) -> Result<Arc<T>, ConfigError> {
        let seen = &self.seen;
        let is_news = |state: &ConfigState<T>| !Arc::ptr_eq(&state.value, seen);
        let news = self
            .state
            .wait_for(is_news)
            .await
            .map(|it| it.value.clone());
        let news = news.map_err(|_| ConfigError::failed(&self.place, Failure::Closed))?;
        self.seen = news.clone();
        Ok(news)
    }

    /// Returns a watch on the value, on what was rejected, and on whether etcd is heard. It ends with
    /// the registry.
    pub fn state(&self) -> watch::Receiver<ConfigState<T>> {
        self.state.clone()
    }

    /// Makes a stream of the values that follow, which ends with the registry.
    pub fn into_stream(self) -> impl Stream<Item = Arc<T>> + Send
    where
        T: Send + Sync,
    {
        stream::unfold(self, |mut config| async {
            let value = config.changed().await.ok()?;
            Some((value, config))
        })
    }
}

impl<T> ConfigBuilder<T> {
    fn new(registry: &Registry, place: Place) -> Self {
        Self {
            keys: registry.keys(),
            place,
            default: None,
            limit: LIMIT,
        }
    }

    /// Sets the value to use while there is no key. Without one, that is an error.
    pub fn default(mut self, default: T) -> Self {
        self.default = Some(Arc::new(default));
        self
    }

    /// Sets how many bytes of values there may be; 1 MiB unless set.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Writes the value, for all replicas; returns the revision of etcd that brought it.
    ///
    /// # Errors
    ///
    /// The value cannot be written as its key's extension has it, is too large, or is that of several
    /// keys: then nothing was written. Or etcd refuses or does not answer.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the value may or may not have been written.
    pub async fn store(&self, value: &T) -> Result<i64, ConfigError>
    where
        T: Serialize,
    {
        let (key, bytes) = self.place.write(value, self.limit)?;
        let put = Transaction::new().then(Operation::put(key, bytes, None));
        match self.keys.commit(put).await {
            Ok(outcome) => Ok(outcome.revision),
            Err(error) => Err(ConfigError::failed(&self.place, error.into())),
        }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> ConfigBuilder<T> {
    /// Reads the value, and goes on following it.
    ///
    /// # Errors
    ///
    /// There is none and no default, or it is not what it should be; or etcd refuses, or did not
    /// answer within 10 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the following.
    pub async fn load(self) -> Result<Config<T>, ConfigError> {
        let Self {
            keys,
            place,
            default,
            limit,
        } = self;
        let place = Arc::new(place);
        let mut followed = keys.follow(place.range());
        let snapshot = first(&mut followed).await;
        let snapshot = snapshot.map_err(|failure| ConfigError::failed(&place, failure))?;
        let reader = Reader {
            place: place.clone(),
            default,
            limit,
        };
        let read = move |keys: &[Arc<KeyValue>]| reader.read(keys);
        let adoption = Adoption::begin(read, snapshot.keys())
            .map_err(|invalid| ConfigError::Invalid(Arc::new(invalid)))?;
        let value = adoption.value().clone();
        let (sender, state) = watch::channel(ConfigState {
            value: value.clone(),
            revision: snapshot.revision(),
            rejected: None,
            stale: None,
        });
        let performer = Performer {
            place: place.clone(),
            followed,
            adoption,
            state: sender,
        };
        let stop = keys.spawn(|stop| performer.run(stop));
        Ok(Config {
            place,
            state,
            seen: value,
            _stop: Arc::new(stop),
        })
    }
}

/// What makes a value of what the keys hold.
struct Reader<T> {
    place: Arc<Place>,
    default: Option<Arc<T>>,
    limit: usize,
}

impl<T: DeserializeOwned> Reader<T> {
    fn read(&self, keys: &[Arc<KeyValue>]) -> Result<Arc<T>, InvalidConfig> {
        match (self.place.read(keys, self.limit)?, &self.default) {
            (Some(value), _) => Ok(Arc::new(value)),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(InvalidConfig::Missing {
                key: self.place.to_string(),
            }),
        }
    }
}

/// What offers to the adoption what etcd holds, and shows what it says.
struct Performer<T, Read> {
    place: Arc<Place>,
    followed: Followed,
    adoption: Adoption<T, Read>,
    state: watch::Sender<ConfigState<T>>,
}

impl<T, Read> Performer<T, Read>
where
    Read: Fn(&[Arc<KeyValue>]) -> Result<Arc<T>, InvalidConfig>,
{
    async fn run(mut self, stop: CancellationToken) {
        loop {
            self.show();
            let changed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.followed.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    fn show(&mut self) {
        let (Some(snapshot), freshness) = self.followed.state() else {
            return;
        };
        if let Freshness::Stale { cause, .. } = freshness {
            // After a wipe, what is carried over and what was put since stand side by side, and are not
            // one configuration.
            self.state.send_if_modified(|state| {
                let is_news = state.stale.is_none();
                state.stale = Some(cause);
                is_news
            });
            return;
        }
        let config = &self.place;
        let verdict = self.adoption.offer(snapshot.keys());
        match &verdict {
            Verdict::Rejected(invalid) => {
                let reason = invalid
                    .source()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                tracing::warn!(name: "config_rejected", %config, cause = %invalid, reason, "the last good configuration stays");
            }
            Verdict::Recovered => {
                tracing::info!(name: "config_adopted", %config, "the configuration is good again");
            }
            Verdict::Adopted => {
                tracing::debug!(name: "config_adopted", %config, "another configuration")
            }
            Verdict::Same => {}
        }
        self.state.send_if_modified(|state| {
            let is_news = !Arc::ptr_eq(&state.value, self.adoption.value())
                || !matches!(verdict, Verdict::Same)
                || state.stale.is_some();
            *state = ConfigState {
                value: self.adoption.value().clone(),
                revision: snapshot.revision(),
                rejected: self.adoption.rejected().clone(),
                stale: None,
            };
            is_news
        });
    }
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            state: self.state.clone(),
            seen: self.seen.clone(),
            _stop: self._stop.clone(),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("place", &self.place)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ConfigBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigBuilder")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
