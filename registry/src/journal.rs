//! All that happens to the keys of a range, one revision after another: for one who must miss nothing.
//!
//! It has no task, as a [`tail`](crate::tail) has none: whoever asks for what comes next drives it.

use std::collections::VecDeque;

use crate::{
    Registry,
    etcd::{KeyEvent, KeyRange, KeyValue},
    follower::{Follower, Reader, Settled},
    keys::KeysError,
    watch::{Freshness, Step, Watch},
};

/// All that happens to the keys of a range.
///
/// - First comes what the range holds. Then all that happens, in the order of revisions and each once,
///   over reconnects, as long as etcd keeps the history that is needed.
/// - What the range holds comes again where it had to be read anew. It says whether anything may be
///   missing, as after a compaction or a wipe.
///
/// An etcd that was wiped, and has grown past the last revision that was told, is known again by the
/// last put. Where none was ever told, it is not.
pub struct Journal {
    follower: Follower<Notes>,
    registry: Registry,
}

/// One thing that happened, or what it was that everything happened to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Noted {
    /// The range holds these keys.
    Held {
        /// The revision at which that was so.
        revision: i64,
        /// The keys, in order.
        keys: Vec<KeyValue>,
        /// Whether that is what was told last, with nothing missing in between.
        continues: bool,
    },
    /// This was done in one step.
    Changed {
        /// The revision that did it.
        revision: i64,
        /// The changes, each of another key.
        events: Vec<KeyEvent>,
    },
}

/// What was not handed on yet.
#[derive(Default)]
struct Notes {
    /// What was read, and may be no part of this.
    read: Vec<KeyEvent>,
    noted: VecDeque<Noted>,
    /// The last revision that was noted.
    last: i64,
}

impl Reader for Notes {
    type Value = ();

    fn read(&mut self, kv: &KeyValue) -> Result<Option<()>, Box<dyn std::error::Error>> {
        self.read.push(KeyEvent::Put(kv.clone()));
        Ok(Some(()))
    }

    fn read_deletion(&mut self, key: &[u8], revision: i64) {
        let key = key.to_vec();
        self.read.push(KeyEvent::Delete { key, revision });
    }

    fn settle(&mut self, what: Settled) {
        let read = std::mem::take(&mut self.read);
        match what {
            Settled::Listed { revision, is_known } => {
                let keys = read.into_iter().filter_map(|event| match event {
                    KeyEvent::Put(kv) => Some(kv),
                    KeyEvent::Delete { .. } => None,
                });
                self.noted.push_back(Noted::Held {
                    revision,
                    keys: keys.collect(),
                    continues: is_known,
                });
                self.last = revision;
            }
            Settled::Happened => {
                let known = self.last;
                for event in read {
                    if event.revision() > known {
                        self.happened(event);
                    }
                }
            }
            Settled::Discarded => {}
        }
    }
}

impl Notes {
    fn happened(&mut self, event: KeyEvent) {
        self.last = event.revision();
        match self.noted.back_mut() {
            Some(Noted::Changed { revision, events }) if *revision == self.last => {
                events.push(event);
            }
            _ => self.noted.push_back(Noted::Changed {
                revision: self.last,
                events: vec![event],
            }),
        }
    }
}

impl Journal {
    pub(crate) fn new(registry: &Registry, range: KeyRange) -> Self {
        let etcd = registry.shared.etcd.clone();
        let follower = Follower::new(etcd, range, Notes::default(), Watch::unbroken());
        Self {
            follower,
            registry: registry.clone(),
        }
    }

    /// Waits for what comes next, for as long as etcd is away.
    ///
    /// # Errors
    ///
    /// The registry was closed. Or etcd refuses to let the range be read the first time, which the next
    /// call asks it for again, after a while.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Noted, KeysError> {
        let closing = self.registry.shared.ending.asked.clone();
        loop {
            if self.follower.reader().noted.is_empty() {
                // Nobody may have asked for long, which says nothing of etcd.
                self.follower.take_what_is_there();
            }
            if let Some(noted) = self.follower.reader().noted.pop_front() {
                return Ok(noted);
            }
            let step = self.follower.next();
            let is_waiting = matches!(step, Step::WaitUntil(_));
            tokio::select! {
                biased;
                () = closing.cancelled() => return Err(KeysError::Closed),
                () = self.follower.perform(step) => {}
            }
            let (_, watch) = self.follower.known();
            if let Freshness::Denied { cause } = watch.freshness()
                && !is_waiting
            {
                return Err(KeysError::Denied(cause.clone()));
            }
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(notes: &mut Notes, key: &str, revision: i64) {
        let mut kv = KeyValue::new(key, "");
        kv.revision = revision;
        notes.read(&kv).unwrap();
    }

    impl Notes {
        fn list(&mut self, revision: i64) {
            let is_known = false;
            self.settle(Settled::Listed { revision, is_known });
        }
    }

    fn told(notes: &mut Notes) -> Vec<(i64, usize)> {
        let noted = notes.noted.drain(..).map(|noted| match noted {
            Noted::Held { revision, keys, .. } => (revision, keys.len()),
            Noted::Changed { revision, events } => (-revision, events.len()),
        });
        noted.collect()
    }

    #[test]
    fn what_is_read_again_is_noted_once_and_what_is_of_one_revision_together() {
        let mut notes = Notes::default();
        put(&mut notes, "a", 3);
        notes.list(4);
        put(&mut notes, "a", 3);
        put(&mut notes, "b", 5);
        notes.read_deletion(b"a", 5);
        put(&mut notes, "b", 6);
        notes.settle(Settled::Happened);
        put(&mut notes, "b", 6);
        notes.settle(Settled::Happened);
        assert_eq!(told(&mut notes), [(4, 1), (-5, 2), (-6, 1)]);
    }

    #[test]
    fn what_is_of_another_history_or_half_a_list_is_not_noted() {
        let mut notes = Notes::default();
        put(&mut notes, "a", 3);
        notes.settle(Settled::Discarded);
        put(&mut notes, "b", 2);
        notes.list(2);
        put(&mut notes, "c", 9);
        notes.settle(Settled::Discarded);
        put(&mut notes, "d", 3);
        notes.settle(Settled::Happened);
        assert_eq!(told(&mut notes), [(2, 1), (-3, 1)]);
    }
}
