//! An address that answers no attempt to connect.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

/// More than the queue of a listener that is asked for the shortest has room for.
const ATTEMPTS: usize = 4;

/// A listener that accepts nothing and whose queue is full, so that the system drops what else
/// arrives.
pub(crate) struct BlackHole {
    _listener: TcpListener,
    /// Those that fill the queue, and those that found it full.
    _attempts: JoinSet<Option<TcpStream>>,
}

impl BlackHole {
    pub(crate) fn at(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // Connections of the server that was here still fade away.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(0).unwrap();
        let mut attempts = JoinSet::new();
        for _ in 0..ATTEMPTS {
            attempts.spawn(async move { TcpStream::connect(address).await.ok() });
        }
        Self {
            _listener: listener,
            _attempts: attempts,
        }
    }
}
