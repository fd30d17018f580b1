//! Whose turn it is at a key that all of one process would put under one name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

/// The lines at all keys. Those who wait are served in the order in which they came.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<Queue<()>>>>);

/// The turn at a key, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    pub(super) async fn take(&self, key: &str) -> Turn {
        Turn {
            _guard: self.line(key).lock_owned().await,
        }
    }

    pub(super) fn try_take(&self, key: &str) -> Option<Turn> {
        let guard = self.line(key).try_lock_owned().ok()?;
        Some(Turn { _guard: guard })
    }

    fn line(&self, key: &str) -> Arc<Queue<()>> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(key).and_then(Weak::upgrade) {
            return line;
        }
        // Before it grows, which happens the more seldom the larger it is.
        if lines.len() == lines.capacity() {
            lines.retain(|_, line| line.strong_count() > 0);
        }
        let line = Arc::new(Queue::new(()));
        lines.insert(key.to_owned(), Arc::downgrade(&line));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_one_s_own_and_what_nobody_waits_for_is_forgotten() {
        let turns = Turns::default();
        let first = turns.try_take("a").unwrap();
        assert!(turns.try_take("a").is_none());
        let other = turns.try_take("b");
        assert!(other.is_some());
        drop(first);
        assert!(turns.try_take("a").is_some());
        for key in 0..10_000 {
            turns.try_take(&key.to_string()).unwrap();
        }
        assert!(turns.0.lock().unwrap().len() < 100);
        assert!(turns.try_take("b").is_none());
    }
}
