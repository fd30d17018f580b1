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
    binary::{Binary, Program},
    child::{Child, tail},
    ports::Ports,
    root::Root,
    version::version,
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
    binary: &'static Binary,
    flags: Vec<String>,
    certificates: Option<EtcdCertificates>,
    endpoint: String,
    ports: Ports,
    folder: TempDir,
    child: Child,
}

/// The files that an etcd with TLS reads. etcd reads its certificate at each handshake, and its
/// clients' CA when it starts.
#[derive(Debug, Clone)]
pub struct EtcdCertificates {
    /// Its own certificate.
    pub certificate: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// The CA whose certificates its clients must have.
    pub client_ca: PathBuf,
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
        Self::launch_with(flags, None).await
    }

    /// Starts a server that speaks TLS at its [`endpoint`](Self::endpoint), with those who have a
    /// certificate; see [`start`](Self::start). This one's own [`client`](Self::client) is let in
    /// without, elsewhere.
    pub async fn start_secured(certificates: EtcdCertificates) -> Self {
        Self::launch_with([], Some(certificates)).await
    }

    async fn launch_with(
        flags: impl IntoIterator<Item = &str>,
        certificates: Option<EtcdCertificates>,
    ) -> Self {
        let binary = Binary::find(Program::Etcd).await;
        let binary = binary.unwrap_or_else(|error| panic!("{error}"));
        let flags: Vec<_> = flags.into_iter().map(str::to_owned).collect();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let ports = Ports::take();
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut etcd = Self {
                child: launch(binary, &flags, certificates.as_ref(), &ports, &folder),
                endpoint: match certificates {
                    Some(_) => format!("{}:{}", Ipv4Addr::LOCALHOST, ports.secured),
                    None => format!("{}:{}", Ipv4Addr::LOCALHOST, ports.client),
                },
                certificates: certificates.clone(),
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
        Client::connect([self.plain()], Some(options()))
            .await
            .expect("a client connects lazily")
    }

    /// Adds the user who may do everything; see [`Root`].
    ///
    /// # Panics
    ///
    /// If there is one already, or etcd demands a user.
    pub async fn root(&self) -> Root {
        Root::add(self.client().await, &self.plain(), options()).await
    }

    /// Where it serves in plain text, also if it serves others inside TLS.
    fn plain(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.ports.client)
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
            self.child = launch(
                self.binary,
                &self.flags,
                self.certificates.as_ref(),
                &self.ports,
                &self.folder,
            );
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

    /// Returns what the server counts, in Prometheus' text format.
    ///
    /// # Panics
    ///
    /// If the server does not answer within a second.
    pub async fn metrics(&self) -> String {
        let answer = ask(self.ports.client, "/metrics").await;
        answer.expect("etcd tells its metrics")
    }

    /// Returns the sum of a metric over its series: those that carry all of `labels`, such as
    /// `grpc_method="Range"`. It is 0 as long as there is none.
    ///
    /// # Panics
    ///
    /// As [`metrics`](Self::metrics).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
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

fn launch(
    binary: &Binary,
    flags: &[String],
    certificates: Option<&EtcdCertificates>,
    ports: &Ports,
    folder: &TempDir,
) -> Child {
    let output = File::create(log(folder)).expect("a log file can be made");
    let mut client = format!("http://{}:{}", Ipv4Addr::LOCALHOST, ports.client);
    if certificates.is_some() {
        client += &format!(",https://{}:{}", Ipv4Addr::LOCALHOST, ports.secured);
    }
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
    // Older ones do not know the flag, and refuse it.
    if binary.version() >= version(3, 4, 23) {
        // A killed process loses nothing that it wrote; only a machine that loses power does.
        command.arg("--unsafe-no-fsync");
    }
    if let Some(files) = certificates {
        command.arg("--cert-file").arg(&files.certificate);
        command.arg("--key-file").arg(&files.key);
        command.arg("--trusted-ca-file").arg(&files.client_ca);
        command.arg("--client-cert-auth");
    }
    command.args(flags);
    command.stdout(output.try_clone().expect("a file can be shared"));
    Child::spawn(command.stderr(output))
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", binary.path().display()))
}

async fn is_healthy(port: u16) -> bool {
    let answer = ask(port, "/health").await;
    answer.is_ok_and(|answer| answer.replace(' ', "").contains(r#""health":"true""#))
}

/// Asks for `path` once; no answer within a second is an error.
async fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let answer = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        // Of HTTP 1.0, so that the answer comes in one piece.
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(Duration::from_secs(1), answer).await?
}

fn options() -> ConnectOptions {
    ConnectOptions::new()
        .with_timeout(Duration::from_secs(2))
        .with_connect_timeout(Duration::from_secs(1))
        // etcd closes connections that ping more often than every 5 s, or without a call in
        // flight.
        .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
        .with_keep_alive_while_idle(false)
}

/// Adds up the series of a metric that carry all of the labels.
fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (named, labelled) = series.split_once('{').unwrap_or((series, ""));
        let is_meant = named == name && labels.iter().all(|label| labelled.contains(label));
        is_meant.then(|| value.parse::<f64>().expect("a number"))
    });
    series.sum()
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

    #[test]
    fn a_metric_is_summed_over_the_series_that_are_meant() {
        let metrics = "# TYPE calls counter\r\ncalls{method=\"Range\",code=\"OK\"} 3\n\
            calls{method=\"Range\",code=\"Unknown\"} 1e+00\ncalls{method=\"Put\"} 7\n\
            calls_total 9\nwatchers 2\n";
        assert_eq!(sum(metrics, "calls", &["method=\"Range\""]), 4.0);
        assert_eq!(
            sum(metrics, "calls", &["method=\"Range\"", "code=\"OK\""]),
            3.0
        );
        assert_eq!(sum(metrics, "watchers", &[]), 2.0);
        assert_eq!(sum(metrics, "leases", &[]), 0.0);
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
