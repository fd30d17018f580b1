//! Peers in Go, whose source is in `tests/recipes/go`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use switchboard_test_support::{Process, build_go};
use tokio::{sync::OnceCell, time::timeout};

use crate::server::{A_WHILE, LIMIT, TTL};

/// The program, for one server.
pub(crate) struct Go {
    program: &'static Path,
    endpoint: String,
}

/// A process with a client and a session of Go's, which does one command after the other.
pub(crate) struct Peer(Process);

impl Go {
    /// Builds it, once; there is none without Go.
    pub(crate) async fn find(endpoint: String) -> Result<Self, &'static str> {
        static PROGRAM: OnceCell<Result<PathBuf, &str>> = OnceCell::const_new();
        let program = PROGRAM.get_or_init(|| build_go("tests/recipes/go")).await;
        let program = program.as_deref().map_err(|reason| *reason)?;
        Ok(Self { program, endpoint })
    }

    /// Starts one, which has its session when this returns.
    pub(crate) async fn peer(&self) -> Peer {
        let mut command = Command::new(self.program);
        let ttl = TTL.as_secs().to_string();
        command.args([&self.endpoint, &ttl]);
        let mut process = Process::spawn_with_input(command);
        let is_ready = |line: &str| line.starts_with("ready ");
        process.wait_for_line(LIMIT, is_ready).await;
        Peer(process)
    }

    /// Starts some.
    pub(crate) async fn peers<const N: usize>(&self) -> [Peer; N] {
        let peers = futures::future::join_all((0..N).map(|_| self.peer())).await;
        peers.try_into().unwrap_or_else(|_| unreachable!("N of N"))
    }
}

impl Peer {
    /// Does a command, and returns what came of it.
    ///
    /// # Panics
    ///
    /// If that is an error, or does not come in time.
    pub(crate) async fn does(&mut self, command: &str) -> String {
        self.begin(command);
        self.done().await
    }

    /// Does a command that must fail, and returns why it does.
    pub(crate) async fn fails(&mut self, command: &str) -> String {
        self.begin(command);
        let line = self.says().await;
        match line.strip_prefix("error ") {
            Some(why) => why.to_owned(),
            None => panic!("line: {line:?} (expected: error)"),
        }
    }

    /// Begins a command.
    pub(crate) fn begin(&mut self, command: &str) {
        self.0.write_line(command);
    }

    /// Waits until what was begun is done, and returns what came of it.
    pub(crate) async fn done(&mut self) -> String {
        let line = self.says().await;
        match line.strip_prefix("ok") {
            Some(said) => said.trim_start().to_owned(),
            None => panic!("line: {line:?} (expected: ok)"),
        }
    }

    /// Waits until what was begun is done, and returns it as a number.
    pub(crate) async fn number(&mut self) -> i64 {
        self.done().await.parse().expect("a number")
    }

    /// Returns the next line it says.
    pub(crate) async fn says(&mut self) -> String {
        self.0.wait_for_line(LIMIT, |_| true).await
    }

    /// Sees that it is not done for a while.
    pub(crate) async fn waits(&mut self) {
        let line = timeout(A_WHILE, self.0.next_line()).await;
        assert!(line.is_err(), "{line:?} (expected: nothing yet)");
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }
}
