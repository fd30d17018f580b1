//! Processes that read the messages: some slowly, and some that give up in the middle and go on.

use std::time::Duration;

use switchboard::coordination::{Start, SubscribeError, Subscription, Topic, TopicError};
use tokio::time::{sleep, timeout};

use super::{account::Account, history::TOPIC, process::Hands};
use crate::trace::chain;

pub(super) async fn behave(mut hands: Hands) {
    let (world, name) = (hands.world.clone(), hands.name.clone());
    let topic = Topic::new(&hands.registry, TOPIC).expect("a name");
    loop {
        let waits = Some("to subscribe".to_owned());
        world.state().waits(&name, waits);
        let Some((subscription, account)) = subscribe(&mut hands, &topic).await else {
            continue;
        };
        match read(&mut hands, subscription, account).await {
            Some(TopicError::Closed) => return world.state().waits(&name, None),
            Some(_) => return,
            None => {}
        }
    }
}

async fn subscribe(hands: &mut Hands, topic: &Topic) -> Option<(Subscription, Account)> {
    let world = hands.world.clone();
    let start = match hands.rng.u32(..3) {
        _ if world.is_over() => Start::Beginning,
        0 => Start::Now,
        1 => Start::Beginning,
        _ => {
            let now = world.etcd().revision();
            Start::Revision((now - hands.rng.i64(0..60)).max(1))
        }
    };
    let life = world.state().history.life();
    let subscribed = tokio::select! {
        biased;
        subscribed = topic.subscribe(start) => subscribed,
        // From then on it is to have all there is.
        () = world.over().cancelled(), if start != Start::Beginning => return None,
    };
    let now = world.state().history.life();
    match subscribed {
        // Where that revision is depends on when it was wiped.
        Ok(_) if now != life => None,
        Ok(subscription) => {
            let what = format!("{} subscribes from {start:?}", hands.name);
            world.trace().write(what);
            let account = Account::begin(start, life, world.state().history.now());
            Some((subscription, account))
        }
        Err(error) => {
            let what = format!("{} from {start:?}: {}", hands.name, chain(&error));
            match error {
                SubscribeError::Etcd(_) => world.excused(what),
                SubscribeError::Future { .. } if now != life => world.excused(what),
                _ => world.violation(what),
            }
            sleep(Duration::from_millis(300)).await;
            None
        }
    }
}

/// Reads; returns what it ends with, unless it is to subscribe anew.
async fn read(
    hands: &mut Hands,
    mut subscription: Subscription,
    mut account: Account,
) -> Option<TopicError> {
    let world = hands.world.clone();
    let (is_slow, is_impatient) = (hands.rng.u32(..3) == 0, hands.rng.u32(..3) == 0);
    let mut left = hands.rng.u32(1..400);
    loop {
        let waits = {
            let history = &world.state().history;
            let waits = || format!("to be told of {}: {account:?}", history.now().head);
            (!account.is_settled(history)).then(waits)
        };
        world.state().waits(&hands.name, waits);
        let patience = Duration::from_millis(match is_impatient {
            true => hands.rng.u64(0..30),
            false => 300,
        });
        let Ok(told) = timeout(patience, subscription.next()).await else {
            continue;
        };
        if let Err(closed @ TopicError::Closed) = told {
            return Some(closed);
        }
        let verdict = account.take(&world.state().history, &told);
        let told = told.map(|it| (it.sequence, it.revision));
        world
            .trace()
            .write(format_args!("{} is told {told:?}", hands.name));
        if let Err(wrong) = verdict {
            world.violation(format!("{}: {wrong}", hands.name));
            return Some(TopicError::Anew);
        }
        if world.is_over() {
            continue;
        }
        if is_slow {
            let pause = Duration::from_millis(hands.rng.u64(0..3_000));
            let _ = timeout(pause, world.over().cancelled()).await;
        }
        left -= 1;
        if left == 0 {
            return None;
        }
    }
}
