//! The embedded etcd as a process of its own: this very program, told to serve.

use std::{env, fs, process::Command, time::Duration};

use etcd_client::Client;
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::Process;

/// Serves, and says where.
pub(crate) async fn serve() {
    let etcd = EmbeddedEtcd::start();
    println!("{}", etcd.listen("127.0.0.1:0").await.unwrap());
    std::future::pending().await
}

/// One that serves. It is killed when this is dropped.
pub(crate) struct Served {
    process: Process,
    endpoint: String,
}

impl Served {
    pub(crate) async fn start() -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("--serve");
        let mut process = Process::spawn(command);
        let limit = Duration::from_secs(30);
        let endpoint = process.wait_for_line(limit, |_| true).await;
        Self { process, endpoint }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns a client with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect([&self.endpoint], None).await.unwrap()
    }

    /// Returns how many bytes of memory it has, where the system tells: on Linux.
    pub(crate) fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes << 10)
    }
}
