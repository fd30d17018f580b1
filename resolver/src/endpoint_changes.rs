//! What a source tells, one change at a time, for whoever keeps a set of endpoints of their own.
//!
//! - Replaying the changes gives the newest snapshot.
//! - A slow reader is told how what it was told differs from what is so now. What came and went in
//!   between it never hears of, and no removal is lost.
//! - Removals come first: an address that moves to another endpoint is not in two at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;

use crate::{
    Endpoint, Source, Update,
    balancer::BoxSource,
    endpoint_set::{EndpointKey, EndpointSet},
};

/// One change of a set of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "it is turned into others' own changes, which has to cover all there is"
)]
pub enum EndpointChange {
    /// The endpoint is there. The same key again replaces it: its metadata or the order of its
    /// addresses is another one now.
    Insert(EndpointKey, Endpoint),
    /// The endpoint is gone.
    Remove(EndpointKey),
}

/// The endpoints that a [`Source`] tells of, as a stream of single changes: what balancers other
/// than this crate's are fed with.
///
/// What the source says of its own health is left out. The stream ends with its source, after the
/// last change.
///
/// Two lines make tower's `Discover` of it:
///
/// ```
/// use std::convert::Infallible;
///
/// use futures::StreamExt;
/// use switchboard_resolver::{Endpoint, EndpointChange, EndpointChanges, EndpointKey};
/// use tower::discover::{Change, Discover};
///
/// fn discover(
///     changes: EndpointChanges,
/// ) -> impl Discover<Key = EndpointKey, Service = Endpoint, Error = Infallible> {
///     changes.map(|change| match change {
///         EndpointChange::Insert(key, endpoint) => Ok(Change::Insert(key, endpoint)),
///         EndpointChange::Remove(key) => Ok(Change::Remove(key)),
///     })
/// }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct EndpointChanges {
    /// `None` once it has ended.
    source: Option<BoxSource>,
    owed: Owed,
}

/// Decides what a reader is to be told next.
#[derive(Debug, Default)]
struct Owed {
    latest: EndpointSet,
    told: BTreeMap<EndpointKey, Endpoint>,
    /// Those that were told of and are gone.
    removals: BTreeSet<EndpointKey>,
    /// Those that were not told of as they are.
    inserts: BTreeMap<EndpointKey, Endpoint>,
}

impl EndpointChanges {
    /// Makes changes of what `source` tells, from an empty set on.
    pub fn new(source: impl Source) -> Self {
        Self {
            source: Some(Box::pin(source)),
            owed: Owed::default(),
        }
    }

    /// Takes in all that the source has to say now.
    fn catch_up(&mut self, cx: &mut Context<'_>) {
        while let Some(source) = &mut self.source {
            match source.as_mut().poll_update(cx) {
                Poll::Ready(Some(Update::Snapshot(snapshot))) => self.owed.replace(snapshot),
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => self.source = None,
                Poll::Pending => return,
            }
        }
    }
}

impl Stream for EndpointChanges {
    type Item = EndpointChange;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EndpointChange>> {
        self.catch_up(cx);
        match self.owed.next() {
            None if self.source.is_some() => Poll::Pending,
            change => Poll::Ready(change),
        }
    }
}

impl fmt::Debug for EndpointChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointChanges")
            .field("owed", &self.owed)
            .finish_non_exhaustive()
    }
}

impl Owed {
    fn replace(&mut self, snapshot: Vec<Endpoint>) {
        let changes = self.latest.replace(snapshot);
        for key in changes.removed {
            self.inserts.remove(&key);
            if self.told.contains_key(&key) {
                self.removals.insert(key);
            }
        }
        for endpoint in changes.added.into_iter().chain(changes.changed) {
            let key = endpoint.key();
            self.removals.remove(key);
            if self.told.get(key) == Some(&endpoint) {
                self.inserts.remove(key);
            } else {
                self.inserts.insert(key.clone(), endpoint);
            }
        }
    }

    fn next(&mut self) -> Option<EndpointChange> {
        if let Some(key) = self.removals.pop_first() {
            self.told.remove(&key);
            return Some(EndpointChange::Remove(key));
        }
        let (key, endpoint) = self.inserts.pop_first()?;
        self.told.insert(key.clone(), endpoint.clone());
        Some(EndpointChange::Insert(key, endpoint))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt, channel::mpsc, stream};
    use proptest::prelude::*;

    use super::*;

    fn endpoint(port: u16, zone: u8) -> Endpoint {
        let address = format!("a:{port}").parse().unwrap();
        Endpoint::new(address).with_metadata("zone", zone.to_string())
    }

    fn snapshot(ports: &[u16]) -> Update {
        Update::Snapshot(ports.iter().map(|port| endpoint(*port, 0)).collect())
    }

    fn say(change: EndpointChange) -> String {
        match change {
            EndpointChange::Insert(key, _) => format!("+{key}"),
            EndpointChange::Remove(key) => format!("-{key}"),
        }
    }

    #[test]
    fn removals_come_first_and_what_came_and_went_unheard_is_not_told() {
        let (source, updates) = mpsc::unbounded();
        let mut changes = EndpointChanges::new(updates);
        source.unbounded_send(snapshot(&[1, 2])).unwrap();
        let mut next = || changes.next().now_or_never().flatten().map(say);
        assert_eq!(next().as_deref(), Some("+a:1"));
        source.unbounded_send(snapshot(&[2, 3, 4])).unwrap();
        source.unbounded_send(Update::Fresh).unwrap();
        source.unbounded_send(snapshot(&[2, 4])).unwrap();
        let rest: Vec<_> = std::iter::from_fn(next).collect();
        assert_eq!(rest, ["-a:1", "+a:2", "+a:4"]);
    }

    #[test]
    fn the_stream_ends_with_its_source_after_the_last_change() {
        let changes = EndpointChanges::new(stream::iter([snapshot(&[1])]));
        let told: Vec<_> = changes.map(say).collect().now_or_never().unwrap();
        assert_eq!(told, ["+a:1"]);
    }

    proptest! {
        #[test]
        fn replaying_what_was_told_gives_the_newest_snapshot(
            steps in prop::collection::vec(
                (prop::collection::btree_map(1u16..6, 0u8..3, 0..6), 0usize..6),
                1..12,
            ),
        ) {
            let mut owed = Owed::default();
            let mut replayed = BTreeMap::new();
            let mut tell = |owed: &mut Owed, newest: &BTreeMap<EndpointKey, Endpoint>| {
                let Some(change) = owed.next() else { return Ok(false) };
                match change {
                    EndpointChange::Remove(key) => {
                        prop_assert!(replayed.remove(&key).is_some(), "it was there");
                    }
                    EndpointChange::Insert(key, endpoint) => {
                        let is_there = |key| newest.contains_key(key);
                        prop_assert!(replayed.keys().all(is_there), "removals come first");
                        let before = replayed.insert(key, endpoint.clone());
                        prop_assert!(before != Some(endpoint), "it changes something");
                    }
                }
                Ok(true)
            };
            let mut newest = BTreeMap::new();
            for (snapshot, told) in steps {
                let endpoints = snapshot.iter().map(|(port, zone)| endpoint(*port, *zone));
                owed.replace(endpoints.clone().collect());
                newest = endpoints.map(|it| (EndpointKey::of(&it), it)).collect();
                for _ in 0..told {
                    tell(&mut owed, &newest)?;
                }
            }
            while tell(&mut owed, &newest)? {}
            prop_assert_eq!(replayed, newest);
        }
    }
}
