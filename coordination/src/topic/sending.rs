//! Sends messages: each gets the next number, whoever else sends.

use std::{sync::Arc, time::Duration};

use switchboard_registry::keys::{Guard, KeyValue, KeysError, Operation, Outcome, Transaction};
use switchboard_resolver::Cause;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Topic,
    record::{Epoch, Mark, Record, write_head, write_message},
};
use crate::{
    Failure,
    failure::{Crowded, PATIENCE, RETRY},
};

/// How large a message may be. etcd takes requests of 1.5 MiB unless it is told otherwise.
const LARGEST: usize = 1 << 20;

/// The longest time that etcd has leases for.
const LONGEST: Duration = Duration::from_secs(9_000_000_000);

/// A message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The message's number: the first of a topic has 1, the next one 2.
    pub sequence: u64,
    /// The revision of etcd that brought it.
    pub revision: i64,
}

/// Why a message was not sent, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It is too large. It was not sent.
    #[error("message: {0} bytes (expected: at most {LARGEST})")]
    TooLarge(usize),
    /// etcd has no leases of that time. It was not sent.
    #[error("time of a message: {0:?} (expected: from 2 s to {LONGEST:?})")]
    Time(Duration),
    /// Its time was over before it was sent.
    #[error("the message's time was over before it was sent")]
    Expired,
    /// Somebody has put something into the topic that is none of its own. It was not sent.
    #[error("{0} is not a topic's head (expected: an epoch and a number)")]
    Broken(String),
    /// Nobody knows whether it was sent.
    #[error("a message may or may not have been sent")]
    Unknown(#[source] Cause),
    /// etcd did not take it.
    #[error("a message was not sent")]
    Etcd(#[source] Failure),
}

/// How long a message stays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Retention {
    UntilTrimmed,
    For(Duration),
}

/// What is known of a topic's head.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    /// The revision of its last change; 0 where there is none.
    revision: i64,
    last: Option<(Epoch, u64)>,
}

pub(super) async fn send(
    topic: &Topic,
    payload: &[u8],
    retention: Retention,
) -> Result<Sent, SendError> {
    if payload.len() > LARGEST {
        return Err(SendError::TooLarge(payload.len()));
    }
    let deadline = Instant::now() + PATIENCE;
    let lease = match retention {
        Retention::UntilTrimmed => None,
        Retention::For(time) if time < Duration::from_secs(2) || time > LONGEST => {
            return Err(SendError::Time(time));
        }
        Retention::For(time) => {
            // etcd's are whole seconds.
            let whole = Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
            Some(grant(topic, whole, deadline).await?)
        }
    };
    // Those before it may take as long as it has.
    let head = timeout_at(deadline, topic.head.lock()).await;
    let mut head = head.map_err(|_| given_up(None))?;
    let sending = Sending {
        topic,
        payload,
        lease,
        mark: Mark::random(),
    };
    sending.run(&mut head, deadline).await
}

/// Grants the lease of a message that is to go; again, while etcd is away. One that was granted in vain
/// ends by itself.
async fn grant(topic: &Topic, time: Duration, deadline: Instant) -> Result<i64, SendError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match topic.keys.grant(time).await {
            Err(KeysError::Unreachable(_) | KeysError::Unavailable(_))
                if Instant::now() < deadline => {}
            granted => return granted.map_err(|error| SendError::Etcd(error.into())),
        }
        sleep(RETRY.delay(attempts, fastrand::f64())).await;
    }
}

/// Tells that the time for it is over, and that it was not sent.
fn given_up(cause: Option<Cause>) -> SendError {
    let cause = cause.unwrap_or_else(|| Arc::new(Crowded));
    SendError::Etcd(Failure::Unavailable(cause))
}

/// A message on its way.
struct Sending<'a> {
    topic: &'a Topic,
    payload: &'a [u8],
    lease: Option<i64>,
    mark: Mark,
}

impl Sending<'_> {
    async fn run(&self, head: &mut Head, deadline: Instant) -> Result<Sent, SendError> {
        // Why it is not known what came of an attempt.
        let mut doubt: Option<Cause> = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (epoch, sequence) = head.next();
            let failed = match self.attempt(*head, epoch, sequence).await {
                Ok(outcome) if outcome.succeeded => {
                    *head = Head {
                        revision: outcome.revision,
                        last: Some((epoch, sequence)),
                    };
                    return Ok(Sent {
                        sequence,
                        revision: outcome.revision,
                    });
                }
                Ok(outcome) => {
                    let [held, there] = self.found(outcome)?;
                    *head = held.map_or(Ok(Head::default()), |kv| self.head(&kv))?;
                    match (there, doubt.take()) {
                        // The attempt whose outcome was not known was the one that others were not
                        // faster than.
                        (Some(kv), Some(_)) if self.is_ours(&kv) => {
                            return Ok(Sent {
                                sequence,
                                revision: kv.revision,
                            });
                        }
                        (None, Some(cause)) => return Err(SendError::Unknown(cause)),
                        // Another one was faster.
                        _ => None,
                    }
                }
                Err(KeysError::LeaseNotFound(_)) => return Err(SendError::Expired),
                Err(KeysError::Unreachable(cause)) => Some(cause),
                Err(KeysError::Unavailable(cause)) => {
                    doubt = Some(cause.clone());
                    Some(cause)
                }
                Err(error) => {
                    return Err(match doubt {
                        // An earlier attempt may have gone through all the same.
                        Some(cause) => SendError::Unknown(cause),
                        None => SendError::Etcd(error.into()),
                    });
                }
            };
            if Instant::now() >= deadline {
                return Err(match (failed, doubt) {
                    (_, Some(cause)) => SendError::Unknown(cause),
                    (cause, None) => given_up(cause),
                });
            }
            // The first time that another one was faster, the answer has said all there is to know.
            if attempts > 1 || doubt.is_some() {
                sleep(RETRY.delay(attempts, fastrand::f64())).await;
            }
        }
    }

    /// Puts the message, if the head is still what is known of it.
    async fn attempt(&self, head: Head, epoch: Epoch, sequence: u64) -> Result<Outcome, KeysError> {
        let names = &self.topic.names;
        let key = names.message(sequence);
        let value = write_message(epoch, self.mark, self.payload);
        let unchanged = Guard::changed_at(names.head(), head.revision);
        let mut transaction = Transaction::new().when(unchanged);
        if let Some((epoch, last)) = head.last {
            // An etcd that was wiped may have another head at the same revision.
            let known = write_head(epoch, last);
            transaction = transaction.when(Guard::holds(names.head(), &known));
        }
        if head.last.is_none() {
            // Messages of a topic whose head was deleted are none of this one.
            let (second, end) = (names.message(sequence + 1), names.head());
            transaction = transaction.then(Operation::delete_between(&second, end));
        }
        let transaction = transaction
            .then(Operation::put(&key, value, self.lease))
            .then(Operation::put(
                names.head(),
                write_head(epoch, sequence),
                None,
            ))
            .otherwise(Operation::get(names.head()))
            .otherwise(Operation::get(&key));
        self.topic.keys.commit(transaction).await
    }

    /// What an attempt found that came too late: the head, and what has the number.
    fn found(&self, outcome: Outcome) -> Result<[Option<KeyValue>; 2], SendError> {
        let found = outcome.found.into_iter().map(|kvs| kvs.into_iter().next());
        let found: Vec<_> = found.collect();
        found.try_into().map_err(|_| self.broken())
    }

    fn head(&self, kv: &KeyValue) -> Result<Head, SendError> {
        match self.topic.names.read(&kv.key, &kv.value) {
            Ok(Record::Head { epoch, sequence }) => Ok(Head {
                revision: kv.revision,
                last: Some((epoch, sequence)),
            }),
            _ => Err(self.broken()),
        }
    }

    fn is_ours(&self, kv: &KeyValue) -> bool {
        let record = self.topic.names.read(&kv.key, &kv.value);
        matches!(record, Ok(Record::Message { mark, .. }) if mark == self.mark)
    }

    fn broken(&self) -> SendError {
        SendError::Broken(self.topic.names.head().to_owned())
    }
}

impl Head {
    /// Returns what the next message is.
    fn next(&self) -> (Epoch, u64) {
        match self.last {
            Some((epoch, last)) => (epoch, last.saturating_add(1)),
            None => (Epoch::random(), 1),
        }
    }
}
