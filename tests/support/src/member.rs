//! One member of an etcd: its process, its ports and its folder.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    binary::Binary,
    child::{Child, tail},
    ports::Ports,
    version::version,
};

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
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// What members are started with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) binary: &'static Binary,
    pub(crate) flags: Vec<String>,
    pub(crate) certificates: Option<EtcdCertificates>,
}

/// Who the members of an etcd are, as one of them is told.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    /// As `one=http://127.0.0.1:1,two=http://127.0.0.1:2`.
    pub(crate) members: String,
    /// Whether it joins members that are there.
    pub(crate) is_joined: bool,
}

/// One member of an etcd, on loopback, in a temporary folder. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    settings: Settings,
    ports: Ports,
    /// Where the others reach it, if that is not its own port.
    peer: Option<String>,
    folder: TempDir,
    child: Option<Child>,
}

/// Why a member did not become healthy.
#[derive(Debug)]
pub(crate) enum Failure {
    PortTaken,
    Ended(String),
    TimedOut,
}

impl Member {
    /// Makes one that does not run yet.
    pub(crate) fn new(name: String, settings: Settings) -> Self {
        Self {
            name,
            settings,
            ports: Ports::take(),
            peer: None,
            folder: tempfile::tempdir().expect("a temporary folder"),
            child: None,
        }
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Has the others reach it there.
    pub(crate) fn set_peer(&mut self, address: String) {
        self.peer = Some(format!("http://{address}"));
    }

    /// Returns where the others reach it.
    pub(crate) fn peer(&self) -> String {
        let own = || format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.ports.peer);
        self.peer.clone().unwrap_or_else(own)
    }

    /// Returns who the members are, if this is one of `all`.
    pub(crate) fn named(&self) -> String {
        format!("{}={}", self.name, self.peer())
    }

    /// Where it serves in plain text, also if it serves others inside TLS.
    pub(crate) fn plain(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.ports.client)
    }

    /// Returns the port for clients: the one inside TLS if there is one.
    pub(crate) fn served(&self) -> u16 {
        match self.settings.certificates {
            Some(_) => self.ports.secured,
            None => self.ports.client,
        }
    }

    /// Returns a new client with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect([self.plain()], Some(options()))
            .await
            .expect("a client connects lazily")
    }

    /// Starts it, on the data that it has. One that still runs is killed first.
    pub(crate) fn launch(&mut self, membership: &Membership) {
        self.kill();
        self.child = Some(self.spawn(membership));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let child = self.child.as_mut().expect("it has not been killed");
        child.signal(signal);
    }

    /// Takes all its data away. If it runs, it is killed first.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("the data folder can be removed");
    }

    /// Returns a copy of its data. If it runs, it is killed first.
    pub(crate) fn back_up(&mut self) -> TempDir {
        self.kill();
        let backup = tempfile::tempdir().expect("a temporary folder");
        copy(&self.data(), backup.path()).expect("the data can be copied");
        backup
    }

    /// Takes its data away, and puts a copy of a backup there. If it runs, it is killed first.
    pub(crate) fn restore(&mut self, backup: &Path) {
        self.wipe();
        std::fs::create_dir(self.data()).expect("a folder can be made");
        copy(backup, &self.data()).expect("the backup can be copied");
    }

    /// Waits until it says that it is healthy: it has a leader, and can commit. It accepts
    /// connections earlier.
    pub(crate) async fn health(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let ended = self.child.as_mut().expect("it runs").ended();
            if let Some(status) = ended {
                return Err(if self.log().contains("address already in use") {
                    Failure::PortTaken
                } else {
                    Failure::Ended(status.to_string())
                });
            }
            let answer = self.ask("/health").await;
            let is_healthy =
                |answer: String| answer.replace(' ', "").contains(r#""health":"true""#);
            if answer.is_ok_and(is_healthy) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::TimedOut);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it again on the same ports, and waits until it is healthy.
    pub(crate) async fn restart(&mut self, membership: &Membership) {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            self.launch(membership);
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

    pub(crate) fn fail(&self, failure: Failure) -> ! {
        let what = match failure {
            Failure::PortTaken => "finds its port taken".to_owned(),
            Failure::Ended(status) => format!("ended with {status}"),
            Failure::TimedOut => format!("is not healthy after {START_LIMIT:?}"),
        };
        panic!(
            "{} {what}; its log ends:\n{}",
            self.settings.binary.path().display(),
            self.log()
        )
    }

    /// Asks for `path` once; no answer within a second is an error.
    pub(crate) async fn ask(&self, path: &str) -> io::Result<String> {
        let answer = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.client)).await?;
            // Of HTTP 1.0, so that the answer comes in one piece.
            let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        timeout(Duration::from_secs(1), answer).await?
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        tail(&self.folder.path().join("log"))
    }

    fn spawn(&self, membership: &Membership) -> Child {
        let Settings {
            binary,
            flags,
            certificates,
        } = &self.settings;
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log file can be made");
        let local = |port| format!("{}:{port}", Ipv4Addr::LOCALHOST);
        let mut client = format!("http://{}", self.plain());
        if certificates.is_some() {
            client += &format!(",https://{}", local(self.ports.secured));
        }
        let state = if membership.is_joined {
            "existing"
        } else {
            "new"
        };

        let mut command = binary.command();
        command.args(["--name", &self.name]);
        command.arg("--data-dir").arg(self.data());
        command.args(["--listen-client-urls", &client]);
        command.args(["--advertise-client-urls", &client]);
        command.args([
            "--listen-peer-urls",
            &format!("http://{}", local(self.ports.peer)),
        ]);
        command.args(["--initial-advertise-peer-urls", &self.peer()]);
        command.args(["--initial-cluster", &membership.members]);
        command.args(["--initial-cluster-state", state]);
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
        Child::spawn(command.stderr(output)).unwrap_or_else(|error| {
            panic!("{} cannot be started: {error}", binary.path().display())
        })
    }
}

/// Copies all that is in one folder into another, which is there.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&to)?;
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// What clients are set up with: they give up on a call after 2 s, and on a connection that shows no
/// life within 9 s.
pub(crate) fn options() -> ConnectOptions {
    ConnectOptions::new()
        .with_timeout(Duration::from_secs(2))
        .with_connect_timeout(Duration::from_secs(1))
        // etcd closes connections that ping more often than every 5 s, or without a call in
        // flight.
        .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
        .with_keep_alive_while_idle(false)
}
