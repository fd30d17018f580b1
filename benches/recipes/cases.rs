//! What is done.

/// Something that some do at once, so many times each, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What each does; see [`peer`](crate::peer), and `tests/recipes/go/load.go`.
    pub(crate) what: &'static str,
    /// What they do it with. In a round, it is the same one for all cases that have the same here.
    pub(crate) with: &'static str,
    pub(crate) peers: usize,
    pub(crate) times: usize,
}

/// How many a side has.
pub(crate) const PEERS: usize = 8;

pub(crate) const CASES: &[Case] = &[
    case("lock and unlock, alone", "lock", "alone", 1, 200),
    case("lock handed over between 2", "lock", "two", 2, 100),
    case("lock handed over between 8", "lock", "eight", PEERS, 25),
    case("campaign and resign, alone", "campaign", "elected", 1, 200),
    case(
        "leadership handed over between 2",
        "campaign",
        "two-stand",
        2,
        100,
    ),
    case(
        "leadership handed over between 8",
        "campaign",
        "all-stand",
        PEERS,
        25,
    ),
    case("push", "push", "queue", 1, 200),
    case("pop what is there", "pop", "queue", 1, 200),
    case("push, 8 at once", "push", "shared", PEERS, 25),
    case("pop, 8 at once", "pop", "shared", PEERS, 25),
    case("push with a priority", "push_priority", "urgent", 1, 200),
    case("pop by priority", "pop_priority", "urgent", 1, 200),
];

const fn case(
    name: &'static str,
    what: &'static str,
    with: &'static str,
    peers: usize,
    times: usize,
) -> Case {
    Case {
        name,
        what,
        with,
        peers,
        times,
    }
}

impl Case {
    /// Returns it with so many times fewer of each.
    pub(crate) fn shorter(mut self, by: usize) -> Self {
        self.times = self.times.div_ceil(by);
        self
    }
}
