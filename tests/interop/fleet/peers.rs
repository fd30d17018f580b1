//! The greeter in the ways of a Go fleet, whose source is in `tests/interop/peers`.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use switchboard::Layout;
use switchboard_test_support::{Process, build_go_with};
use tokio::sync::OnceCell;

use crate::go::LIMIT;

/// Whose ways a fleet follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framework {
    GoZero,
    Kratos,
    EtcdNaming,
}

impl Framework {
    pub(crate) const ALL: [Self; 3] = [Self::GoZero, Self::Kratos, Self::EtcdNaming];

    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::GoZero => Layout::go_zero(),
            Self::Kratos => Layout::kratos(),
            Self::EtcdNaming => Layout::etcd_naming(),
        }
    }
}

/// As the program has it, too.
impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layout().fmt(f)
    }
}

/// The program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peers(&'static Path);

impl Peers {
    /// Builds it, once; there is none without Go.
    pub(crate) async fn find() -> Result<Self, &'static str> {
        static PROGRAM: OnceCell<Result<PathBuf, &str>> = OnceCell::const_new();
        // go-zero's way to look in Kubernetes is more than all the rest.
        let build = || build_go_with("tests/interop/peers", &["no_k8s"]);
        let program = PROGRAM.get_or_init(build).await;
        program.as_deref().map(Self).map_err(|reason| *reason)
    }

    /// Starts a server, whose record is in etcd when this returns.
    pub(crate) async fn serve(
        self,
        framework: Framework,
        etcd: &str,
        service: &str,
        address: &str,
        options: &[&str],
    ) -> Peer {
        let mut command = self.command("serve", framework, etcd, service);
        command.args(["-address", address]).args(options);
        let mut process = Process::spawn_with_input(command);
        process
            .wait_for_line(LIMIT, |line| line == "published")
            .await;
        Peer { process }
    }

    /// Starts a client, which calls by the names in the lines that it reads.
    pub(crate) fn call(
        self,
        framework: Framework,
        etcd: &str,
        service: &str,
        options: &[&str],
    ) -> Process {
        let mut command = self.command("call", framework, etcd, service);
        command.args(options);
        Process::spawn_with_input(command)
    }

    fn command(self, what: &str, framework: Framework, etcd: &str, service: &str) -> Command {
        let mut command = Command::new(self.0);
        command.args([what, &framework.to_string()]);
        command.args(["-etcd", etcd, "-service", service]);
        command
    }
}

/// A server of theirs, which is killed when this is dropped.
pub(crate) struct Peer {
    pub(crate) process: Process,
}

impl Peer {
    /// Waits until the server says something that begins so, and returns it all.
    pub(crate) async fn told(&mut self, beginning: &str) -> String {
        let fits = |line: &str| line.starts_with(beginning);
        self.process.wait_for_line(LIMIT, fits).await
    }
}
