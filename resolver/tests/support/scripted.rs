//! Greeters that answer as they are told, one call after another.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use switchboard_proto::{
    HelloReply, HelloRequest, HellosRequest,
    greeter_server::{Greeter, GreeterServer},
};
use switchboard_resolver::{Channel, ChannelBuilder};
use tokio::time::Instant;
use tokio_stream::{Empty, StreamExt};
use tonic::{
    Code, Request, Response, Status, Streaming, async_trait,
    metadata::{AsciiMetadataKey, MetadataMap},
};

use super::{Network, until_ready};

/// What servers answer, and what they have seen; servers that have it in common take turns at it.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
}

/// What a call is answered. One that nothing is left for succeeds.
#[derive(Clone)]
pub enum Answer {
    Success,
    Failure(Status),
    /// None at all.
    Silence,
}

/// A call that has come.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    /// The server's address.
    pub by: String,
    /// How many attempts there were before, as the request says.
    pub before: Option<String>,
    /// How long it may take, as the request says.
    pub timeout: Option<String>,
}

impl Script {
    /// Starts a greeter at the address that answers so.
    pub fn serve(&self, network: &Network, address: &str) {
        let scripted = Scripted {
            script: self.clone(),
            address: address.to_owned(),
        };
        network.serve_as(address, GreeterServer::new(scripted));
    }

    /// Adds what the next calls are answered.
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lines().answers.extend(answers);
    }

    /// Returns the calls that came since this was asked last.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.lines().seen)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().expect("no panic in between")
    }
}

/// Greeters that answer as one script says, and a channel to them.
pub async fn scripted(
    addresses: &[&str],
    configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Network, Script, Channel) {
    let (network, script) = (Network::new(), Script::default());
    for address in addresses {
        script.serve(&network, address);
    }
    let builder = Channel::balance(addresses.iter().copied()).expect("addresses");
    let builder = builder.name("greeter").connector(network.connector());
    let channel = configure(builder).connect_lazy().expect("a channel");
    until_ready(&channel, addresses).await;
    (network, script, channel)
}

/// A failure with this code, and the code's name as its message.
pub fn failure(code: Code) -> Answer {
    Answer::Failure(Status::new(code, format!("{code:?}")))
}

/// The same, with a header beside the status.
pub fn failure_with(code: Code, name: &'static str, value: &str) -> Answer {
    let mut metadata = MetadataMap::new();
    let name = AsciiMetadataKey::from_static(name);
    metadata.insert(name, value.parse().expect("a value"));
    Answer::Failure(Status::with_metadata(code, format!("{code:?}"), metadata))
}

struct Scripted {
    script: Script,
    address: String,
}

impl Scripted {
    async fn answer(&self, metadata: &MetadataMap) -> Result<Response<HelloReply>, Status> {
        let value = |name| Some(metadata.get(name)?.to_str().expect("text").to_owned());
        let seen = Seen {
            at: Instant::now(),
            by: self.address.clone(),
            before: value("grpc-previous-rpc-attempts"),
            timeout: value("grpc-timeout"),
        };
        let answer = {
            let mut lines = self.script.lines();
            lines.seen.push(seen);
            lines.answers.pop_front()
        };
        match answer {
            None | Some(Answer::Success) => Ok(Response::new(HelloReply {
                served_by: self.address.clone(),
                ..HelloReply::default()
            })),
            Some(Answer::Failure(status)) => Err(status),
            Some(Answer::Silence) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Greeter for Scripted {
    type SayHellosStream = Empty<Result<HelloReply, Status>>;
    type ChatStream = Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, call: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        self.answer(call.metadata()).await
    }

    async fn say_hellos(
        &self,
        call: Request<HellosRequest>,
    ) -> Result<Response<Self::SayHellosStream>, Status> {
        self.answer(call.metadata()).await?;
        Ok(Response::new(tokio_stream::empty()))
    }

    async fn greet_all(
        &self,
        call: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        let (metadata, _, mut names) = call.into_parts();
        // Answered before its request is over, if that is.
        let _ = names.next().await;
        self.answer(&metadata).await
    }

    async fn chat(
        &self,
        call: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        self.answer(call.metadata()).await?;
        Ok(Response::new(tokio_stream::empty()))
    }
}
