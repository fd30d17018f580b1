//! Decides what a subscriber is told of what it reads: each message once, in order, and which are lost.
//!
//! ```text
//! read                          and known so far               ->
//! message of the next number    the epoch                      told
//! message of a lower number     the epoch                      was told before
//! message of a higher number    the epoch                      told, after a gap
//! head of a higher number       the epoch                      a gap: they were deleted unread
//! head of a lower number        the epoch                      the topic began anew: etcd was restored
//! head                          another epoch                  the topic began anew
//! message                       another epoch                  none of this topic, unless its head tells so
//! message                       no number: from the beginning  told, with what is lost before it unknown
//! ```
//!
//! A message comes before the head that counts it, since one transaction puts both in this order, and
//! since lists have heads last. Which epoch it is the head alone tells: a message of another one may have
//! been left over, or put there by somebody.

use super::record::Epoch;

/// How far a subscriber is.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// `None` until anything was read, where there was nothing yet.
    epoch: Option<Epoch>,
    /// The number of the last message that was told, or is lost; `None` for one who begins with
    /// whatever there is.
    last: Option<u64>,
}

/// What a subscriber is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Nothing: it is no news.
    Nothing,
    /// The message.
    Tell,
    /// That these are lost; after it, what was read is to be ruled on again.
    Gap { first: u64, last: u64 },
    /// That the topic began anew; after it, all that is there is to be read.
    Anew,
}

impl Order {
    /// Begins with the first message that is there, in this epoch if it is known.
    pub(super) fn from_the_beginning(epoch: Option<Epoch>) -> Self {
        Self { epoch, last: None }
    }

    /// Begins behind this message, in this epoch; in none, where the topic has no head yet.
    pub(super) fn behind(epoch: Option<Epoch>, sequence: u64) -> Self {
        Self {
            epoch,
            last: Some(sequence),
        }
    }

    /// Returns the number of the last message that was told, or is lost.
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    pub(super) fn message(&mut self, epoch: Epoch, sequence: u64) -> Ruling {
        if *self.epoch.get_or_insert(epoch) != epoch {
            return Ruling::Nothing;
        }
        if self.last.is_some_and(|last| sequence <= last) {
            return Ruling::Nothing;
        }
        let next = self.last.map_or(sequence, |last| last + 1);
        if next < sequence {
            return self.gap(next, sequence - 1);
        }
        self.last = Some(sequence);
        Ruling::Tell
    }

    pub(super) fn head(&mut self, epoch: Epoch, sequence: u64) -> Ruling {
        if self.is_anew(epoch) {
            return Ruling::Anew;
        }
        match self.last {
            Some(last) if sequence > last => self.gap(last + 1, sequence),
            // It is not read again once a later one was: lists and what comes after them only go on.
            Some(last) if sequence < last => {
                self.last = Some(0);
                Ruling::Anew
            }
            Some(_) => Ruling::Nothing,
            // Whatever was sent before was gone before this began.
            None => {
                self.last = Some(sequence);
                Ruling::Nothing
            }
        }
    }

    fn gap(&mut self, first: u64, last: u64) -> Ruling {
        self.last = Some(last);
        Ruling::Gap { first, last }
    }

    /// Takes in the epoch; returns whether it is another one than was known.
    fn is_anew(&mut self, epoch: Epoch) -> bool {
        let is_anew = self.epoch.is_some_and(|known| known != epoch);
        if is_anew {
            self.last = Some(0);
        }
        self.epoch = Some(epoch);
        is_anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch() -> Epoch {
        Epoch::random()
    }

    #[test]
    fn messages_are_told_once_and_in_order() {
        let (mut order, epoch) = (Order::behind(None, 0), epoch());
        assert_eq!(order.message(epoch, 1), Ruling::Tell);
        assert_eq!(order.head(epoch, 1), Ruling::Nothing);
        assert_eq!(order.message(epoch, 1), Ruling::Nothing, "read again");
        assert_eq!(order.message(epoch, 2), Ruling::Tell);
    }

    #[test]
    fn what_is_missing_is_told_before_what_comes_after_it() {
        let (mut order, epoch) = (Order::behind(None, 0), epoch());
        assert_eq!(order.message(epoch, 4), Ruling::Gap { first: 1, last: 3 });
        assert_eq!(order.message(epoch, 4), Ruling::Tell);
        assert_eq!(order.head(epoch, 6), Ruling::Gap { first: 5, last: 6 });
        assert_eq!(order.head(epoch, 6), Ruling::Nothing);
        assert_eq!(order.message(epoch, 7), Ruling::Tell);
    }

    #[test]
    fn from_the_beginning_is_from_the_first_that_is_there() {
        let (mut order, epoch) = (Order::from_the_beginning(None), epoch());
        assert_eq!(order.message(epoch, 5), Ruling::Tell);
        assert_eq!(order.message(epoch, 6), Ruling::Tell);
        let mut order = Order::from_the_beginning(None);
        assert_eq!(order.head(epoch, 7), Ruling::Nothing, "nothing is there");
        assert_eq!(order.message(epoch, 8), Ruling::Tell);
    }

    #[test]
    fn a_topic_that_begins_anew_is_told_of_once_and_then_from_its_first_message() {
        let mut order = Order::behind(Some(epoch()), 41);
        let anew = epoch();
        assert_eq!(order.message(anew, 2), Ruling::Nothing);
        assert_eq!(order.head(anew, 2), Ruling::Anew);
        assert_eq!(order.message(anew, 2), Ruling::Gap { first: 1, last: 1 });
        assert_eq!(order.message(anew, 2), Ruling::Tell);
    }

    #[test]
    fn a_head_that_goes_back_is_a_topic_that_begins_anew() {
        let (mut order, epoch) = (Order::behind(None, 0), epoch());
        assert_eq!(order.message(epoch, 1), Ruling::Tell);
        assert_eq!(order.message(epoch, 2), Ruling::Tell);
        assert_eq!(order.head(epoch, 1), Ruling::Anew);
        assert_eq!(order.message(epoch, 1), Ruling::Tell);
        assert_eq!(order.head(epoch, 1), Ruling::Nothing);
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let (mut order, epoch) = (Order::behind(None, u64::MAX), epoch());
        assert_eq!(order.message(epoch, u64::MAX), Ruling::Nothing);
        assert_eq!(order.head(epoch, u64::MAX), Ruling::Nothing);
    }

    proptest! {
        /// Whatever is read again, and whatever was deleted before it was read: each number is told or
        /// lost, once, in order, and only those are lost that were never read.
        #[test]
        fn each_message_is_told_once_or_lost_aloud(
            reads in prop::collection::vec((0..40_u64, any::<bool>()), 0..200),
        ) {
            let (mut order, epoch) = (Order::behind(None, 0), epoch());
            let mut accounted = 0;
            for (sequence, is_head) in reads {
                // Heads do not go back.
                let sequence = if is_head { sequence.max(accounted) } else { sequence };
                loop {
                    let ruling = match is_head {
                        true => order.head(epoch, sequence),
                        false => order.message(epoch, sequence),
                    };
                    match ruling {
                        Ruling::Gap { first, last } => {
                            prop_assert!(first == accounted + 1 && last >= first && last <= sequence);
                            accounted = last;
                        }
                        Ruling::Tell => {
                            prop_assert_eq!(sequence, accounted + 1);
                            accounted = sequence;
                            break;
                        }
                        Ruling::Nothing => {
                            prop_assert!(sequence <= accounted);
                            break;
                        }
                        Ruling::Anew => prop_assert!(false, "it is one epoch"),
                    }
                }
            }
            prop_assert_eq!(order.last(), Some(accounted));
        }
    }
}
