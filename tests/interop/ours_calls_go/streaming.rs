//! Calls of all four kinds.

use switchboard_proto::HelloReply;
use tokio_stream::StreamExt;
use tonic::{Response, Streaming};

use super::{Client, client, greet, hello, hellos};
use crate::go::Go;

pub(crate) async fn all_kinds_work_with_no_message_with_one_and_with_ten_thousand(go: Go) {
    let server = go.serve(&[]).await;
    let client = client(&[&server]).await;
    assert_eq!(greet(&client, "you").await.unwrap().message, "Hello, you!");
    for count in [0, 1, 10_000] {
        tokio::join!(
            replies(&client, count),
            requests(&client, count),
            both(&client, count)
        );
    }
}

async fn replies(client: &Client, count: u32) {
    let replies = client.clone().say_hellos(hellos("you", count, 0)).await;
    all_are("Hello, you!", count, replies.unwrap()).await;
}

async fn requests(client: &Client, count: u32) {
    let names: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    let all = format!("Hello, {}!", names.join(", "));
    let names = tokio_stream::iter(names.into_iter().map(hello));
    let reply = client.clone().greet_all(names).await.unwrap();
    assert_eq!(reply.into_inner().message, all);
}

async fn both(client: &Client, count: u32) {
    let names = tokio_stream::iter((0..count).map(|number| hello(number.to_string())));
    let mut replies = client.clone().chat(names).await.unwrap().into_inner();
    for number in 0..count {
        let reply = replies.message().await.unwrap().unwrap();
        assert_eq!(reply.message, format!("Hello, {number}!"));
    }
    assert!(replies.message().await.unwrap().is_none());
}

pub(crate) async fn messages_of_eight_mebibytes_go_both_ways(go: Go) {
    let server = go.serve(&[]).await;
    let client = client(&[&server]).await;
    let large = "x".repeat(8 << 20);
    let greeting = format!("Hello, {large}!");
    assert!(greet(&client, &large).await.unwrap().message == greeting);

    let replies = client.clone().say_hellos(hellos(&large, 3, 0)).await;
    all_are(&greeting, 3, replies.unwrap()).await;

    let names = tokio_stream::iter(vec![hello(large.clone()); 3]);
    let replies = client.clone().chat(names).await.unwrap();
    all_are(&greeting, 3, replies).await;

    let names = tokio_stream::iter(vec![hello(large); 2]);
    let reply = client.clone().greet_all(names).await.unwrap();
    assert_eq!(
        reply.into_inner().message.len(),
        (16 << 20) + "Hello, , !".len()
    );
}

/// Sees that there are so many replies, all with this message, which may be too long to show.
async fn all_are(message: &str, count: u32, replies: Response<Streaming<HelloReply>>) {
    let replies: Vec<_> = replies.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(replies.len(), count as usize);
    assert!(replies.iter().all(|it| it.message == message));
}
