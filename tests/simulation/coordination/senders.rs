//! Processes that send messages, and trim them.

use std::time::Duration;

use switchboard::coordination::{Failure, SendError, Sent, Topic};
use tokio::time::{sleep, timeout};

use super::{history::TOPIC, process::Hands};
use crate::trace::chain;

pub(super) async fn behave(mut hands: Hands) {
    let topic = Topic::new(&hands.registry, TOPIC).expect("a name");
    while !hands.world.is_over() {
        let wait = Duration::from_millis(hands.rng.u64(10..500));
        let _ = timeout(wait, hands.world.over().cancelled()).await;
        match hands.rng.u32(..12) {
            0 => trim(&mut hands, &topic).await,
            1 => {
                // Two from here at a time.
                let (mut one, mut other) = (hands.rng.fork(), hands.rng.fork());
                tokio::join!(
                    send(&hands, &topic, &mut one),
                    send(&hands, &topic, &mut other)
                );
            }
            _ => {
                let mut rng = hands.rng.fork();
                send(&hands, &topic, &mut rng).await;
            }
        }
    }
    let (name, world) = (&hands.name, &hands.world);
    world
        .state()
        .waits(name, Some("to send at last".to_owned()));
    loop {
        let payload = format!("{name} {} at last", world.number());
        let sent = topic.send(&payload).await;
        if judge(&hands, &payload, sent) {
            return world.state().waits(name, None);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn send(hands: &Hands, topic: &Topic, rng: &mut fastrand::Rng) {
    let payload = format!("{} {}", hands.name, hands.world.number());
    let time = (rng.u32(..4) == 0).then(|| Duration::from_millis(rng.u64(2_000..6_000)));
    let sending = async {
        match time {
            Some(time) => topic.send_for(&payload, time).await,
            None => topic.send(&payload).await,
        }
    };
    // Some are given up half way.
    let patience = match rng.u32(..8) {
        0 => Duration::from_millis(rng.u64(0..60)),
        _ => Duration::from_secs(60),
    };
    match timeout(patience, sending).await {
        Ok(sent) => drop(judge(hands, &payload, sent)),
        Err(_) => hands
            .world
            .trace()
            .write(format_args!("{payload} is given up")),
    }
}

/// Looks whether what is told of a message is so; returns whether it was sent.
fn judge(hands: &Hands, payload: &str, sent: Result<Sent, SendError>) -> bool {
    let world = &hands.world;
    let (times, is_there) = {
        let history = &world.state().history;
        let is_there = |sent: &Sent| {
            let mut lives = history.lives.iter();
            lives.any(|life| {
                let posted = life.messages.get(&sent.sequence);
                posted.is_some_and(|it| it.payload == payload && it.revision == sent.revision)
            })
        };
        (
            history.times_sent(payload),
            sent.as_ref().is_ok_and(is_there),
        )
    };
    match sent {
        Ok(sent) if !is_there => {
            world.violation(format!(
                "{payload} is told to be sent, and never was: {sent:?}"
            ));
            true
        }
        Ok(sent) => {
            world
                .trace()
                .write(format_args!("{payload} is {}", sent.sequence));
            true
        }
        Err(SendError::Unknown(cause)) => {
            world.excused(format!("{payload}: nobody knows: {cause}"));
            false
        }
        Err(SendError::Etcd(Failure::Closed)) => false,
        Err(error @ (SendError::Etcd(_) | SendError::Expired)) => {
            let error = chain(&error);
            match times {
                0 => world.excused(format!("{payload}: {error}")),
                _ => world.violation(format!(
                    "{payload} was sent, and is told not to be: {error}"
                )),
            }
            false
        }
        Err(error) => {
            world.violation(format!("{payload}: {}", chain(&error)));
            false
        }
    }
}

async fn trim(hands: &mut Hands, topic: &Topic) {
    let up_to = {
        let history = &mut hands.world.state().history;
        let up_to = history.now().head.saturating_sub(hands.rng.u64(0..20));
        history.trims(up_to);
        up_to
    };
    match topic.trim(up_to).await {
        Ok(()) | Err(Failure::Closed) => {}
        Err(error) => hands.world.excused(format!("no trim: {}", chain(&error))),
    }
}
