//! How long calls take at most, and what the server knows of it.

use std::time::Duration;

use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use tonic::{Code, Request};

use super::{DEADLINE, Fleet};
use crate::our_server::Event;

/// Shorter than what any of their servers allows a call.
const SHORT: Duration = Duration::from_millis(800);

pub(crate) async fn ours_reaches_their_server_and_ends_its_context(mut fleet: Fleet) {
    let address = fleet.address();
    let mut server = fleet.their_server(&address, &[]).await;
    fleet.our_client().await.reach_all(&[&address]).await;
    let channel = fleet.dial().await.connect().await.unwrap();
    let mut client = GreeterClient::new(channel);
    let within_short = |name: &str| {
        let name = name.to_owned();
        let mut request = Request::new(HelloRequest { name });
        request.set_timeout(SHORT);
        request
    };

    let reply = client.say_hello(within_short("deadline")).await.unwrap();
    let left = Duration::from_millis(reply.into_inner().message.parse().unwrap());
    assert!(!left.is_zero() && left <= SHORT, "{left:?}");

    let error = client.say_hello(within_short("hang")).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let ended = server.told("ended: context ").await;
    let (_, took) = ended.split_once(" after ").unwrap();
    let took: u64 = took.trim_end_matches(" ms").parse().unwrap();
    // The time that the call took to get there was not spent there.
    let took = Duration::from_millis(took);
    assert!((SHORT / 2..SHORT + DEADLINE).contains(&took), "{ended}");
}

pub(crate) async fn theirs_reaches_our_server_and_ends_the_call(mut fleet: Fleet) {
    let address = fleet.address();
    let mut server = fleet.our_server(&address).await;
    let mut client = fleet.their_client(&[]);
    client.reach_all(&[&address]).await;

    let left = client.ask("deadline").await.parse().unwrap();
    let left = Duration::from_millis(left);
    assert!((DEADLINE / 2..=DEADLINE).contains(&left), "{left:?}");

    let failure = client.greet("hang").await.unwrap_err();
    // A server of tonic's that is first to see the deadline pass says so in its own way.
    let is_deadline =
        failure.starts_with("DeadlineExceeded") || failure == "Canceled Timeout expired";
    assert!(is_deadline, "{failure}");
    assert_eq!(server.event().await, Event::Began);
    assert_eq!(server.event().await, Event::Ended);
}
