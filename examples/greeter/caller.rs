//! Calls the greeter by name, at a steady rate.

use std::{error::Error, sync::Arc, time::Duration};

use switchboard::{CallError, CallErrorKind, Channel};
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, Interval, MissedTickBehavior},
};
use tonic::{Request, Status};

use crate::{
    script::{Incident, SERVERS},
    tally::{Call, Failure},
};

/// Calls a second.
pub(crate) const RATE: u32 = 200;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// A caller, and its calls in flight.
pub(crate) struct Caller {
    channel: Channel,
    addresses: Arc<[String; SERVERS]>,
    ticks: Interval,
    calls: JoinSet<Call>,
}

impl Caller {
    pub(crate) fn new(channel: Channel, addresses: [String; SERVERS]) -> Self {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
        // Late calls are made up for: the rate stays, whatever calls take.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self {
            channel,
            addresses: Arc::new(addresses),
            ticks,
            calls: JoinSet::new(),
        }
    }

    /// Calls at the rate, from now on, whenever [`ended`](Self::ended) is awaited.
    pub(crate) fn begin(&mut self) {
        self.ticks.reset_immediately();
    }

    /// Begins the calls that are due, and returns the next that has ended.
    pub(crate) async fn ended(&mut self, during: Option<Incident>) -> Call {
        loop {
            tokio::select! {
                Some(call) = self.calls.join_next() => return joined(call),
                _ = self.ticks.tick() => {
                    let call = call(self.channel.clone(), self.addresses.clone(), during);
                    self.calls.spawn(call);
                }
            }
        }
    }

    /// Begins no more calls, and returns the next of those in flight that has ended.
    pub(crate) async fn next_in_flight(&mut self) -> Option<Call> {
        self.calls.join_next().await.map(joined)
    }
}

fn joined(call: Result<Call, JoinError>) -> Call {
    call.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn call(
    channel: Channel,
    addresses: Arc<[String; SERVERS]>,
    during: Option<Incident>,
) -> Call {
    let mut request = Request::new(HelloRequest {
        name: "you".to_owned(),
    });
    request.set_timeout(DEADLINE);
    let began = Instant::now();
    let answer = GreeterClient::new(channel).say_hello(request).await;
    let took = began.elapsed();
    let (address, failure) = match answer {
        Ok(reply) => (Some(reply.into_inner().served_by), None),
        Err(status) => (endpoint_of(&status), Some(failure(&status))),
    };
    Call {
        server: address.and_then(|it| addresses.iter().position(|address| *address == it)),
        began,
        took,
        during,
        failure,
    }
}

fn failure(status: &Status) -> Failure {
    let kind = call_error(status).map(CallError::kind);
    Failure {
        cause: format!("{:?}: {}", status.code(), status.message()),
        interrupted: kind == Some(CallErrorKind::Interrupted),
    }
}

/// Returns the server that a failed call was sent to, if it was sent.
fn endpoint_of(status: &Status) -> Option<String> {
    let endpoint = call_error(status)?.endpoint()?;
    Some(endpoint.addresses()[0].to_string())
}

fn call_error(status: &Status) -> Option<&CallError> {
    status.source()?.downcast_ref()
}
