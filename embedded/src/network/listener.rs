//! Where connections to an address arrive.

use std::{
    io::Result,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use tokio::sync::mpsc;

use super::{Io, Network};

/// The connections made to an address: a stream that does not end, as tonic's server takes it.
///
/// Dropped, the address is free and connections to it are refused. Those accepted before stand;
/// those that nobody accepted are closed.
///
/// # Examples
///
/// ```
/// use switchboard_embedded::Network;
/// use tonic::transport::Server;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = Network::new();
/// let listener = network.listen("greeter-1:50051")?;
/// assert_eq!(listener.address(), "greeter-1:50051");
///
/// let (_reporter, health) = tonic_health::server::health_reporter();
/// let serving = Server::builder().add_service(health).serve_with_incoming(listener);
/// let address = http::Uri::from_static("http://greeter-1:50051");
/// tokio::select! {
///     ended = serving => ended?,
///     dialed = network.connector("client")(address) => drop(dialed?),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    network: Network,
    address: String,
    incoming: mpsc::UnboundedReceiver<Io>,
}

impl Listener {
    pub(super) fn new(
        network: Network,
        address: String,
        incoming: mpsc::UnboundedReceiver<Io>,
    ) -> Self {
        Self {
            network,
            address,
            incoming,
        }
    }

    /// Returns the address it was made with.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Stream for Listener {
    type Item = Result<Io>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Io>>> {
        self.incoming.poll_recv(cx).map(|io| io.map(Ok))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It ends once the network is not locked any more: that wakes who waits for it.
        let removed = self.network.state().listeners.remove(&self.address);
        drop(removed);
    }
}
