//! What one does who enters a double barrier, or leaves it, by what was read of it at one revision.
//!
//! The keys of those who are at the barrier are told apart by `ready`: who was there before that was last
//! written is *inside*, who came after that waits to enter. One that is left over from an earlier round is
//! older than all who wait, and lets nobody in.

use std::num::NonZeroUsize;

use switchboard_registry::keys::KeyValue;

/// What was read of a barrier, at one revision.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Those who are at it, and since when each is.
    pub(super) there: Vec<Participant>,
    /// The revision at which `ready` was written last; 0 if it is not there.
    pub(super) ready: i64,
}

/// The key of somebody who is at the barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Participant {
    pub(super) key: Vec<u8>,
    pub(super) created: i64,
}

/// What one does who is entering.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entering {
    /// It is inside.
    Inside,
    /// It is the last one whom the others wait for, and tells them.
    Open,
    /// It waits for `ready`.
    Wait,
    /// As many are there as may be, without it.
    Full,
    /// It is not there any more.
    Gone,
}

/// What one does who is leaving, and whose key is still there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It came first of those who are there, and waits for the last one of them.
    WaitFor(Participant),
    /// It goes at once, and then waits for all of these: nobody, if it is the last one.
    Go(Vec<Participant>),
    /// It is not there any more.
    Gone,
}

impl Seen {
    /// Tells whether there is no use in entering: as many are there as may be, or some are still inside
    /// whose round has begun without us.
    pub(super) fn is_full(&self, count: NonZeroUsize) -> bool {
        self.there.len() >= count.get() || self.there.iter().any(|it| self.is_inside(it))
    }

    /// Tells what one does who is entering.
    pub(super) fn entering(&self, me: &Participant, count: NonZeroUsize) -> Entering {
        if !self.there.contains(me) {
            return Entering::Gone;
        }
        let before = self.there.iter().filter(|it| it.created < me.created);
        let is_under_way = before.clone().any(|it| self.is_inside(it));
        let place = before.count() + 1;
        if place > count.get() {
            Entering::Full
        } else if self.is_inside(me) {
            Entering::Inside
        } else if is_under_way {
            Entering::Full
        } else if place == count.get() {
            Entering::Open
        } else {
            Entering::Wait
        }
    }

    /// Tells what one does who is leaving, and was told at `opened` that all have entered: `ready` may have
    /// been written again since, or be gone.
    pub(super) fn leaving(&self, me: &Participant, opened: i64) -> Leaving {
        if !self.there.contains(me) {
            return Leaving::Gone;
        }
        let opened = opened.max(self.ready);
        let others = self
            .there
            .iter()
            .filter(|it| it.created < opened && *it != me);
        let others: Vec<_> = others.cloned().collect();
        match others.iter().max_by_key(|it| it.created) {
            Some(highest) if others.iter().all(|it| me.created < it.created) => {
                Leaving::WaitFor(highest.clone())
            }
            _ => Leaving::Go(others),
        }
    }

    /// Returns whom one waits for who has left, and saw `left` inside then: the first of them, who is the
    /// last to go. Who has entered since is none of them.
    pub(super) fn lowest_of<'a>(&self, left: &'a [Participant]) -> Option<&'a Participant> {
        let there = left.iter().filter(|it| self.there.contains(it));
        there.min_by_key(|it| it.created)
    }

    /// Tells whether `ready` is left over: it is the one that was seen by who has left, and nobody is inside.
    pub(super) fn is_left_over(&self, ready: i64) -> bool {
        self.ready != 0 && self.ready == ready && !self.there.iter().any(|it| self.is_inside(it))
    }

    fn is_inside(&self, who: &Participant) -> bool {
        who.created < self.ready
    }
}

impl From<KeyValue> for Participant {
    fn from(kv: KeyValue) -> Self {
        Self {
            key: kv.key,
            created: kv.created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    fn who(created: i64) -> Participant {
        Participant {
            key: created.to_string().into(),
            created,
        }
    }

    fn seen(there: &[i64], ready: i64) -> Seen {
        Seen {
            there: there.iter().copied().map(who).collect(),
            ready,
        }
    }

    #[test]
    fn the_last_of_so_many_opens_and_those_before_it_wait() {
        assert_eq!(seen(&[5], 0).entering(&who(5), THREE), Entering::Wait);
        let all = seen(&[5, 6, 9], 0);
        assert_eq!(all.entering(&who(5), THREE), Entering::Wait);
        assert_eq!(all.entering(&who(6), THREE), Entering::Wait);
        assert_eq!(all.entering(&who(9), THREE), Entering::Open);
        for created in [5, 6, 9] {
            let entered = seen(&[5, 6, 9], 10).entering(&who(created), THREE);
            assert_eq!(entered, Entering::Inside);
        }
    }

    #[test]
    fn who_waits_is_inside_once_it_is_ready_whoever_has_left_since() {
        assert_eq!(seen(&[5], 10).entering(&who(5), THREE), Entering::Inside);
    }

    #[test]
    fn one_alone_opens_at_once() {
        let one = NonZeroUsize::MIN;
        assert_eq!(seen(&[5], 0).entering(&who(5), one), Entering::Open);
        assert!(seen(&[5], 0).is_full(one));
        assert!(!seen(&[], 0).is_full(one));
    }

    #[test]
    fn who_is_one_too_many_is_refused_before_and_after_it_is_ready() {
        assert!(seen(&[5, 6, 9], 0).is_full(THREE));
        assert!(!seen(&[5, 6], 0).is_full(THREE));
        assert_eq!(
            seen(&[5, 6, 9, 12], 0).entering(&who(12), THREE),
            Entering::Full
        );
        assert_eq!(
            seen(&[5, 6, 9, 12], 10).entering(&who(12), THREE),
            Entering::Full
        );
        // It was written while the one too many was there.
        assert_eq!(
            seen(&[5, 6, 9, 12], 13).entering(&who(12), THREE),
            Entering::Full
        );
    }

    #[test]
    fn who_comes_while_others_have_yet_to_leave_is_refused() {
        assert!(seen(&[5], 10).is_full(THREE));
        assert_eq!(seen(&[5, 12], 10).entering(&who(12), THREE), Entering::Full);
    }

    #[test]
    fn what_is_left_over_from_an_earlier_round_lets_nobody_in() {
        assert!(!seen(&[12, 13], 10).is_full(THREE));
        assert_eq!(
            seen(&[12, 13], 10).entering(&who(12), THREE),
            Entering::Wait
        );
        assert_eq!(
            seen(&[12, 13, 14], 10).entering(&who(12), THREE),
            Entering::Wait
        );
        assert_eq!(
            seen(&[12, 13, 14], 10).entering(&who(14), THREE),
            Entering::Open
        );
    }

    #[test]
    fn whose_key_is_gone_is_not_there() {
        assert_eq!(seen(&[5, 6], 10).entering(&who(7), THREE), Entering::Gone);
        assert_eq!(seen(&[5, 6], 10).leaving(&who(7), 10), Leaving::Gone);
    }

    #[test]
    fn the_first_one_leaves_last() {
        let all = seen(&[5, 6, 9], 10);
        assert_eq!(all.leaving(&who(5), 10), Leaving::WaitFor(who(9)));
        assert_eq!(all.leaving(&who(6), 10), Leaving::Go(vec![who(5), who(9)]));
        assert_eq!(all.leaving(&who(9), 10), Leaving::Go(vec![who(5), who(6)]));
        assert_eq!(seen(&[5], 10).leaving(&who(5), 10), Leaving::Go(vec![]));
    }

    #[test]
    fn who_is_inside_is_known_though_somebody_has_deleted_or_rewritten_what_tells() {
        let others = || Leaving::Go(vec![who(5)]);
        assert_eq!(seen(&[5, 6, 12], 0).leaving(&who(6), 10), others());
        let rewritten = seen(&[5, 6, 12], 13).leaving(&who(6), 10);
        assert_eq!(rewritten, Leaving::Go(vec![who(5), who(12)]));
    }

    #[test]
    fn who_has_yet_to_enter_keeps_nobody_from_leaving() {
        assert_eq!(
            seen(&[5, 12, 13], 10).leaving(&who(5), 10),
            Leaving::Go(vec![])
        );
        let left = [who(5), who(9)];
        assert_eq!(seen(&[5, 12], 10).lowest_of(&left), Some(&who(5)));
        assert_eq!(seen(&[9, 12], 10).lowest_of(&left), Some(&who(9)));
        // The next round has begun.
        assert_eq!(seen(&[12, 13, 14], 15).lowest_of(&left), None);
        let mut another = who(12);
        another.key = b"5".into();
        let seen = Seen {
            there: vec![another],
            ready: 0,
        };
        assert_eq!(seen.lowest_of(&left), None);
    }

    #[test]
    fn what_is_left_over_is_told_from_what_opens_the_next_round() {
        assert!(seen(&[], 10).is_left_over(10));
        assert!(seen(&[12], 10).is_left_over(10));
        assert!(!seen(&[5], 10).is_left_over(10));
        assert!(!seen(&[12, 13, 14], 15).is_left_over(10));
        assert!(!seen(&[], 15).is_left_over(10));
        assert!(!seen(&[], 0).is_left_over(0));
    }
}
