//! How a server fails.

use rustix::process::Signal;

use crate::{black_hole::BlackHole, conduct::Conduct, servers::Served};

/// How a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// It is gone, and its port is closed.
    Killed,
    /// It is gone, and another one starts at its address.
    Restarted,
    /// It stands still for a while: its connections stay, and nothing comes back on them.
    Frozen,
    /// It is gone, and its address answers no attempt to connect.
    BlackHoled,
    /// Each of its answers takes ten times as long as those of the others.
    Slow,
    /// It fails calls at once and answers them in turns, half a second each.
    Flapping,
    /// It drops its connections and closes its port, and is back, in turns of half a second.
    Dropping,
    /// It answers with UNAVAILABLE at once.
    FailingFast,
    /// It answers no call, and yet lives: its connections stay, and its pings are answered.
    Hanging,
}

pub(crate) const FAULTS: [Fault; 9] = [
    Fault::Killed,
    Fault::Restarted,
    Fault::Frozen,
    Fault::BlackHoled,
    Fault::Slow,
    Fault::Flapping,
    Fault::Dropping,
    Fault::FailingFast,
    Fault::Hanging,
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Restarted => "restarted",
            Self::Frozen => "frozen",
            Self::BlackHoled => "black-holed",
            Self::Slow => "slow",
            Self::Flapping => "flapping",
            Self::Dropping => "dropping",
            Self::FailingFast => "failing fast",
            Self::Hanging => "hanging",
        }
    }

    /// Lets the server fail, and returns what stands in its place.
    pub(crate) async fn strike(self, server: &mut Served) -> Option<BlackHole> {
        match self {
            Self::Killed => server.process.kill(),
            Self::Restarted => {
                server.process.kill();
                *server = Served::start(&server.address).await;
            }
            Self::Frozen => server.process.signal(Signal::STOP),
            Self::BlackHoled => {
                server.process.kill();
                return Some(BlackHole::at(&server.address));
            }
            Self::Slow => server.behave(Conduct::Slow),
            Self::Flapping => server.behave(Conduct::Flapping),
            Self::Dropping => server.behave(Conduct::Dropping),
            Self::FailingFast => server.behave(Conduct::FailingFast),
            Self::Hanging => server.behave(Conduct::Hanging),
        }
        None
    }

    /// Ends what ends by itself.
    pub(crate) fn mend(self, server: &mut Served) {
        if self == Self::Frozen {
            server.process.signal(Signal::CONT);
        }
    }
}
