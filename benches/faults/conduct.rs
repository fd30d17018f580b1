//! How a server answers, and what it does with its connections.

use std::{str::FromStr, time::Duration};

/// How a server behaves; a line of its input says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It answers after [`USUAL`].
    Usual,
    /// It answers after [`SLOW`].
    Slow,
    /// It answers with UNAVAILABLE, at once.
    FailingFast,
    /// It fails and is as usual in turns of [`TURN`].
    Flapping,
    /// It is gone and there in turns of [`TURN`]; its connections go with it.
    Dropping,
    /// It answers no call. All else goes on, pings too.
    Hanging,
}

/// How long a call takes: as one that asks a store. Nothing is computed in it.
pub(crate) const USUAL: Duration = Duration::from_millis(2);

/// Ten times as long.
pub(crate) const SLOW: Duration = Duration::from_millis(20);

/// How long a server that is bad in turns is bad, and then well.
pub(crate) const TURN: Duration = Duration::from_millis(500);

const CONDUCTS: [Conduct; 6] = [
    Conduct::Usual,
    Conduct::Slow,
    Conduct::FailingFast,
    Conduct::Flapping,
    Conduct::Dropping,
    Conduct::Hanging,
];

/// What becomes of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    After(Duration),
    Unavailable,
    Never,
}

impl Conduct {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Slow => "slow",
            Self::FailingFast => "failing-fast",
            Self::Flapping => "flapping",
            Self::Dropping => "dropping",
            Self::Hanging => "hanging",
        }
    }

    /// Returns what a call gets that comes so long after the server began to behave so.
    pub(crate) fn answer(self, since: Duration) -> Answer {
        match self {
            Self::Usual | Self::Dropping => Answer::After(USUAL),
            Self::Slow => Answer::After(SLOW),
            Self::FailingFast => Answer::Unavailable,
            Self::Flapping if is_bad(since) => Answer::Unavailable,
            Self::Flapping => Answer::After(USUAL),
            Self::Hanging => Answer::Never,
        }
    }
}

/// A server that is bad in turns begins with being so.
fn is_bad(since: Duration) -> bool {
    (since.as_millis() / TURN.as_millis()).is_multiple_of(2)
}

impl FromStr for Conduct {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = CONDUCTS.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| format!("conduct: {name:?} (expected: the name of one)"))
    }
}
