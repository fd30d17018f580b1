//! What happens in a run, decided by its seed before it begins: who is told what, and which faults
//! come and go when.
//!
//! Every fault that lasts has ended by [`END`]; so has what keeps a server from serving.

use std::{fmt, time::Duration};

use fastrand::Rng;

/// When the last fault has ended.
pub(crate) const END: Duration = Duration::from_secs(20);

/// How many processes publish, and how many instances each.
pub(crate) const PUBLISHERS: usize = 3;
pub(crate) const SLOTS: usize = 2;
/// How many servers there are, each a process.
pub(crate) const SERVERS: usize = 3;
/// How many processes call the servers and follow who publishes.
pub(crate) const CLIENTS: usize = 2;
/// How many revisions a backup lacks, at least.
pub(crate) const LOST: i64 = 100;
/// At how many addresses instances are published: few, so that they meet.
const ADDRESSES: usize = 8;

/// A run, before it begins.
#[derive(Debug)]
pub(crate) struct Script {
    /// The TTLs of the publishers' and the servers' leases, in turn.
    pub(crate) ttls: Vec<Duration>,
    /// In order of time.
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// An instance's publisher is told something.
    Publication {
        publisher: usize,
        slot: usize,
        order: Order,
    },
    /// A process dies, and with it all it held; it is started again at once.
    CrashPublisher(usize),
    /// A registry is closed, and another one made.
    ClosePublisher(usize),
    Server(usize, ServerOrder),
    /// Nothing passes between a party and anybody.
    CutOff(Party),
    /// What a party does stands still, and nothing passes between it and anybody: so is a process seen that
    /// the system has stopped. Its registry and its channel run, deaf and dumb: what differs is that they know
    /// what time it is.
    StandStill(Party),
    /// All passes again, and who stood still goes on as if nothing was.
    Return(Party),
    /// A client drops what it follows, and follows anew.
    FollowAnew(usize),
    Etcd(EtcdFault),
    /// Whoever runs the system copies etcd's data, and has etcd start with that copy later.
    BackUp,
    Restore,
    /// A stranger lays hands on a record, on one of those there are.
    Meddle(Meddling, usize),
    /// A stranger writes so many keys that are nobody else's.
    Grow(usize),
    /// Whoever runs the system changes the setting.
    Configure(u64),
    Link(Party, Place, Weather),
}

#[derive(Debug, Clone)]
pub(crate) enum Order {
    Pause,
    Resume,
    /// The same instance in another version, at another address if there is one.
    Update {
        address: Option<usize>,
    },
    Stop,
    Drop,
    Publish {
        address: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerOrder {
    /// Gracefully.
    Stop,
    Crash,
    Start,
    /// Gracefully, and to start again.
    Restart,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum EtcdFault {
    Freeze,
    Thaw,
    DropConnections,
    Restart,
    /// Of the leases that hold keys, one.
    ExpireLease(usize),
    /// All but so many of the last revisions.
    Compact(u32),
    Wipe,
    ReadOnly(bool),
    /// So many requests fail.
    Refuse(u32, tonic::Code),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meddling {
    Delete,
    /// Its value is of no use any more, and it has no lease.
    Spoil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Publisher(usize),
    Server(usize),
    Client(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Etcd,
    Server(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing passes, and nothing is lost.
    Cut,
    Delay(Duration),
    /// New connections are refused.
    Refuse,
    /// Connections break, once.
    Reset,
}

impl Party {
    fn any(rng: &mut Rng) -> Self {
        match rng.u32(..3) {
            0 => Self::Publisher(rng.usize(..PUBLISHERS)),
            1 => Self::Server(rng.usize(..SERVERS)),
            _ => Self::Client(rng.usize(..CLIENTS)),
        }
    }

    /// Returns all links of a party, by who dials and what is dialed.
    pub(crate) fn links(self) -> Vec<(Party, Place)> {
        let mut links = vec![(self, Place::Etcd)];
        match self {
            Self::Publisher(_) => {}
            Self::Server(server) => {
                links.extend((0..CLIENTS).map(|it| (Self::Client(it), Place::Server(server))));
            }
            Self::Client(_) => links.extend((0..SERVERS).map(|it| (self, Place::Server(it)))),
        }
        links
    }
}

impl Script {
    /// Returns the run of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let ttls = (0..PUBLISHERS + SERVERS)
            .map(|_| Duration::from_secs(rng.u64(2..=5)))
            .collect();
        // A few runs have no faults: what breaks there is easy to read.
        let faults = if rng.u32(..20) == 0 {
            0
        } else {
            rng.u32(1..10)
        };
        let mut steps = Vec::new();
        for publisher in 0..PUBLISHERS {
            for slot in 0..SLOTS {
                let address = rng.usize(..ADDRESSES);
                let order = Order::Publish { address };
                let at = Duration::from_millis(rng.u64(..500));
                let action = Action::Publication {
                    publisher,
                    slot,
                    order,
                };
                steps.push(Step { at, action });
            }
        }
        for _ in 0..rng.u32(2..14) {
            told(&mut rng, &mut steps);
        }
        for value in 1..=rng.u64(1..6) {
            let at = moment(&mut rng);
            let action = Action::Configure(value);
            steps.push(Step { at, action });
        }
        for _ in 0..faults {
            befallen(&mut rng, &mut steps);
        }
        let mut script = Self { ttls, steps };
        script.sort();
        script
    }

    /// Returns the run of a seed, and has a backup of etcd restored in it.
    pub(crate) fn with_restore(seed: u64) -> Self {
        let mut script = Self::of(seed);
        let mut rng = Rng::with_seed(seed ^ 0xbac4);
        let mut at = [moment(&mut rng), moment(&mut rng)];
        at.sort();
        let [backup, restore] = at;
        // Whatever is lost was written at revisions that the restored etcd reaches only after everybody has
        // seen where it is: from then on revisions alone tell nothing.
        let steps = [
            (backup, Action::BackUp),
            (backup, Action::Grow(LOST as usize)),
            (restore, Action::Restore),
        ];
        let steps = steps.map(|(at, action)| Step { at, action });
        script.steps.extend(steps);
        script.sort();
        script
    }

    /// What comes at the same time comes in the order it was made up.
    fn sort(&mut self) {
        self.steps.sort_by_key(|step| step.at);
    }
}

/// A moment at which something may begin.
fn moment(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(500..END.as_millis() as u64 - 1000))
}

/// A time for which something lasts: mostly short, at times longer than any lease.
fn span(rng: &mut Rng) -> Duration {
    let most = if rng.u32(..4) == 0 { 12_000 } else { 2_500 };
    Duration::from_millis(rng.u64(20..most))
}

/// Somebody does what is allowed.
fn told(rng: &mut Rng, steps: &mut Vec<Step>) {
    let at = moment(rng);
    let mut push = |at: Duration, action| {
        let at = at.min(END);
        steps.push(Step { at, action });
    };
    match rng.u32(..20) {
        0..12 => {
            let order = match rng.u32(..12) {
                0..2 => Order::Pause,
                2..4 => Order::Resume,
                4..6 => Order::Update { address: None },
                6..8 => Order::Update {
                    address: Some(rng.usize(..ADDRESSES)),
                },
                8 => Order::Stop,
                9 => Order::Drop,
                _ => Order::Publish {
                    address: rng.usize(..ADDRESSES),
                },
            };
            let action = Action::Publication {
                publisher: rng.usize(..PUBLISHERS),
                slot: rng.usize(..SLOTS),
                order,
            };
            push(at, action);
        }
        12 => push(at, Action::CrashPublisher(rng.usize(..PUBLISHERS))),
        13 => push(at, Action::ClosePublisher(rng.usize(..PUBLISHERS))),
        14 => push(at, Action::FollowAnew(rng.usize(..CLIENTS))),
        kind => {
            let server = rng.usize(..SERVERS);
            let end = if kind < 18 {
                ServerOrder::Stop
            } else {
                ServerOrder::Crash
            };
            push(at, Action::Server(server, end));
            push(at + span(rng), Action::Server(server, ServerOrder::Start));
        }
    }
}

/// Something goes wrong, and is right again.
fn befallen(rng: &mut Rng, steps: &mut Vec<Step>) {
    let at = moment(rng);
    let until = (at + span(rng)).min(END);
    let mut push = |at, action| steps.push(Step { at, action });
    if rng.u32(..6) == 0 {
        let how = [Meddling::Delete, Meddling::Spoil][rng.usize(..2)];
        return push(at, Action::Meddle(how, rng.usize(..100)));
    }
    match rng.u32(..14) {
        0 => return exchange(rng, at, until, &mut push),
        1 => return forget(rng, at, until, &mut push),
        2 => return roll(rng, at, &mut push),
        kind @ 3..6 => {
            let party = Party::any(rng);
            let away = match kind {
                3 => Action::CutOff(party),
                _ => Action::StandStill(party),
            };
            push(at, away);
            return push(until, Action::Return(party));
        }
        _ => {}
    }
    if rng.bool() {
        let (fault, remedy) = match rng.u32(..16) {
            0..3 => (EtcdFault::Freeze, Some(EtcdFault::Thaw)),
            3 => (EtcdFault::DropConnections, None),
            4 => (EtcdFault::Restart, None),
            5..8 => (EtcdFault::ExpireLease(rng.usize(..100)), None),
            8 => (EtcdFault::Compact(rng.u32(..5)), None),
            9 => (EtcdFault::Compact(rng.u32(5..80)), None),
            10 => (EtcdFault::Wipe, None),
            11..13 => (EtcdFault::ReadOnly(true), Some(EtcdFault::ReadOnly(false))),
            _ => {
                let codes = [
                    tonic::Code::Unavailable,
                    tonic::Code::Unavailable,
                    tonic::Code::DeadlineExceeded,
                    tonic::Code::Internal,
                    tonic::Code::ResourceExhausted,
                    tonic::Code::PermissionDenied,
                ];
                let code = codes[rng.usize(..codes.len())];
                let remedy = EtcdFault::Refuse(0, code);
                (EtcdFault::Refuse(rng.u32(1..20), code), Some(remedy))
            }
        };
        push(at, Action::Etcd(fault));
        if let Some(remedy) = remedy {
            push(until, Action::Etcd(remedy));
        }
        return;
    }
    let (party, place) = match rng.u32(..10) {
        0..3 => (Party::Publisher(rng.usize(..PUBLISHERS)), Place::Etcd),
        3..5 => (Party::Server(rng.usize(..SERVERS)), Place::Etcd),
        5..7 => (Party::Client(rng.usize(..CLIENTS)), Place::Etcd),
        _ => (
            Party::Client(rng.usize(..CLIENTS)),
            Place::Server(rng.usize(..SERVERS)),
        ),
    };
    let weather = match rng.u32(..10) {
        0..3 => Weather::Cut,
        3..5 => Weather::Delay(Duration::from_millis(rng.u64(1..400))),
        5..7 => Weather::Refuse,
        _ => Weather::Reset,
    };
    push(at, Action::Link(party, place, weather));
    if weather == Weather::Refuse {
        // Refusing alone is not noticed.
        push(at, Action::Link(party, place, Weather::Reset));
    }
    if weather != Weather::Reset {
        push(until, Action::Link(party, place, Weather::Fair));
    }
}

/// Another etcd takes the place of the one there is, behind everybody's back, and is further on when
/// they come back, or not.
fn exchange(rng: &mut Rng, at: Duration, until: Duration, push: &mut impl FnMut(Duration, Action)) {
    keep_away(at, until, push);
    push(at, Action::Etcd(EtcdFault::Wipe));
    push(at, Action::Grow(rng.usize(..60)));
}

/// etcd forgets what happened while everybody was away.
fn forget(rng: &mut Rng, at: Duration, until: Duration, push: &mut impl FnMut(Duration, Action)) {
    keep_away(at, until, push);
    push(at, Action::Meddle(Meddling::Delete, rng.usize(..100)));
    push(at, Action::Grow(rng.usize(1..20)));
    push(until, Action::Etcd(EtcdFault::Compact(rng.u32(..3))));
    if rng.bool() {
        // And goes away again while all read anew.
        let again = until + Duration::from_millis(rng.u64(..100));
        push(again.min(END), Action::Etcd(EtcdFault::DropConnections));
    }
}

/// Every server is told to stop and starts again, one after another, whether the one before is back or not.
fn roll(rng: &mut Rng, at: Duration, push: &mut impl FnMut(Duration, Action)) {
    let mut next = at;
    for server in 0..SERVERS {
        push(next.min(END), Action::Server(server, ServerOrder::Restart));
        next += Duration::from_millis(rng.u64(100..5_000));
    }
}

/// Nobody reaches etcd.
fn keep_away(at: Duration, until: Duration, push: &mut impl FnMut(Duration, Action)) {
    let parties = (0..PUBLISHERS).map(Party::Publisher);
    let parties = parties.chain((0..SERVERS).map(Party::Server));
    for party in parties.chain((0..CLIENTS).map(Party::Client)) {
        push(at, Action::Link(party, Place::Etcd, Weather::Refuse));
        push(at, Action::Link(party, Place::Etcd, Weather::Reset));
        push(until, Action::Link(party, Place::Etcd, Weather::Fair));
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.3} {:?}", self.at.as_secs_f64(), self.action)
    }
}
