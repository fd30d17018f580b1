//! Those who want to lead, and proclaim while they do.

use std::time::Duration;

use switchboard::coordination::{Election, ElectionError, Failure, Leadership, ProclaimError};
use tokio::time::{sleep, timeout};

use super::{
    contenders::{lost_it, steps, write},
    process::Hands,
};
use crate::{
    ledger::{Belief, ELECTION, Held, Holding, LINES},
    trace::chain,
};

impl Held for Leadership {
    fn token(&self) -> i64 {
        self.token()
    }

    fn is_held(&self) -> bool {
        self.is_held()
    }
}

pub(super) async fn behave(mut hands: Hands) {
    let world = hands.world.clone();
    let election = Election::new(&hands.registry, LINES[ELECTION]).expect("a name");
    while !world.is_over() {
        let wait = Duration::from_millis(hands.rng.u64(0..300));
        let _ = timeout(wait, world.over().cancelled()).await;
        let proposal = format!("{} {}", hands.name, world.number());
        let limit = match hands.rng.u32(..4) {
            0 => Duration::from_millis(hands.rng.u64(0..1_000)),
            _ => Duration::from_secs(60),
        };
        // Who waits for one who waits for the end gives up then.
        let campaign = world
            .over()
            .run_until_cancelled(election.campaign_within(&proposal, limit));
        match campaign.await {
            None => return,
            Some(Ok(leadership)) => lead(&mut hands, leadership).await,
            Some(Err(ElectionError::TimedOut(_))) => {}
            Some(Err(ElectionError::Etcd(Failure::Closed))) => return,
            Some(Err(error)) => {
                world.excused(format!("{}: {}", hands.name, chain(&error)));
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn lead(hands: &mut Hands, leadership: Leadership) {
    let world = hands.world.clone();
    let holding = {
        let mut state = world.state();
        state
            .ledger
            .take(world.etcd(), &hands.name, ELECTION, leadership)
    };
    let token = holding.guard.token();
    world
        .trace()
        .write(format_args!("{} leads by {token}", hands.name));
    drop(world.state());
    if hands.rng.u32(..12) == 0 {
        // It never looks.
        for _ in 0..hands.rng.u32(1..6) {
            write(hands, &holding, Belief::Stale);
            sleep(Duration::from_millis(hands.rng.u64(1..1_000))).await;
        }
    }
    for _ in 0..hands.rng.u32(0..3) {
        let mut rng = hands.rng.fork();
        let work = steps(hands, &mut rng, &holding, 2, 40);
        if let Err(lost) = holding.guard.hold(work).await {
            lost_it(hands, lost);
        }
        proclaim(hands, &holding).await;
    }
    let leadership = world.state().ledger.give_back(holding);
    match hands.rng.u32(..3) {
        0 => drop(leadership),
        _ => {
            if let Err(lost) = leadership.resign().await {
                lost_it(hands, lost);
            }
        }
    }
}

async fn proclaim(hands: &mut Hands, holding: &Holding<Leadership>) {
    let world = hands.world.clone();
    let value = format!("{} {}", hands.name, world.number());
    let patience = match hands.rng.u32(..6) {
        0 => Duration::from_millis(hands.rng.u64(0..20)),
        _ => Duration::from_secs(60),
    };
    match timeout(patience, holding.guard.proclaim(&value)).await {
        Err(_) => {}
        Ok(Ok(revision)) => {
            world
                .trace()
                .write(format_args!("{value} is proclaimed at {revision}"));
            if !world.state().reigns.was_proclaimed(revision, &value) {
                world.violation(format!("{value} was not proclaimed at {revision}"));
            }
        }
        Ok(Err(ProclaimError::Lost(lost))) => lost_it(hands, lost),
        Ok(Err(error)) => world.excused(format!("{}: {}", hands.name, chain(&error))),
    }
}
