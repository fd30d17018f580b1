//! What there is on this machine: the performer of [`advertise`](super).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use switchboard_resolver::Address;
use tokio::net::{UdpSocket, lookup_host};

/// The addresses that this machine has.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// From which etcd is reached, by endpoint.
    pub(super) routes: Vec<IpAddr>,
    /// Of the network interfaces that are up.
    pub(super) interfaces: Vec<IpAddr>,
}

/// How long a name may take to resolve. A server that starts while its DNS is away waits so long,
/// and then goes by its interfaces.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

impl Machine {
    /// Looks. What cannot be found out is left out, and logged.
    pub(crate) async fn look(etcd: &[Address]) -> Self {
        let routes = join_all(etcd.iter().map(route)).await;
        Self {
            routes: routes.into_iter().flatten().collect(),
            interfaces: interfaces(),
        }
    }
}

/// Returns the address from which `endpoint` is reached.
async fn route(endpoint: &Address) -> Option<IpAddr> {
    let resolved = lookup_host((endpoint.host(), endpoint.port()?));
    let found = match tokio::time::timeout(RESOLVE_TIMEOUT, resolved).await {
        Ok(Ok(addresses)) => local(addresses).await,
        Ok(Err(cause)) => Err(cause),
        Err(elapsed) => Err(elapsed.into()),
    };
    match found {
        Ok(ip) => Some(ip),
        Err(cause) => {
            tracing::debug!(name: "no_route", %endpoint, %cause, "no local address known");
            None
        }
    }
}

/// Connects a UDP socket, which sends nothing: the kernel only chooses the address to send from.
async fn local(remotes: impl Iterator<Item = SocketAddr>) -> io::Result<IpAddr> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for remote in remotes {
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let connected = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(remote).await?;
            socket.local_addr()
        };
        match connected.await {
            Ok(local) => return Ok(local.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn interfaces() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => {
            let up = interfaces
                .into_iter()
                .filter(if_addrs::Interface::is_oper_up);
            up.map(|interface| interface.ip()).collect()
        }
        Err(cause) => {
            tracing::warn!(name: "no_interfaces", %cause, "cannot list the network interfaces");
            Vec::new()
        }
    }
}
