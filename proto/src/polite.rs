//! A greeter that tells who it is.

use std::{pin::Pin, time::Duration};

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::{HelloReply, HelloRequest, HellosRequest, greeter_server::Greeter};

/// Greets as the server at an address. Two names are special: whoever is called `hang` is never
/// answered, and `header:<name>` is answered with that header of the request.
#[derive(Debug, Clone)]
pub struct Polite {
    /// The address, which it tells in each reply.
    pub address: String,
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Polite {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let name = &request.get_ref().name;
        if name == "hang" {
            std::future::pending::<()>().await;
        }
        if let Some(header) = name.strip_prefix("header:") {
            let value = request.metadata().get(header);
            let text = value.map_or("none", |it| it.to_str().expect("text"));
            return Ok(Response::new(self.reply(text.to_owned())));
        }
        Ok(Response::new(self.greet(name)))
    }

    type SayHellosStream = Replies;

    async fn say_hellos(
        &self,
        request: Request<HellosRequest>,
    ) -> Result<Response<Replies>, Status> {
        let request = request.into_inner();
        let reply = self.greet(&request.name);
        let replies = tokio_stream::iter((0..request.count).map(move |_| Ok(reply.clone())));
        let interval = Duration::from_millis(request.interval_ms.into());
        if interval.is_zero() {
            return Ok(Response::new(Box::pin(replies)));
        }
        Ok(Response::new(Box::pin(replies.then(
            move |reply| async move {
                tokio::time::sleep(interval).await;
                reply
            },
        ))))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        let mut names = Vec::new();
        let mut requests = request.into_inner();
        while let Some(request) = requests.next().await {
            names.push(request?.name);
        }
        Ok(Response::new(self.greet(&names.join(", "))))
    }

    type ChatStream = Replies;

    async fn chat(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let polite = self.clone();
        let replies = request
            .into_inner()
            .map(move |request| Ok(polite.greet(&request?.name)));
        Ok(Response::new(Box::pin(replies)))
    }
}

impl Polite {
    fn greet(&self, name: &str) -> HelloReply {
        self.reply(format!("Hello, {name}!"))
    }

    fn reply(&self, message: String) -> HelloReply {
        HelloReply {
            message,
            served_by: self.address.clone(),
        }
    }
}
