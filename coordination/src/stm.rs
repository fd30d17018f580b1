//! To read and write several keys as if nobody else did.
//!
//! As Go's `client/v3/concurrency/stm.go`, with the isolation that it has unless told otherwise: all
//! that is read is as of one revision, writes wait for the end, and one transaction of etcd's writes
//! them all, if nothing has changed that they depend on. If something has, it all begins again.
//!
//! An [`Attempt`] decides; what is here asks etcd, and waits.

mod attempt;
mod error;

use std::{mem, time::Duration};

use switchboard_registry::{
    NameError, Registry,
    keys::{Guard, KeyPath, KeyValue, Keys, KeysError, Operation, Reading, Transaction},
};
use switchboard_resolver::Backoff;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use self::attempt::{Attempt, Commit, Held, Look, Unchanged};
pub use self::error::StmError;
use crate::failure::{PATIENCE, RETRY};

/// How long those wait who were in each other's way: from nothing to twice as long as this, so that they
/// do not meet again. etcd commits in a few milliseconds; with a longer wait, one who is unlucky among
/// many would wait for most of its time.
const APART: Backoff = Backoff {
    base: Duration::from_millis(4),
    factor: 2.0,
    cap: Duration::from_millis(250),
    jitter: 1.0,
};

/// Software transactions: to read and write several keys as if nobody else did. Cheap to clone.
///
/// - What a closure reads is as of one revision of etcd, that of its first reading.
/// - What it writes is written at once when it has returned, or not at all: only if none of the keys
///   that it has read, or writes, was changed since.
/// - If one was, the closure is run again, on what is there now.
///
/// ```
/// use switchboard_coordination::{Stm, StmError, StmTransaction};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// type Error = Box<dyn std::error::Error>;
///
/// async fn balance(tx: &mut StmTransaction, key: &str) -> Result<u64, Error> {
///     let value = tx.get(key).await?.unwrap_or_else(|| b"0".to_vec());
///     Ok(String::from_utf8(value)?.parse()?)
/// }
///
/// /// Moves an amount, and returns what is left.
/// async fn transfer(stm: &Stm, from: &str, to: &str, amount: u64) -> Result<u64, Error> {
///     stm.run(|mut tx| async move {
///         let (has, gets) = (balance(&mut tx, from).await?, balance(&mut tx, to).await?);
///         let left = has.checked_sub(amount).ok_or("too little is there")?; // and nothing is written
///         tx.put(from, left.to_string())?;
///         tx.put(to, (gets + amount).to_string())?;
///         Ok(left)
///     })
///     .await
/// }
///
/// let stm = Stm::new(&registry);
/// let (ada, bob) = ("/shop/accounts/ada", "/shop/accounts/bob");
/// stm.run(|mut tx| async move { tx.put(ada, "10") }).await?;
/// assert_eq!(transfer(&stm, ada, bob, 3).await?, 7);
/// assert!(transfer(&stm, ada, bob, 8).await.is_err());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Stm {
    keys: Keys,
}

/// What a closure reads and writes by; see [`Stm::run`].
///
/// Once one of its methods has failed, all of them fail alike, and nothing will be written.
#[derive(Debug)]
pub struct StmTransaction {
    keys: Keys,
    attempt: Attempt,
    failed: Option<StmError>,
    /// Where the attempt goes when the closure is done with it.
    back: Option<oneshot::Sender<Result<Attempt, StmError>>>,
}

/// What has become of a transaction that a closure was handed.
struct End(oneshot::Receiver<Result<Attempt, StmError>>);

impl Stm {
    /// Makes one on this registry's connection.
    pub fn new(registry: &Registry) -> Self {
        Self {
            keys: registry.keys(),
        }
    }

    /// Runs a transaction, as often as it takes: until nobody else has changed what it reads or
    /// writes. Its writes are in etcd when this returns.
    ///
    /// The closure takes what it reads and writes by, and its future drops that when it is done. It may
    /// be run several times, so it is to do nothing but read and write: a message that it sends may be
    /// sent twice, or for a transaction that is not committed at all. It is to be quick, too: the longer
    /// it takes, the likelier it is to be run again. What it returns is what this returns. If that is
    /// an error, nothing is written; what it has read was so at one revision, and may have changed since.
    ///
    /// Those who are in each other's way too often wait for some milliseconds, at random, and go on
    /// without a limit: one of them is always through. Where that is not good enough, bound it by
    /// [`tokio::time::timeout`].
    ///
    /// # Errors
    ///
    /// That of the closure; or a [`StmError`]: a key is none, there are too many, or what is to be written
    /// is too large; etcd refuses, or did not answer for 10 s, or the registry was closed. Then nothing
    /// was written. Only with [`StmError::Unknown`] nobody knows: the commit was sent, and there was no
    /// answer. It is not sent again, since it could be done twice.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, all of its writes may have been done, or none.
    pub async fn run<T, E, F>(&self, mut work: impl FnMut(StmTransaction) -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: From<StmError>,
    {
        let mut attempt = Attempt::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (transaction, end) = StmTransaction::begin(&self.keys, attempt);
            let done = work(transaction).await;
            attempt = match end.now() {
                Err(StmError::Outdated) => Attempt::default(),
                // Whatever the closure makes of it.
                Err(error) => return Err(error.into()),
                Ok(attempt) => {
                    let done = done?;
                    match self.commit(attempt).await? {
                        Committed::Yes => return Ok(done),
                        Committed::No(next) => next,
                    }
                }
            };
            if let Some(pause) = pause(attempts, fastrand::f64()) {
                sleep(pause).await;
            }
        }
    }

    async fn commit(&self, attempt: Attempt) -> Result<Committed, StmError> {
        let Some(commit) = attempt.commit()? else {
            return Ok(Committed::Yes);
        };
        let mut patience = Patience::begin();
        loop {
            match self.keys.commit(transaction(&commit)).await {
                Ok(outcome) if outcome.succeeded => return Ok(Committed::Yes),
                Ok(outcome) => {
                    let found = outcome.found.into_iter();
                    let found = found.map(|kvs| held(kvs.into_iter().next())).collect();
                    let next = Attempt::after(commit, outcome.revision, found);
                    return Ok(Committed::No(next));
                }
                Err(KeysError::Unavailable(cause)) if !commit.only_reads() => {
                    return Err(StmError::Unknown(cause));
                }
                Err(error) => patience.after(error).await?,
            }
        }
    }
}

/// What came of an attempt.
enum Committed {
    Yes,
    /// Something had changed; the next attempt.
    No(Attempt),
}

impl StmTransaction {
    fn begin(keys: &Keys, attempt: Attempt) -> (Self, End) {
        let (back, end) = oneshot::channel();
        let transaction = Self {
            keys: keys.clone(),
            attempt,
            failed: None,
            back: Some(back),
        };
        (transaction, End(end))
    }

    /// Reads a key: what this transaction has written to it, or else what it held at the revision of
    /// the first reading. etcd is asked once for each key.
    ///
    /// # Errors
    ///
    /// It is no key, or one too many; etcd refuses, or did not answer for 10 s, or the registry was
    /// closed. Or it has to be [run again](StmError::Outdated). The closure is to return the error.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn get<K>(&mut self, key: K) -> Result<Option<Vec<u8>>, StmError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        self.check()?;
        let read = match key.try_into() {
            Ok(key) => self.read(key).await,
            Err(error) => Err(StmError::Key(error.into())),
        };
        self.keep(read)
    }

    /// Writes a key when the closure has returned. If it was under a lease, it is not any more.
    ///
    /// # Errors
    ///
    /// It is no key, or one too many, or one in `/microservices`.
    pub fn put<K>(&mut self, key: K, value: impl Into<Vec<u8>>) -> Result<(), StmError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let written = self.write(key.try_into().map_err(Into::into), Some(value.into()));
        self.keep(written)
    }

    /// Deletes a key, if there is one, when the closure has returned.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete<K>(&mut self, key: K) -> Result<(), StmError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let written = self.write(key.try_into().map_err(Into::into), None);
        self.keep(written)
    }

    async fn read(&mut self, key: KeyPath) -> Result<Option<Vec<u8>>, StmError> {
        let revision = match self.attempt.look(key.as_str())? {
            Look::Known(value) => return Ok(value),
            Look::Ask { revision } => revision,
        };
        let Reading {
            revision, held: kv, ..
        } = self.ask(&key, revision).await?;
        let held = held(kv);
        let value = held.value.clone();
        self.attempt.learn(key.to_string(), revision, held);
        Ok(value)
    }

    async fn ask(&self, key: &KeyPath, revision: i64) -> Result<Reading, StmError> {
        let mut patience = Patience::begin();
        loop {
            match self.keys.read(key.as_str(), revision).await {
                Ok(reading) => return Ok(reading),
                Err(KeysError::Compacted(_)) => return Err(StmError::Outdated),
                Err(error) => patience.after(error).await?,
            }
        }
    }

    fn write(
        &mut self,
        key: Result<KeyPath, NameError>,
        value: Option<Vec<u8>>,
    ) -> Result<(), StmError> {
        self.check()?;
        let key = key?.outside_kratos()?;
        self.attempt.write(key.to_string(), value)
    }

    /// Fails as what has failed before.
    fn check(&self) -> Result<(), StmError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Keeps what has failed: the closure may not return it.
    fn keep<T>(&mut self, done: Result<T, StmError>) -> Result<T, StmError> {
        done.inspect_err(|error| {
            self.failed.get_or_insert(error.clone());
        })
    }
}

impl Drop for StmTransaction {
    fn drop(&mut self) {
        let attempt = mem::take(&mut self.attempt);
        let ended = self.failed.take().map_or(Ok(attempt), Err);
        if let Some(back) = self.back.take() {
            // Nobody waits for it where `run` was cancelled.
            let _ = back.send(ended);
        }
    }
}

impl End {
    /// Returns what there is to commit, if anything.
    fn now(mut self) -> Result<Attempt, StmError> {
        self.0.try_recv().unwrap_or(Err(StmError::Kept))
    }
}

/// For how long what may be repeated is repeated.
struct Patience {
    ends: Instant,
    attempts: u32,
}

impl Patience {
    fn begin() -> Self {
        Self {
            ends: Instant::now() + PATIENCE,
            attempts: 0,
        }
    }

    /// Waits before the next attempt, where there is to be one.
    async fn after(&mut self, error: KeysError) -> Result<(), StmError> {
        let is_away = matches!(error, KeysError::Unreachable(_) | KeysError::Unavailable(_));
        if !is_away || Instant::now() >= self.ends {
            return Err(StmError::Etcd(error.into()));
        }
        self.attempts += 1;
        sleep(RETRY.delay(self.attempts, fastrand::f64())).await;
        Ok(())
    }
}

/// Returns how long to wait after so many attempts that were in vain.
///
/// After each second one: what a commit that failed has brought is new when there is no wait, and old after
/// one. So an attempt after a wait, if it fails, brings what is new for one that is made at once.
fn pause(attempts: u32, random: f64) -> Option<Duration> {
    attempts
        .is_multiple_of(2)
        .then(|| APART.delay(attempts / 2, random))
}

fn transaction(commit: &Commit) -> Transaction {
    let guards = commit
        .guards
        .iter()
        .map(|(key, unchanged)| match unchanged {
            Unchanged::At(revision) => Guard::changed_at(key, *revision),
            Unchanged::Since(revision) => Guard::changed_before(key, revision + 1),
        });
    let writes = commit.writes.iter().map(|(key, value)| match value {
        Some(value) => Operation::put(key, value.clone(), None),
        None => Operation::delete(key),
    });
    let reads = commit.reads.iter().map(|key| Operation::get(key));
    let transaction = guards.fold(Transaction::new(), Transaction::when);
    let transaction = writes.fold(transaction, Transaction::then);
    reads.fold(transaction, Transaction::otherwise)
}

fn held(kv: Option<KeyValue>) -> Held {
    kv.map_or_else(Held::default, |kv| Held {
        value: Some(kv.value),
        revision: kv.revision,
    })
}

#[cfg(test)]
mod tests {
    use switchboard_embedded::EmbeddedEtcd;
    use switchboard_registry::keys::FIRST_READING;
    use tonic::Code;

    use super::*;
    use crate::Failure;

    async fn stm(etcd: &EmbeddedEtcd) -> Stm {
        let registry = Registry::builder("etcd:2379").unwrap();
        let registry = registry.connector(etcd.connector()).connect().await;
        Stm::new(&registry.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_asked_for_ten_seconds() {
        let etcd = EmbeddedEtcd::start();
        let stm = stm(&etcd).await;
        etcd.freeze();
        let begin = Instant::now();
        let read = stm.run(|mut tx| async move { tx.get("/a").await }).await;
        let error = read.unwrap_err();
        assert!(
            matches!(error, StmError::Etcd(Failure::Unavailable(_))),
            "{error:?}"
        );
        let took = begin.elapsed();
        assert!(
            (PATIENCE..PATIENCE * 2 + FIRST_READING).contains(&took),
            "{took:?}"
        );
        // One that comes back in time is waited for.
        let (read, ()) = tokio::join!(stm.run(|mut tx| async move { tx.get("/a").await }), async {
            sleep(PATIENCE / 2).await;
            etcd.thaw();
        });
        assert_eq!(read.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_without_an_answer_is_not_sent_again() {
        let etcd = EmbeddedEtcd::start();
        let stm = stm(&etcd).await;
        stm.run(|mut tx| async move { tx.put("/a", "0") })
            .await
            .unwrap();
        let (mut runs, etcd) = (0, &etcd);
        let write = stm.run(|mut tx| {
            runs += 1;
            async move {
                tx.get("/a").await?;
                etcd.refuse(1, Code::Unavailable);
                tx.put("/a", "1")
            }
        });
        let error = write.await.unwrap_err();
        assert!(matches!(error, StmError::Unknown(_)), "{error:?}");
        assert_eq!(runs, 1);
        // What only reads may be sent again.
        let read = stm.run(|mut tx| async move {
            let value = tx.get("/a").await;
            etcd.refuse(1, Code::Unavailable);
            value
        });
        assert_eq!(read.await.unwrap().as_deref(), Some(&b"0"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_closure_keeps_is_not_committed() {
        let etcd = EmbeddedEtcd::start();
        let stm = stm(&etcd).await;
        let kept = stm.run(|mut tx| async move { tx.put("/a", "1").map(|()| tx) });
        let error = kept.await.unwrap_err();
        assert!(matches!(error, StmError::Kept), "{error:?}");
        assert_eq!(etcd.revision(), 1);
    }

    #[test]
    fn they_wait_after_each_second_attempt_and_longer_each_time() {
        for attempts in [1, 3, 5, 101] {
            assert_eq!(pause(attempts, 0.5), None);
        }
        let wait = |attempts| pause(attempts, 0.5).unwrap();
        assert_eq!(wait(2), Duration::from_millis(4));
        assert_eq!(wait(4), Duration::from_millis(8));
        assert_eq!(wait(u32::MAX - 1), APART.cap);
        assert_eq!(pause(2, 0.0), Some(Duration::ZERO));
    }
}
