//! Messages to whoever listens.

use std::{pin::pin, task::Poll, time::Duration};

use futures::{StreamExt, future::join_all, poll};
use switchboard::{
    Registry,
    coordination::{Failure, Message, SendError, Start, Subscription, Topic, TopicError},
};
use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

use crate::{
    on_both,
    server::{Server, put, soon},
};

on_both! {
    each_subscriber_gets_each_message_once_and_in_order,
    who_subscribes_from_now_gets_what_is_sent_later,
    nothing_is_lost_or_doubled_when_connections_break,
    many_senders_are_numbered_without_a_gap,
    a_message_that_was_sent_for_a_time_goes,
    who_gives_up_waiting_loses_nothing,
    who_never_waits_for_long_gets_on_all_the_same,
    what_others_put_there_is_no_message,
    topics_whose_names_begin_alike_are_apart,
    what_cannot_be_sent_is_refused_and_nothing_is_written,
    a_subscription_ends_with_the_registry,
    what_is_sent_after_the_registry_was_closed_is_not_sent,
    those_who_wait_for_each_other_give_up_together,
    a_message_for_a_time_is_sent_when_etcd_is_back,
}

pub(crate) fn topic(registry: &Registry) -> Topic {
    Topic::new(registry, "prices").unwrap()
}

pub(crate) async fn send(topic: &Topic, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let sent = soon(topic.send(number.to_string())).await.unwrap();
        assert_eq!(sent.sequence, number);
    }
}

pub(crate) async fn next(subscription: &mut Subscription) -> Result<Message, TopicError> {
    soon(subscription.next()).await
}

/// Reads as many messages as there are numbers, and sees that they are those.
pub(crate) async fn expect(
    subscription: &mut Subscription,
    numbers: std::ops::RangeInclusive<u64>,
) {
    let mut revision = 0;
    for number in numbers {
        let message = next(subscription).await.unwrap();
        assert_eq!(message.sequence, number);
        assert_eq!(message.payload, number.to_string().into_bytes());
        assert!(message.revision > revision);
        revision = message.revision;
    }
}

pub(crate) async fn expect_nothing(subscription: &mut Subscription) {
    let more = timeout(Duration::from_millis(150), subscription.next()).await;
    assert!(more.is_err(), "{more:?}");
}

async fn each_subscriber_gets_each_message_once_and_in_order(etcd: &mut Server) {
    let sender = topic(&etcd.registry().await);
    send(&sender, 1..=20).await;
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        let topic = topic(&etcd.registry().await);
        subscribers.push(soon(topic.subscribe(Start::Beginning)).await.unwrap());
    }
    send(&sender, 21..=40).await;
    for subscriber in &mut subscribers {
        expect(subscriber, 1..=40).await;
        expect_nothing(subscriber).await;
    }
}

async fn who_subscribes_from_now_gets_what_is_sent_later(etcd: &mut Server) {
    let sender = topic(&etcd.registry().await);
    let topic = topic(&etcd.registry().await);
    let mut before_the_first = soon(topic.subscribe(Start::Now)).await.unwrap();
    send(&sender, 1..=5).await;
    let mut later = soon(topic.subscribe(Start::Now)).await.unwrap();
    send(&sender, 6..=10).await;
    expect(&mut before_the_first, 1..=10).await;
    expect(&mut later, 6..=10).await;
    expect_nothing(&mut later).await;
}

async fn nothing_is_lost_or_doubled_when_connections_break(etcd: &mut Server) {
    let sender = topic(&etcd.registry().await);
    let topic = topic(&etcd.registry().await);
    let mut reading = soon(topic.subscribe(Start::Now)).await.unwrap();
    let mut unread = soon(topic.subscribe(Start::Now)).await.unwrap();
    for round in 0..3 {
        send(&sender, round * 10 + 1..=round * 10 + 5).await;
        expect(&mut reading, round * 10 + 1..=round * 10 + 5).await;
        etcd.restart().await;
        send(&sender, round * 10 + 6..=round * 10 + 10).await;
        // History is gone, and the messages are there.
        if round > 0 {
            etcd.compact().await;
        }
        expect(&mut reading, round * 10 + 6..=round * 10 + 10).await;
    }
    expect(&mut unread, 1..=30).await;
    expect_nothing(&mut reading).await;
    expect_nothing(&mut unread).await;
}

async fn many_senders_are_numbered_without_a_gap(etcd: &mut Server) {
    let mut subscriber = topic(&etcd.registry().await);
    let mut messages = soon(subscriber.subscribe(Start::Beginning)).await.unwrap();
    let mut senders = JoinSet::new();
    for sender in 0..4 {
        let topic = topic(&etcd.registry().await);
        senders.spawn(async move {
            let mut sent = Vec::new();
            for number in 0..25 {
                let text = format!("{sender}/{number}");
                sent.push((topic.send(&text).await.unwrap().sequence, text));
            }
            sent
        });
    }
    let mut sent: Vec<_> = soon(senders.join_all()).await.concat();
    sent.sort();
    for (sequence, text) in sent {
        let message = next(&mut messages).await.unwrap();
        assert_eq!(
            (message.sequence, message.payload),
            (sequence, text.into_bytes())
        );
    }
    subscriber = subscriber.clone();
    assert_eq!(soon(subscriber.send("101")).await.unwrap().sequence, 101);
}

async fn a_message_that_was_sent_for_a_time_goes(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    let mut listening = soon(topic.subscribe(Start::Now)).await.unwrap();
    let two_seconds = Duration::from_secs(2);
    soon(topic.send_for("1", two_seconds)).await.unwrap();
    soon(topic.send("2")).await.unwrap();
    expect(&mut listening, 1..=2).await;
    let key = "/switchboard/topics/prices/00000000000000000001";
    assert!(etcd.value(key).await.is_some());
    let gone = async || match etcd.value(key).await {
        None => Ok(()),
        Some(_) => Err("it is there"),
    };
    switchboard_test_support::eventually(Duration::from_secs(10), "it goes", gone).await;
    let mut late = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut late, 2..=2).await;
    expect_nothing(&mut listening).await;
}

async fn who_gives_up_waiting_loses_nothing(etcd: &mut Server) {
    let sender = topic(&etcd.registry().await);
    let mut subscription = soon(sender.subscribe(Start::Now)).await.unwrap();
    let mut received = Vec::new();
    for number in 1..=200_u64 {
        if number <= 50 {
            soon(sender.send(number.to_string())).await.unwrap();
        }
        // Given up at whatever it waits for.
        let patience = Duration::from_micros(number * 10);
        if let Ok(message) = timeout(patience, subscription.next()).await {
            received.push(message.unwrap().sequence);
        }
    }
    while received.len() < 50 {
        received.push(next(&mut subscription).await.unwrap().sequence);
    }
    assert!(received.iter().copied().eq(1..=50), "{received:?}");
}

async fn who_never_waits_for_long_gets_on_all_the_same(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    send(&topic, 1..=3).await;
    let mut subscription = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    let received = async {
        let mut received = Vec::new();
        while received.len() < 3 {
            // As in a `select!` whose other arm is always ready.
            if let Poll::Ready(message) = poll!(pin!(subscription.next())) {
                received.push(message.unwrap().sequence);
            }
            yield_now().await;
        }
        received
    };
    assert_eq!(soon(received).await, [1, 2, 3]);
}

async fn what_others_put_there_is_no_message(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let topic = topic(&registry);
    let mut subscription = soon(topic.subscribe(Start::Now)).await.unwrap();
    send(&topic, 1..=1).await;
    for key in [
        "1",
        "00000000000000000002",
        "zebra",
        "a/b",
        "0000000000000000000x",
    ] {
        put(
            &registry,
            &format!("/switchboard/topics/prices/{key}"),
            "garbage",
        )
        .await;
    }
    send(&topic, 2..=3).await;
    expect(&mut subscription, 1..=3).await;
    expect_nothing(&mut subscription).await;
    // A head that is none: nothing is sent over it.
    put(&registry, "/switchboard/topics/prices/head", "garbage").await;
    let error = soon(topic.send("4")).await.unwrap_err();
    assert!(
        matches!(&error, SendError::Broken(key) if key.ends_with("prices/head")),
        "{error}"
    );
    assert!(soon(topic.subscribe(Start::Now)).await.is_err());
}

async fn topics_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let (one, other) = (topic(&registry), Topic::new(&registry, "prices-2").unwrap());
    let mut subscription = soon(one.subscribe(Start::Now)).await.unwrap();
    soon(other.send("other")).await.unwrap();
    send(&one, 1..=1).await;
    expect(&mut subscription, 1..=1).await;
    expect_nothing(&mut subscription).await;
}

async fn what_cannot_be_sent_is_refused_and_nothing_is_written(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "a/b", "a\n"] {
        assert!(Topic::new(&registry, name).is_err());
    }
    let topic = topic(&registry);
    let large = vec![b'x'; (1 << 20) + 1];
    let error = topic.send(&large).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge(1_048_577)), "{error}");
    for time in [Duration::ZERO, Duration::from_millis(1999), Duration::MAX] {
        let error = topic.send_for("x", time).await.unwrap_err();
        assert!(matches!(error, SendError::Time(_)), "{error}");
    }
    assert_eq!(etcd.revision().await, before);
    soon(topic.send(&large[1..])).await.unwrap();
}

async fn a_subscription_ends_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let topic = topic(&registry);
    let mut one = soon(topic.subscribe(Start::Now)).await.unwrap();
    let other = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    let mut other = Box::pin(other.into_stream());
    send(&topic, 1..=1).await;
    expect(&mut one, 1..=1).await;
    assert!(soon(other.next()).await.unwrap().is_ok());
    soon(registry.close()).await;
    assert_eq!(next(&mut one).await, Err(TopicError::Closed));
    assert!(soon(other.next()).await.is_none());
}

async fn what_is_sent_after_the_registry_was_closed_is_not_sent(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let topic = topic(&registry);
    send(&topic, 1..=1).await;
    soon(registry.close()).await;
    let at_once = Duration::from_secs(1);
    let minute = Duration::from_secs(60);
    for error in [
        timeout(at_once, topic.send("2")).await.unwrap(),
        timeout(at_once, topic.send_for("2", minute)).await.unwrap(),
    ] {
        let error = error.unwrap_err();
        assert!(
            matches!(error, SendError::Etcd(Failure::Closed)),
            "{error:?}"
        );
    }
}

async fn those_who_wait_for_each_other_give_up_together(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    send(&topic, 1..=1).await;
    etcd.freeze();
    let sending = (0..5).map(|number| {
        let topic = topic.clone();
        async move { topic.send(number.to_string()).await }
    });
    for sent in soon(join_all(sending)).await {
        assert!(
            matches!(
                sent,
                Err(SendError::Unknown(_) | SendError::Etcd(Failure::Unavailable(_)))
            ),
            "{sent:?}"
        );
    }
    etcd.thaw();
}

async fn a_message_for_a_time_is_sent_when_etcd_is_back(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    etcd.freeze();
    let sending = soon(topic.send_for("1", Duration::from_secs(60)));
    let back = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        etcd.thaw();
    };
    let (sent, ()) = tokio::join!(sending, back);
    assert_eq!(sent.unwrap().sequence, 1);
}
