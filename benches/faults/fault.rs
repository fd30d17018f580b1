//! How a server fails.

use rustix::process::Signal;

use crate::{black_hole::BlackHole, servers::Served};

/// How a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is gone, and its port is closed.
    Killed,
    /// It is gone, and another one starts at its address.
    Restarted,
    /// It stands still for a while: its connections stay, and nothing comes back on them.
    Frozen,
    /// It is gone, and its address answers no attempt to connect.
    BlackHoled,
}

pub(crate) const FAULTS: [Fault; 4] = [
    Fault::Killed,
    Fault::Restarted,
    Fault::Frozen,
    Fault::BlackHoled,
];

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Restarted => "restarted",
            Self::Frozen => "frozen",
            Self::BlackHoled => "black-holed",
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
