//! Calls in a closed loop, and what they cost.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use switchboard_proto::{HelloRequest, HellosRequest};
use tokio::task::JoinSet;

use crate::{cpu::cpu, variant::Client};

/// One that no call meets.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    /// Messages from the server, so many a call.
    ServerStreaming {
        messages: u32,
    },
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    pub(crate) in_flight: usize,
    pub(crate) bytes: usize,
    pub(crate) timeout: Option<Duration>,
}

/// What a round of it cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) calls_per_s: f64,
    pub(crate) cpu_us_per_call: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// The cases that are compared.
pub(crate) fn loads() -> impl Iterator<Item = Load> {
    let unary = |in_flight, bytes, timeout| Load {
        kind: Kind::Unary,
        in_flight,
        bytes,
        timeout,
    };
    let sizes = [16, 1024, 64 * 1024];
    let plain = sizes
        .into_iter()
        .flat_map(move |bytes| [1, 16, 128].map(|in_flight| unary(in_flight, bytes, None)));
    let with_deadline = unary(16, 16, Some(DEADLINE));
    let streaming = Load {
        kind: Kind::ServerStreaming { messages: 100 },
        in_flight: 4,
        bytes: 64 * 1024,
        timeout: None,
    };
    plain.chain([with_deadline, streaming])
}

impl Load {
    /// Returns what people call it.
    pub(crate) fn case(self) -> &'static str {
        match self.kind {
            Kind::Unary if self.timeout.is_some() => "unary with a deadline",
            Kind::Unary => "unary",
            Kind::ServerStreaming { .. } => "server streaming",
        }
    }

    /// Calls for so long, and returns what it cost.
    pub(crate) async fn run(self, client: &Client, time: Duration) -> Cost {
        let (begin, before) = (Instant::now(), cpu());
        let mut workers = JoinSet::new();
        for _ in 0..self.in_flight {
            let mut client = client.clone();
            workers.spawn(async move {
                let mut times = Histogram::<u64>::new(3).expect("digits");
                while begin.elapsed() < time {
                    let start = Instant::now();
                    self.call(&mut client).await;
                    times
                        .record(start.elapsed().as_nanos() as u64)
                        .expect("in range");
                }
                times
            });
        }
        let mut times = Histogram::<u64>::new(3).expect("digits");
        for of_one in workers.join_all().await {
            times.add(of_one).expect("of one shape");
        }
        let (took, cpu) = (begin.elapsed(), cpu() - before);
        let calls = times.len() as f64;
        Cost {
            calls_per_s: calls / took.as_secs_f64(),
            cpu_us_per_call: cpu.as_secs_f64() * 1e6 / calls,
            p50_us: times.value_at_quantile(0.5) as f64 / 1e3,
            p99_us: times.value_at_quantile(0.99) as f64 / 1e3,
        }
    }

    /// Makes so many calls.
    pub(crate) async fn make(self, client: &Client, calls: usize) {
        let mut workers = JoinSet::new();
        for worker in 0..self.in_flight {
            let mut client = client.clone();
            let share = (worker..calls).step_by(self.in_flight).count();
            workers.spawn(async move {
                for _ in 0..share {
                    self.call(&mut client).await;
                }
            });
        }
        workers.join_all().await;
    }

    async fn call(self, client: &mut Client) {
        let name = "x".repeat(self.bytes);
        match self.kind {
            Kind::Unary => {
                let mut request = tonic::Request::new(HelloRequest { name });
                if let Some(timeout) = self.timeout {
                    request.set_timeout(timeout);
                }
                client.call(request).await;
            }
            Kind::ServerStreaming { messages } => {
                let request = HellosRequest {
                    name,
                    count: messages,
                    interval_ms: 0,
                };
                client.stream(request).await;
            }
        }
    }
}
