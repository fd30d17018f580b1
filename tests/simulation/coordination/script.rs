//! Which faults come and go when, decided by a run's seed before it begins. What the parties do they
//! make up themselves, each from chance of its own.
//!
//! Every fault that lasts has ended by [`END`].

use std::time::Duration;

use fastrand::Rng;

use crate::script::{EtcdFault, Weather};

/// When the last fault has ended, and everybody comes to rest.
pub(super) const END: Duration = Duration::from_secs(20);

/// How many replicas there are of one configuration.
pub(super) const REPLICAS: usize = 16;
pub(super) const WRITERS: usize = 2;
pub(super) const SENDERS: usize = 3;
pub(super) const SUBSCRIBERS: usize = 6;
pub(super) const MEMBERS: usize = 4;
pub(super) const FOLLOWERS: usize = 2;

/// Who a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// It writes the configurations, and what conditions are waited for.
    Writer(usize),
    Replica(usize),
    Sender(usize),
    Subscriber(usize),
    Member(usize),
    /// It follows who is a member.
    Follower(usize),
    /// It reports how far a job is.
    Reporter,
    /// It waits for the job, and for conditions.
    Waiter,
}

#[derive(Debug)]
pub(super) struct Script {
    /// In order of time.
    pub(super) steps: Vec<(Duration, Action)>,
    /// Whether nothing goes wrong at all.
    pub(super) is_calm: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    Etcd(EtcdFault),
    Link(Party, Weather),
    /// A process dies with all it held, and is started again.
    Crash(Party),
    /// A process closes its registry while all that it does is under way, and begins anew.
    Close(Party),
}

impl Party {
    /// Returns everybody.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let many = [
            (WRITERS, Self::Writer as fn(usize) -> Self),
            (REPLICAS, Self::Replica),
            (SENDERS, Self::Sender),
            (SUBSCRIBERS, Self::Subscriber),
            (MEMBERS, Self::Member),
            (FOLLOWERS, Self::Follower),
        ];
        let many = many.into_iter().flat_map(|(of, who)| (0..of).map(who));
        many.chain([Self::Reporter, Self::Waiter])
    }

    fn any(rng: &mut Rng) -> Self {
        // Kinds are as likely as each other, however many of them there are.
        match rng.u32(..8) {
            0 => Self::Writer(rng.usize(..WRITERS)),
            1 => Self::Replica(rng.usize(..REPLICAS)),
            2 => Self::Sender(rng.usize(..SENDERS)),
            3 | 4 => Self::Subscriber(rng.usize(..SUBSCRIBERS)),
            5 => Self::Member(rng.usize(..MEMBERS)),
            6 => Self::Follower(rng.usize(..FOLLOWERS)),
            _ => [Self::Reporter, Self::Waiter][rng.usize(..2)],
        }
    }
}

impl Script {
    /// Returns the run of a seed.
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // A few runs have no faults: what breaks there is easy to read.
        let is_calm = rng.u32(..20) == 0;
        let mut steps = Vec::new();
        if !is_calm {
            for _ in 0..rng.u32(2..14) {
                befallen(&mut rng, &mut steps);
            }
        }
        // What comes at the same time comes in the order it was made up.
        steps.sort_by_key(|(at, _)| *at);
        Self { steps, is_calm }
    }
}

fn befallen(rng: &mut Rng, steps: &mut Vec<(Duration, Action)>) {
    let at = Duration::from_millis(rng.u64(500..END.as_millis() as u64 - 1000));
    let longest = if rng.u32(..4) == 0 { 12_000 } else { 2_500 };
    let until = (at + Duration::from_millis(rng.u64(20..longest))).min(END);
    let mut push = |at, action| steps.push((at, action));
    match rng.u32(..20) {
        0..3 => push(at, Action::Crash(Party::any(rng))),
        3 => push(at, Action::Close(Party::any(rng))),
        4 => {
            // All are away while etcd forgets, or is exchanged for another one.
            let fault = match rng.bool() {
                true => EtcdFault::Wipe,
                false => EtcdFault::Compact(rng.u32(..3)),
            };
            let kept_away = rng.usize(..4);
            for (number, party) in Party::all().enumerate() {
                if number % 4 != kept_away {
                    push(at, Action::Link(party, Weather::Refuse));
                    push(at, Action::Link(party, Weather::Reset));
                    push(until, Action::Link(party, Weather::Fair));
                }
            }
            let half = at + (until - at) / 2;
            push(half, Action::Etcd(fault));
        }
        5..10 => {
            let party = Party::any(rng);
            let weather = match rng.u32(..10) {
                0..3 => Weather::Cut,
                3..5 => Weather::Delay(Duration::from_millis(rng.u64(1..400))),
                5..7 => Weather::Refuse,
                _ => Weather::Reset,
            };
            push(at, Action::Link(party, weather));
            if weather == Weather::Refuse {
                // Refusing alone is not noticed.
                push(at, Action::Link(party, Weather::Reset));
            }
            if weather != Weather::Reset {
                push(until, Action::Link(party, Weather::Fair));
            }
        }
        _ => {
            let (fault, remedy) = etcd_fault(rng);
            push(at, Action::Etcd(fault));
            if let Some(remedy) = remedy {
                push(until, Action::Etcd(remedy));
            }
        }
    }
}

fn etcd_fault(rng: &mut Rng) -> (EtcdFault, Option<EtcdFault>) {
    match rng.u32(..18) {
        0..3 => (EtcdFault::Freeze, Some(EtcdFault::Thaw)),
        3..5 => (EtcdFault::DropConnections, None),
        5 => (EtcdFault::Restart, None),
        6..8 => (EtcdFault::ExpireLease(rng.usize(..100)), None),
        8..10 => (EtcdFault::Compact(rng.u32(..5)), None),
        10 => (EtcdFault::Compact(rng.u32(5..80)), None),
        11..13 => (EtcdFault::Wipe, None),
        13..15 => (EtcdFault::ReadOnly(true), Some(EtcdFault::ReadOnly(false))),
        _ => {
            let codes = [
                tonic::Code::Unavailable,
                tonic::Code::DeadlineExceeded,
                tonic::Code::Internal,
                tonic::Code::ResourceExhausted,
                tonic::Code::PermissionDenied,
            ];
            let code = codes[rng.usize(..codes.len())];
            let fault = EtcdFault::Refuse(rng.u32(1..40), code);
            (fault, Some(EtcdFault::Refuse(0, code)))
        }
    }
}
