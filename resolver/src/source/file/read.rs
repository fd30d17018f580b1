//! Reads a file as a whole, if it is one, on a thread that may block.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{FileError, list};
use crate::Endpoint;

/// Reads one file, again and again. A disk that hangs, as those behind a network do, has one thread
/// at most, however often its reading is given up.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    path: PathBuf,
    max_bytes: u64,
    turn: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self {
            path,
            max_bytes,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Keeps others from reading, as a thread does that hangs.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> impl Drop + use<> {
        self.turn.clone().acquire_owned().await.unwrap()
    }

    /// Reads the list in the file. Also what its text means is found out where that may take its time.
    pub(super) async fn read(&self) -> Result<Vec<Endpoint>, FileError> {
        let turn = self.turn.clone().acquire_owned().await;
        let turn = turn.map_err(|closed| unreadable(io::Error::other(closed)))?;
        let (path, max_bytes) = (self.path.clone(), self.max_bytes);
        let reading = spawn_blocking(move || {
            // Until the thread is back, not until nobody waits for it any more.
            let _turn = turn;
            list::endpoints(&read(&path, max_bytes)?)
        });
        let read = reading.await;
        read.map_err(|ended| unreadable(io::Error::other(ended)))?
    }
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    // Asked before it is opened: to open a pipe waits until somebody writes to it.
    is_file(&path.metadata().map_err(unreadable)?)?;
    let mut file = File::open(path).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    is_file(&before)?;
    let mut bytes = Vec::new();
    let most = max_bytes.saturating_add(1);
    let read = (&mut file).take(most).read_to_end(&mut bytes);
    read.map_err(unreadable)?;
    let after = file.metadata().map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > max_bytes) {
        return Err(FileError::TooLarge { max_bytes });
    }
    // Half of what was, and half of what comes, can be a list that never was.
    if state(&before) != state(&after) {
        return Err(FileError::Changing);
    }
    Ok(bytes)
}

fn is_file(metadata: &Metadata) -> Result<(), FileError> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(FileError::NotAFile),
    }
}

fn state(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}

fn unreadable(source: io::Error) -> FileError {
    FileError::Unreadable(source)
}

#[cfg(all(test, unix))]
mod tests {
    use std::{process::Command, sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let (sender, receiver) = mpsc::channel();
        // Were it opened, this thread would hang, and end with the process.
        thread::spawn(move || sender.send(read(&path, 100)));
        let read = receiver.recv_timeout(Duration::from_secs(10));
        let read = read.expect("it is not opened");
        assert!(matches!(read, Err(FileError::NotAFile)), "{read:?}");
    }
}
