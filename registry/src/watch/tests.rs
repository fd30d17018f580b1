//! A watch, and what it is told.

mod anchors;
mod examples;
mod histories;
mod transitions;
mod unbroken;

use super::*;
use crate::etcd::KeyValue;

#[allow(
    clippy::disallowed_methods,
    reason = "a decider's test needs some instant to count from"
)]
fn an_instant() -> Instant {
    Instant::now()
}

const LEASE: i64 = 7;

/// What begins a list.
const FIRST_PAGE: Step = Step::List {
    after: None,
    revision: 0,
};

fn cause() -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "etcd is away",
    ))
}

fn put(key: &str, value: &str, revision: i64) -> Put<String> {
    under(LEASE, key, value, revision)
}

fn under(lease: i64, key: &str, value: &str, revision: i64) -> Put<String> {
    let kv = KeyValue {
        lease,
        ..KeyValue::new(key, value)
    };
    let value = Some(value)
        .filter(|value| *value != "garbage")
        .map(str::to_owned);
    Put {
        key: key.into(),
        value,
        revision,
        fingerprint: Fingerprint::of(&kv),
    }
}

fn delete(key: &str, revision: i64) -> Change<String> {
    Change::Delete {
        key: key.into(),
        revision,
    }
}

struct Fixture {
    watch: Watch<String>,
    now: Instant,
    rng: fastrand::Rng,
}

impl Fixture {
    fn new() -> Self {
        Self {
            watch: Watch::new(),
            now: an_instant(),
            rng: fastrand::Rng::with_seed(5),
        }
    }

    /// A watch that is open, on a list of `a` at revision 10.
    fn watching() -> Self {
        let mut fixture = Self::new();
        fixture.next();
        fixture.page(10, vec![put("a", "1", 4)], false);
        assert_eq!(fixture.next(), Step::Open { from: 10 });
        fixture.watch.opened(10, fixture.now);
        fixture
    }

    fn next(&mut self) -> Step {
        self.watch.next(self.now, &mut self.rng)
    }

    fn page(&mut self, revision: i64, entries: Vec<Put<String>>, more: bool) {
        self.watch.page(
            Page {
                revision,
                entries,
                more,
            },
            self.now,
        );
    }

    fn events(&mut self, changes: Vec<Change<String>>) {
        self.watch.events(changes, self.now);
    }

    fn fail(&mut self) {
        self.watch.failed(cause(), self.now, &mut self.rng);
    }

    fn too_large(&mut self) {
        self.watch.too_large(cause(), self.now, &mut self.rng);
    }

    fn cancel(&mut self, why: Cancel) {
        self.watch.cancelled(why, self.now, &mut self.rng);
    }

    fn pass_the_wait(&mut self) {
        if let Step::WaitUntil(at) = self.next() {
            self.now = at;
        }
    }

    fn list(&self) -> Vec<(&str, &str)> {
        let text = |key: &'_ [u8]| std::str::from_utf8(key).unwrap().to_owned().leak() as &str;
        self.watch
            .entries()
            .into_iter()
            .map(|(key, entry)| (text(key), entry.value.as_str()))
            .collect()
    }

    fn is_stale(&self) -> bool {
        !matches!(self.watch.freshness(), Freshness::Fresh)
    }
}
