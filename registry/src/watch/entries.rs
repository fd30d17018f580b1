//! What a range held, and what that tells of the history it is of.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{Change, Fingerprint, anchor::Anchor, state::Listed};

/// A value, the revision that brought it, and what tells the put from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    pub(crate) revision: i64,
    pub(crate) fingerprint: Fingerprint,
}

impl<T> Entry<T> {
    /// Whether that put brought it, of those under its key.
    fn is(&self, revision: i64, fingerprint: Fingerprint) -> bool {
        (self.revision, self.fingerprint) == (revision, fingerprint)
    }
}

/// What a range held, by keys.
pub(super) type Entries<T> = BTreeMap<Vec<u8>, Entry<T>>;

/// Returns the last put of those that are there.
pub(super) fn newest<T>(entries: &Entries<T>) -> Option<Anchor> {
    let (key, entry) = entries.iter().max_by_key(|(_, entry)| entry.revision)?;
    Some(Anchor::of(key, entry))
}

/// Whether a list can be of the history in which `entries` were there at `revision`: every put in it
/// that is not new is known.
pub(super) fn go_on<T>(entries: &Entries<T>, revision: i64, listed: &[Listed<T>]) -> bool {
    let is_known = |key: &Vec<u8>, listed: &Entry<T>| {
        let known = entries.get(key);
        known.is_some_and(|it| it.is(listed.revision, listed.fingerprint))
    };
    listed.iter().all(|(key, listed)| match listed {
        Some(listed) => listed.revision > revision || is_known(key, listed),
        // What cannot be decoded was not taken in before either.
        None => true,
    })
}

/// Whether a change can be of the history in which `entries` were listed and then followed, from the one
/// of these revisions to the other: what it did at the revision of an entry is what brought the entry, and
/// what it did to its key after that is news.
pub(super) fn agree<T>(
    entries: &Entries<T>,
    followed: RangeInclusive<i64>,
    change: &Change<T>,
) -> bool {
    let known = entries.get(change.key());
    known.is_none_or(|known| match change {
        _ if known.revision > change.revision() => true,
        // A list leaves an entry where its key cannot be decoded any more, whatever befell that meanwhile.
        _ if known.revision < change.revision() && change.revision() <= *followed.start() => true,
        Change::Put(put) if known.revision == put.revision => {
            known.is(put.revision, put.fingerprint)
        }
        Change::Put(put) => put.value.is_none() || put.revision > *followed.end(),
        Change::Delete { revision, .. } => revision > followed.end(),
    })
}
