//! Keys, and every version of them since the last compaction.
//!
//! A revision is one transaction: what it writes becomes visible with [`History::commit`], all at
//! once. Within one revision a key is hardly ever written twice: transactions are checked for that,
//! though not for every way to do it. Then the last is what there is, and all are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbKeyValue};

use super::{StoreError, span::Span};

/// A store's first revision, before anything is written.
const FIRST: i64 = 1;

#[derive(Debug, Clone)]
pub(crate) struct History {
    revision: i64,
    /// What is read below it is refused; -1 before the first compaction, so that 0 can be the first.
    compacted: i64,
    /// The versions of each key, oldest first, never none.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Which keys changed, in order, from the compacted revision on.
    log: VecDeque<Change>,
    /// How many bytes all keys and values have.
    size: usize,
}

/// What a key is from a revision on.
#[derive(Debug, Clone)]
struct Version {
    revision: i64,
    /// Nothing: it is deleted.
    live: Option<Live>,
}

/// A key that is there.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) value: Bytes,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    /// The lease it goes with; 0 is none, as on the wire.
    pub(crate) lease: i64,
}

#[derive(Debug, Clone)]
struct Change {
    revision: i64,
    key: Bytes,
    /// How often the key was written at this revision before.
    earlier: usize,
}

/// What happened to a key at a revision. Keys and values are shared with the store.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) revision: i64,
    pub(crate) key: Bytes,
    /// Nothing: it was deleted.
    pub(crate) live: Option<Live>,
    /// What it was before, unless that is compacted.
    pub(crate) previous: Option<Live>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            revision: FIRST,
            compacted: -1,
            keys: BTreeMap::new(),
            log: VecDeque::new(),
            size: 0,
        }
    }

    /// The last revision that is committed.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision that a reader sees: that of the transaction under way, once it has written.
    pub(crate) fn visible(&self) -> i64 {
        let written = self.log.back().map_or(0, |change| change.revision);
        self.revision.max(written)
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns the revision to read at: 0 is the newest.
    pub(crate) fn readable(&self, revision: i64) -> Result<i64, StoreError> {
        match revision {
            ..=0 => Ok(self.visible()),
            it if it > self.visible() => Err(StoreError::FutureRevision),
            it if it < self.compacted => Err(StoreError::Compacted),
            it => Ok(it),
        }
    }

    /// The keys of a span, in order, as they were at a revision.
    pub(crate) fn read<'a>(
        &'a self,
        span: &'a Span,
        revision: i64,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Live)> {
        let bounds = (!span.is_empty()).then(|| span.bounds());
        let keys = bounds.map(|bounds| self.keys.range::<[u8], _>(bounds));
        keys.into_iter()
            .flatten()
            .filter_map(move |(key, versions)| Some((key, at(versions, revision)?)))
    }

    pub(crate) fn current(&self, key: &[u8]) -> Option<&Live> {
        self.keys.get(key)?.last()?.live.as_ref()
    }

    /// Writes a key at the next revision. Returns what it was.
    pub(crate) fn put(&mut self, key: &[u8], value: Bytes, lease: i64) -> Option<Live> {
        let revision = self.revision + 1;
        let previous = self.current(key).cloned();
        let live = Live {
            create_revision: previous.as_ref().map_or(revision, |it| it.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(0, |it| it.version) + 1,
            value,
            lease,
        };
        self.write(key, Some(live));
        previous
    }

    /// Deletes keys at the next revision. Returns what they were, in order.
    pub(crate) fn delete(&mut self, span: &Span) -> Vec<(Bytes, Live)> {
        let gone: Vec<_> = self
            .read(span, i64::MAX)
            .map(|(key, live)| (key.clone(), live.clone()))
            .collect();
        for (key, _) in &gone {
            self.write(key, None);
        }
        gone
    }

    fn write(&mut self, key: &[u8], live: Option<Live>) {
        let revision = self.revision + 1;
        let key = match self.keys.get_key_value(key) {
            Some((key, _)) => key.clone(),
            None => Bytes::copy_from_slice(key),
        };
        let version = Version { revision, live };
        self.size += version.size(&key);
        let versions = self.keys.entry(key.clone()).or_default();
        let here = versions.iter().rev();
        let earlier = here.take_while(|it| it.revision == revision).count();
        versions.push(version);
        self.log.push_back(Change {
            revision,
            key,
            earlier,
        });
    }

    /// Ends a transaction. Returns its revision, if it has written.
    pub(crate) fn commit(&mut self) -> Option<i64> {
        let written = self.visible();
        (written > self.revision).then(|| {
            self.revision = written;
            written
        })
    }

    /// Forgets what was before `revision`: it is the oldest that can be read.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), StoreError> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted);
        }
        if revision > self.revision {
            return Err(StoreError::FutureRevision);
        }
        // A key has something to forget only if it has changed since the last compaction.
        let changed = self.log.partition_point(|it| it.revision <= revision);
        let keep = self.log.partition_point(|it| it.revision < revision);
        for index in 0..changed {
            let key = self.log[index].key.clone();
            self.forget(key, revision);
        }
        self.log.drain(..keep);
        self.forget_overwritten(revision);
        self.compacted = revision;
        Ok(())
    }

    /// Forgets what was written at a revision that is now the oldest, and written again at the same: of
    /// each key only the last version is left.
    fn forget_overwritten(&mut self, revision: i64) {
        let end = self.log.partition_point(|it| it.revision <= revision);
        let mut seen = BTreeSet::new();
        for index in (0..end).rev() {
            if seen.insert(self.log[index].key.clone()) {
                self.log[index].earlier = 0;
            } else {
                self.log.remove(index);
            }
        }
    }

    /// Forgets the versions of a key that nobody can read any more.
    fn forget(&mut self, key: Bytes, revision: i64) {
        let Some(versions) = self.keys.get_mut(&key) else {
            return;
        };
        let newer = versions.partition_point(|it| it.revision <= revision);
        let Some(last) = newer.checked_sub(1) else {
            return;
        };
        // A deletion is kept as long as a watch may start at it.
        let is_over = versions[last].live.is_none() && versions[last].revision < revision;
        let forgotten = versions.drain(..if is_over { newer } else { last });
        self.size -= forgotten.map(|version| version.size(&key)).sum::<usize>();
        versions.shrink_to(4);
        if versions.is_empty() {
            self.keys.remove(&key);
        }
    }

    /// What happened to the keys of a span, from a revision on, in order. Those at one revision come
    /// one after the other.
    pub(crate) fn events<'a>(
        &'a self,
        span: &'a Span,
        from: i64,
    ) -> Box<dyn Iterator<Item = Event> + 'a> {
        match span {
            Span::Key(key) => {
                let versions = self.keys.get(key).map_or(&[][..], |it| it);
                let first = versions.partition_point(|it| it.revision < from);
                Box::new((first..versions.len()).map(|index| self.event(key, versions, index)))
            }
            span => {
                let first = self.log.partition_point(|it| it.revision < from);
                let changes = self.log.range(first..);
                let wanted = changes.filter(|change| span.contains(&change.key));
                Box::new(wanted.map(|change| self.event_of(change)))
            }
        }
    }

    /// All that happened at the last revision, in order.
    pub(crate) fn last_events(&self) -> impl Iterator<Item = Event> {
        let first = self.log.partition_point(|it| it.revision < self.revision);
        self.log.range(first..).map(|change| self.event_of(change))
    }

    fn event_of(&self, change: &Change) -> Event {
        let versions = &self.keys[&change.key];
        let first = versions.partition_point(|it| it.revision < change.revision);
        self.event(&change.key, versions, first + change.earlier)
    }

    fn event(&self, key: &Bytes, versions: &[Version], index: usize) -> Event {
        let version = &versions[index];
        // What was before is read one revision earlier, which must not be compacted; unless the key
        // was created just now, after a deletion at the same revision maybe.
        let revision = version.revision;
        let is_created = matches!(&version.live, Some(live) if live.create_revision == revision);
        let previous = match is_created || revision <= self.compacted {
            true => None,
            false => at(&versions[..index], revision - 1).cloned(),
        };
        Event {
            revision,
            key: key.clone(),
            live: version.live.clone(),
            previous,
        }
    }
}

/// What a key was at a revision.
fn at(versions: &[Version], revision: i64) -> Option<&Live> {
    let newer = versions.partition_point(|it| it.revision <= revision);
    versions[..newer].last()?.live.as_ref()
}

impl Version {
    fn size(&self, key: &[u8]) -> usize {
        key.len() + self.live.as_ref().map_or(0, |live| live.value.len())
    }
}

impl Live {
    pub(crate) fn key_value(&self, key: &[u8]) -> PbKeyValue {
        PbKeyValue {
            key: key.to_vec(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            value: self.value.to_vec(),
            lease: self.lease,
        }
    }
}

impl Event {
    /// How much memory it keeps alive, roughly.
    pub(crate) fn size(&self) -> usize {
        let value = |live: &Option<Live>| live.as_ref().map_or(0, |it| it.value.len());
        size_of::<Self>() + self.key.len() + value(&self.live) + value(&self.previous)
    }

    pub(crate) fn message(&self, with_previous: bool) -> PbEvent {
        let kv = match &self.live {
            Some(live) => live.key_value(&self.key),
            // Of a deletion nothing is told but the key and when.
            None => PbKeyValue {
                key: self.key.to_vec(),
                mod_revision: self.revision,
                ..PbKeyValue::default()
            },
        };
        let previous = self.previous.as_ref().filter(|_| with_previous);
        PbEvent {
            r#type: i32::from(self.live.is_none()),
            kv: Some(kv),
            prev_kv: previous.map(|live| live.key_value(&self.key)),
        }
    }
}
