//! Pops: asks the [page](super::page) what to do next, does that, and tells it what came of it.

use std::sync::Arc;

use switchboard_registry::keys::{
    Changes, Guard, KeyRange, KeyValue, Keys, KeysError, Operation, Outcome, Selection, Transaction,
};
use switchboard_resolver::Cause;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Item, PopError,
    page::{Found, Next, Page},
    place::Place,
};
use crate::{Failure, failure::Pause};

/// Pops from one queue, one item at a time.
pub(super) struct Popping {
    keys: Keys,
    place: Arc<Place>,
    page: Page,
    /// What is under way. It stays when who asked for it gives up, and whoever pops next is told what came
    /// of it: an item that it has taken would be lost with it.
    taking: Option<Taking>,
}

/// An item that is being taken.
struct Taking {
    item: Found,
    taken: AbortOnDropHandle<Taken>,
}

/// What came of trying to take an item.
enum Taken {
    Ours(Item),
    /// Somebody else has taken it. Of those behind there are these.
    Gone(Vec<Found>),
    Unknown(Found, Cause),
    Failed(Failure),
}

impl Popping {
    pub(super) fn new(keys: Keys, place: Arc<Place>) -> Self {
        Self {
            page: Page::new(place.clone()),
            keys,
            place,
            taking: None,
        }
    }

    /// Waits for an item.
    pub(super) async fn pop(&mut self) -> Result<Item, PopError> {
        loop {
            let after = match self.try_pop().await? {
                Ok(item) => return Ok(item),
                Err(empty_at) => empty_at,
            };
            if let Some(item) = self.wait(after).await? {
                return Ok(item);
            }
        }
    }

    /// Takes an item, or returns the revision at which there was none.
    pub(super) async fn try_pop(&mut self) -> Result<Result<Item, i64>, PopError> {
        // What who gave up has left under way.
        if let Some(item) = self.taken().await? {
            return Ok(Ok(item));
        }
        self.page.begin();
        let mut pause = Pause::default();
        loop {
            match self.page.next() {
                Next::Take { item, behind } => {
                    if let Some(item) = self.take(item, behind).await? {
                        return Ok(Ok(item));
                    }
                }
                Next::List { limit } => match self.keys.select(&self.place.first(limit)).await {
                    Ok(selected) => {
                        self.page
                            .listed(selected.revision, selected.keys, selected.more);
                    }
                    Err(error) => self.pause(&mut pause, error).await?,
                },
                Next::Wait { after } => return Ok(Err(after)),
            }
        }
    }

    /// Waits for what is put after a revision, and takes the first of that which others do not. Returns
    /// nothing where nobody knows what was put.
    async fn wait(&mut self, after: i64) -> Result<Option<Item>, PopError> {
        let mut after = after;
        let mut pause = Pause::default();
        let range = self.place.range();
        loop {
            match self.keys.changed(&range, after, Changes::Puts).await {
                Ok(events) => self.page.heard(events),
                Err(error) => self.pause(&mut pause, error).await?,
            }
            loop {
                match self.page.next() {
                    Next::Take { item, behind } => {
                        if let Some(item) = self.take(item, behind).await? {
                            return Ok(Some(item));
                        }
                    }
                    Next::List { .. } => return Ok(None),
                    Next::Wait { after: last } => {
                        after = last;
                        break;
                    }
                }
            }
        }
    }

    async fn take(&mut self, item: Found, behind: Vec<Found>) -> Result<Option<Item>, PopError> {
        let taking = take(self.keys.clone(), item.clone(), behind);
        let taken = self.keys.run(taking);
        self.taking = Some(Taking { item, taken });
        self.taken().await
    }

    /// Waits for what is under way.
    async fn taken(&mut self) -> Result<Option<Item>, PopError> {
        let Some(Taking { item, taken }) = &mut self.taking else {
            return Ok(None);
        };
        let taken = match taken.await {
            Ok(taken) => taken,
            // The registry's runtime is no more.
            Err(ended) => Taken::Unknown(item.clone(), Arc::new(ended)),
        };
        self.taking = None;
        match taken {
            Taken::Ours(item) => Ok(Some(item)),
            Taken::Gone(there) => {
                self.page.left(&there);
                Ok(None)
            }
            Taken::Unknown(Found { key, revision }, cause) => Err(PopError::Unknown {
                key,
                revision,
                cause,
            }),
            Taken::Failed(failure) => {
                // It is there still.
                self.page.forget();
                Err(self.failed(failure))
            }
        }
    }

    async fn pause(&self, pause: &mut Pause, error: KeysError) -> Result<(), PopError> {
        let paused = pause.after(error).await;
        paused.map_err(|failure| self.failed(failure))
    }

    fn failed(&self, cause: Failure) -> PopError {
        failed(&self.place, cause)
    }
}

pub(super) fn failed(place: &Place, cause: Failure) -> PopError {
    PopError::Etcd {
        queue: place.name().to_owned(),
        cause,
    }
}

/// Takes an item, however long it is until etcd says what came of that. An attempt of which nobody knows
/// that is made again: if the item is there still, the earlier one can do no more than this one.
async fn take(keys: Keys, item: Found, behind: Vec<Found>) -> Taken {
    let look = |transaction: Transaction, it: &Found| {
        let key = Selection::of(KeyRange::Key(it.key.clone())).keys_only();
        transaction.otherwise(Operation::select(&key))
    };
    let transaction = Transaction::new()
        .when(Guard::changed_at(&item.key, item.revision))
        .then(Operation::take(&item.key));
    let transaction = behind.iter().fold(transaction, look);
    let mut doubt = None;
    let mut pause = Pause::default();
    loop {
        let error = match (keys.commit(transaction.clone()).await, doubt.take()) {
            (Ok(outcome), doubt) => match (outcome.succeeded, doubt) {
                (true, _) => return ours(item, outcome),
                (false, Some(cause)) => return Taken::Unknown(item, cause),
                (false, None) => return Taken::Gone(there(outcome)),
            },
            (Err(error), earlier) => {
                doubt = match &error {
                    KeysError::Unavailable(cause) => Some(cause.clone()),
                    _ => earlier,
                };
                error
            }
        };
        if let Err(failure) = pause.after(error).await {
            return match doubt {
                Some(cause) => Taken::Unknown(item, cause),
                None => Taken::Failed(failure),
            };
        }
    }
}

fn ours(item: Found, outcome: Outcome) -> Taken {
    match outcome.found.into_iter().flatten().next() {
        Some(kv) => Taken::Ours(Item {
            key: item.key,
            value: kv.value,
            revision: kv.revision,
        }),
        None => Taken::Unknown(item, Arc::new(NothingTaken)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("etcd has not told what it held")]
struct NothingTaken;

fn there(outcome: Outcome) -> Vec<Found> {
    let there = outcome.found.into_iter().flatten();
    let found = |kv: KeyValue| {
        Some(Found {
            key: String::from_utf8(kv.key).ok()?,
            revision: kv.revision,
        })
    };
    there.filter_map(found).collect()
}

impl std::fmt::Debug for Popping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Popping")
            .field("place", &self.place)
            .field("page", &self.page)
            .finish_non_exhaustive()
    }
}
