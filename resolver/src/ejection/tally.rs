//! What calls tell of one endpoint, and whether they are let through to it.
//!
//! Calls write here and the balancer reads, without a lock. One word holds the gate, what became of a
//! trial, and an epoch, which changes with each change of the gate: a call is known by the epoch it
//! was picked in, and one of an earlier epoch says nothing. What it met was before.
//!
//! - In one epoch there is one trial at a time, if the gate is for one and the balancer does not let
//!   another one try. One that is given up without an outcome gives its turn back.
//! - The gate's mode is the balancer's alone to set; calls only mark what became of their trials.
//! - What all calls read is written only if it has to be: a success that follows another adds one to one
//!   number.

use std::sync::{
    Arc,
    atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

/// How the calls of one endpoint ended.
#[derive(Debug)]
pub(crate) struct Tally {
    /// The epoch in the upper bits, and below it the mode, and what became of the trial.
    gate: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    /// How many calls failed since one succeeded.
    row: AtomicU32,
    /// The row that the balancer is told of at once.
    long_row: u32,
}

/// What the end of a call says of its server. A call that its caller gave up says nothing: its
/// admission is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, if only that it cannot.
    Success,
    /// It failed.
    Failure,
    /// The call was lost with its connection. A failure as others, but none of a row: a server that
    /// restarts loses many at once, and whether it is to be called again is for its redial to find out.
    Lost,
}

/// When the balancer has to look at what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "somebody has to tell the balancer"]
pub(crate) enum Look {
    /// Now: a row has become long, or a trial has ended.
    Now,
    /// When it does anyway.
    Later,
}

/// Which calls are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// None.
    Closed,
    /// One at a time, on trial, until one has ended well or badly.
    OneTrial,
    /// All, each on trial.
    AnyTrial,
    /// All.
    Open,
}

/// The leave to make one call. To be dropped before the call's slot, so that who is woken by that finds
/// the gate as it is then.
#[derive(Debug)]
#[must_use = "a trial that is dropped was given up"]
pub(crate) enum Admission {
    /// One among many.
    Normal(Epoch),
    /// One that decides whether the endpoint is back.
    Trial(Trial),
}

/// The turn to make a call that decides; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Trial {
    tally: Arc<Tally>,
    epoch: Epoch,
}

/// Between two changes of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

/// How many calls ended how, since the endpoint has been known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

const MODE: u64 = 0b11;
const OPEN: u64 = 0;
const CLOSED: u64 = 1;
const ONE_TRIAL: u64 = 2;
const ANY_TRIAL: u64 = 3;

/// The one trial is under way.
const TAKEN: u64 = 1 << 2;
/// A trial has ended well.
const GOOD: u64 = 1 << 3;
/// The one trial has ended badly. Of any number none is noted: they are no reason to call others, of
/// which there are none.
const BAD: u64 = 1 << 4;

const EPOCH: u64 = 1 << 8;
const EPOCHS: u64 = !(EPOCH - 1);

impl Tally {
    /// Makes one that lets all calls through. The balancer is told of a row of `long_row` failures, if
    /// there is a number.
    pub(crate) fn new(long_row: Option<u32>) -> Self {
        Self {
            gate: AtomicU64::new(OPEN),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            row: AtomicU32::new(0),
            // Rows end before that.
            long_row: long_row.unwrap_or(u32::MAX),
        }
    }

    /// Lets a call through, or does not.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Admission> {
        // In one order with who begins to wait: either they find the turn that is given back, or who
        // gives it back finds them.
        let state = self.gate.load(SeqCst);
        let epoch = Epoch::of(state);
        match state & MODE {
            OPEN => return Some(Admission::Normal(epoch)),
            CLOSED => return None,
            ANY_TRIAL => {}
            _ if state & (TAKEN | GOOD | BAD) != 0 => return None,
            _ => {
                // Another one was first, or the gate has changed; either way it is not our turn.
                let taken = state | TAKEN;
                let turn = self.gate.compare_exchange(state, taken, Relaxed, Relaxed);
                turn.ok()?;
            }
        }
        let tally = self.clone();
        Some(Admission::Trial(Trial { tally, epoch }))
    }

    /// Takes in how a call ended that was let through.
    pub(crate) fn ended(&self, verdict: Verdict, admission: Admission) -> Look {
        // The gate has changed since. A trial's turn is gone with it.
        if Epoch::of(self.gate.load(Relaxed)) != admission.epoch() {
            return Look::Later;
        }
        let count = match verdict {
            Verdict::Success => &self.successes,
            Verdict::Failure | Verdict::Lost => &self.failures,
        };
        count.fetch_add(1, Relaxed);
        match (admission, verdict) {
            (Admission::Trial(trial), _) => trial.ended(verdict == Verdict::Success),
            (Admission::Normal(_), Verdict::Success) => {
                self.end_row();
                Look::Later
            }
            (Admission::Normal(_), Verdict::Failure) => {
                let row = self.row.fetch_add(1, Relaxed).wrapping_add(1);
                match row == self.long_row {
                    true => Look::Now,
                    false => Look::Later,
                }
            }
            (Admission::Normal(_), Verdict::Lost) => Look::Later,
        }
    }

    /// Returns how many calls ended how; the numbers only grow.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            successes: self.successes.load(Relaxed),
            failures: self.failures.load(Relaxed),
        }
    }

    /// Returns how many calls failed in a row.
    pub(super) fn row(&self) -> u32 {
        self.row.load(Relaxed)
    }

    /// Forgets the calls that failed in a row.
    pub(super) fn end_row(&self) {
        if self.row.load(Relaxed) != 0 {
            self.row.store(0, Relaxed);
        }
    }

    /// Returns how a trial ended since the gate was set, if one has.
    pub(super) fn outcome(&self) -> Option<bool> {
        let state = self.gate.load(Relaxed);
        match (state & GOOD != 0, state & BAD != 0) {
            (false, false) => None,
            (is_good, _) => Some(is_good),
        }
    }

    /// Lets another call be on trial beside the one that is, and returns whether there is one.
    pub(super) fn let_another_try(&self) -> bool {
        let is_taken = |state| state & MODE == ONE_TRIAL && state & TAKEN != 0;
        let free = |state| is_taken(state).then_some(state & !TAKEN);
        self.gate.fetch_update(SeqCst, SeqCst, free).is_ok()
    }

    /// Sets the gate, and returns whether it lets more calls through than before. To be called by the
    /// balancer alone. A gate that is so already stays, with the trial under way.
    pub(super) fn set(&self, gate: Gate) -> bool {
        let state = self.gate.load(Relaxed);
        let before = Gate::of(state);
        if before == gate {
            return false;
        }
        // Over whatever calls mark meanwhile: that was of the epoch before.
        let epoch = (state & EPOCHS).wrapping_add(EPOCH);
        self.gate.store(epoch | gate.mode(), Relaxed);
        gate.width() > before.width()
    }
}

impl Gate {
    fn of(state: u64) -> Self {
        match state & MODE {
            OPEN => Self::Open,
            CLOSED => Self::Closed,
            ONE_TRIAL => Self::OneTrial,
            _ => Self::AnyTrial,
        }
    }

    fn mode(self) -> u64 {
        match self {
            Self::Open => OPEN,
            Self::Closed => CLOSED,
            Self::OneTrial => ONE_TRIAL,
            Self::AnyTrial => ANY_TRIAL,
        }
    }

    fn width(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::OneTrial => 1,
            Self::AnyTrial | Self::Open => 2,
        }
    }
}

impl Admission {
    /// Gives the leave back, without a call, and returns whether it was a turn that others can have.
    pub(crate) fn give_back(self) -> bool {
        matches!(self, Self::Trial(_))
    }

    fn epoch(&self) -> Epoch {
        match self {
            Self::Normal(epoch) => *epoch,
            Self::Trial(trial) => trial.epoch,
        }
    }
}

impl Trial {
    /// Marks how it ended. Dropped after that, it gives nothing back: its turn is over.
    fn ended(self, is_good: bool) -> Look {
        let mark = |state: u64| {
            let (is_one, is_told) = (state & MODE == ONE_TRIAL, state & GOOD != 0);
            match (Epoch::of(state) == self.epoch, is_good) {
                (false, _) => None,
                (true, true) => (!is_told).then_some(state & !TAKEN | GOOD),
                (true, false) => is_one.then_some(state & !TAKEN | BAD),
            }
        };
        match self.tally.gate.fetch_update(Relaxed, Relaxed, mark) {
            Ok(_) => Look::Now,
            Err(_) => Look::Later,
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let give_back = |state| {
            let is_ours = Epoch::of(state) == self.epoch && state & TAKEN != 0;
            is_ours.then_some(state & !TAKEN)
        };
        // Nothing to give back, if the gate has changed or is for any number.
        let _ = self.tally.gate.fetch_update(SeqCst, SeqCst, give_back);
    }
}

impl Epoch {
    fn of(state: u64) -> Self {
        Self(state & EPOCHS)
    }
}

impl Counts {
    /// Returns what was added since `earlier`. Numbers that have wrapped go on; those that went back
    /// added nothing.
    pub(super) fn since(self, earlier: Self) -> Self {
        let since = |now: u64, earlier: u64| {
            let added = now.wrapping_sub(earlier);
            if added > u64::MAX / 2 { 0 } else { added }
        };
        Self {
            successes: since(self.successes, earlier.successes),
            failures: since(self.failures, earlier.failures),
        }
    }

    pub(super) fn calls(self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// Returns the share of calls that succeeded, from 0 to 1; `None` if there were none.
    pub(super) fn success_rate(self) -> Option<f64> {
        let calls = self.calls();
        (calls > 0).then(|| self.successes as f64 / calls as f64)
    }
}

#[cfg(test)]
mod tests;
