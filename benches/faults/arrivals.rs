//! Calls that start on a schedule, whatever became of those before.

use std::time::Duration;

use switchboard_proto::HelloRequest;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::variant::Client;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// When a call that its client does not end is ended for it: some wait for ever for a connection,
/// whatever the deadline.
const GIVE_UP: Duration = Duration::from_millis(2_200);

/// One that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// When it was to start, from the first one on. A machine that is late with it is not excused.
    pub(crate) started: Duration,
    pub(crate) took: Duration,
    pub(crate) succeeded: bool,
}

/// Calls under way.
pub(crate) struct Arrivals {
    begin: Instant,
    calls: JoinSet<Vec<Call>>,
}

impl Arrivals {
    /// Starts so many calls a second, for so long.
    pub(crate) fn start(client: Client, rate: u32, time: Duration) -> Self {
        let begin = Instant::now();
        let mut calls = JoinSet::new();
        calls.spawn(arrive(client, begin, rate, time));
        Self { begin, calls }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Returns all calls, once they have ended.
    pub(crate) async fn all(self) -> Vec<Call> {
        self.calls.join_all().await.into_iter().flatten().collect()
    }
}

async fn arrive(client: Client, begin: Instant, rate: u32, time: Duration) -> Vec<Call> {
    let mut calls = JoinSet::new();
    let count = (time.as_secs_f64() * f64::from(rate)) as u32;
    for number in 0..count {
        let at = begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
        // A timer is no finer than a millisecond: those that are due start together.
        if at > Instant::now() {
            sleep_until(at).await;
        }
        let mut client = client.clone();
        calls.spawn(async move {
            let mut request = tonic::Request::new(HelloRequest {
                name: "x".repeat(16),
            });
            request.set_timeout(DEADLINE);
            let ended = timeout(GIVE_UP, client.try_call(request)).await;
            Call {
                started: at - begin,
                took: at.elapsed(),
                succeeded: matches!(ended, Ok(Ok(()))),
            }
        });
    }
    calls.join_all().await
}
