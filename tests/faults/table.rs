//! What is promised of each fault.
//!
//! The same promises are in `docs/when-etcd-fails.md`, which is held against them.

use std::time::Duration;

use futures::future::LocalBoxFuture;

use crate::{
    alone, operations, people, process,
    scene::{Scene, Seen},
    three,
};

/// A fault, and what must be seen of it.
pub(crate) struct Fault {
    /// What its test is called.
    pub(crate) name: &'static str,
    /// What happens, in words.
    pub(crate) what: &'static str,
    /// How many members etcd has.
    pub(crate) members: usize,
    pub(crate) guard: Guard,
    /// From when on its times count.
    pub(crate) since: Since,
    /// By when all records stand, and another one can be published; in seconds.
    pub(crate) publishers: u64,
    /// By when that one is seen, and no list is out of date; in seconds.
    pub(crate) discoverers: u64,
    pub(crate) lists: Lists,
    pub(crate) befall: Befall,
}

/// Does it, and returns what was seen.
pub(crate) type Befall = for<'scene> fn(&'scene mut Scene) -> LocalBoxFuture<'scene, Seen>;

/// What registries need to be let in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Nothing,
    Credentials,
    Certificates,
}

/// From when on times count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// From the fault's beginning: etcd as a whole goes on.
    Begin,
    /// From its end: before, etcd or a process is not there, or refuses.
    End,
}

/// What lists look like meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lists {
    /// They are whole, all the time.
    Whole,
    /// Leases end by it, or records go, so that etcd itself has fewer for a while.
    Short,
}

impl Fault {
    pub(crate) fn publishers(&self) -> Duration {
        Duration::from_secs(self.publishers)
    }

    pub(crate) fn discoverers(&self) -> Duration {
        Duration::from_secs(self.discoverers)
    }

    /// Returns the promise as the docs have it, as cells of a table.
    pub(crate) fn promise(&self) -> String {
        let from = match self.since {
            Since::Begin => "it began",
            Since::End => "it was over",
        };
        let lists = match self.lists {
            Lists::Whole => "whole",
            Lists::Short => "as etcd's",
        };
        format!(
            "| {} | {} | {from} | {} s | {} s | {lists} | 0 failed |",
            self.what, self.members, self.publishers, self.discoverers
        )
    }
}

macro_rules! faults {
    ($($what:literal, $members:literal $guard:ident, $since:ident, $publishers:literal, $discoverers:literal, $lists:ident: $befall:path;)*) => {
        &[$(Fault {
            name: stringify!($befall),
            what: $what,
            members: $members,
            guard: Guard::$guard,
            since: Since::$since,
            publishers: $publishers,
            discoverers: $discoverers,
            lists: Lists::$lists,
            befall: |scene| Box::pin($befall(scene)),
        }),*]
    };
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = faults![
    // What, members and who is let in; since when it counts, publishers, discoverers, lists.
    "killed, and back after 12 s", 1 Nothing, End, 5, 5, Whole: alone::killed;
    "killed, and back after 60 s", 1 Nothing, End, 5, 5, Whole: alone::killed_for_a_minute;
    "killed, and back at once", 1 Nothing, End, 5, 5, Whole: alone::restarted;
    "frozen for 12 s", 1 Nothing, End, 5, 5, Short: alone::frozen;
    "wiped", 1 Nothing, End, 5, 5, Whole: alone::wiped;
    "a backup restored, with one that has gone since", 1 Nothing, End, 15, 15, Whole: alone::restored;
    "cut off for 12 s: nothing passes", 1 Nothing, End, 5, 5, Short: alone::cut_off;
    "refuses connections for 12 s", 1 Nothing, End, 5, 5, Short: alone::refusing;
    "connections break 10 times a second, for 5 s", 1 Nothing, End, 5, 5, Short: alone::reset;
    "300 ms late, either way", 1 Nothing, Begin, 10, 10, Whole: alone::slow;
    "all leases revoked", 1 Nothing, Begin, 3, 3, Short: alone::leases_revoked;
    "all records deleted", 1 Nothing, Begin, 3, 3, Short: alone::deleted;
    "compacted and defragmented under load, 5 times", 1 Nothing, Begin, 10, 10, Whole: alone::compacted;
    "compacted while nobody reached it, for 12 s", 1 Nothing, End, 5, 5, Short: alone::compacted_meanwhile;
    "out of space for 12 s (NOSPACE), and disarmed", 1 Nothing, End, 15, 15, Whole: alone::full;
    "users are demanded", 1 Credentials, Begin, 5, 5, Whole: people::users_demanded;
    "users are demanded no longer", 1 Credentials, Begin, 5, 5, Whole: people::users_waived;
    "tokens end every 3 s", 1 Credentials, Begin, 5, 5, Whole: people::tokens_end;
    "the password is changed, its file 12 s later", 1 Credentials, End, 15, 15, Short: people::password_changed;
    "the role is revoked, and granted after 12 s", 1 Credentials, End, 15, 15, Short: people::role_revoked;
    "certificates of a new CA", 1 Certificates, End, 5, 5, Whole: people::certificates_replaced;
    "a publishing process frozen for 12 s", 1 Nothing, End, 5, 5, Whole: process::frozen;
    "a publishing process killed, and another in its place", 1 Nothing, End, 5, 5, Whole: process::restarted;
    "one killed for 12 s, each in turn", 3 Nothing, Begin, 10, 10, Whole: three::killed;
    "one frozen for 12 s, each in turn", 3 Nothing, Begin, 10, 10, Short: three::frozen;
    "one cut off from the others for 12 s, each in turn", 3 Nothing, Begin, 10, 10, Whole: three::isolated;
    "one cut off from its clients for 12 s, each in turn", 3 Nothing, Begin, 10, 10, Whole: three::cut_off;
    "one loses its disk and is replaced, each in turn", 3 Nothing, Begin, 10, 10, Whole: three::replaced;
    "the leader is moved, 5 times", 3 Nothing, Begin, 5, 5, Whole: three::leader_moved;
    "all are restarted, one after another", 3 Nothing, End, 5, 5, Whole: three::restarted;
    "two killed for 12 s: no quorum", 3 Nothing, End, 10, 10, Whole: three::quorum_lost;
    "two frozen for 12 s: no quorum", 3 Nothing, End, 10, 10, Short: three::quorum_frozen;
    "all killed, and back after 12 s", 3 Nothing, End, 10, 10, Whole: three::all_killed;
    "1,000 operations while one is dead, each in turn", 3 Nothing, Begin, 10, 10, Whole: operations::while_one_is_dead;
    "1,000 operations while one is frozen, each in turn", 3 Nothing, Begin, 10, 10, Short: operations::while_one_is_frozen;
];
