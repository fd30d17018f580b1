//! What those share who name the same thing, as long as one of them does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// One value for each name.
#[derive(Debug)]
pub(super) struct Named<T>(Mutex<HashMap<String, Weak<T>>>);

impl<T: Default> Named<T> {
    /// Returns what has this name.
    pub(super) fn get(&self, name: &str) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = all.get(name).and_then(Weak::upgrade) {
            return it;
        }
        // Before it grows, which happens the more seldom the larger it is.
        if all.len() == all.capacity() {
            all.retain(|_, it| it.strong_count() > 0);
        }
        let it = Arc::new(T::default());
        all.insert(name.to_owned(), Arc::downgrade(&it));
        it
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_the_same_has_the_same_and_what_nobody_names_is_forgotten() {
        let named = Named::<u8>::default();
        let one = named.get("a");
        assert!(Arc::ptr_eq(&one, &named.get("a")));
        assert!(!Arc::ptr_eq(&one, &named.get("b")));
        for name in 0..10_000 {
            named.get(&name.to_string());
        }
        assert!(named.0.lock().unwrap().len() < 100);
        assert!(Arc::ptr_eq(&one, &named.get("a")));
    }
}
