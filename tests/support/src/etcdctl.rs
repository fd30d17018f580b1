//! etcd's own client for the command line.

use std::{
    ffi::OsStr,
    io::{Seek, Write},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use crate::{
    Process,
    binary::{Binary, Program},
    run::run_with_input,
};

/// etcdctl, for one server.
///
/// ```no_run
/// # use switchboard_test_support::{Etcd, Etcdctl};
/// # async fn example() {
/// let etcd = Etcd::start().await;
/// let etcdctl = Etcdctl::find(etcd.endpoint()).await.unwrap();
/// assert_eq!(etcdctl.says(["put", "key", "value"]).await, "OK\n");
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Etcdctl {
    binary: &'static Binary,
    endpoint: String,
}

/// Far more than a command takes, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(60);

impl Etcdctl {
    /// Finds an etcdctl, or gets one, as is done with etcd; it will talk to the server at
    /// `endpoint`.
    ///
    /// # Errors
    ///
    /// If none can be had, with what to install or set.
    ///
    /// # Panics
    ///
    /// If `$SWITCHBOARD_TEST_ETCDCTL` names something that does not run.
    pub async fn find(endpoint: impl Into<String>) -> Result<Self, &'static str> {
        Ok(Self {
            binary: Binary::find(Program::Etcdctl).await?,
            endpoint: endpoint.into(),
        })
    }

    /// Returns where its server listens, as etcdctl shows it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Runs a command, and returns what it writes to standard output.
    ///
    /// # Panics
    ///
    /// If it fails, with what it said, or takes longer than a minute.
    pub async fn says<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        let output = self.run(arguments, Stdio::null()).await;
        output.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Runs a command that reads `input`; see [`says`](Self::says).
    ///
    /// # Panics
    ///
    /// As [`says`](Self::says).
    pub async fn answers<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> String {
        let mut file = tempfile::tempfile().expect("a temporary file");
        let written = file.write_all(input.as_bytes());
        written.expect("a temporary file is writable");
        file.rewind().expect("a file is rewound");
        let output = self.run(arguments, Stdio::from(file)).await;
        output.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Runs a command that must fail, and returns what it says.
    ///
    /// # Panics
    ///
    /// If it succeeds.
    pub async fn fails<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        match self.run(arguments, Stdio::null()).await {
            Ok(output) => panic!("etcdctl succeeds and says {output:?} (expected: a failure)"),
            Err(failure) => failure,
        }
    }

    /// Starts a command that goes on, such as `watch`.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or outside a tokio runtime.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        Process::spawn(self.command(arguments))
    }

    async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: Stdio,
    ) -> Result<String, String> {
        let mut command = Command::from(self.command(arguments));
        run_with_input(&mut command, input, LIMIT).await
    }

    fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> std::process::Command {
        let mut command = self.binary.command();
        // Before 3.4 it speaks etcd's version 2 unless told so.
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &self.endpoint]);
        // Its own limits, of 2 and 5 s, are not meant for a machine that builds meanwhile.
        command.args(["--dial-timeout", "30s", "--command-timeout", "30s"]);
        command.args(arguments);
        command
    }
}
