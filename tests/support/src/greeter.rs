//! The example that serves greetings, as a process that is published.

use std::time::Duration;

use crate::{Example, Process};

/// What its start takes at most, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// A `greeter_server` that runs, and stands in etcd.
#[derive(Debug)]
pub struct Greeter {
    /// Its process.
    pub process: Process,
    /// Where it is published to be.
    pub address: String,
}

impl Greeter {
    /// Starts one with its arguments, and waits until it is published at the etcd of these endpoints.
    ///
    /// # Panics
    ///
    /// If it is not published in 30 s, with what it printed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the process.
    pub async fn start(endpoints: &str, arguments: &[&str]) -> Self {
        let arguments = [&["--etcd", endpoints], arguments].concat();
        let mut process = Example::build("greeter_server").await.spawn(arguments);
        let line = process
            .wait_for_line(LIMIT, |line| line.starts_with("published"))
            .await;
        let address = line.rsplit(' ').next().expect("a last word").to_owned();
        Self { process, address }
    }
}
