//! The keys that a request is about.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

/// One key, or a run of neighbours, as `key` and `range_end` say it on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Span {
    /// No `range_end`.
    Key(Bytes),
    /// From `start`, included, to `end`, excluded; empty if they are the wrong way round.
    Range { start: Bytes, end: Bytes },
    /// A `range_end` of one zero byte: everything from here.
    From(Bytes),
}

impl Span {
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let start = Bytes::copy_from_slice(key);
        match range_end {
            [] => Self::Key(start),
            [0] => Self::From(start),
            end => Self::Range {
                start,
                end: Bytes::copy_from_slice(end),
            },
        }
    }

    pub(crate) fn start(&self) -> &Bytes {
        match self {
            Self::Key(start) | Self::Range { start, .. } | Self::From(start) => start,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Range { start, end } if start >= end)
    }

    /// From where to before where it goes, unless it has no end.
    pub(crate) fn range(&self) -> Option<(Bytes, Bytes)> {
        match self {
            Self::Key(only) => Some((only.clone(), [only, &[0][..]].concat().into())),
            Self::Range { start, end } => Some((start.clone(), end.clone())),
            Self::From(_) => None,
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(only) => key == only,
            Self::Range { start, end } => **start <= *key && *key < **end,
            Self::From(start) => **start <= *key,
        }
    }

    /// What an ordered map takes. It panics at an empty range; see [`is_empty`](Self::is_empty).
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            Self::Key(only) => (Bound::Included(only), Bound::Included(only)),
            Self::Range { start, end } => (Bound::Included(start), Bound::Excluded(end)),
            Self::From(start) => (Bound::Included(start), Bound::Unbounded),
        }
    }
}

/// Many ranges, merged where they meet, so that looking up a key takes no longer the more there are.
#[derive(Debug, Default)]
pub(crate) struct Ranges(BTreeMap<Bytes, Bytes>);

impl Ranges {
    /// Adds the keys from `start`, included, to `end`, excluded.
    pub(crate) fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        if let Some((earlier, its_end)) = self.0.range(..=start.clone()).next_back()
            && *its_end >= start
        {
            end = end.max(its_end.clone());
            start = earlier.clone();
        }
        while let Some((met, its_end)) = self.0.range(start.clone()..=end.clone()).next() {
            let met = met.clone();
            end = end.max(its_end.clone());
            self.0.remove(&met);
        }
        self.0.insert(start, end);
    }

    /// Adds all those of another.
    pub(crate) fn extend(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let begun = (Bound::Unbounded, Bound::Included(key));
        let range = self.0.range::<[u8], _>(begun).next_back();
        range.is_some_and(|(_, end)| *key < **end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_key_alone_a_range_and_everything_from_here() {
        let only = Span::new(b"b", b"");
        let range = Span::new(b"b", b"d");
        let from = Span::new(b"b", b"\0");
        let holds = |span: &Span| ["a", "b", "c", "d"].map(|key| span.contains(key.as_bytes()));
        assert_eq!(holds(&only), [false, true, false, false]);
        assert_eq!(holds(&range), [false, true, true, false]);
        assert_eq!(holds(&from), [false, true, true, true]);
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        assert!(Span::new(b"d", b"b").is_empty());
        assert!(Span::new(b"b", b"b").is_empty());
        assert!(!Span::new(b"b", b"\0").is_empty());
        assert!(!Span::new(b"d", b"b").contains(b"c"));
    }

    /// Keys of two letters, so that spans meet and overlap.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(b'a'..=b'd', 1..=2)
    }

    /// A key alone or a range, perhaps the wrong way round.
    fn span() -> impl Strategy<Value = Span> {
        let end = prop_oneof![Just(Vec::new()), key()];
        (key(), end).prop_map(|(start, end)| Span::new(&start, &end))
    }

    fn ranges(spans: &[Span]) -> Ranges {
        let mut ranges = Ranges::default();
        for (start, end) in spans.iter().filter_map(Span::range) {
            ranges.insert(start, end);
        }
        ranges
    }

    proptest! {
        #[test]
        fn merged_ranges_hold_what_one_of_them_holds(
            some in vec(span(), 0..6),
            others in vec(span(), 0..6),
            keys in vec(key(), 20),
        ) {
            let mut merged = ranges(&some);
            merged.extend(ranges(&others));
            for key in keys {
                let expected = some.iter().chain(&others).any(|span| span.contains(&key));
                prop_assert_eq!(merged.contains(&key), expected, "{:?}", key);
            }
        }
    }
}
