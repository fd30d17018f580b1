//! etcd's versions, and what they do otherwise.

use std::fmt;

/// The version of one of etcd's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

/// What later etcds do otherwise than earlier ones, as their clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A request for progress is answered when all before it has been told, and only where every
    /// watch of the stream is up to date: one that a compaction ended, and that its client has not
    /// cancelled, is not. Before, it is answered at once, whatever there is.
    ProgressInTurn,
    /// A deletion at the compacted revision is told to watches that begin there. Before, the
    /// compaction takes it along.
    DeletionsKept,
    /// The operations of a transaction are looked at in their order, and the first that cannot be
    /// done is why it is refused. Before, its puts are looked at before its reads.
    OperationsInOrder,
    /// An order to sort by that does not exist is refused. Before, it ends the server.
    OrdersLookedAt,
    /// A watch that starts in the future keeps progress from its stream, even where it starts at
    /// the next revision. Before, it counts as up to date.
    NoProgressBeforeTheStart,
    /// A watch from below zero is refused. Before, it is made, and then cancelled as compacted.
    StartsLookedAt,
}

impl Change {
    /// Returns the release that brought it, for each of the minor versions that have it from some
    /// release on. Later ones have it from the beginning.
    fn since(self) -> Vec<Version> {
        match self {
            Self::ProgressInTurn => vec![version(3, 4, 25), version(3, 5, 8)],
            Self::DeletionsKept => vec![version(3, 4, 36), version(3, 5, 18)],
            Self::OperationsInOrder | Self::OrdersLookedAt => vec![version(3, 6, 0)],
            Self::NoProgressBeforeTheStart => {
                vec![version(3, 4, 38), version(3, 5, 22), version(3, 6, 2)]
            }
            Self::StartsLookedAt => vec![version(3, 4, 38), version(3, 5, 24), version(3, 6, 6)],
        }
    }
}

impl Version {
    /// Reads `3.4.23`, with whatever Debian, a pre-release or a build adds to it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split(['.', '-', '+', '~'])
            .map(|number| number.trim().parse().ok());
        let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(version(major, minor, patch))
    }

    /// Returns whether an etcd of this version does as those since the change do.
    pub fn has(self, change: Change) -> bool {
        let since = change.since();
        let line = |it: &Version| (it.major, it.minor);
        let of_this_line = since.iter().find(|it| line(it) == line(&self));
        match of_this_line {
            Some(first) => *first <= self,
            None => since.iter().all(|first| *first < self),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Names a version.
pub(crate) fn version(major: u32, minor: u32, patch: u32) -> Version {
    Version {
        major,
        minor,
        patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_and_without_a_suffix() {
        let read = |text| Version::parse(text).map(|it| it.to_string());
        assert_eq!(read("3.4.23").as_deref(), Some("3.4.23"));
        assert_eq!(read("3.6.16+embedded").as_deref(), Some("3.6.16"));
        assert_eq!(read("3.6.0-rc.1").as_deref(), Some("3.6.0"));
        assert_eq!(read("3.6"), None);
        assert_eq!(read("not found"), None);
    }

    #[test]
    fn a_change_is_in_what_its_line_released_since_and_in_later_lines() {
        let has = |text| {
            let version = Version::parse(text).unwrap();
            version.has(Change::NoProgressBeforeTheStart)
        };
        for later in ["3.4.38", "3.4.39", "3.5.22", "3.6.2", "3.7.0", "4.0.0"] {
            assert!(has(later), "{later}");
        }
        for earlier in ["3.3.99", "3.4.37", "3.5.0", "3.5.21", "3.6.0", "3.6.1"] {
            assert!(!has(earlier), "{earlier}");
        }
    }

    #[test]
    fn a_change_of_a_minor_version_is_not_in_those_before() {
        let has = |text| {
            let version = Version::parse(text).unwrap();
            version.has(Change::OrdersLookedAt)
        };
        assert!(has("3.6.0") && has("3.7.0"));
        assert!(!has("3.5.33") && !has("3.4.23"));
    }
}
