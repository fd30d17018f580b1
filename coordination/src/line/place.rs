//! Where in a line somebody stands.

use switchboard_registry::keys::KeyValue;

/// Where in a line somebody stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody is before it.
    First,
    /// Behind the one with this key.
    Behind(Vec<u8>),
    /// Whoever is before it cannot be seen for keys that are not of the line.
    Hidden,
    /// Not in it.
    Outside,
}

/// What was read of a line.
pub(super) struct Seen {
    /// Whether our own key was there.
    pub(super) is_there: bool,
    /// Those before it, the last first.
    pub(super) before: Vec<KeyValue>,
    /// Whether that is all of them.
    pub(super) is_all: bool,
}

/// Tells where somebody stands.
pub(super) fn place(seen: &Seen, belongs: impl Fn(&[u8]) -> bool) -> Place {
    if !seen.is_there {
        return Place::Outside;
    }
    match seen.before.iter().find(|kv| belongs(&kv.key)) {
        Some(kv) => Place::Behind(kv.key.clone()),
        None if seen.is_all => Place::First,
        None => Place::Hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(is_there: bool, before: &[&str], is_all: bool) -> Place {
        let before = before.iter().map(|key| KeyValue::new(*key, ""));
        let seen = Seen {
            is_there,
            before: before.collect(),
            is_all,
        };
        place(&seen, |key| !key.starts_with(b"/a/b/"))
    }

    #[test]
    fn who_has_nobody_before_it_is_first() {
        assert_eq!(stands(true, &[], true), Place::First);
    }

    #[test]
    fn who_has_somebody_before_it_is_behind_the_last_of_them() {
        let place = stands(true, &["/a/2", "/a/1"], false);
        assert_eq!(place, Place::Behind(b"/a/2".into()));
    }

    #[test]
    fn keys_that_are_not_of_the_line_are_looked_through() {
        let place = stands(true, &["/a/b/2", "/a/1"], true);
        assert_eq!(place, Place::Behind(b"/a/1".into()));
        assert_eq!(stands(true, &["/a/b/2"], true), Place::First);
        assert_eq!(stands(true, &["/a/b/2"], false), Place::Hidden);
    }

    #[test]
    fn whose_key_is_gone_is_not_in_line() {
        assert_eq!(stands(false, &[], true), Place::Outside);
        assert_eq!(stands(false, &["/a/1"], true), Place::Outside);
    }
}
