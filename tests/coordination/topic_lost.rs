//! Messages that are lost: who listens is told which.

use switchboard::coordination::{SendError, Start, SubscribeError, Topic, TopicError};

use crate::{
    on_both,
    server::{Server, delete, put, soon},
    topic::{expect, expect_nothing, next, send, topic},
};

on_both! {
    what_was_trimmed_and_compacted_unread_is_a_gap,
    what_was_trimmed_is_told_as_long_as_there_is_history,
    from_a_revision_on_all_is_told_that_was_sent_since,
    a_revision_that_is_compacted_is_said_aloud,
    a_revision_that_is_none_is_refused,
    a_topic_of_which_nothing_is_left_is_a_gap,
    a_wiped_etcd_is_a_topic_that_begins_anew,
    a_topic_whose_head_was_deleted_begins_anew_once,
    an_etcd_that_was_restored_is_a_topic_that_begins_anew,
    a_message_of_another_life_is_none,
    a_sender_knows_another_head_at_the_revision_of_the_one_it_knew,
    who_began_at_a_revision_is_told_all_of_a_topic_that_began_anew,
}

const HEAD: &str = "/switchboard/topics/prices/head";

fn message_key(sequence: u64) -> String {
    format!("/switchboard/topics/prices/{sequence:020}")
}

async fn what_was_trimmed_and_compacted_unread_is_a_gap(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    let mut subscription = soon(topic.subscribe(Start::Now)).await.unwrap();
    send(&topic, 1..=2).await;
    expect(&mut subscription, 1..=2).await;
    // It reads nothing any more, and its connection ends.
    send(&topic, 3..=9).await;
    soon(topic.trim(6)).await.unwrap();
    let mut unread = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    etcd.restart().await;
    etcd.compact().await;
    // What etcd had sent before the end is told; which of them it was is the network's choice.
    let first = match next(&mut subscription).await {
        Err(gap) => {
            assert_eq!(gap, TopicError::Gap { first: 3, last: 6 });
            7
        }
        Ok(message) => message.sequence + 1,
    };
    expect(&mut subscription, first..=9).await;
    expect(&mut unread, 7..=9).await;
    send(&topic, 10..=10).await;
    expect(&mut subscription, 10..=10).await;
    expect_nothing(&mut subscription).await;
}

async fn what_was_trimmed_is_told_as_long_as_there_is_history(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    let mut subscription = soon(topic.subscribe(Start::Now)).await.unwrap();
    send(&topic, 1..=5).await;
    soon(topic.trim(5)).await.unwrap();
    send(&topic, 6..=6).await;
    expect(&mut subscription, 1..=6).await;
    let mut late = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut late, 6..=6).await;
}

async fn from_a_revision_on_all_is_told_that_was_sent_since(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    let before_all = etcd.revision().await + 1;
    send(&topic, 1..=3).await;
    let fourth = soon(topic.send("4")).await.unwrap();
    send(&topic, 5..=6).await;
    soon(topic.trim(6)).await.unwrap();
    send(&topic, 7..=7).await;
    let mut all = soon(topic.subscribe(Start::Revision(before_all)))
        .await
        .unwrap();
    expect(&mut all, 1..=7).await;
    let mut since = soon(topic.subscribe(Start::Revision(fourth.revision)))
        .await
        .unwrap();
    expect(&mut since, 4..=7).await;
    let after = fourth.revision + 1;
    let mut after = soon(topic.subscribe(Start::Revision(after))).await.unwrap();
    expect(&mut after, 5..=7).await;
    let next_one = etcd.revision().await + 1;
    let mut coming = soon(topic.subscribe(Start::Revision(next_one)))
        .await
        .unwrap();
    send(&topic, 8..=8).await;
    expect(&mut coming, 8..=8).await;
}

async fn a_revision_that_is_compacted_is_said_aloud(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    send(&topic, 1..=2).await;
    let third = soon(topic.send("3")).await.unwrap().revision;
    send(&topic, 4..=6).await;
    soon(topic.trim(4)).await.unwrap();
    etcd.compact().await;
    let mut since = soon(topic.subscribe(Start::Revision(third))).await.unwrap();
    assert_eq!(next(&mut since).await, Err(TopicError::Compacted(third)));
    expect(&mut since, 5..=6).await;
    send(&topic, 7..=7).await;
    expect(&mut since, 7..=7).await;
    expect_nothing(&mut since).await;
}

async fn a_revision_that_is_none_is_refused(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    send(&topic, 1..=1).await;
    for revision in [0, -1, i64::MIN] {
        let error = soon(topic.subscribe(Start::Revision(revision)))
            .await
            .unwrap_err();
        assert!(
            matches!(error, SubscribeError::Revision(it) if it == revision),
            "{error}"
        );
    }
    let current = etcd.revision().await;
    for given in [current + 2, i64::MAX] {
        let error = soon(topic.subscribe(Start::Revision(given)))
            .await
            .unwrap_err();
        let expected = format!(
            "revision: {given} (expected: at most {}, the next one of etcd)",
            current + 1
        );
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(etcd.revision().await, current, "nothing was written");
}

async fn a_topic_of_which_nothing_is_left_is_a_gap(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    let mut subscription = soon(topic.subscribe(Start::Now)).await.unwrap();
    send(&topic, 1..=4).await;
    soon(topic.trim(4)).await.unwrap();
    etcd.compact().await;
    let gap = next(&mut subscription).await;
    assert_eq!(gap, Err(TopicError::Gap { first: 1, last: 4 }));
    send(&topic, 5..=5).await;
    expect(&mut subscription, 5..=5).await;
}

async fn a_wiped_etcd_is_a_topic_that_begins_anew(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    send(&topic, 1..=3).await;
    let mut subscription = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut subscription, 1..=3).await;
    etcd.wipe().await;
    // Numbers begin anew, whatever the sender knew.
    send_first(&topic).await;
    send(&topic, 2..=2).await;
    assert_eq!(next(&mut subscription).await, Err(TopicError::Anew));
    expect(&mut subscription, 1..=2).await;
    expect_nothing(&mut subscription).await;
}

async fn a_topic_whose_head_was_deleted_begins_anew_once(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let topic = topic(&registry);
    send(&topic, 1..=3).await;
    let mut subscription = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut subscription, 1..=3).await;
    delete(&registry, HEAD).await;
    send(&topic, 1..=2).await;
    assert_eq!(etcd.value(&message_key(3)).await, None);
    assert_eq!(next(&mut subscription).await, Err(TopicError::Anew));
    expect(&mut subscription, 1..=2).await;
    expect_nothing(&mut subscription).await;
    send(&topic, 3..=4).await;
    expect(&mut subscription, 3..=4).await;
    let mut late = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut late, 1..=4).await;
    expect_nothing(&mut late).await;
}

/// It holds what it held some time before.
async fn an_etcd_that_was_restored_is_a_topic_that_begins_anew(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let topic = topic(&registry);
    send(&topic, 1..=2).await;
    let keys = [message_key(1), message_key(2), HEAD.to_owned()];
    let mut backup = Vec::new();
    for key in &keys {
        backup.push(etcd.value(key).await.unwrap());
    }
    send(&topic, 3..=5).await;
    let mut subscription = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut subscription, 1..=5).await;
    etcd.wipe().await;
    for (key, value) in keys.iter().zip(&backup) {
        put(&registry, key, value).await;
    }
    assert_eq!(next(&mut subscription).await, Err(TopicError::Anew));
    expect(&mut subscription, 1..=2).await;
    let topic = crate::topic::topic(&etcd.registry().await);
    send(&topic, 3..=6).await;
    expect(&mut subscription, 3..=6).await;
    expect_nothing(&mut subscription).await;
}

async fn a_message_of_another_life_is_none(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let topic = topic(&registry);
    send(&topic, 1..=2).await;
    let mut subscription = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut subscription, 1..=2).await;
    // As somebody has it who copies what there was before.
    let old = "0123456789abcdef 0123456789abcdef\nold";
    put(&registry, &message_key(9), old).await;
    send(&topic, 3..=4).await;
    let mut late = soon(topic.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut subscription, 3..=4).await;
    expect_nothing(&mut subscription).await;
    expect(&mut late, 1..=4).await;
    expect_nothing(&mut late).await;
    send(&topic, 5..=10).await;
    expect(&mut subscription, 5..=10).await;
    expect(&mut late, 5..=10).await;
}

/// Sends the first message of a topic after a wipe. Where the connection ended under the first attempt,
/// nobody knows what came of it.
async fn send_first(topic: &Topic) {
    let first = async {
        loop {
            match topic.send("1").await {
                Err(SendError::Unknown(_)) => {}
                sent => return sent.unwrap().sequence,
            }
        }
    };
    assert_eq!(soon(first).await, 1);
}

async fn a_sender_knows_another_head_at_the_revision_of_the_one_it_knew(etcd: &mut Server) {
    let old = topic(&etcd.registry().await);
    etcd.wipe().await;
    send_first(&old).await;
    etcd.wipe().await;
    // Its first message has the revision that the first one of the other had.
    let new = topic(&etcd.registry().await);
    send_first(&new).await;
    let mut subscription = soon(new.subscribe(Start::Beginning)).await.unwrap();
    expect(&mut subscription, 1..=1).await;
    let second = async {
        loop {
            match old.send("2").await {
                Err(SendError::Unknown(_)) => {}
                sent => return sent.unwrap().sequence,
            }
        }
    };
    assert_eq!(soon(second).await, 2);
    expect(&mut subscription, 2..=2).await;
}

async fn who_began_at_a_revision_is_told_all_of_a_topic_that_began_anew(etcd: &mut Server) {
    let topic = topic(&etcd.registry().await);
    send(&topic, 1..=5).await;
    let last = soon(topic.send("6")).await.unwrap().revision;
    etcd.compact().await;
    send(&topic, 7..=7).await;
    let mut since = soon(topic.subscribe(Start::Revision(last))).await.unwrap();
    assert_eq!(next(&mut since).await, Err(TopicError::Compacted(last)));
    expect(&mut since, 6..=7).await;
    // This one has read nothing of the topic that there was.
    let mut unread = soon(topic.subscribe(Start::Revision(last))).await.unwrap();
    assert_eq!(next(&mut unread).await, Err(TopicError::Compacted(last)));
    etcd.wipe().await;
    send_first(&topic).await;
    send(&topic, 2..=2).await;
    for mut subscription in [since, unread] {
        assert_eq!(next(&mut subscription).await, Err(TopicError::Anew));
        expect(&mut subscription, 1..=2).await;
    }
}
