//! A greeter, as a process of its own: what `greeter serve` does.
//!
//! It ends when its standard input does: whatever becomes of its parent, it is not left over.

use std::{io, net::SocketAddr, thread, time::Duration};

use anyhow::Context;
use clap::Args;
use switchboard::{Drain, Instance, Registry};
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tonic::transport::Server;

use crate::place::bind;

/// The name that the greeters are published under.
pub(crate) const NAME: &str = "greeter";

/// How long a crashed server's record stays: as short as a busy machine allows, so that one need
/// not wait for it.
const TTL: Duration = Duration::from_secs(3);

/// How long a server that is asked to end goes on serving; all its callers are on this machine.
const LINGER: Duration = Duration::from_secs(2);

/// Serves one greeter.
#[derive(Args)]
pub(crate) struct Serve {
    #[arg(long)]
    etcd: SocketAddr,
    #[arg(long)]
    listen: SocketAddr,
}

impl Serve {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        thread::spawn(end_with_stdin);
        let listener = bind(self.listen).and_then(|socket| socket.listen(128));
        let listener = listener.with_context(|| format!("cannot listen on {}", self.listen))?;
        let registry = Registry::builder(self.etcd.to_string())?.ttl(TTL);
        let registry = registry.connect_lazy()?;
        let instance = Instance::new(NAME, self.listen.to_string())?;
        let greeter = GreeterServer::new(Polite {
            address: self.listen.to_string(),
        });
        let drain = Drain {
            linger: LINGER,
            ..Drain::default()
        };
        let serve = registry.serve(instance, Server::builder().add_service(greeter), listener);
        let serve = serve.drain(drain);
        serve
            .with_graceful_shutdown(switchboard::terminate())
            .await?;
        Ok(())
    }
}

/// Ends this process when its parent is gone.
fn end_with_stdin() {
    // Nothing is ever written there; an error is an end too.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    std::process::exit(1);
}
