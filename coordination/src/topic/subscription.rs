//! What a subscriber is told: messages, and what is lost of them.

use futures::{Stream, stream};
use switchboard_registry::keys::{KeyValue, KeysError, Tail};

use super::{
    Topic,
    order::{Order, Ruling},
    record::{Epoch, NoRecord, Record},
};
use crate::Failure;

/// With which message a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The first that is sent from now on.
    Now,
    /// The first that was sent at this revision of etcd or later, deleted since or not.
    Revision(i64),
    /// The first that is there.
    Beginning,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What was sent.
    pub payload: Vec<u8>,
    /// Its number: the first of a topic has 1, the next one 2.
    pub sequence: u64,
    /// The revision of etcd that brought it.
    pub revision: i64,
}

/// Why a subscription cannot begin.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// etcd never has this revision.
    #[error("revision: {0} (expected: at least 1)")]
    Revision(i64),
    /// etcd has not reached this revision.
    #[error("revision: {given} (expected: at most {}, the next one of etcd)", current + 1)]
    Future {
        /// The revision that was given.
        given: i64,
        /// The one that etcd is at.
        current: i64,
    },
    /// Somebody has put something into the topic that is none of its own.
    #[error("{0} is not a topic's head (expected: an epoch and a number)")]
    Broken(String),
    /// etcd did not do what it was asked for.
    #[error("cannot subscribe")]
    Etcd(#[source] Failure),
}

/// What a subscriber is told in place of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// These messages are lost: they were deleted before they were read, and etcd has compacted
    /// their history. The subscription goes on behind them.
    #[error("messages {first} to {last} are lost")]
    Gap {
        /// The number of the first one.
        first: u64,
        /// The number of the last one.
        last: u64,
    },
    /// Of the messages since the revision that the subscription was to begin at, those that were
    /// deleted are lost: etcd has compacted it. The subscription goes on with those that are there.
    #[error("messages since revision {0} may be lost")]
    Compacted(i64),
    /// The topic began anew, since etcd was wiped or restored, or its head was deleted. Messages of
    /// before that were not read are lost. The subscription goes on with the first of the new ones.
    #[error("the topic began anew")]
    Anew,
    /// The registry was closed. Nothing more comes.
    #[error("the registry is closed")]
    Closed,
}

/// The messages of a topic, one after another.
///
/// It has no task: what is not asked for is not sent by etcd either, beyond what fits into a stream's
/// window; where messages have to be listed, a page of them is held. While etcd is away it waits.
#[derive(Debug)]
pub struct Subscription {
    topic: Topic,
    tail: Tail,
    order: Order,
    /// Messages before this revision are passed over.
    since: i64,
    /// What is to be told first.
    owed: Option<TopicError>,
    /// What was read, and is to be ruled on again.
    read: Option<KeyValue>,
}

impl Subscription {
    pub(super) async fn begin(topic: &Topic, start: Start) -> Result<Self, SubscribeError> {
        let at = match start {
            Start::Beginning => return Ok(Self::from_the_beginning(topic, None)),
            Start::Now => None,
            Start::Revision(revision) if revision < 1 => {
                return Err(SubscribeError::Revision(revision));
            }
            // What comes at a revision is read from the one before; etcd's first has nothing.
            Start::Revision(revision) => Some((revision, (revision - 1).max(1))),
        };
        let keys = &topic.keys;
        let current = |error: KeysError| SubscribeError::Etcd(error.into());
        let head = match at {
            None => keys.read(topic.names.head(), 0).await.map_err(current)?,
            Some((given, before)) => match keys.read(topic.names.head(), before).await {
                Ok(head) => head,
                // etcd says so of revisions to come, too.
                Err(KeysError::Compacted(_)) => {
                    let now = keys.read(topic.names.head(), 0).await.map_err(current)?;
                    let current = now.revision;
                    if before > current {
                        return Err(SubscribeError::Future { given, current });
                    }
                    // Which life of the topic the revision is of, so that another one is told apart,
                    // whose revisions may all be lower.
                    let epoch = head(topic, now.held.as_ref())?.map(|(epoch, _)| epoch);
                    let since = epoch.map_or(0, |_| given);
                    return Ok(Self {
                        since,
                        owed: Some(TopicError::Compacted(given)),
                        ..Self::from_the_beginning(topic, epoch)
                    });
                }
                Err(error) => return Err(SubscribeError::Etcd(error.into())),
            },
        };
        let order = match self::head(topic, head.held.as_ref())? {
            None => Order::behind(None, 0),
            Some((epoch, sequence)) => Order::behind(Some(epoch), sequence),
        };
        let after = topic.names.message(order.last().unwrap_or_default());
        let revision = at.map_or(head.revision, |(_, before)| before);
        let prefix = topic.names.prefix().to_owned();
        Ok(Self {
            tail: keys.tail(prefix, Some(after.into()), revision),
            topic: topic.clone(),
            order,
            since: 0,
            owed: None,
            read: None,
        })
    }

    fn from_the_beginning(topic: &Topic, epoch: Option<Epoch>) -> Self {
        let prefix = topic.names.prefix().to_owned();
        Self {
            tail: topic.keys.tail(prefix, None, 0),
            topic: topic.clone(),
            order: Order::from_the_beginning(epoch),
            since: 0,
            owed: None,
            read: None,
        }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// Messages are lost, which are then passed over: the next call goes on. Or the registry was
    /// closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Message, TopicError> {
        if let Some(owed) = self.owed.take() {
            return Err(owed);
        }
        loop {
            let kv = match self.read.take() {
                Some(kv) => kv,
                None => self.tail.next().await.map_err(|_| TopicError::Closed)?,
            };
            if let Some(told) = self.rule(kv) {
                return told;
            }
        }
    }

    /// Makes a stream of the messages, which ends with the registry.
    pub fn into_stream(self) -> impl Stream<Item = Result<Message, TopicError>> + Send {
        stream::unfold(self, |mut subscription| async {
            match subscription.next().await {
                Err(TopicError::Closed) => None,
                told => Some((told, subscription)),
            }
        })
    }

    /// Takes in what was read; returns what is told of it, if anything is.
    fn rule(&mut self, kv: KeyValue) -> Option<Result<Message, TopicError>> {
        let names = &self.topic.names;
        let (ruling, message) = match names.read(&kv.key, &kv.value) {
            Ok(Record::Message {
                epoch,
                sequence,
                payload,
                ..
            }) => (
                self.order.message(epoch, sequence),
                Some((sequence, payload.to_vec())),
            ),
            Ok(Record::Head { epoch, sequence }) => (self.order.head(epoch, sequence), None),
            Err(cause @ NoRecord) => {
                let key = String::from_utf8_lossy(&kv.key);
                tracing::warn!(name: "record_rejected", %key, revision = kv.revision, %cause, "left out");
                return None;
            }
        };
        if let Some(last) = self.order.last() {
            self.tail.pass_over(names.message(last));
        }
        match (ruling, message) {
            (Ruling::Tell, Some((sequence, payload))) if kv.revision >= self.since => {
                Some(Ok(Message {
                    payload,
                    sequence,
                    revision: kv.revision,
                }))
            }
            (Ruling::Tell | Ruling::Nothing, _) => None,
            (Ruling::Gap { first, last }, _) => {
                self.read = Some(kv);
                Some(Err(TopicError::Gap { first, last }))
            }
            (Ruling::Anew, _) => {
                // It is a revision of another history.
                self.since = 0;
                self.tail.restart();
                Some(Err(TopicError::Anew))
            }
        }
    }
}

/// Reads a topic's head: its epoch, and the number of its last message.
fn head(topic: &Topic, held: Option<&KeyValue>) -> Result<Option<(Epoch, u64)>, SubscribeError> {
    let Some(kv) = held else { return Ok(None) };
    match topic.names.read(&kv.key, &kv.value) {
        Ok(Record::Head { epoch, sequence }) => Ok(Some((epoch, sequence))),
        _ => Err(SubscribeError::Broken(topic.names.head().to_owned())),
    }
}
