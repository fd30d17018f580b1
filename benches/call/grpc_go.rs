//! grpc-go's client, in a process of its own, which calls when it is told to.

use std::{process::Command, time::Duration};

use switchboard_test_support::{Process, build_go};

use crate::load::{Cost, Kind, Load};

/// A client of grpc-go's with its `round_robin`, connected.
pub(crate) struct GrpcGo(Process);

/// Far more than it takes to connect, or to end a round.
const LIMIT: Duration = Duration::from_secs(60);

impl GrpcGo {
    /// Builds it, and connects to the servers.
    ///
    /// # Errors
    ///
    /// There is no Go here.
    pub(crate) async fn connect(servers: &[String]) -> Result<Self, &'static str> {
        // That of the tests, in `load.go`.
        let mut command = Command::new(build_go("tests/interop/go").await?);
        command.arg("load").args(servers);
        let mut process = Process::spawn_with_input(command);
        process.wait_for_line(LIMIT, |line| line == "ready").await;
        Ok(Self(process))
    }

    /// Calls for so long, and returns what it cost.
    pub(crate) async fn run(&mut self, load: Load, time: Duration) -> Cost {
        let messages = match load.kind {
            Kind::Unary => 0,
            Kind::ServerStreaming { messages } => messages,
        };
        let timeout = load.timeout.unwrap_or_default().as_millis();
        let (in_flight, bytes, time) = (load.in_flight, load.bytes, time.as_millis());
        let line = format!("{in_flight} {bytes} {messages} {timeout} {time}");
        self.0.write_line(&line);
        let line = self.0.wait_for_line(LIMIT, |_| true).await;
        let numbers: Vec<f64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
        let [calls_per_s, cpu_us_per_call, p50_us, p99_us] = numbers[..] else {
            panic!("line: {line:?} (expected: four numbers)");
        };
        Cost {
            calls_per_s,
            cpu_us_per_call,
            p50_us,
            p99_us,
        }
    }
}
