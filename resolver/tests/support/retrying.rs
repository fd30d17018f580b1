//! Calls that are made again if they are UNAVAILABLE.

use std::time::Duration;

use switchboard_resolver::{Channel, MethodConfig, RetryPolicy, ServiceConfig};
use tonic::Code;

use super::{
    Network, call,
    scripted::{Answer, Script, failure, scripted},
};

const UNAVAILABLE: i32 = 14;

/// So many attempts, 100 ms after the first and twice as long after each further one.
pub fn retry(attempts: u32) -> RetryPolicy {
    let [first, most] = [100, 1000].map(Duration::from_millis);
    RetryPolicy::new(attempts, [UNAVAILABLE]).with_backoff(first, most, 2.0)
}

/// A policy for all methods.
pub fn config(policy: RetryPolicy) -> ServiceConfig {
    let method = MethodConfig::default().with_retry(policy);
    let config = ServiceConfig::default().with_method("", method);
    config.expect("a policy that makes sense")
}

/// Greeters that answer as one script says, and a channel to them that makes so many attempts.
pub async fn retrying(addresses: &[&str], attempts: u32) -> (Network, Script, Channel) {
    scripted(addresses, |it| it.service_config(config(retry(attempts)))).await
}

pub fn unavailable(times: usize) -> Vec<Answer> {
    vec![failure(Code::Unavailable); times]
}

/// Makes a call, and returns how it ended.
pub async fn code(channel: &Channel) -> Code {
    call(channel).await.err().map_or(Code::Ok, |it| it.code())
}
