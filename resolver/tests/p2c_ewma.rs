//! Who is called by who answers how soon.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::time::Duration;

use support::{
    tuned::{calls, counts, tuned},
    *,
};
use switchboard_proto::HellosRequest;
use switchboard_resolver::P2cEwma;
use tokio::time::sleep;

const MILLI: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn c52_with_p2c_ewma_a_slow_endpoint_gets_fewer_calls() {
    let (_network, servers, channel) = tuned::<4>(P2cEwma, 10 * MILLI).await;
    servers[2].takes(50 * MILLI);
    calls(&channel, 4_000).await;
    let counts = counts(&servers);
    assert!(counts[2] < 400, "{counts:?}");
    for index in [0, 1, 3] {
        assert!(counts[index] > 1_000, "{counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c52_with_p2c_ewma_a_fast_failer_gets_its_share_and_no_more() {
    for fails in [100, 20] {
        let (_network, servers, channel) = tuned::<4>(P2cEwma, 20 * MILLI).await;
        servers[1].fails(fails);
        calls(&channel, 4_000).await;
        let counts = counts(&servers);
        // A quarter, and five standard deviations, with a seed that is fixed.
        assert!(counts[1] <= 1_000 + 137, "{fails}: {counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_slow_is_called_once_a_second_and_again_when_it_is_fast() {
    let (_network, servers, channel) = tuned::<2>(P2cEwma, 5 * MILLI).await;
    servers[0].takes(200 * MILLI);
    calls(&channel, 1_000).await;
    counts(&servers);
    calls(&channel, 5_000).await;
    let tried = servers[0].calls();
    assert!((4..=6).contains(&tried), "{tried}");
    servers[0].takes(5 * MILLI);
    sleep(60_000 * MILLI).await;
    calls(&channel, 1_000).await;
    counts(&servers);
    calls(&channel, 1_000).await;
    let counts = counts(&servers);
    assert!(counts[0] > 300, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn how_long_streams_go_on_makes_no_server_slow() {
    let (_network, servers, channel) = tuned::<2>(P2cEwma, 5 * MILLI).await;
    calls(&channel, 100).await;
    counts(&servers);
    let request = HellosRequest {
        interval_ms: 100_000,
        ..HellosRequest::default()
    };
    let reply = client(&channel).say_hellos(request).await.unwrap();
    let mut stream = reply.into_inner();
    assert!(stream.message().await.unwrap().is_none());
    let called = counts(&servers).iter().position(|it| *it == 1).unwrap();
    calls(&channel, 2_000).await;
    let counts = counts(&servers);
    assert!(counts[called] > 700, "{counts:?}");
}
