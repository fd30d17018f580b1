//! The keys that a request is about.

use std::ops::Bound;

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

#[cfg(test)]
mod tests {
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
}
