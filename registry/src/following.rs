//! A service, followed: one watch, shared by all who ask for it.
//!
//! The first who asks starts it, later ones find its snapshot at hand, and it ends when the last
//! one has left. It also ends with the registry; who asks a closed registry finds that it has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::{
    Instance, Registry, ServiceName,
    etcd::{KeyRange, KeyValue},
    follower::Reader,
    layout::Place,
    watcher::{View, Watcher},
};

/// What follows a service, until the last who holds it drops it.
pub(crate) struct Following {
    view: watch::Receiver<View<Arc<Instance>>>,
    _stop: DropGuard,
    /// Following goes on while this lives, whatever becomes of the other handles.
    registry: Registry,
}

/// The services that are followed.
///
/// It is locked when somebody begins to follow and at no other time: no task and no call knows of
/// it, and nothing is awaited under the lock. It holds nobody: whom it names has left when the last
/// one who asked has, and is forgotten when the next one begins.
#[derive(Default)]
pub(crate) struct Followings(Mutex<BTreeMap<Key, Weak<Following>>>);

/// What is watched, as whose, and how it is read: services may share a prefix, and so may layouts
/// that do not agree on whether the value tells the service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    prefix: String,
    service: ServiceName,
    has_shared_prefix: bool,
}

/// What reads the records of a service.
struct Records {
    place: Arc<Place>,
    service: ServiceName,
}

impl Reader for Records {
    type Value = Arc<Instance>;

    fn service(&self) -> Option<&ServiceName> {
        Some(&self.service)
    }

    fn read(&mut self, kv: &KeyValue) -> Result<Option<Arc<Instance>>, Box<dyn std::error::Error>> {
        let instance = self.place.decode(&self.service, &kv.key, &kv.value)?;
        Ok(instance.map(Arc::new))
    }
}

impl Following {
    /// Follows `service`, together with all others who do.
    pub(crate) fn of(registry: &Registry, service: &ServiceName) -> Arc<Self> {
        let shared = &registry.shared;
        let key = Key {
            prefix: registry.place.prefix(service),
            service: service.clone(),
            has_shared_prefix: registry.place.layout.has_shared_prefix(),
        };
        let followings = &shared.followings.0;
        let mut followings = followings.lock().unwrap_or_else(PoisonError::into_inner);
        let known = followings.get(&key).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| !known.has_ended()) {
            return known;
        }
        followings.retain(|_, following| following.strong_count() > 0);
        let begun = Arc::new(Self::begin(registry, &key));
        followings.insert(key, Arc::downgrade(&begun));
        begun
    }

    fn begin(registry: &Registry, key: &Key) -> Self {
        let shared = &registry.shared;
        let (place, service) = (registry.place.clone(), key.service.clone());
        let prefix = key.prefix.clone();
        let (watcher, view) = Watcher::new(
            shared.etcd.clone(),
            KeyRange::Under(prefix),
            Records { place, service },
        );
        let stop = shared.ending.asked.child_token();
        shared
            .tasks
            .spawn_on(watcher.run(stop.clone()), &shared.runtime);
        Self {
            view,
            _stop: stop.drop_guard(),
            registry: registry.clone(),
        }
    }

    /// Returns what shows the service; the view that is there now counts as not seen yet.
    pub(crate) fn view(&self) -> watch::Receiver<View<Arc<Instance>>> {
        self.view.clone()
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether nothing more will be shown.
    fn has_ended(&self) -> bool {
        self.view.has_changed().is_err()
    }
}
