//! The endpoints that a file lists.

mod list;
mod read;

use std::{
    fmt, io,
    path::PathBuf,
    pin::Pin,
    str::Utf8Error,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, sleep_until, timeout};

use self::read::Reader;
use super::{teller::Teller, within_reason};
use crate::{Cause, Endpoint, Source, Update};

/// The endpoints that a file lists, as a [`Source`]; the file is watched.
///
/// It is a list in JSON, of addresses and of endpoints that have several of them or metadata:
///
/// ```json
/// [
///   "10.0.0.1:50051",
///   {"addresses": ["10.0.0.2:50051", "[2001:db8::2]:50051"], "metadata": {"zone": "a"}}
/// ]
/// ```
///
/// The empty list `[]` is a list, and says that there are no endpoints. What cannot be read, or is not such
/// a list as a whole, leaves the last good one in use, as [`Stale`](Update::Stale), with a
/// [`FileError`] as its cause: a file that is missing, empty, half-written, truncated while it is
/// read, not UTF-8, too large, or a directory or a pipe.
///
/// The file is read each second and compared, which sees whatever becomes of it: an editor's new file
/// in its place, the links by which Kubernetes swaps a ConfigMap, and what another machine wrote to
/// a shared disk. Notifications of the system miss some of those. Who writes it does best to write another
/// one and rename it. It is read on threads where that may block.
///
/// ```
/// use switchboard_resolver::{Channel, WatchedFile};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("greeters.json");
/// std::fs::write(&path, r#"["10.0.0.1:50051", "10.0.0.2:50051"]"#)?;
/// let channel = Channel::builder(WatchedFile::new(path)).connect_lazy()?;
/// channel.watch_state().wait_for(|state| state.endpoints.len() == 2).await?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[must_use = "a source does nothing unless a channel polls it"]
pub struct WatchedFile {
    path: PathBuf,
    interval: Duration,
    timeout: Duration,
    max_bytes: u64,
    /// `None` before it is polled first.
    updates: Option<BoxStream<'static, Update>>,
}

/// Why a file is not read as a list of endpoints.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not there, or not ours to read.
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
    /// It was not read in time.
    #[error("the file cannot be read: not within {0:?}")]
    TimedOut(Duration),
    /// It is a directory, a pipe, or a device.
    #[error("not a file (expected: a regular file, or a link to one)")]
    NotAFile,
    /// It is larger than allowed.
    #[error("the file is too large (expected: {max_bytes} bytes at most)")]
    TooLarge {
        /// How large it may be.
        max_bytes: u64,
    },
    /// It was written to while it was read.
    #[error("the file was written to while it was read (expected: another one, renamed)")]
    Changing,
    /// There is nothing in it.
    #[error("the file is empty (expected: a list; [] for none)")]
    Empty,
    /// It is not text.
    #[error("the file is not UTF-8")]
    NotText(#[source] Utf8Error),
    /// It is not JSON, or not all of it is there.
    #[error("the file is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// Something in it is not an address that can be dialed.
    #[error("{place}: {source}")]
    Address {
        /// Where in the list.
        place: String,
        /// What is wrong with it.
        source: crate::AddressError,
    },
    /// Something in it is not what is expected there.
    #[error("{place}: {value} (expected: {expected})")]
    Invalid {
        /// Where in the list.
        place: String,
        /// What is there, or its beginning.
        value: String,
        /// What could be there.
        expected: &'static str,
    },
}

impl WatchedFile {
    /// Follows the file at this path, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            max_bytes: 1 << 20,
            updates: None,
        }
    }

    /// Sets how often the file is read; each second unless set, 100 ms at least. As long as it takes
    /// until a change is seen.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = within_reason(interval);
        self
    }

    /// Sets how long reading it may take; 10 s unless set, 100 ms at least. A disk behind a network
    /// that is away would never tell that it is.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = within_reason(timeout);
        self
    }

    /// Sets how large the file may be; 1 MiB unless set, as much as a ConfigMap holds. Without a
    /// limit, a wrong path can take all memory there is.
    pub fn max_bytes(mut self, max: u64) -> Self {
        self.max_bytes = max;
        self
    }

    fn begin(&self) -> Reads {
        Reads {
            reader: Reader::new(self.path.clone(), self.max_bytes),
            interval: self.interval,
            timeout: self.timeout,
            next: Instant::now(),
            teller: Teller::new(format!("file {}", self.path.display())),
        }
    }
}

impl Source for WatchedFile {
    fn poll_update(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        if self.updates.is_none() {
            self.updates = Some(stream::unfold(self.begin(), Reads::next).boxed());
        }
        match &mut self.updates {
            Some(updates) => updates.poll_next_unpin(cx),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile")
            .field("path", &self.path)
            .field("interval", &self.interval)
            .field("timeout", &self.timeout)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// One reading after the other.
struct Reads {
    reader: Reader,
    interval: Duration,
    timeout: Duration,
    next: Instant,
    teller: Teller,
}

impl Reads {
    /// Reads until there is something to tell.
    async fn next(mut self) -> Option<(Update, Self)> {
        loop {
            sleep_until(self.next).await;
            let reading = self.read().await;
            self.next = Instant::now() + self.interval;
            let reading = reading.map_err(|error| -> Cause { std::sync::Arc::new(error) });
            if let Some(update) = self.teller.tell(reading) {
                return Some((update, self));
            }
        }
    }

    async fn read(&self) -> Result<Vec<Endpoint>, FileError> {
        let read = timeout(self.timeout, self.reader.read()).await;
        read.map_err(|_| FileError::TimedOut(self.timeout))?
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_given_up_and_not_asked_again_before_it_has_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers.json");
        std::fs::write(&path, "[]").unwrap();
        let file = WatchedFile::new(path).timeout(Duration::from_secs(3));
        let reads = file.begin();
        let reader = reads.reader.clone();
        // As if a thread were still reading.
        let hangs = reader.hold().await;
        let mut updates = stream::unfold(reads, Reads::next).boxed();
        let Some(Update::Failed { cause }) = updates.next().await else {
            panic!("it has failed")
        };
        assert_eq!(cause.to_string(), "the file cannot be read: not within 3s");
        let ahead = tokio::time::timeout(Duration::from_secs(60), updates.next());
        assert!(ahead.await.is_err(), "that is said once");
        drop(hangs);
        let next = updates.next().await;
        assert!(matches!(next, Some(Update::Snapshot(_))), "{next:?}");
        assert!(updates.next().now_or_never().is_none());
    }
}
