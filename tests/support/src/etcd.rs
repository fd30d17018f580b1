//! A real etcd server.

use std::{fs::File, net::Ipv4Addr, path::PathBuf, time::Duration};

use etcd_client::{Client, ConnectOptions};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    child::{Child, tail},
    etcd_binary::EtcdBinary,
    ports::Ports,
};

/// A real etcd server with one member, on loopback, in a temporary folder. It is killed when this
/// is dropped.
///
/// ```no_run
/// # use switchboard_test_support::Etcd;
/// # async fn example() {
/// let mut etcd = Etcd::start().await;
/// let mut client = etcd.client().await;
/// client.put("key", "value", None).await.unwrap();
/// etcd.kill().await;
/// etcd.restart().await;
/// assert_eq!(client.get("key", None).await.unwrap().count(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct Etcd {
    binary: &'static EtcdBinary,
    flags: Vec<String>,
    endpoint: String,
    ports: Ports,
    folder: TempDir,
    child: Child,
}

/// Between the start of a server and its answer that it is well: a second, or several where the
/// machine is busy.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Etcd {
    /// Starts a server with etcd's default settings, and waits until it is healthy.
    ///
    /// # Panics
    ///
    /// If there is no etcd and none can be had, with what to install or set; if it does not become
    /// healthy, with the end of its log.
    pub async fn start() -> Self {
        Self::start_with([]).await
    }

    /// Starts a server with further flags, such as `--auth-token-ttl=4`; see
    /// [`start`](Self::start).
    pub async fn start_with(flags: impl IntoIterator<Item = &str>) -> Self {
        let binary = EtcdBinary::find().await;
        let flags: Vec<_> = flags.into_iter().map(str::to_owned).collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let ports = Ports::take();
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut etcd = Self {
                child: launch(binary, &flags, &ports, &folder),
                endpoint: format!("{}:{}", Ipv4Addr::LOCALHOST, ports.client),
                flags: flags.clone(),
                binary,
                ports,
                folder,
            };
            match etcd.health().await {
                Ok(()) => return etcd,
                Err(Failure::PortTaken) if attempts < 5 => {}
                Err(failure) => etcd.fail(failure),
            }
        }
    }

    /// Returns where clients connect, as `127.0.0.1:port`. It stays the same over restarts.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns a new client with a connection of its own, which gives up on a call after 2 s, and
    /// on a connection that shows no life within 9 s.
    ///
    /// # Panics
    ///
    /// If etcd-client refuses the endpoint. An etcd that is down is noticed by the first call.
    pub async fn client(&self) -> Client {
        let options = ConnectOptions::new()
            .with_timeout(Duration::from_secs(2))
            .with_connect_timeout(Duration::from_secs(1))
            // etcd closes connections that ping more often than every 5 s, or without a call in
            // flight.
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
            .with_keep_alive_while_idle(false);
        Client::connect([&self.endpoint], Some(options))
            .await
            .expect("a client connects lazily")
    }

    /// Kills the server, as a crash would, and waits until it is gone. What it had acknowledged is
    /// in its data folder.
    pub async fn kill(&mut self) {
        self.child.kill();
    }

    /// Stops the server where it stands: its connections stay open, and nothing answers.
    /// [`thaw`](Self::thaw) wakes it.
    ///
    /// # Panics
    ///
    /// If the server has been killed.
    pub fn freeze(&mut self) {
        self.child.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    ///
    /// # Panics
    ///
    /// If the server has been killed.
    pub fn thaw(&mut self) {
        self.child.signal(Signal::CONT);
    }

    /// Starts the server again, with the same data on the same ports, and waits until it is
    /// healthy. One that still runs is killed first.
    ///
    /// # Panics
    ///
    /// If it does not become healthy, with the end of its log.
    pub async fn restart(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            self.child.kill();
            self.child = launch(self.binary, &self.flags, &self.ports, &self.folder);
            match self.health().await {
                Ok(()) => return,
                // By somebody's outgoing connection, which passes.
                Err(Failure::PortTaken) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(failure) => self.fail(failure),
            }
        }
    }

    /// Starts the server again on the same ports, with nothing in it; see
    /// [`restart`](Self::restart).
    ///
    /// # Panics
    ///
    /// If it does not become healthy, with the end of its log.
    pub async fn wipe_and_restart(&mut self) {
        self.child.kill();
        std::fs::remove_dir_all(data(&self.folder)).expect("the data folder can be removed");
        self.restart().await;
    }

    /// Waits until the server says that it is healthy: it has a leader, and can commit. It accepts
    /// connections earlier.
    ///
    /// # Panics
    ///
    /// If it ends, or does not become healthy within a minute, with the end of its log.
    pub async fn healthy(&mut self) {
        if let Err(failure) = self.health().await {
            self.fail(failure);
        }
    }

    async fn health(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.child.ended() {
                return Err(if self.log().contains("address already in use") {
                    Failure::PortTaken
                } else {
                    Failure::Ended(status.to_string())
                });
            }
            if is_healthy(self.ports.client).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::TimedOut);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn fail(&self, failure: Failure) -> ! {
        let what = match failure {
            Failure::PortTaken => "finds its port taken".to_owned(),
            Failure::Ended(status) => format!("ended with {status}"),
            Failure::TimedOut => format!("is not healthy after {START_LIMIT:?}"),
        };
        panic!(
            "{} {what}; its log ends:\n{}",
            self.binary.path().display(),
            self.log()
        )
    }

    fn log(&self) -> String {
        tail(&log(&self.folder))
    }
}

/// Why a server did not become healthy.
enum Failure {
    PortTaken,
    Ended(String),
    TimedOut,
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

fn launch(binary: &EtcdBinary, flags: &[String], ports: &Ports, folder: &TempDir) -> Child {
    let output = File::create(log(folder)).expect("a log file can be made");
    let client = format!("http://{}:{}", Ipv4Addr::LOCALHOST, ports.client);
    let peer = format!("http://{}:{}", Ipv4Addr::LOCALHOST, ports.peer);

    let mut command = binary.command();
    command
        .args(["--name", "alone"])
        .arg("--data-dir")
        .arg(data(folder));
    command.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    command.args(["--initial-cluster", &format!("alone={peer}")]);
    if binary.can_skip_fsync() {
        // A killed process loses nothing that it wrote; only a machine that loses power does.
        command.arg("--unsafe-no-fsync");
    }
    command.args(flags);
    command.stdout(output.try_clone().expect("a file can be shared"));
    Child::spawn(command.stderr(output))
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", binary.path().display()))
}

/// Asks for `/health` once; no answer within a second is a no.
async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match timeout(Duration::from_secs(1), ask).await {
        Ok(Ok(answer)) => answer.replace(' ', "").contains(r#""health":"true""#),
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;

    async fn holds(etcd: &Etcd, key: &str) -> bool {
        let mut client = etcd.client().await;
        client.get(key, None).await.unwrap().count() == 1
    }

    #[tokio::test]
    async fn a_put_survives_a_kill_and_not_a_wipe() {
        let mut etcd = Etcd::start().await;
        let endpoint = etcd.endpoint().to_owned();
        let mut client = etcd.client().await;
        client.put("key", "value", None).await.unwrap();

        etcd.kill().await;
        client.get("key", None).await.unwrap_err();
        etcd.restart().await;
        assert!(holds(&etcd, "key").await);

        etcd.wipe_and_restart().await;
        assert!(!holds(&etcd, "key").await);
        assert_eq!(etcd.endpoint(), endpoint);
    }

    #[tokio::test]
    async fn a_frozen_server_answers_nothing_until_it_is_thawed() {
        let mut etcd = Etcd::start().await;
        let mut client = etcd.client().await;
        client.put("key", "value", None).await.unwrap();

        etcd.freeze();
        client.get("key", None).await.unwrap_err();
        etcd.thaw();
        etcd.healthy().await;
        eventually(Duration::from_secs(10), "a call succeeds", async || {
            client.get("key", None).await
        })
        .await;
    }

    #[tokio::test]
    async fn two_servers_know_nothing_of_each_other() {
        let (one, two) = tokio::join!(Etcd::start(), Etcd::start());
        let mut client = one.client().await;
        client.put("key", "value", None).await.unwrap();
        assert!(holds(&one, "key").await && !holds(&two, "key").await);
    }

    #[tokio::test]
    #[should_panic(expected = "its log ends:")]
    async fn a_server_that_does_not_start_shows_its_log() {
        Etcd::start_with(["--no-such-flag"]).await;
    }
}
