//! A client, ours or theirs.

use switchboard::{Channel, ChannelBuilder};
use switchboard_proto::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use switchboard_test_support::{Process, eventually};
use tokio::time::timeout;

use super::DEADLINE;
use crate::go::LIMIT;

/// A client that makes one call after the other.
pub(crate) enum Client {
    Ours(GreeterClient<Channel>),
    Theirs(Process),
}

impl Client {
    /// Dials with what was set.
    pub(crate) fn ours(channel: ChannelBuilder) -> Self {
        let channel = channel.timeout(DEADLINE).connect_lazy().unwrap();
        Self::Ours(GreeterClient::new(channel))
    }

    pub(crate) fn theirs(process: Process) -> Self {
        Self::Theirs(process)
    }

    /// Makes one call; what failed says how.
    pub(crate) async fn greet(&mut self, name: &str) -> Result<HelloReply, String> {
        let name = name.to_owned();
        match self {
            Self::Ours(client) => match client.say_hello(HelloRequest { name }).await {
                Ok(reply) => Ok(reply.into_inner()),
                Err(status) => Err(format!("{:?} {}", status.code(), status.message())),
            },
            Self::Theirs(process) => {
                process.write_line(&name);
                let is_outcome =
                    |line: &str| line.starts_with("answered ") || line.starts_with("failed ");
                let line = process.wait_for_line(LIMIT, is_outcome).await;
                if let Some(failure) = line.strip_prefix("failed ") {
                    return Err(failure.to_owned());
                }
                let words: Vec<_> = line.splitn(3, ' ').collect();
                Ok(HelloReply {
                    message: words[2].to_owned(),
                    served_by: words[1].to_owned(),
                })
            }
        }
    }

    /// Calls until each of these servers has answered.
    pub(crate) async fn reach_all(&mut self, addresses: &[&str]) {
        for address in addresses {
            let what = format!("{address} answers");
            eventually(LIMIT, &what, async || match self.greet("you").await {
                Ok(reply) if reply.served_by == *address => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
    }

    /// Asks a server something, and returns its word.
    pub(crate) async fn ask(&mut self, what: &str) -> String {
        let reply = timeout(LIMIT, self.greet(what)).await.expect("in time");
        reply.unwrap().message
    }
}
