//! A line of keys: whose was created first is first.
//!
//! ```text
//! Entering  put                               -> Waiting, behind the one that was created before
//! Waiting   that one is gone                  -> Waiting, behind the next, or First
//! Waiting   our key is gone, or the tenure    -> Entering, at the end
//! ```
//!
//! Each waits for the one before it alone, so that a key that goes wakes one. Whoever waits is in etcd
//! by a key of its own: it looks for that each time, and hears of its own expiry from the lease.

mod place;

use switchboard_registry::keys::{
    By, Changes, Guard, KeyRange, KeyValue, Keys, Operation, Selection, Tenure, Transaction,
};

use self::place::{Place, Seen, place};
use crate::{
    Failure,
    entry::{self, Entry, Put},
    failure::Pause,
    moment,
};

/// Those who stand in line under a prefix.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    keys: Keys,
    /// Ends in `/`.
    prefix: String,
    /// Whether a key, without the prefix, is of this line, and not of something below it.
    belongs: fn(&[u8]) -> bool,
    naming: Naming,
}

/// How the keys are named of those who get in line here.
#[derive(Debug, Clone)]
enum Naming {
    /// After the registry's lease, under the line's prefix: one of a process at a time.
    Lease,
    /// After the [moment], under a prefix of their own, so that there may be any number.
    Moment(String),
}

/// Why nobody can get in line.
#[derive(Debug)]
pub(crate) enum LineError {
    /// The key that is to be ours is there, under a lease that is not ours.
    Foreign(String),
    /// etcd did not do what it was asked for.
    Failed(Failure),
}

/// Where somebody stood, and at which revision.
pub(crate) struct Standing {
    place: Place,
    revision: i64,
}

impl Line {
    pub(crate) fn new(keys: Keys, prefix: String, belongs: fn(&[u8]) -> bool) -> Self {
        Self {
            keys,
            prefix,
            belongs,
            naming: Naming::Lease,
        }
    }

    /// Names those who get in line here after the [moment], under a prefix that ends in `/`. It may be
    /// another one than that of those before whom they wait: then they do not wait for each other.
    pub(crate) fn named_by_moment(mut self, prefix: String) -> Self {
        self.naming = Naming::Moment(prefix);
        self
    }

    /// Gets in line, and waits until one is first, while etcd is away too. Who loses the lease or the key
    /// begins anew, at the end.
    pub(crate) async fn acquire(&self, value: &[u8]) -> Result<Entry, LineError> {
        loop {
            let tenure = self.keys.tenure().await.map_err(Failure::from)?;
            let key = self.key(&tenure);
            let turn = match self.naming {
                Naming::Lease => tokio::select! {
                    biased;
                    turn = entry::turn(&self.keys, &key) => Some(turn),
                    // With another lease it is another key, however long this one's turn lasts.
                    () = tenure.gone() => continue,
                },
                Naming::Moment(_) => None,
            };
            let mut entry = Entry::new(&self.keys, key, tenure, turn);
            let standing = match entry.put(value, &[], &[self.newest()]).await? {
                Put::Done(found) => Some(self.standing(&entry, found)),
                Put::Found => None,
                Put::Foreign => {
                    self.foreign(&entry)?;
                    continue;
                }
                Put::Refused | Put::Lost => continue,
            };
            if self.wait(&entry, standing).await? {
                return Ok(entry);
            }
        }
    }

    /// Gets in line if nobody is there, so that it is first at once.
    pub(crate) async fn try_acquire(&self, value: &[u8]) -> Result<Option<Entry>, LineError> {
        let mut was_lost = false;
        loop {
            let tenure = self.keys.tenure().await.map_err(Failure::from)?;
            let key = self.key(&tenure);
            let turn = match self.naming {
                // What was lost is on its way out, and is nobody else's.
                Naming::Lease if was_lost => Some(entry::turn(&self.keys, &key).await),
                Naming::Lease => match entry::try_turn(&self.keys, &key) {
                    Some(turn) => Some(turn),
                    None => return Ok(None),
                },
                Naming::Moment(_) => None,
            };
            let mut entry = Entry::new(&self.keys, key, tenure, turn);
            let nobody = [Guard::none_in(&self.range())];
            let mut put = entry.put(value, &nobody, &[]).await?;
            if matches!(put, Put::Refused) {
                // Somebody is in line, or below it.
                if self.is_taken().await? {
                    return Ok(None);
                }
                put = entry.put(value, &[], &[self.newest()]).await?;
            }
            let standing = match put {
                Put::Done(found) => self.standing(&entry, found),
                Put::Found => self.look(&entry).await?,
                Put::Foreign => {
                    self.foreign(&entry)?;
                    continue;
                }
                Put::Refused => return Ok(None),
                // Nobody knows whether it is taken.
                Put::Lost => {
                    was_lost = true;
                    continue;
                }
            };
            let standing = match standing.place {
                Place::Hidden => self.look_through(&entry).await?,
                _ => standing,
            };
            return Ok(Some(entry).filter(|_| standing.place == Place::First));
        }
    }

    /// Tells whether another key may be tried, where ours is there under a lease that is not.
    fn foreign(&self, entry: &Entry) -> Result<(), LineError> {
        match self.naming {
            Naming::Lease => Err(LineError::Foreign(entry.key().to_owned())),
            Naming::Moment(_) => Ok(()),
        }
    }

    /// Returns what to read with a put of an entry, for its [standing](Self::standing).
    pub(crate) fn newest(&self) -> Operation {
        // Two of them, since one may be the entry itself.
        Operation::select(&self.newest_first().limit(2))
    }

    /// Tells where an entry stands that was just put, by what was [read](Self::newest) with it.
    pub(crate) fn standing(&self, entry: &Entry, found: Vec<Vec<KeyValue>>) -> Standing {
        let mut before: Vec<_> = found.into_iter().flatten().collect();
        before.retain(|kv| kv.key != entry.key().as_bytes());
        let seen = Seen {
            is_there: true,
            is_all: before.is_empty(),
            before,
        };
        self.place(&seen, entry.created())
    }

    /// Waits until an entry is first; returns whether it is, or is lost.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    pub(crate) async fn wait(
        &self,
        entry: &Entry,
        standing: Option<Standing>,
    ) -> Result<bool, Failure> {
        let waiting = async {
            let mut standing = match standing {
                Some(standing) => standing,
                None => self.look(entry).await?,
            };
            loop {
                standing = match standing.place {
                    Place::First => return Ok::<_, Failure>(true),
                    Place::Outside => return Ok(false),
                    Place::Hidden => self.look_through(entry).await?,
                    Place::Behind(key) => {
                        self.gone(key, standing.revision).await?;
                        self.look(entry).await?
                    }
                };
            }
        };
        let is_first = tokio::select! {
            biased;
            () = entry.tenure().ended() => return Ok(false),
            is_first = waiting => is_first?,
        };
        if !is_first {
            entry.gone();
        }
        Ok(is_first && entry.loss().is_none())
    }

    /// Waits until a key may be gone.
    async fn gone(&self, key: Vec<u8>, seen: i64) -> Result<(), Failure> {
        let range = match String::from_utf8(key) {
            Ok(key) => KeyRange::Key(key),
            Err(_) => self.range(),
        };
        let mut pause = Pause::default();
        loop {
            match self.keys.changed(&range, seen, Changes::Deletes).await {
                Ok(_) => return Ok(()),
                Err(error) => pause.after(error).await?,
            }
        }
    }

    /// Looks where an entry stands: at the one before it.
    async fn look(&self, entry: &Entry) -> Result<Standing, Failure> {
        self.look_at(entry, self.before(entry).limit(1), false)
            .await
    }

    /// Looks at all before it.
    async fn look_through(&self, entry: &Entry) -> Result<Standing, Failure> {
        self.look_at(entry, self.before(entry), true).await
    }

    async fn look_at(
        &self,
        entry: &Entry,
        before: Selection,
        is_all: bool,
    ) -> Result<Standing, Failure> {
        let look = Transaction::new()
            .then(Operation::get(entry.key()))
            .then(Operation::select(&before));
        let mut pause = Pause::default();
        let outcome = loop {
            match self.keys.commit(look.clone()).await {
                Ok(outcome) => break outcome,
                Err(error) => pause.after(error).await?,
            }
        };
        let mut found = outcome.found.into_iter();
        let own = found.next().unwrap_or_default();
        let before = found.next().unwrap_or_default();
        let seen = Seen {
            is_there: own.iter().any(|kv| kv.created == entry.created()),
            is_all: is_all || before.is_empty(),
            before,
        };
        Ok(self.place(&seen, outcome.revision))
    }

    fn place(&self, seen: &Seen, revision: i64) -> Standing {
        let belongs = |key: &[u8]| {
            let rest = key.strip_prefix(self.prefix.as_bytes());
            rest.is_some_and(self.belongs)
        };
        Standing {
            place: place(seen, belongs),
            revision,
        }
    }

    /// Returns whether anybody is in line.
    async fn is_taken(&self) -> Result<bool, Failure> {
        let mut pause = Pause::default();
        let all = loop {
            match self.keys.select(&self.newest_first()).await {
                Ok(all) => break all,
                Err(error) => pause.after(error).await?,
            }
        };
        let seen = Seen {
            is_there: true,
            before: all.keys,
            is_all: true,
        };
        Ok(self.place(&seen, all.revision).place != Place::First)
    }

    fn before(&self, entry: &Entry) -> Selection {
        self.newest_first().created_by(entry.created() - 1)
    }

    fn newest_first(&self) -> Selection {
        Selection::of(self.range()).last(By::Creation).keys_only()
    }

    fn range(&self) -> KeyRange {
        KeyRange::Under(self.prefix.clone())
    }

    fn key(&self, tenure: &Tenure) -> String {
        match &self.naming {
            Naming::Lease => format!("{}{:x}", self.prefix, tenure.lease()),
            Naming::Moment(prefix) => moment::key(prefix),
        }
    }
}

/// Tells that a key is one segment.
pub(crate) fn is_segment(rest: &[u8]) -> bool {
    !rest.contains(&b'/')
}

impl From<Failure> for LineError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
