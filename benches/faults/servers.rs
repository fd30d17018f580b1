//! The servers that are called, each in a process of its own.

use std::{env, process::Command, time::Duration};

use switchboard_test_support::Process;

use crate::{conduct::Conduct, variant::SERVERS};

/// A server that is killed when this is dropped.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) address: String,
}

impl Served {
    pub(crate) async fn start(address: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--serve", address]);
        let mut process = Process::spawn_with_input(command);
        let limit = Duration::from_secs(30);
        let address = process.wait_for_line(limit, |_| true).await;
        Self { process, address }
    }

    /// Has it behave so from now on.
    pub(crate) fn behave(&mut self, conduct: Conduct) {
        self.process.write_line(conduct.name());
    }
}

/// All of them.
pub(crate) struct Servers(Vec<Served>);

impl Servers {
    pub(crate) async fn start() -> Self {
        let mut servers = Vec::new();
        for _ in 0..SERVERS {
            servers.push(Served::start("127.0.0.1:0").await);
        }
        Self(servers)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.0.iter().map(|it| it.address.clone()).collect()
    }

    pub(crate) fn first(&mut self) -> &mut Served {
        &mut self.0[0]
    }
}
