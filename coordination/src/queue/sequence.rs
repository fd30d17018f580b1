//! Pushes into a priority queue (Go's `newSequentialKV`).
//!
//! The items of a priority are numbered. A key beside them, the *base*, is changed with each push, so that
//! of two who would push the same number one is refused. Go's clients put nothing into it, and read only
//! its revision; here it holds the *mark* of who pushed last. So who does not know what became of a push
//! can find out: it pushes the same once more, on the same base. One of the two at most is done; if it was
//! the first, the base had its mark when the item came.

use std::{collections::BTreeMap, sync::Arc};

use switchboard_registry::keys::{
    By, Guard, KeyRange, KeyValue, Keys, KeysError, Operation, Outcome, Selection, Transaction,
};
use switchboard_resolver::Cause;
use tokio::{sync::Mutex, time::Instant};

use super::{
    PushError, Pushed,
    place::{Place, is_number},
    pushing::{failed, sized},
};
use crate::{
    Failure,
    failure::{Crowded, PATIENCE, Pause},
};

/// What a priority's last number is looked for in: so many of its last keys; then all, since others may
/// keep keys of their own there.
const LOOKED_AT: [Option<u16>; 3] = [Some(4), Some(4096), None];

/// The largest that has the width of all of them. Behind a wider one they would not be in order.
const LARGEST: u64 = 9_999_999_999_999_999;

/// What is known of each priority. Those who push from one handle wait for each other here, and not at
/// etcd.
#[derive(Debug, Default)]
pub(super) struct Sequences(Mutex<BTreeMap<u16, Known>>);

/// What is known of a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The revision of the base; 0 where there is none.
    base: i64,
    /// The last number.
    last: Option<u64>,
}

/// A value on its way.
struct Pushing<'a> {
    keys: &'a Keys,
    place: &'a Place,
    priority: u16,
    value: &'a [u8],
    mark: String,
    /// Which of [`LOOKED_AT`] it is.
    looked_at: usize,
}

/// What a push found that was refused.
struct Refused {
    last: Vec<KeyValue>,
    base: Option<KeyValue>,
    there: Option<KeyValue>,
}

impl Sequences {
    pub(super) async fn push(
        &self,
        keys: &Keys,
        place: &Place,
        priority: u16,
        value: &[u8],
    ) -> Result<Pushed, PushError> {
        sized(place.name(), value)?;
        let mut all = self.0.lock().await;
        let mut pushing = Pushing {
            keys,
            place,
            priority,
            value,
            mark: format!("{:016x}", fastrand::u64(..)),
            looked_at: 0,
        };
        let mut known = all.remove(&priority);
        let pushed = pushing.run(&mut known).await;
        if let Some(known) = known {
            all.insert(priority, known);
        }
        pushed
    }
}

impl Pushing<'_> {
    async fn run(&mut self, known: &mut Option<Known>) -> Result<Pushed, PushError> {
        let deadline = Instant::now() + PATIENCE;
        let mut doubt: Option<Cause> = None;
        let mut pause = Pause::default();
        let mut refusals = 0;
        loop {
            let number = match known.and_then(|it| it.last) {
                None => 0,
                Some(LARGEST..) => {
                    // Who pops them leaves room again.
                    *known = None;
                    return Err(PushError::Full {
                        queue: self.place.name().to_owned(),
                        priority: self.priority,
                    });
                }
                Some(last) => last + 1,
            };
            let key = format!("{}{number:016}", self.prefix());
            let error = match self.keys.commit(self.transaction(&key, *known)).await {
                Ok(outcome) if outcome.succeeded => {
                    let revision = outcome.revision;
                    *known = Some(Known {
                        base: revision,
                        last: Some(number),
                    });
                    return Ok(Pushed { key, revision });
                }
                Ok(outcome) => {
                    let refused = Refused::new(outcome);
                    let was_done = match &doubt {
                        Some(_) => self.was_done(&refused, *known).await,
                        None => Ok(Some(None)),
                    };
                    match (was_done, doubt.take()) {
                        (Ok(Some(Some(revision))), _) => {
                            *known = None;
                            return Ok(Pushed { key, revision });
                        }
                        (Ok(None), Some(cause)) => {
                            *known = None;
                            return Err(PushError::Unknown { key, cause });
                        }
                        (Err(error), cause) => {
                            doubt = cause;
                            error
                        }
                        (Ok(_), _) => {
                            *known = self.learn(refused);
                            refusals += 1;
                            // The first time, the answer has said all there is to know.
                            if refusals == 1 {
                                continue;
                            }
                            KeysError::Unreachable(Arc::new(Crowded))
                        }
                    }
                }
                Err(KeysError::Unavailable(cause)) => {
                    doubt = Some(cause.clone());
                    KeysError::Unavailable(cause)
                }
                Err(error) => error,
            };
            let failure: Option<Failure> = match Instant::now() < deadline {
                true => pause.after(error).await.err(),
                false => Some(error.into()),
            };
            match (failure, doubt.clone()) {
                (None, _) => {}
                (Some(_), Some(cause)) => {
                    *known = None;
                    return Err(PushError::Unknown { key, cause });
                }
                (Some(failure), None) => return Err(failed(self.place.name(), failure)),
            }
        }
    }

    /// What the items of the priority begin with.
    fn prefix(&self) -> String {
        format!("{}/{:05}/", self.place.name(), self.priority)
    }

    fn base(&self) -> String {
        format!("__{}/{:05}", self.place.name(), self.priority)
    }

    fn transaction(&self, key: &str, known: Option<Known>) -> Transaction {
        let base = self.base();
        let under = KeyRange::Under(self.prefix());
        let unchanged = Guard::changed_at(&base, known.map_or(0, |it| it.base));
        let transaction = Transaction::new()
            .when(unchanged)
            .when(Guard::created_at(key, 0));
        let transaction = match known {
            Some(_) => transaction,
            // Of a queue that nobody knows anything of it is supposed that it is new.
            None => transaction.when(Guard::none_in(&under)),
        };
        let last = Selection::of(under).last(By::Key).keys_only();
        let last = match LOOKED_AT[self.looked_at] {
            Some(limit) => last.limit(limit),
            None => last,
        };
        transaction
            .then(Operation::put(&base, self.mark.as_str(), None))
            .then(Operation::put(key, self.value, None))
            .otherwise(Operation::select(&last))
            .otherwise(Operation::get(&base))
            .otherwise(Operation::get(key))
    }

    /// Takes in what is there. `None` where it has to be looked at more of it.
    fn learn(&mut self, refused: Refused) -> Option<Known> {
        let numbers = refused.last.iter().filter_map(|kv| self.number(&kv.key));
        let last = numbers.max();
        let is_all = LOOKED_AT[self.looked_at].is_none_or(|it| refused.last.len() < it.into());
        if last.is_none() && !is_all {
            self.looked_at += 1;
            return None;
        }
        let base = refused.base.map_or(0, |kv| kv.revision);
        Some(Known { base, last })
    }

    fn number(&self, key: &[u8]) -> Option<u64> {
        let number = key.strip_prefix(self.prefix().as_bytes())?;
        let number = Some(number).filter(|number| is_number(number))?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// Returns whether an earlier attempt, on the same base, was done, and at which revision; `None` where
    /// nobody can know.
    async fn was_done(
        &self,
        refused: &Refused,
        known: Option<Known>,
    ) -> Result<Option<Option<i64>>, KeysError> {
        let has_mark = |base: &KeyValue| base.value == self.mark.as_bytes();
        let base = refused.base.as_ref();
        if let Some(base) = base.filter(|base| has_mark(base)) {
            return Ok(Some(Some(base.revision)));
        }
        if base.map_or(0, |base| base.revision) == known.map_or(0, |it| it.base) {
            return Ok(Some(None));
        }
        let Some(item) = &refused.there else {
            return Ok(None);
        };
        match self.keys.read(&self.base(), item.created).await {
            Ok(then) => {
                let is_ours = then.held.is_some_and(|base| has_mark(&base));
                Ok(Some(is_ours.then_some(item.created)))
            }
            Err(KeysError::Compacted(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Refused {
    fn new(outcome: Outcome) -> Self {
        let mut found = outcome.found.into_iter();
        let last = found.next().unwrap_or_default();
        let mut one = || found.next().and_then(|kvs| kvs.into_iter().next());
        Self {
            last,
            base: one(),
            there: one(),
        }
    }
}
