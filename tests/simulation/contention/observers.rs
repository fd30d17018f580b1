//! Those who are told who leads.

use std::time::Duration;

use switchboard::coordination::{Election, Failure, ObserveError};
use tokio::time::{sleep, timeout};

use super::{process::Hands, reigns::Seen};
use crate::{
    ledger::{ELECTION, LINES},
    trace::chain,
};

pub(super) async fn behave(mut hands: Hands) {
    let (world, name) = (hands.world.clone(), hands.name.clone());
    let election = Election::new(&hands.registry, LINES[ELECTION]).expect("a name");
    loop {
        let (mut observer, mut seen) = (election.observe(), Seen::default());
        let mut left = hands.rng.u32(1..100);
        while left > 0 || world.is_over() {
            let is_behind = !world.state().reigns.is_last(&seen);
            let waits = is_behind.then_some("to be told who leads");
            world.state().waits(&name, waits);
            let limit = Duration::from_millis(hands.rng.u64(1..300));
            let Ok(told) = timeout(limit, observer.next()).await else {
                continue;
            };
            left = left.saturating_sub(1);
            let wrong = match told {
                Ok(leader) => {
                    let told = leader.as_ref().map(|it| (it.token, it.revision));
                    world.trace().write(format_args!("{name} sees {told:?}"));
                    world.state().reigns.tell(&mut seen, leader.as_ref())
                }
                Err(ObserveError::Gap) => {
                    world.trace().write(format_args!("{name} sees a gap"));
                    world.state().reigns.tell_gap(&mut seen)
                }
                Err(ObserveError::Etcd(Failure::Closed)) => {
                    return world.state().waits(&name, None);
                }
                Err(error) => {
                    world.excused(format!("{name}: {}", chain(&error)));
                    None
                }
            };
            if let Some(wrong) = wrong {
                world.violation(format!("{name} {wrong}"));
                return world.state().waits(&name, None);
            }
            if hands.rng.u32(..10) == 0 {
                sleep(Duration::from_millis(hands.rng.u64(1..500))).await;
            }
        }
    }
}
