//! To begin together and to end together.
//!
//! The layout is that of etcd's Go package `recipes` (`double_barrier.go`), so that its users enter and leave
//! together with ours: `<name>/waiters/<nanoseconds since 1970>` for each, empty, under the lease, and
//! `<name>/ready`, empty, without one, which the last to enter writes and who leaves last deletes.
//!
//! ```text
//! Entering  put, and so many are there                 -> Inside, and `ready` is written
//! Entering  `ready` is written after that              -> Inside
//! Entering  our key is gone, or the tenure             -> Entering, from the beginning
//! Inside    leaving, the first of several inside       -> Inside, waits for the highest of them
//! Inside    leaving                                    -> our key is deleted, waits until theirs are
//! ```
//!
//! Who sees that all have left deletes `ready`, if that is still theirs.

mod decide;
mod error;

use std::{num::NonZeroUsize, sync::Arc};

use switchboard_registry::{
    Registry,
    keys::{
        By, Changes, Guard, KeyPath, KeyRange, KeyValue, Keys, Operation, Selection, Transaction,
    },
};

use self::decide::{Entering, Leaving, Participant, Seen};
pub use self::error::{EnterError, InvalidDoubleBarrier, LeaveError};
use crate::{
    Failure, Lost,
    entry::{self, Entry, Partings, Put},
    failure::Pause,
    guard::held,
    moment::{self, is_moment},
};

/// A barrier that so many pass together, and leave together. Cheap to clone.
///
/// - Who [enters](Self::enter) waits until as many have entered as the barrier is for. Who comes then is refused,
///   until all have left who were in it, or are dead: [`EnterError::Full`]. So one name does for one round
///   after the other.
/// - Who [leaves](Inside::leave) waits until all have left.
/// - Who ends or is cut off is missed after one TTL of its registry. Before all have entered, another takes its
///   place; after that, the others do not wait for it. What was left behind by those who died lets nobody in.
/// - Who loses its key or its lease while it waits to enter, begins anew; it gets an error only if the others
///   have begun without it. A key that somebody deletes is missed within 10 s.
/// - All must be told the same count: nobody sees to that.
///
/// Those of Go's `DoubleBarrier` are counted, and wait, as ours are. What is so in its layout, or in what it
/// does, and cannot be mended here:
///
/// - That so many were there at one revision is all that is known: one who dies right after that is counted.
/// - One of Go's enters as soon as there is room, though others have yet to leave: it is inside then with
///   those who are leaving, and these wait for it.
/// - One of Go's that is leaving waits for whoever enters before it has seen that all have left. Where
///   Go's take part, give each round a name of its own.
/// - One of Go's that was to tell that all are there, and is cut off before that, may tell so later: in the
///   midst of those who are entering then.
///
/// ```
/// use switchboard_coordination::DoubleBarrier;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let barrier = DoubleBarrier::new(&registry, "/shop/stocktaking", 2)?;
/// let counter = async || {
///     let inside = barrier.enter().await?;
///     // Both are here.
///     inside.leave().await?;
///     // Both are done.
///     Ok::<_, Box<dyn std::error::Error>>(())
/// };
/// tokio::try_join!(counter(), counter())?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct DoubleBarrier(Arc<Barrier>);

/// What all who are at a barrier share.
#[derive(Debug)]
struct Barrier {
    keys: Keys,
    /// Ends in `/`.
    waiters: String,
    ready: String,
    count: NonZeroUsize,
    /// Of those of this registry. They are in etcd still, and are not to be counted with who comes.
    partings: Partings,
}

/// One who has entered, and is inside until this is dropped, or [leaves](Self::leave).
///
/// Who drops it does not wait for the others, and they do not wait for it. If all do that, `<name>/ready`
/// stays in etcd until the end of another round; it lets nobody in.
#[derive(Debug)]
#[must_use = "who drops it has left, without waiting for the others"]
pub struct Inside {
    barrier: Arc<Barrier>,
    entry: Entry,
    /// The revision at which it was told that all have entered.
    opened: i64,
}

impl DoubleBarrier {
    /// Names a barrier for so many. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is no key: it is empty, has an empty segment, or a control character. Or it is for nobody.
    pub fn new<K>(registry: &Registry, name: K, count: usize) -> Result<Self, InvalidDoubleBarrier>
    where
        K: TryInto<KeyPath, Error: Into<switchboard_registry::NameError>>,
    {
        let name = name.try_into().map_err(Into::into)?.outside_kratos()?;
        let count = NonZeroUsize::new(count).ok_or(InvalidDoubleBarrier::Count)?;
        Ok(Self(Arc::new(Barrier {
            partings: entry::partings(&registry.keys(), name.as_str()),
            keys: registry.keys(),
            waiters: format!("{name}/waiters/"),
            ready: format!("{name}/ready"),
            count,
        })))
    }

    /// Enters, and waits until so many have, while etcd is away too.
    ///
    /// # Errors
    ///
    /// As many have entered as it is for, or some of those who had have yet to leave; it leaves nothing in
    /// etcd then. Or the key was lost, and the others have begun. Or etcd refuses, or the registry was
    /// closed.
    ///
    /// # Cancel safety
    ///
    /// Who gives up goes, in the background. Until then its key counts, and the others may begin with it. Who
    /// enters anew waits until it is gone.
    pub async fn enter(&self) -> Result<Inside, EnterError> {
        let mut lost = None;
        loop {
            match self.0.try_enter().await? {
                Attempt::Inside(entry, opened) => {
                    let barrier = self.0.clone();
                    return Ok(Inside {
                        barrier,
                        entry,
                        opened,
                    });
                }
                Attempt::Full => {
                    return Err(match lost {
                        Some(lost) => EnterError::Lost(lost),
                        None => EnterError::Full(self.0.count.get()),
                    });
                }
                Attempt::Taken => {}
                Attempt::Lost(why) => lost = Some(why),
            }
        }
    }
}

held!(Inside, entry, "the place inside");

impl Inside {
    /// Leaves, and waits until all have left who were inside, while etcd is away too. Those who are dead have.
    ///
    /// # Errors
    ///
    /// Its place was lost before it has left: the others may have gone on. Or etcd refuses, or the registry
    /// was closed.
    ///
    /// # Cancel safety
    ///
    /// Once polled it leaves all the same, in the background; only the waiting is given up.
    pub async fn leave(self) -> Result<(), LeaveError> {
        let Self {
            barrier,
            entry,
            opened,
        } = self;
        barrier.leave(entry, opened).await
    }
}

/// What came of an attempt to enter.
enum Attempt {
    Inside(Entry, i64),
    Full,
    /// Somebody else has a key of that name.
    Taken,
    Lost(Lost),
}

/// What was read, and at which revision.
struct Look {
    seen: Seen,
    revision: i64,
}

impl Barrier {
    async fn try_enter(&self) -> Result<Attempt, Failure> {
        // What was lost, or given up, is not to be counted as another's.
        self.partings.over().await;
        if self.look().await?.seen.is_full(self.count) {
            return Ok(Attempt::Full);
        }
        let tenure = self.keys.tenure().await?;
        let key = moment::key(&self.waiters);
        let mut entry = Entry::new(&self.keys, key, tenure, None).with_partings(&self.partings);
        let look = match entry.put(b"", &[], &self.reads()).await? {
            Put::Done(found) => Some(self.seen(found, entry.created())),
            Put::Found => None,
            Put::Foreign | Put::Refused => return Ok(Attempt::Taken),
            Put::Lost => return Ok(Attempt::Lost(Lost::Lease)),
        };
        let tenure = entry.tenure().clone();
        let entered = tokio::select! {
            biased;
            () = tenure.ended() => return Ok(Attempt::Lost(Lost::Lease)),
            entered = self.wait_for_all(&entry, look) => entered?,
        };
        Ok(match (entered, entry.loss()) {
            (Entered::Full, _) => {
                // It goes in any case.
                let _ = entry.remove().await;
                Attempt::Full
            }
            (Entered::Inside(opened), None) => Attempt::Inside(entry, opened),
            (_, loss) => Attempt::Lost(loss.unwrap_or(Lost::Key)),
        })
    }

    /// Waits until all have entered, or it is known that this one cannot.
    async fn wait_for_all(&self, entry: &Entry, look: Option<Look>) -> Result<Entered, Failure> {
        let me = Participant::from(entry);
        let mut pause = Pause::default();
        let mut look = match look {
            Some(look) => look,
            None => self.look().await?,
        };
        loop {
            match look.seen.entering(&me, self.count) {
                Entering::Inside => return Ok(Entered::Inside(look.seen.ready)),
                Entering::Full => return Ok(Entered::Full),
                Entering::Gone => return Ok(Entered::Gone),
                Entering::Open => {
                    // Nobody opens who is not there: what lands late would let the next round in.
                    let open = Transaction::new().when(entry.guard()).then(Operation::put(
                        &self.ready,
                        "",
                        None,
                    ));
                    match self.keys.commit(open).await {
                        Ok(outcome) if outcome.succeeded => {
                            return Ok(Entered::Inside(outcome.revision));
                        }
                        Ok(_) => return Ok(Entered::Gone),
                        Err(error) => pause.after(error).await?,
                    }
                }
                Entering::Wait => {
                    let ready = KeyRange::Key(self.ready.clone());
                    self.changed(&ready, look.revision, Changes::Puts).await?;
                }
            }
            look = self.look().await?;
        }
    }

    async fn leave(&self, entry: Entry, opened: i64) -> Result<(), LeaveError> {
        let tenure = entry.tenure().clone();
        let others = tokio::select! {
            biased;
            () = tenure.ended() => return Err(LeaveError::Lost(Lost::Lease)),
            others = self.wait_to_go(&entry, opened) => others?,
        };
        let Some((others, ready)) = others else {
            return Err(LeaveError::Lost(Lost::Key));
        };
        entry.remove().await.map_err(LeaveError::Lost)?;
        Ok(self.wait_until_left(&others, ready).await?)
    }

    /// Waits until this one is to go. Returns for whom it has to wait then, and at which revision `ready` was
    /// written; nothing if it is not there any more.
    async fn wait_to_go(
        &self,
        entry: &Entry,
        opened: i64,
    ) -> Result<Option<(Vec<Participant>, i64)>, Failure> {
        let me = Participant::from(entry);
        loop {
            let look = self.look().await?;
            let ready = look.seen.ready;
            match look.seen.leaving(&me, opened) {
                Leaving::Go(others) => return Ok(Some((others, ready))),
                Leaving::WaitFor(highest) => self.gone(&highest, look.revision).await?,
                Leaving::Gone => return Ok(None),
            }
        }
    }

    /// Waits until those have left who were inside when this one did.
    async fn wait_until_left(&self, others: &[Participant], ready: i64) -> Result<(), Failure> {
        loop {
            let look = self.look().await?;
            match look.seen.lowest_of(others) {
                Some(lowest) => self.gone(lowest, look.revision).await?,
                None if look.seen.is_left_over(ready) => return self.tidy_up(ready).await,
                None => return Ok(()),
            }
        }
    }

    /// Deletes `ready`, if it is still the one that was written at this revision. Not before the last key is
    /// gone: who came in between would take that for one of a new round.
    async fn tidy_up(&self, ready: i64) -> Result<(), Failure> {
        let mut pause = Pause::default();
        let delete = Transaction::new()
            .when(Guard::changed_at(&self.ready, ready))
            .then(Operation::delete(&self.ready));
        loop {
            match self.keys.commit(delete.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => pause.after(error).await?,
            }
        }
    }

    /// Waits until somebody may have left.
    async fn gone(&self, who: &Participant, seen: i64) -> Result<(), Failure> {
        let range = match String::from_utf8(who.key.clone()) {
            Ok(key) => KeyRange::Key(key),
            Err(_) => KeyRange::Under(self.waiters.clone()),
        };
        self.changed(&range, seen, Changes::Deletes).await
    }

    /// Waits until something may have changed.
    async fn changed(&self, range: &KeyRange, seen: i64, what: Changes) -> Result<(), Failure> {
        let mut pause = Pause::default();
        loop {
            match self.keys.changed(range, seen, what).await {
                Ok(_) => return Ok(()),
                Err(error) => pause.after(error).await?,
            }
        }
    }

    async fn look(&self) -> Result<Look, Failure> {
        let look = self.reads().into_iter();
        let look = look.fold(Transaction::new(), Transaction::then);
        let mut pause = Pause::default();
        loop {
            match self.keys.commit(look.clone()).await {
                Ok(outcome) => return Ok(self.seen(outcome.found, outcome.revision)),
                Err(error) => pause.after(error).await?,
            }
        }
    }

    fn reads(&self) -> [Operation; 2] {
        let waiters = Selection::of(KeyRange::Under(self.waiters.clone()));
        let waiters = waiters.first(By::Creation).keys_only();
        [Operation::select(&waiters), Operation::get(&self.ready)]
    }

    /// Tells what was [read](Self::reads).
    fn seen(&self, found: Vec<Vec<KeyValue>>, revision: i64) -> Look {
        let mut found = found.into_iter();
        let mut there = found.next().unwrap_or_default();
        there.retain(|kv| {
            let rest = kv.key.strip_prefix(self.waiters.as_bytes());
            rest.is_some_and(is_moment)
        });
        let ready = found.next().unwrap_or_default();
        let seen = Seen {
            there: there.into_iter().map(Participant::from).collect(),
            ready: ready.first().map_or(0, |kv| kv.revision),
        };
        Look { seen, revision }
    }
}

impl From<&Entry> for Participant {
    fn from(entry: &Entry) -> Self {
        Self {
            key: entry.key().into(),
            created: entry.created(),
        }
    }
}

/// What came of waiting until all have entered.
enum Entered {
    Inside(i64),
    Full,
    Gone,
}
