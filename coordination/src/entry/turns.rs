//! Whose turn it is at a key that all of one process would put under one name.

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::named::Named;

/// The lines at all keys. Those who wait are served in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Turns(Named<Mutex<()>>);

/// The turn at a key, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    pub(super) async fn take(&self, key: &str) -> Turn {
        Turn {
            _guard: self.0.get(key).lock_owned().await,
        }
    }

    pub(super) fn try_take(&self, key: &str) -> Option<Turn> {
        let guard = self.0.get(key).try_lock_owned().ok()?;
        Some(Turn { _guard: guard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_a_turn_at_a_time() {
        let turns = Turns::default();
        let first = turns.try_take("a").unwrap();
        assert!(turns.try_take("a").is_none());
        assert!(turns.try_take("b").is_some());
        drop(first);
        assert!(turns.try_take("a").is_some());
    }
}
