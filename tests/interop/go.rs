//! The greeter in grpc-go, whose source is in `tests/interop/go`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use switchboard_test_support::{Exit, Process, Signal, build_go};
use tokio::sync::OnceCell;

/// Far more than anything takes that is waited for, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Go(&'static Path);

impl Go {
    /// Builds it, once; there is none without Go.
    pub(crate) async fn find() -> Result<Self, &'static str> {
        static PROGRAM: OnceCell<Result<PathBuf, &str>> = OnceCell::const_new();
        let program = PROGRAM.get_or_init(|| build_go("tests/interop/go")).await;
        program.as_deref().map(Self).map_err(|reason| *reason)
    }

    /// Serves with these options, at a free port unless `-address` is among them.
    pub(crate) async fn serve(self, options: &[&str]) -> GoServer {
        let mut command = Command::new(self.0);
        command.arg("serve").args(options);
        let mut process = Process::spawn(command);
        let begins = |line: &str| line.starts_with("listening ");
        let line = process.wait_for_line(LIMIT, begins).await;
        GoServer {
            process,
            address: line.trim_start_matches("listening ").to_owned(),
        }
    }

    /// Begins to try a subject on servers.
    pub(crate) fn call(self, subject: &str, addresses: &[&str]) -> Process {
        let mut command = Command::new(self.0);
        command.arg("call").arg(subject).args(addresses);
        Process::spawn_with_input(command)
    }

    /// Tries a subject on servers.
    pub(crate) async fn pass(self, subject: &str, addresses: &[&str]) -> Exit {
        passed(self.call(subject, addresses)).await
    }
}

/// Waits until what was tried has succeeded.
pub(crate) async fn passed(process: Process) -> Exit {
    let exit = process.wait(LIMIT).await;
    let said = exit.lines.join("\n");
    assert!(exit.status.success(), "{said}\n{}", exit.stderr);
    exit
}

/// A server in grpc-go, which is killed when this is dropped.
pub(crate) struct GoServer {
    process: Process,
    pub(crate) address: String,
}

impl GoServer {
    /// Waits until the server says something that begins so, and returns it all.
    pub(crate) async fn told(&mut self, beginning: &str) -> String {
        let fits = |line: &str| line.starts_with(beginning);
        self.process.wait_for_line(LIMIT, fits).await
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills the server, and returns how many connections it had and had lost, of those whose lines
    /// were not read.
    pub(crate) async fn end(mut self) -> Connections {
        self.process.kill();
        let lines = self.process.wait(LIMIT).await.lines;
        let count = |text: &str| lines.iter().filter(|line| *line == text).count();
        Connections {
            begun: count("connected"),
            ended: count("disconnected"),
        }
    }
}

/// What a server had of connections.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) begun: usize,
    pub(crate) ended: usize,
}
