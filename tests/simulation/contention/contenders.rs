//! One who wants the locks, again and again, and works under them.

use std::time::Duration;

use fastrand::Rng;
use switchboard::coordination::{Failure, Lock, LockError, LockGuard, Lost};
use tokio::time::{sleep, timeout};

use super::process::Hands;
use crate::{
    ledger::{Belief, Held, Holding, LINES},
    trace::chain,
};

/// What came of an attempt to have a lock.
enum Attempt {
    Had(LockGuard),
    Not,
    /// The registry is closed.
    Closed,
}

pub(super) async fn behave(mut hands: Hands) {
    let locks = [LINES[0], LINES[1]].map(|name| Lock::new(&hands.registry, name).expect("a name"));
    while !hands.world.is_over() {
        let wait = Duration::from_millis(hands.rng.u64(0..300));
        let _ = timeout(wait, hands.world.over().cancelled()).await;
        let which = usize::from(hands.rng.u32(..5) == 0);
        match attempt(&mut hands, &locks[which], which).await {
            Attempt::Had(guard) => have(&mut hands, which, guard).await,
            Attempt::Not => {}
            Attempt::Closed => return,
        }
    }
    at_last(&mut hands, &locks[0]).await;
}

/// Tries to have a lock, in one of the ways there are.
async fn attempt(hands: &mut Hands, lock: &Lock, which: usize) -> Attempt {
    let before = hands.world.state().ledger.had(which);
    let limit = Duration::from_millis(hands.rng.u64(0..3_000));
    let locked = match hands.rng.u32(..20) {
        0..13 => lock.lock().await.map(Some),
        13..16 => lock.lock_within(limit).await.map(Some),
        // Given up half way.
        16..18 => match timeout(limit / 20, lock.lock()).await {
            Ok(locked) => locked.map(Some),
            Err(_) => return Attempt::Not,
        },
        _ => lock.try_lock().await,
    };
    match locked {
        Ok(Some(guard)) => {
            if hands.world.is_calm() {
                is_in_order(hands, which, before);
            }
            Attempt::Had(guard)
        }
        Ok(None) | Err(LockError::TimedOut(_)) => Attempt::Not,
        Err(LockError::Etcd(Failure::Closed)) => Attempt::Closed,
        Err(error) => {
            let name = &hands.name;
            hands.world.excused(format!("{name}: {}", chain(&error)));
            sleep(Duration::from_millis(100)).await;
            Attempt::Not
        }
    }
}

/// Sees that not more went first than those before it in its process, each with a whole line before.
fn is_in_order(hands: &Hands, which: usize, before: u64) {
    let went_first = hands.world.state().ledger.had(which) - before;
    let most = (hands.many + 1) * hands.processes;
    if went_first > most as u64 {
        let name = &hands.name;
        hands.world.violation(format!(
            "{went_first} went before {name} (expected: at most {most})"
        ));
    }
}

/// Has a lock: works under it, and gives it back.
async fn have(hands: &mut Hands, which: usize, guard: LockGuard) {
    let world = hands.world.clone();
    let holding = {
        let mut state = world.state();
        state.ledger.take(world.etcd(), &hands.name, which, guard)
    };
    let life = holding.life();
    let token = holding.guard.token();
    world
        .trace()
        .write(format_args!("{} has {which} by {token}", hands.name));
    // It is looked at now that it is had.
    drop(world.state());
    match hands.rng.u32(..40) {
        0..20 => work(hands, &holding, 3, 40).await,
        20 => work(hands, &holding, 3, 2_000).await,
        21 | 22 => work_on(hands, &holding).await,
        _ => look_and_work(hands, &holding).await,
    }
    let guard = world.state().ledger.give_back(holding);
    match hands.rng.u32(..8) {
        0 | 1 => return drop(guard),
        2 => {
            let patience = Duration::from_millis(hands.rng.u64(0..10));
            let _ = timeout(patience, guard.unlock()).await;
            return;
        }
        _ => {}
    }
    match guard.unlock().await {
        Ok(()) => {
            let wrong = {
                let state = world.state();
                state.ledger.left_behind(world.etcd(), life, token)
            };
            if let Some(wrong) = wrong {
                world.violation(format!("{} has unlocked, and {wrong}", hands.name));
            }
        }
        Err(lost) => lost_it(hands, lost),
    }
}

pub(super) fn lost_it(hands: &Hands, lost: Lost) {
    let name = &hands.name;
    hands.world.excused(format!("{name} has lost it: {lost}"));
}

/// Works as long as the lock is held.
async fn work(hands: &mut Hands, holding: &Holding<LockGuard>, most: u32, longest: u64) {
    let mut rng = hands.rng.fork();
    let work = steps(hands, &mut rng, holding, most, longest);
    if let Err(lost) = holding.guard.hold(work).await {
        lost_it(hands, lost);
    }
}

/// What is done under a lock, step by step.
pub(super) async fn steps<G: Held>(
    hands: &Hands,
    rng: &mut Rng,
    holding: &Holding<G>,
    most: u32,
    longest: u64,
) {
    for _ in 0..rng.u32(1..=most) {
        write(hands, holding, Belief::Held);
        sleep(Duration::from_millis(rng.u64(1..longest))).await;
    }
    write(hands, holding, Belief::Held);
}

/// Works, and looks each time whether the lock is held.
async fn look_and_work(hands: &mut Hands, holding: &Holding<LockGuard>) {
    for _ in 0..hands.rng.u32(1..4) {
        if !holding.guard.is_held() {
            return;
        }
        write(hands, holding, Belief::Held);
        sleep(Duration::from_millis(hands.rng.u64(1..20))).await;
    }
}

/// Works on for longer than a lease lives, and never looks.
async fn work_on(hands: &mut Hands, holding: &Holding<LockGuard>) {
    for _ in 0..hands.rng.u32(1..8) {
        write(hands, holding, Belief::Stale);
        sleep(Duration::from_millis(hands.rng.u64(1..1_000))).await;
    }
}

pub(super) fn write<G: Held>(hands: &Hands, holding: &Holding<G>, belief: Belief) {
    let world = &hands.world;
    let written = world.state().ledger.write(holding, belief);
    match written {
        Ok(true) => {}
        Ok(false) => {
            let (name, token) = (&hands.name, holding.guard.token());
            world
                .trace()
                .write(format_args!("{name} is refused with {token}"));
        }
        Err(wrong) => world.violation(wrong),
    }
}

/// Has the lock once more when nothing is wrong any more.
async fn at_last(hands: &mut Hands, lock: &Lock) {
    let (world, name) = (hands.world.clone(), hands.name.clone());
    world.state().waits(&name, Some("for the lock, at last"));
    loop {
        match lock.lock().await {
            Ok(guard) => {
                let holding = world.state().ledger.take(world.etcd(), &name, 0, guard);
                drop(world.state());
                work(hands, &holding, 1, 20).await;
                let guard = world.state().ledger.give_back(holding);
                if guard.unlock().await.is_ok() {
                    break;
                }
            }
            Err(LockError::Etcd(Failure::Closed)) => break,
            Err(error) => world.excused(format!("{name}: {}", chain(&error))),
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.state().waits(&name, None);
}
