//! Whose turn it is to write a key, among the publications of one registry.
//!
//! They share one lease, so etcd cannot tell them apart: two that want one key would take it from
//! each other for ever. So they form a line at each key, the newest first. Who has the key is
//! asked for it when a newer one comes, passes it on when no write of its own is in doubt, and gets
//! it back when the newer ones have left.
//!
//! ```text
//! Next    the one before has passed it on, or left  -> Ours
//! Ours    a newer one has come                      -> Asked
//! Asked   passed on                                 -> Theirs
//! Asked   the newer ones have left                  -> Ours
//! Theirs  the newer ones have left                  -> Ours
//! ```
//!
//! An id that was given is no proof of identity: with one, another server that has the key stays
//! first.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::publication::{Conflict, IdKind, Turn};

/// The lines of all keys. Its lock is held for a few steps, by publications that begin, move and
/// end.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<BTreeMap<String, Line>>>);

/// Those who want one key, the first one last.
#[derive(Default)]
struct Line {
    waiting: Vec<Candidate>,
    /// Who has the key.
    holder: Option<u64>,
    tickets: u64,
}

/// One who wants the key.
struct Candidate {
    number: u64,
    identity: String,
    id: IdKind,
    turn: watch::Sender<Turn>,
}

/// A place in a line, left when this is dropped.
pub(crate) struct Ticket {
    turns: Turns,
    key: String,
    number: u64,
    turn: watch::Receiver<Turn>,
}

impl Turns {
    /// Joins the line at `key`, as a server of that identity.
    pub(crate) fn join(&self, key: &str, identity: String, id: IdKind) -> Ticket {
        let mut lines = self.lines();
        let line = lines.entry(key.to_owned()).or_default();
        let (turn, receiver) = watch::channel(Turn::Next);
        line.tickets += 1;
        let number = line.tickets;
        let candidate = Candidate {
            number,
            identity,
            id,
            turn,
        };
        let others = line.waiting.iter().rev();
        let ahead = others.take_while(|it| candidate.conflict(it) == Conflict::IdTaken);
        let at = line.waiting.len() - ahead.count();
        line.waiting.insert(at, candidate);
        line.tell();
        Ticket {
            turns: self.clone(),
            key: key.to_owned(),
            number,
            turn: receiver,
        }
    }

    /// Returns whether anybody wants `key`, or may yet have to do with it.
    pub(crate) fn is_wanted(&self, key: &str) -> bool {
        self.lines().contains_key(key)
    }

    /// A panic under the lock leaves the lines as they were: they change in single steps.
    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Gives the key to the first, if nobody has it, and tells each whose turn it is.
    fn tell(&mut self) {
        let Some(first) = self.waiting.last() else {
            return;
        };
        let holder = *self.holder.get_or_insert(first.number);
        for candidate in &self.waiting {
            let conflict = candidate.conflict(first);
            let turn = match (candidate.number == holder, candidate.number == first.number) {
                (true, true) => Turn::Ours,
                (true, false) => Turn::Asked(conflict),
                (false, true) => Turn::Next,
                (false, false) => Turn::Theirs(conflict),
            };
            candidate.turn.send_if_modified(|was| {
                *was != turn && {
                    *was = turn;
                    true
                }
            });
        }
    }

    fn pass(&mut self, number: u64) {
        if self.holder == Some(number) {
            self.holder = None;
        }
    }
}

impl Candidate {
    /// Why this one is not first.
    fn conflict(&self, first: &Self) -> Conflict {
        if self.id == IdKind::Given && self.identity != first.identity {
            Conflict::IdTaken
        } else {
            Conflict::Superseded
        }
    }
}

impl Ticket {
    /// Returns whose turn it is.
    pub(crate) fn turn(&self) -> Turn {
        *self.turn.borrow()
    }

    /// Waits until that has changed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: the next call returns at once.
    pub(crate) async fn changed(&mut self) {
        if self.turn.changed().await.is_err() {
            // Told by the line, which outlives the tickets in it.
            std::future::pending().await
        }
    }

    /// It is another server that waits, or has the key, from now on.
    pub(crate) fn rename(&self, identity: String, id: IdKind) {
        if let Some(line) = self.turns.lines().get_mut(&self.key) {
            let mut candidates = line.waiting.iter_mut();
            if let Some(ours) = candidates.find(|it| it.number == self.number) {
                (ours.identity, ours.id) = (identity, id);
            }
            line.tell();
        }
    }

    /// Passes the key on to the first, who asked for it.
    pub(crate) fn pass(&self) {
        if let Some(line) = self.turns.lines().get_mut(&self.key) {
            line.pass(self.number);
            line.tell();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.key) {
            line.waiting
                .retain(|candidate| candidate.number != self.number);
            line.pass(self.number);
            line.tell();
            if line.waiting.is_empty() {
                lines.remove(&self.key);
            }
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines().keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: u8) -> String {
        format!("greeter/10.0.0.{host}:1")
    }

    fn join(turns: &Turns, host: u8) -> Ticket {
        turns.join("a", server(host), IdKind::Derived)
    }

    #[test]
    fn who_is_alone_has_the_key() {
        let turns = Turns::default();
        assert_eq!(join(&turns, 1).turn(), Turn::Ours);
        assert_eq!(join(&turns, 1).turn(), Turn::Ours, "the other one has left");
        assert_eq!(turns.lines().len(), 0);
    }

    #[test]
    fn a_newer_one_waits_until_the_key_is_passed_on_and_gives_it_back_when_it_leaves() {
        let turns = Turns::default();
        let old = join(&turns, 1);
        let new = join(&turns, 1);
        assert_eq!(old.turn(), Turn::Asked(Conflict::Superseded));
        assert_eq!(new.turn(), Turn::Next);
        old.pass();
        assert_eq!(old.turn(), Turn::Theirs(Conflict::Superseded));
        assert_eq!(new.turn(), Turn::Ours);
        drop(new);
        assert_eq!(old.turn(), Turn::Ours);
    }

    #[test]
    fn who_was_asked_keeps_the_key_when_the_newer_one_leaves_first() {
        let turns = Turns::default();
        let old = join(&turns, 1);
        drop(join(&turns, 1));
        assert_eq!(old.turn(), Turn::Ours);
    }

    #[test]
    fn one_that_leaves_without_passing_on_leaves_the_key_to_the_newest() {
        let turns = Turns::default();
        let (first, second, third) = (join(&turns, 1), join(&turns, 1), join(&turns, 1));
        assert_eq!(second.turn(), Turn::Theirs(Conflict::Superseded));
        drop(first);
        assert_eq!(third.turn(), Turn::Ours);
        drop(third);
        assert_eq!(second.turn(), Turn::Ours);
    }

    #[test]
    fn a_given_id_does_not_take_the_key_of_another_server() {
        let turns = Turns::default();
        let holder = turns.join("a", server(1), IdKind::Given);
        let other = turns.join("a", server(2), IdKind::Given);
        assert_eq!(holder.turn(), Turn::Ours);
        assert_eq!(other.turn(), Turn::Theirs(Conflict::IdTaken));
        let again = turns.join("a", server(1), IdKind::Given);
        assert_eq!(holder.turn(), Turn::Asked(Conflict::Superseded));
        drop((holder, again));
        assert_eq!(other.turn(), Turn::Ours);
    }

    #[test]
    fn another_server_that_waits_does_not_overtake_who_held_a_given_id() {
        let turns = Turns::default();
        let holder = turns.join("a", server(1), IdKind::Given);
        let newer = turns.join("a", server(1), IdKind::Given);
        holder.pass();
        let other = turns.join("a", server(2), IdKind::Given);
        drop(newer);
        assert_eq!(holder.turn(), Turn::Ours);
        assert_eq!(other.turn(), Turn::Theirs(Conflict::IdTaken));
    }

    #[test]
    fn a_given_id_moves_with_its_server() {
        let turns = Turns::default();
        let holder = turns.join("a", server(1), IdKind::Given);
        holder.rename(server(2), IdKind::Given);
        let stranger = turns.join("a", server(1), IdKind::Given);
        assert_eq!(stranger.turn(), Turn::Theirs(Conflict::IdTaken));
        let newer = turns.join("a", server(2), IdKind::Given);
        assert_eq!(holder.turn(), Turn::Asked(Conflict::Superseded));
        assert_eq!(newer.turn(), Turn::Next);
    }

    #[test]
    fn keys_have_lines_of_their_own() {
        let turns = Turns::default();
        let one = turns.join("a", server(1), IdKind::Derived);
        let other = turns.join("b", server(1), IdKind::Derived);
        assert_eq!((one.turn(), other.turn()), (Turn::Ours, Turn::Ours));
    }
}
