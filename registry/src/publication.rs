//! Decides what must be written to etcd so that one instance's record stands there, or does not.
//!
//! What is wanted (present, absent, stopped) is compared with what is known of the keys concerned,
//! and the difference is the next step. What is known of one key:
//!
//! ```text
//! Unknown  read                                    -> Absent or Found
//! Absent   put                                     -> Found, ours
//! Found    ours, and not wanted: deleted           -> Absent
//! Found    ours, under a lease that we had before   -> put again, under the one that we have
//! Found    a newer publication of this server's    -> left to it, until it is deleted: superseded
//! Found    an older publication of this server's   -> taken over
//! Found    another server's, with the given id     -> left to it, read again slowly: refused
//! any      a write whose outcome is unknown        -> Unknown
//! any      its watch broke                         -> Unknown
//! any      passed on to a newer publication of     -> not our concern, until it is our turn again
//!          this registry: superseded
//! ```
//!
//! A key that is under a lease is proof that the lease lives: etcd deletes both at once. So whoever
//! has written it is alive too, or was less than its TTL ago.
//!
//! Invariants: a put always carries a lease that the session holds; the old key goes in the
//! transaction that brings the new one; every put is guarded by the revision last seen, every
//! delete by our lease; there is one write at a time, and after one of unknown outcome the keys are
//! read before the next. A put of unknown outcome may be overtaken by that read, so where its key
//! is no longer wanted, it is read once more. It never gives up by itself.
//!
//! It holds no clock, no randomness and no connection: [`Publication::next`] says what to do, and
//! the answers come back as method calls.

mod claim;
mod keys;
mod step;

use std::time::{Duration, Instant};

use switchboard_resolver::Cause;

pub(crate) use self::step::{Conflict, Found, IdKind, Put, Status, Step, Turn, Write};
use self::{claim::Claim, keys::Keys};
use crate::{
    layout::Record,
    lease::{self, Former, LeaseId},
    retry::{RETRY, SLOW_RETRY},
    trouble::Trouble,
};

/// Before a key that others changed or deleted is put back, so that two programs that disagree
/// about it do not spin.
const PUT_BACK: Duration = Duration::from_millis(100);

/// One instance's record, as it ought to stand in etcd.
#[derive(Debug)]
pub(crate) struct Publication {
    record: Record,
    id: IdKind,
    want: Want,
    /// Which side it takes in a conflict over its key.
    claim: Claim,
    /// Whose turn the wanted key is, within the registry.
    turn: Turn,
    session: lease::Standing,
    /// The leases that the session has had before.
    former: Former,
    keys: Keys,
    failures: u32,
    not_before: Option<Instant>,
    /// When a key that others hold is read again.
    look_again: Option<Instant>,
    trouble: Option<Trouble>,
}

/// What shall be in etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Present,
    Paused,
    Stopped,
}

impl Publication {
    pub(crate) fn new(record: Record, id: IdKind) -> Self {
        Self {
            record,
            id,
            want: Want::Present,
            claim: Claim::Newcomer,
            turn: Turn::Next,
            session: lease::Standing::Absent,
            former: Former::default(),
            keys: Keys::default(),
            failures: 0,
            not_before: None,
            look_again: None,
            trouble: None,
        }
    }

    /// Replaces the record.
    pub(crate) fn update(&mut self, record: Record, id: IdKind) {
        if self.record.key != record.key {
            self.claim = Claim::Newcomer;
            self.turn = Turn::Next;
        }
        self.record = record;
        self.id = id;
        self.begin();
    }

    /// The record shall not be there until `resume`.
    pub(crate) fn pause(&mut self) {
        self.want(Want::Paused);
    }

    /// The record shall be there again, also if a newer publication of the same server is. Returns
    /// whether it was paused.
    pub(crate) fn resume(&mut self) -> bool {
        let was_paused = self.want == Want::Paused;
        if was_paused {
            self.claim = Claim::Newcomer;
        }
        self.want(Want::Present);
        was_paused
    }

    /// The record shall not be there, ever again.
    pub(crate) fn stop(&mut self) {
        self.want(Want::Stopped);
    }

    /// It is this one's turn at the wanted key now.
    pub(crate) fn turn(&mut self, turn: Turn) {
        if turn != self.turn {
            self.turn = turn;
            self.begin();
        }
    }

    /// Lets go of the key if it was asked for, and no write of ours is in doubt there: what it holds
    /// is not our concern from then on. Returns whether it did.
    pub(crate) fn let_go(&mut self) -> bool {
        let key = &self.record.key;
        let lets_go = matches!(self.turn, Turn::Asked(_)) && !self.keys.is_in_doubt(key);
        if lets_go {
            self.keys.leave(key);
        }
        lets_go
    }

    /// Returns where the id in the key comes from.
    pub(crate) fn id(&self) -> IdKind {
        self.id
    }

    /// Returns the key that it has to be its turn for.
    pub(crate) fn claims(&self) -> Option<&str> {
        (self.want == Want::Present).then_some(&self.record.key)
    }

    /// Returns whether it may yet write this key.
    pub(crate) fn concerns(&self, key: &str) -> bool {
        self.claims() == Some(key) || self.keys.concern(key, self.lease())
    }

    /// The session's lease stands so now, and `trouble` keeps it from standing better.
    pub(crate) fn session(&mut self, standing: lease::Standing, trouble: Option<Trouble>) {
        let id = |standing| match standing {
            lease::Standing::Held { id, .. } | lease::Standing::Expired { id } => Some(id),
            lease::Standing::Absent | lease::Standing::Released => None,
        };
        if let Some(old) = id(self.session)
            && id(standing) != Some(old)
        {
            self.keys.lose_lease(old);
        }
        match standing {
            // What failed for want of a lease need not wait any longer.
            lease::Standing::Held { .. } if id(self.session) != id(standing) => self.hurry(),
            lease::Standing::Held { .. } => {}
            _ => self.trouble = trouble.or(self.trouble.take()),
        }
        self.session = standing;
    }

    /// The session has had these leases before the one that it has.
    pub(crate) fn had(&mut self, former: Former) {
        self.former = former;
    }

    pub(crate) fn next(&mut self, now: Instant) -> Step {
        if self.is_done() {
            return Step::Done;
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Step::WaitUntil(at);
        }
        self.not_before = None;
        let keys = self.keys.to_read(self.wanted(), now);
        if !keys.is_empty() {
            return Step::Read { keys };
        }
        match (self.due(now), self.keys.next_look(self.wanted())) {
            (Step::Wait, Some(at)) => Step::WaitUntil(at),
            (Step::WaitUntil(until), Some(at)) => Step::WaitUntil(until.min(at)),
            (step, _) => step,
        }
    }

    /// What is to be done where all keys are known.
    fn due(&self, now: Instant) -> Step {
        let Some(lease) = self.lease() else {
            return Step::Wait;
        };
        let delete = self.strays(lease);
        let put = match self.owed_put(lease, now) {
            Ok(put) => put,
            // Until the put that is to replace them can be done, the old keys stay.
            Err(step) if delete.is_empty() || step == Step::Wait => return step,
            Err(_) => None,
        };
        if put.is_none() && delete.is_empty() {
            return Step::Wait;
        }
        Step::Write(Write { put, delete, lease })
    }

    /// The transaction went through, at `revision`.
    pub(crate) fn written(&mut self, write: Write, revision: i64) {
        for key in write.delete {
            self.keys.know(key, None, revision);
        }
        if let Some(Put { record, .. }) = write.put {
            let found = Found {
                value: record.value,
                lease: write.lease,
                revision,
                same_server: true,
            };
            self.keys.know(record.key, Some(found), revision);
            self.claim = Claim::Holder;
        }
        self.keys.prune(&self.record.key);
        self.succeed();
    }

    /// These keys hold this now: the answer to a read, or to a write whose guards did not hold.
    pub(crate) fn found(
        &mut self,
        keys: Vec<(String, Option<Found>)>,
        revision: i64,
        now: Instant,
    ) {
        for (key, found) in keys {
            self.keys.read(&key, now);
            self.know(key, found, revision, now);
        }
        self.not_before = None;
        // That etcd can be read is no reason to believe that it can be written to, or watched.
        if self.is_settled() || self.conflict().is_some() {
            self.trouble = None;
        }
    }

    /// The key is watched.
    pub(crate) fn watching(&mut self) {
        self.failures = 0;
    }

    /// etcd has no such lease: nothing was written. The session is to find out.
    pub(crate) fn lease_gone(
        &mut self,
        lease: LeaseId,
        cause: Cause,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        self.keys.lose_lease(lease);
        self.try_later(cause, now, rng);
    }

    /// etcd does not let us: nothing was written.
    pub(crate) fn denied(&mut self, cause: Cause, now: Instant) {
        self.trouble = Some(Trouble::Denied(cause));
        self.not_before = Some(now + SLOW_RETRY);
    }

    /// The step failed; if it was a write, nobody knows whether it went through.
    pub(crate) fn failed(
        &mut self,
        step: &Step,
        cause: Cause,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) {
        if let Step::Write(write) = step {
            self.keys.doubt(write);
        }
        self.try_later(cause, now, rng);
    }

    /// etcd can be reached again: waiting longer would be for nothing.
    pub(crate) fn reachable(&mut self) {
        self.hurry();
    }

    /// A watch saw this key change to that, or vanish, at `revision`.
    pub(crate) fn seen(&mut self, key: String, found: Option<Found>, revision: i64, now: Instant) {
        // What is unknown will be read anyway, and what was left is no concern of ours.
        let Some(known) = self.keys.as_of(&key) else {
            return;
        };
        if revision > known {
            self.know(key, found, revision, now);
            if self.want == Want::Present && self.conflict().is_none() {
                self.not_before = Some(now + PUT_BACK);
            }
        }
    }

    /// The watch on this key has broken: it is to be read again.
    pub(crate) fn lost_sight(&mut self, key: &str) {
        self.keys.forget(key);
    }

    /// Returns the key to watch and the revision to watch it from, when there is nothing to do but
    /// to see that it stays as it is. That revision is the one after the last look, since the
    /// one after the key's last change may have been compacted long ago.
    pub(crate) fn watches(&self) -> Option<(&str, i64)> {
        if !self.is_settled() && self.conflict().is_none() {
            return None;
        }
        let key = self.wanted()?;
        Some((key, self.keys.as_of(key)?.saturating_add(1)))
    }

    /// Returns whether etcd holds what is wanted, as far as we know, so that there is nothing to
    /// do.
    pub(crate) fn is_settled(&self) -> bool {
        let is_clean = |lease| self.strays(lease).is_empty();
        match (self.want, self.session) {
            _ if !self.keys.are_known() => false,
            (Want::Present, _) if self.turn != Turn::Ours => false,
            (Want::Present, lease::Standing::Held { id, .. }) => {
                let found = self.keys.found(&self.record.key);
                found.is_some_and(|it| it.lease == id && it.value == self.record.value)
                    && is_clean(id)
            }
            (Want::Present, _) => false,
            (Want::Paused | Want::Stopped, _) => {
                !self.keys.may_change() && self.lease().is_none_or(is_clean)
            }
        }
    }

    /// Returns whether there is nothing to do, ever again.
    pub(crate) fn is_done(&self) -> bool {
        self.want == Want::Stopped && self.is_settled()
    }

    pub(crate) fn status(&self) -> Status {
        match (self.want, self.session, &self.trouble) {
            (Want::Paused, ..) if self.is_settled() => Status::Paused,
            (Want::Stopped, ..) if self.is_settled() => Status::Stopped,
            (Want::Present, lease::Standing::Held { id, .. }, _) if self.is_settled() => {
                Status::Published { lease: id }
            }
            _ if self.conflict() == Some(Conflict::IdTaken) => Status::IdTaken {
                key: self.record.key.clone(),
            },
            _ if self.conflict() == Some(Conflict::Superseded) => Status::Superseded,
            (_, _, Some(Trouble::Denied(cause))) => Status::Denied {
                cause: cause.clone(),
            },
            (_, _, Some(Trouble::Passing(cause))) => Status::Retrying {
                cause: cause.clone(),
            },
            _ => Status::Registering,
        }
    }

    fn want(&mut self, want: Want) {
        if self.want != Want::Stopped {
            self.want = want;
            self.begin();
        }
    }

    /// What stood in the way of something else is tried anew.
    fn begin(&mut self) {
        self.trouble = None;
        self.hurry();
    }

    fn lease(&self) -> Option<LeaseId> {
        match self.session {
            lease::Standing::Held { id, .. } | lease::Standing::Expired { id } => Some(id),
            lease::Standing::Absent | lease::Standing::Released => None,
        }
    }

    /// The key that is to hold the record.
    fn wanted(&self) -> Option<&str> {
        self.claims().filter(|_| self.turn == Turn::Ours)
    }

    /// The keys under our lease that are not to be there. One that is somebody else's turn is not
    /// among them.
    fn strays(&self, lease: LeaseId) -> Vec<String> {
        self.keys.strays(lease, self.claims())
    }

    /// The put that is owed, if there is one; or what is to be done before that can be told.
    fn owed_put(&self, lease: LeaseId, now: Instant) -> Result<Option<Put>, Step> {
        match self.turn {
            _ if self.want != Want::Present => return Ok(None),
            Turn::Ours => {}
            Turn::Next => return Err(Step::Wait),
            Turn::Asked(_) | Turn::Theirs(_) => return Ok(None),
        }
        let record = &self.record;
        let if_revision = match self.keys.found(&record.key) {
            Some(found) if found.lease == lease && found.value == record.value => return Ok(None),
            Some(found) => match (self.conflict_over(found), self.look_again) {
                (None, _) => found.revision,
                (Some(_), Some(at)) if at > now => return Err(Step::WaitUntil(at)),
                (Some(_), _) => {
                    let keys = vec![record.key.clone()];
                    return Err(Step::Read { keys });
                }
            },
            None => 0,
        };
        // Under a lease that may have expired nothing is put: the session renews it, or finds it
        // gone, first.
        match self.session {
            lease::Standing::Held { .. } => Ok(Some(Put {
                record: record.clone(),
                if_revision,
            })),
            _ => Err(Step::Wait),
        }
    }

    /// Returns why the wanted key must be left to whoever has it, if it must.
    fn conflict_over(&self, found: &Found) -> Option<Conflict> {
        let (lease, former) = (self.lease(), &self.former);
        self.claim.conflict_over(self.id, found, lease, former)
    }

    /// The conflict that keeps the record from standing.
    fn conflict(&self) -> Option<Conflict> {
        match self.turn {
            _ if self.want != Want::Present => None,
            Turn::Asked(conflict) | Turn::Theirs(conflict) => Some(conflict),
            Turn::Next => None,
            Turn::Ours => self.conflict_over(self.keys.found(&self.record.key)?),
        }
    }

    fn know(&mut self, key: String, found: Option<Found>, revision: i64, now: Instant) {
        if found
            .as_ref()
            .is_some_and(|it| Some(it.lease) == self.lease())
        {
            self.claim = Claim::Holder;
        }
        self.look_again = Some(now + SLOW_RETRY);
        self.keys.know(key, found, revision);
    }

    fn succeed(&mut self) {
        self.trouble = None;
        self.failures = 0;
        self.not_before = None;
    }

    fn try_later(&mut self, cause: Cause, now: Instant, rng: &mut fastrand::Rng) {
        self.failures += 1;
        self.not_before = Some(now + RETRY.delay(self.failures, rng.f64()));
        self.trouble = Some(Trouble::Passing(cause));
    }

    fn hurry(&mut self) {
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests;
