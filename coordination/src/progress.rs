//! How far a job is, and who waits for that.
//!
//! The key `/switchboard/progress/<job>` holds the percentage, in decimal. It has no lease: that a job
//! is done stays known when its process has ended. It does not tell whether that process lives;
//! [`Members`](crate::Members) do.

use std::{fmt, sync::Arc};

use switchboard_registry::{
    NameError, Registry,
    keys::{Followed, Guard, KeyRange, Keys, KeysError, Operation, Segment, Transaction},
};
use tokio::time::{Instant, sleep};

use crate::{
    Failure,
    failure::{Crowded, PATIENCE, RETRY, first},
};

/// From 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

/// A number that is not a [`Percent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("progress: {0} (expected: 0 to 100)")]
pub struct InvalidPercent(i64);

impl Percent {
    /// All of it.
    pub const DONE: Self = Self(100);

    /// Returns the number.
    pub fn get(self) -> u8 {
        self.0
    }

    /// Returns whether the job is done.
    pub fn is_done(self) -> bool {
        self == Self::DONE
    }
}

impl TryFrom<i64> for Percent {
    type Error = InvalidPercent;

    fn try_from(number: i64) -> Result<Self, InvalidPercent> {
        match u8::try_from(number) {
            Ok(number @ ..=100) => Ok(Self(number)),
            _ => Err(InvalidPercent(number)),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// Why the progress of a job cannot be reported or followed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProgressError {
    /// The job's name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What is reported is not from 0 to 100. Nothing was written.
    #[error(transparent)]
    Percent(#[from] InvalidPercent),
    /// etcd did not do what it was asked for. A report may have arrived; the next one comes after it
    /// all the same.
    #[error("progress of {job}")]
    Etcd {
        /// The job.
        job: String,
        /// What etcd says.
        #[source]
        cause: Failure,
    },
}

/// Reports how far a job is.
///
/// Reports arrive in the order in which they are made: one whose outcome was not known never takes the
/// place of a later one.
#[derive(Debug)]
pub struct ProgressReporter {
    job: Job,
    /// The revision of the last report; `None` where it is not known.
    written_at: Option<i64>,
}

/// How far a job is, followed.
///
/// ```
/// use switchboard_coordination::{Percent, Progress};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let mut job = Progress::report(&registry, "import-42")?;
/// job.reached(40).await?;
///
/// let mut progress = Progress::follow(&registry, "import-42").await?;
/// assert_eq!(progress.current(), Some(Percent::try_from(40)?));
/// job.reached(100).await?;
/// progress.wait(Percent::is_done).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Progress {
    job: Job,
    followed: Followed,
    known: Option<Percent>,
}

#[derive(Debug, Clone)]
struct Job {
    keys: Keys,
    name: Segment,
    key: Arc<str>,
}

impl Job {
    fn new(registry: &Registry, name: Segment) -> Self {
        Self {
            keys: registry.keys(),
            key: format!("/switchboard/progress/{name}").into(),
            name,
        }
    }

    fn failed(&self, cause: impl Into<Failure>) -> ProgressError {
        ProgressError::Etcd {
            job: self.name.to_string(),
            cause: cause.into(),
        }
    }
}

impl ProgressReporter {
    /// Reports that so much is done, from 0 to 100. It is in etcd when this returns.
    ///
    /// # Errors
    ///
    /// What is given is not from 0 to 100: nothing was written. Or etcd refuses, or did not answer for
    /// 10 s.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the report may or may not arrive, but not after a later one.
    pub async fn reached(&mut self, percent: i64) -> Result<(), ProgressError> {
        let percent = Percent::try_from(percent)?;
        self.write(|key| Operation::put(key, percent.0.to_string(), None))
            .await
    }

    /// Takes the report out of etcd.
    ///
    /// # Errors
    ///
    /// etcd refuses, or did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the report may or may not go.
    pub async fn clear(mut self) -> Result<(), ProgressError> {
        self.write(Operation::delete).await
    }

    async fn write(&mut self, write: impl Fn(&str) -> Operation) -> Result<(), ProgressError> {
        let deadline = Instant::now() + PATIENCE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(&write).await {
                Ok(true) => return Ok(()),
                // Somebody else has reported, or a report whose outcome was not known has arrived.
                Ok(false) if attempts == 1 => continue,
                Ok(false) | Err(KeysError::Unreachable(_) | KeysError::Unavailable(_))
                    if Instant::now() < deadline => {}
                Ok(false) => {
                    let cause = Failure::Unavailable(Arc::new(Crowded));
                    return Err(self.job.failed(cause));
                }
                Err(error) => return Err(self.job.failed(error)),
            }
            sleep(RETRY.delay(attempts, fastrand::f64())).await;
        }
    }

    /// Writes over what is there; returns whether that was still there.
    async fn attempt(&mut self, write: impl Fn(&str) -> Operation) -> Result<bool, KeysError> {
        let key = &*self.job.key;
        let seen = match self.written_at.take() {
            Some(revision) => revision,
            None => {
                let read = self.job.keys.read(key, 0).await?;
                read.held.map_or(0, |held| held.revision)
            }
        };
        let transaction = Transaction::new()
            .when(Guard::changed_at(key, seen))
            .then(write(key));
        let outcome = self.job.keys.commit(transaction).await?;
        self.written_at = outcome.succeeded.then_some(outcome.revision);
        Ok(outcome.succeeded)
    }
}

impl Progress {
    /// Begins to report on a job. Nothing is written yet.
    ///
    /// # Errors
    ///
    /// The name is empty, or has a `/` or a control character.
    pub fn report<N>(registry: &Registry, job: N) -> Result<ProgressReporter, ProgressError>
    where
        N: TryInto<Segment, Error: Into<NameError>>,
    {
        let name = job.try_into().map_err(Into::into)?;
        Ok(ProgressReporter {
            job: Job::new(registry, name),
            written_at: None,
        })
    }

    /// Follows a job, whether or not anything was reported of it yet.
    ///
    /// # Errors
    ///
    /// The name is invalid; or etcd refuses, or did not answer within 10 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the following.
    pub async fn follow<N>(registry: &Registry, job: N) -> Result<Self, ProgressError>
    where
        N: TryInto<Segment, Error: Into<NameError>>,
    {
        let job = Job::new(registry, job.try_into().map_err(Into::into)?);
        let mut followed = job.keys.follow(KeyRange::Key(job.key.to_string()));
        first(&mut followed)
            .await
            .map_err(|cause| job.failed(cause))?;
        let mut progress = Self {
            job,
            followed,
            known: None,
        };
        progress.take_in();
        Ok(progress)
    }

    /// Returns what was reported last; `None` where nothing was, or where it was cleared.
    pub fn current(&mut self) -> Option<Percent> {
        self.take_in();
        self.known
    }

    /// Waits until what was reported is as it is to be. Where nothing is reported, it waits on.
    ///
    /// # Errors
    ///
    /// The registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing.
    pub async fn wait(
        &mut self,
        is_reached: impl Fn(Percent) -> bool,
    ) -> Result<Percent, ProgressError> {
        loop {
            if let Some(percent) = self.current().filter(|percent| is_reached(*percent)) {
                return Ok(percent);
            }
            let changed = self.followed.changed().await;
            changed.map_err(|error| self.job.failed(error))?;
        }
    }

    fn take_in(&mut self) {
        let snapshot = self.followed.snapshot();
        let Some(kv) = snapshot.as_ref().and_then(|it| it.keys().first()) else {
            self.known = None;
            return;
        };
        let text = std::str::from_utf8(&kv.value).unwrap_or_default();
        // What others put there is no report; the last one stays.
        if let Some(percent) = text.parse().ok().and_then(|it: i64| it.try_into().ok()) {
            self.known = Some(percent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_from_0_to_100() {
        for number in [0, 1, 100] {
            assert_eq!(i64::from(Percent::try_from(number).unwrap().get()), number);
        }
        for number in [-1, 101, 256, i64::MAX, i64::MIN] {
            let error = Percent::try_from(number).unwrap_err().to_string();
            assert_eq!(error, format!("progress: {number} (expected: 0 to 100)"));
        }
    }
}
