//! Which faults come and go when, decided by a run's seed before it begins. What the parties do
//! they make up themselves, each from chance of its own.
//!
//! Every fault that lasts has ended by [`END`].

use std::time::Duration;

use fastrand::Rng;

use crate::script::{EtcdFault, Weather};

/// When the last fault has ended.
pub(super) const END: Duration = Duration::from_secs(20);

/// What is contended for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    Locks,
    Election,
    Queues,
}

/// What is done in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// To want locks.
    Contend,
    /// To want to lead.
    Campaign,
    /// To be told who leads.
    Observe,
    /// To push into queues.
    Produce,
    /// To pop from them.
    Consume,
}

impl Scene {
    /// Returns what is done in each process, and by how many.
    pub(super) fn processes(self) -> Vec<(Role, usize)> {
        let of = |many: &[usize], role| many.iter().map(move |many| (role, *many)).collect();
        match self {
            Self::Locks => of(&[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 4, 6, 8], Role::Contend),
            Self::Election => {
                let candidates: Vec<_> = of(&[1, 1, 1, 1, 1, 2, 2, 3], Role::Campaign);
                let observers: Vec<_> = of(&[1; 4], Role::Observe);
                [candidates, observers].concat()
            }
            Self::Queues => {
                let producers: Vec<_> = of(&[1; 8], Role::Produce);
                let consumers: Vec<_> = of(&[1; 8], Role::Consume);
                [producers, consumers].concat()
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Script {
    /// In order of time.
    pub(super) steps: Vec<(Duration, Action)>,
    /// Whether nothing goes wrong at all.
    pub(super) is_calm: bool,
    /// How long it is to etcd.
    pub(super) way: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Etcd(EtcdFault),
    Link(usize, Weather),
    /// A process dies with all it held, and is started again.
    Crash(usize),
    /// A process closes its registry while all that it does is under way, and begins anew.
    Close(usize),
    /// What a process does stands still, and the network hears nothing from it.
    Freeze(usize),
    /// What a process does stands still; its registry goes on.
    Stall(usize),
    /// A process that stood still goes on as if nothing was.
    Thaw(usize),
    /// Somebody deletes one of the keys in line.
    Delete(usize),
}

impl Script {
    /// Returns the run of a seed.
    pub(super) fn of(seed: u64, processes: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        // A few runs have no faults: what breaks there is easy to read.
        let is_calm = rng.u32(..20) == 0;
        // A crash finds more under way where that takes time.
        let way = Duration::from_millis([0, 0, 2, 15][rng.usize(..4)]);
        // Where data is lost, much is excused.
        let is_wiped = rng.u32(..8) == 0;
        let mut steps = Vec::new();
        if !is_calm {
            for _ in 0..rng.u32(3..20) {
                befallen(&mut rng, processes, is_wiped, &mut steps);
            }
        }
        // What comes at the same time comes in the order it was made up.
        steps.sort_by_key(|(at, _)| *at);
        Self {
            steps,
            is_calm,
            way,
        }
    }
}

fn befallen(rng: &mut Rng, processes: usize, is_wiped: bool, steps: &mut Vec<(Duration, Action)>) {
    let at = Duration::from_millis(rng.u64(500..END.as_millis() as u64 - 1000));
    // Some outlast a lease.
    let longest = if rng.u32(..4) == 0 { 8_000 } else { 2_000 };
    let until = (at + Duration::from_millis(rng.u64(20..longest))).min(END);
    let process = rng.usize(..processes);
    let mut push = |at, action| steps.push((at, action));
    match rng.u32(..20) {
        0..2 => push(at, Action::Crash(process)),
        2 => push(at, Action::Close(process)),
        3..6 => {
            push(at, Action::Freeze(process));
            push(until, Action::Thaw(process));
        }
        6 => {
            push(at, Action::Stall(process));
            push(until, Action::Thaw(process));
        }
        7..9 => push(at, Action::Delete(rng.usize(..100))),
        9..11 => push(at, Action::Etcd(EtcdFault::ExpireLease(rng.usize(..100)))),
        11..16 => {
            let weather = match rng.u32(..10) {
                0..4 => Weather::Cut,
                4..6 => Weather::Delay(Duration::from_millis(rng.u64(1..400))),
                6..8 => Weather::Refuse,
                _ => Weather::Reset,
            };
            push(at, Action::Link(process, weather));
            if weather == Weather::Refuse {
                // Refusing alone is not noticed.
                push(at, Action::Link(process, Weather::Reset));
            }
            if weather != Weather::Reset {
                push(until, Action::Link(process, Weather::Fair));
            }
        }
        _ => {
            let (fault, remedy) = etcd_fault(rng, is_wiped);
            push(at, Action::Etcd(fault));
            if let Some(remedy) = remedy {
                push(until, Action::Etcd(remedy));
            }
        }
    }
}

fn etcd_fault(rng: &mut Rng, is_wiped: bool) -> (EtcdFault, Option<EtcdFault>) {
    match rng.u32(..16) {
        0..3 => (EtcdFault::Freeze, Some(EtcdFault::Thaw)),
        3..5 => (EtcdFault::DropConnections, None),
        5..7 => (EtcdFault::Restart, None),
        7..9 => (EtcdFault::Compact(rng.u32(..5)), None),
        9..11 if is_wiped => (EtcdFault::Wipe, None),
        9..12 => (EtcdFault::ReadOnly(true), Some(EtcdFault::ReadOnly(false))),
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
