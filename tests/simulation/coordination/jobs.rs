//! A process that reports how far a job is, and one that waits for that, and for conditions.

use std::time::Duration;

use switchboard::coordination::{
    Conditions, ConditionsError, Failure, Percent, Progress, ProgressError,
};
use tokio::time::{sleep, timeout};

use super::{
    history::{FLAGS, JOB, Life},
    process::Hands,
};
use crate::trace::chain;

/// Reports more and more, and now and then begins anew.
pub(super) async fn report(mut hands: Hands) {
    let (world, name) = (hands.world.clone(), hands.name.clone());
    let mut job = Progress::report(&hands.registry, JOB).expect("a name");
    // Another life of this process has come as far.
    let mut percent = {
        let lives = &world.state().history.lives;
        let reached = lives
            .iter()
            .filter_map(|life| life.progress.values().flatten().max());
        i64::from(reached.max().copied().unwrap_or(0))
    };
    while !world.is_over() {
        let wait = Duration::from_millis(hands.rng.u64(50..1_500));
        let _ = timeout(wait, world.over().cancelled()).await;
        percent = (percent + hands.rng.i64(0..6)).min(99);
        let patience = match hands.rng.u32(..6) {
            0 => Duration::from_millis(hands.rng.u64(0..50)),
            _ => Duration::from_secs(60),
        };
        if let Ok(Err(error)) = timeout(patience, job.reached(percent)).await {
            world.excused(format!("{name} reports {percent}: {}", chain(&error)));
        }
    }
    world
        .state()
        .waits(&name, Some("to report at last".to_owned()));
    while let Err(error) = job.reached(100).await {
        world.excused(format!("{name} reports at last: {}", chain(&error)));
        sleep(Duration::from_millis(200)).await;
    }
    world.state().waits(&name, None);
}

pub(super) async fn wait(mut hands: Hands) {
    let mut rng = hands.rng.fork();
    tokio::join!(wait_for_job(&hands, &mut rng), meet(&hands));
}

async fn wait_for_job(hands: &Hands, rng: &mut fastrand::Rng) {
    let (world, who) = (&hands.world, format!("{} of the job", hands.name));
    let waits = Some("to see that the job is done".to_owned());
    world.state().waits(&who, waits);
    loop {
        let mut progress = match Progress::follow(&hands.registry, JOB).await {
            Ok(progress) => progress,
            Err(error) => {
                world.excused(format!("{who} cannot follow: {}", chain(&error)));
                if matches!(
                    error,
                    ProgressError::Etcd {
                        cause: Failure::Closed,
                        ..
                    }
                ) {
                    return world.state().waits(&who, None);
                }
                sleep(Duration::from_millis(300)).await;
                continue;
            }
        };
        let (mut last, mut life) = (0, world.state().history.life());
        for _ in 0..rng.u32(1..40) {
            let wanted = rng.u8(last..=100);
            let reached = timeout(
                Duration::from_millis(rng.u64(1..2_000)),
                progress.wait(|it| it.get() >= wanted),
            );
            let percent = match reached.await {
                Err(_) => continue,
                Ok(Err(_)) => return world.state().waits(&who, None),
                Ok(Ok(percent)) => percent,
            };
            world.trace().write(format_args!("{who} sees {percent}"));
            let now = world.state().history.life();
            let was = |life: &Life| life.progress.values().any(|it| *it == Some(percent.get()));
            let was_there = world.state().history.lives.iter().any(was);
            if percent.get() < wanted || !was_there || (percent.get() < last && now == life) {
                world.violation(format!("{who} sees {percent} after {last}, for {wanted}"));
            }
            (last, life) = (percent.get(), now);
            if percent.is_done() {
                return world.state().waits(&who, None);
            }
        }
        if world.is_over() {
            // Now it has to come.
            let done = progress.wait(Percent::is_done).await.is_ok();
            world
                .trace()
                .write(format_args!("{who} sees the end: {done}"));
            return world.state().waits(&who, None);
        }
    }
}

async fn meet(hands: &Hands) {
    let (world, who) = (&hands.world, format!("{} for conditions", hands.name));
    loop {
        let waits = Some("for conditions".to_owned());
        world.state().waits(&who, waits);
        let conditions = Conditions::new(&hands.registry)
            .holds(FLAGS[0], "go")
            .and_then(|it| it.holds(FLAGS[1], "go"))
            .and_then(|it| it.absent(FLAGS[2]));
        match conditions.expect("they are valid").met().await {
            Ok(met) => {
                let wanted = [Some(b"go".to_vec()), Some(b"go".to_vec()), None];
                let was = |life: &Life| {
                    let at = life.flags.range(..=met.revision).next_back();
                    life.revision >= met.revision && at.is_some_and(|(_, flags)| *flags == wanted)
                };
                let is_so = world.state().history.lives.iter().any(was);
                world.trace().write(format_args!("{who}: {met:?}"));
                if !is_so {
                    world.violation(format!("{who}: {met:?}, and they were not"));
                }
                if world.is_over() {
                    return world.state().waits(&who, None);
                }
                world.state().waits(&who, None);
            }
            Err(ConditionsError::Etcd(Failure::Closed)) => return world.state().waits(&who, None),
            Err(error) => world.excused(format!("{who}: {}", chain(&error))),
        }
        sleep(Duration::from_millis(500)).await;
    }
}
