//! Service configs.

use std::time::Duration;

use switchboard_embedded::Network;
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use switchboard_resolver::{Channel, ServiceConfig};
use tokio::runtime::Builder;

/// Reads a service config: what is none is refused with a reason that is short enough for a log, and under
/// what is one a call that meets nobody ends, at its deadline at the latest.
pub fn service_configs(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match ServiceConfig::from_json(&text) {
        Ok(config) => {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime");
            runtime.block_on(call(config));
            let left = runtime.metrics().num_alive_tasks();
            assert_eq!(left, 0, "tasks that are left");
        }
        Err(error) => {
            let message = error.to_string();
            let is_reason = message.starts_with("service config: ");
            assert!(is_reason || message.contains("(expected: "), "{message}");
            assert!(message.len() < 2000, "{} bytes", message.len());
        }
    }
}

/// Calls endpoints that refuse to connect.
async fn call(config: ServiceConfig) {
    const DEADLINE: Duration = Duration::from_secs(5);
    let network = Network::new();
    let channel = Channel::balance(["a:1", "b:1"])
        .expect("addresses")
        .connector(network.connector("channel"))
        .service_config(config)
        .connect_lazy()
        .expect("a channel");
    let mut request = tonic::Request::new(HelloRequest::default());
    request.set_timeout(DEADLINE);
    let mut client = GreeterClient::new(channel.clone());
    let ended = tokio::time::timeout(2 * DEADLINE, client.say_hello(request)).await;
    let answer = ended.expect("it ends at its deadline");
    assert!(answer.is_err(), "nobody is there: {answer:?}");
    drop(client);
    channel.close().await;
}
