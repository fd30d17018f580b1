//! The records that could not be decoded: how many there are, and which have been told of.

use std::collections::BTreeMap;

/// At which revision each key was rejected.
///
/// A value is told of once, also if the prefix is listed again, or if a watch that resumes shows it
/// and those before it again; what a list shows no more is forgotten.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    standing: BTreeMap<Vec<u8>, i64>,
    /// Those of the list that is being read.
    listed: BTreeMap<Vec<u8>, i64>,
}

impl Rejected {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.standing.len()
    }

    /// A list is read from its first page on.
    pub(super) fn begin_list(&mut self) {
        self.listed.clear();
    }

    /// That was its last page.
    pub(super) fn end_list(&mut self) {
        self.standing = std::mem::take(&mut self.listed);
    }

    /// A value could not be decoded. Returns whether that is news.
    pub(super) fn reject(&mut self, key: &[u8], revision: i64) -> bool {
        self.listed.insert(key.to_vec(), revision);
        if self.standing.get(key).is_some_and(|told| *told >= revision) {
            return false;
        }
        self.standing.insert(key.to_vec(), revision);
        true
    }

    /// The key holds something else since `revision`, or nothing.
    pub(super) fn accept(&mut self, key: &[u8], revision: i64) {
        for known in [&mut self.listed, &mut self.standing] {
            if known.get(key).is_some_and(|rejected| *rejected <= revision) {
                known.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_of_once_and_the_next_one_again() {
        let mut rejected = Rejected::default();
        assert!(rejected.reject(b"a", 1) && !rejected.reject(b"a", 1));
        assert!(rejected.reject(b"a", 2));
        rejected.accept(b"a", 3);
        assert_eq!(rejected.len(), 0);
        assert!(rejected.reject(b"a", 4));
    }

    #[test]
    fn what_a_resumed_watch_shows_again_is_no_news() {
        let mut rejected = Rejected::default();
        rejected.reject(b"a", 2);
        rejected.reject(b"a", 3);
        rejected.accept(b"a", 1);
        assert!(!rejected.reject(b"a", 2) && !rejected.reject(b"a", 3));
        assert_eq!(rejected.len(), 1);
    }

    #[test]
    fn what_a_list_shows_no_more_is_forgotten_and_the_rest_is_not_told_of_again() {
        let mut rejected = Rejected::default();
        rejected.reject(b"gone", 1);
        rejected.reject(b"there", 1);
        rejected.begin_list();
        assert!(!rejected.reject(b"there", 1));
        // That list was never read to its end.
        rejected.begin_list();
        assert!(!rejected.reject(b"there", 1) && rejected.reject(b"new", 2));
        rejected.end_list();
        assert_eq!(rejected.len(), 2);
        assert!(rejected.reject(b"gone", 1));
    }
}
