//! A greeter as its parent holds it: its place, and the process that is there, which is this program
//! again, as `greeter serve`.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::AsyncReadExt,
    net::TcpSocket,
    process::{Child, Command},
};

/// One of the servers: its place, and the process that is there, if any.
pub(crate) struct Place {
    address: SocketAddr,
    /// Bound, and never listened on, so that nobody else is given the port while the server is
    /// away.
    _held: TcpSocket,
    etcd: SocketAddr,
    child: Option<Child>,
}

impl Place {
    /// Takes a free port.
    pub(crate) fn take(etcd: SocketAddr) -> io::Result<Self> {
        let held = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self {
            address: held.local_addr()?,
            _held: held,
            etcd,
            child: None,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the server.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let executable = std::env::current_exe()?;
        let mut command = Command::new(executable);
        command.args(["serve", "--etcd", &self.etcd.to_string()]);
        command.args(["--listen", &self.address.to_string()]);
        // Ctrl-C is for its parent, which ends it.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        let child = command.spawn().context("cannot start a server")?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether its process runs.
    pub(crate) fn runs(&mut self) -> io::Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Asks the server to end.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills the server, as a crash would.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Kills what runs, waits until it is gone, and returns what it said of its end.
    pub(crate) async fn end(mut self) -> io::Result<String> {
        let mut said = String::new();
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
            if let Some(mut stderr) = child.stderr.take() {
                stderr.read_to_string(&mut said).await?;
            }
        }
        Ok(said)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // None if it was waited for: its number may be another's.
        let id = self.child.as_ref().and_then(Child::id);
        match id.and_then(|id| Pid::from_raw(id as i32)) {
            Some(pid) => Ok(kill_process(pid, signal)?),
            None => Ok(()),
        }
    }
}

/// Binds a port that another process of this user has bound too.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    // The connections of a predecessor that was killed do not keep it from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
