//! What those share who use one registry, each kind of them its own.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// One value of each type, made for the first who wants it.
#[derive(Default)]
pub(crate) struct Commons(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Commons {
    /// Returns the value of type `T`.
    pub(crate) fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(TypeId::of::<T>());
        let value = value.or_insert_with(|| Arc::<T>::default()).clone();
        value.downcast().expect("it is under its type's id")
    }
}
