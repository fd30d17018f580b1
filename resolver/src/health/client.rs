//! Calls of the health service over one connection: no picking, no repeating, no deadline.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::{Status, body::Body, codec::Streaming};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tower_service::Service;

use crate::{
    CallError, Endpoint, ResponseBody,
    ending::Ending,
    request_body::RequestBody,
    request_head::RequestHead,
    service_config::Methods,
    transport::{Reservation, Transport},
};

/// How large an answer may be. It has two bytes; one that makes up a large one is not to be given the
/// memory.
const LARGEST_ANSWER: usize = 4096;

/// The answers of one watch, which is opened when the first one is asked for. Dropping it resets the
/// stream.
pub(super) struct Answers {
    client: HealthClient<Stream>,
    service: Arc<str>,
    answers: Option<Streaming<HealthCheckResponse>>,
}

impl Answers {
    pub(super) fn new(
        endpoint: Endpoint,
        transport: Transport,
        reservation: Arc<Reservation>,
        service: Arc<str>,
    ) -> Self {
        let stream = Stream {
            endpoint,
            transport,
            reservation,
        };
        Self {
            client: HealthClient::new(stream).max_decoding_message_size(LARGEST_ANSWER),
            service,
            answers: None,
        }
    }

    /// Waits for the next answer; `None` if the server has ended them. To be dropped if the first one
    /// is not waited for.
    ///
    /// # Errors
    ///
    /// What the stream broke with, or could not be opened with.
    pub(super) async fn next(&mut self) -> Result<Option<i32>, Status> {
        let answers = match &mut self.answers {
            Some(answers) => answers,
            none => {
                let service = self.service.to_string();
                let answers = self.client.watch(HealthCheckRequest { service }).await?;
                none.insert(answers.into_inner())
            }
        };
        Ok(answers.message().await?.map(|it| it.status))
    }
}

/// Sends requests over one connection, one at a time.
struct Stream {
    endpoint: Endpoint,
    transport: Transport,
    reservation: Arc<Reservation>,
}

impl Service<Request<Body>> for Stream {
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let mut head = RequestHead::new(head, None, &Methods::default());
        let mut body = RequestBody::new(body);
        let (endpoint, transport) = (self.endpoint.clone(), self.transport.clone());
        let slot = self.reservation.slot();
        Box::pin(async move {
            let read = body.read_ahead().await;
            read.map_err(|error| CallError::body(&None, error))?;
            let now = Instant::now().into_std();
            let request = head.request(&transport, now);
            let failed = |failure| CallError::failed(&None, &endpoint, failure);
            let exchange = transport.send(request, &mut body, slot, now);
            let mut exchange = exchange.map_err(failed)?;
            let response = poll_fn(|cx| exchange.poll_headers(cx)).await;
            let response = response.map_err(failed)?;
            let call = exchange.into_call();
            // Nobody counts it: it is no call of anybody's.
            let ending = Ending::default();
            Ok(response.map(|stream| {
                ResponseBody::new(stream, call, head.deadline, None, endpoint, ending)
            }))
        })
    }
}
