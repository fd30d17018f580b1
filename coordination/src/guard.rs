//! What all guards of locks have in common, around the [`Entry`](crate::entry::Entry) in each.

/// Gives a guard of a lock its methods but the token, whose meaning differs.
macro_rules! lock_guard {
    ($guard:ident) => {
        impl $guard {
            /// Returns what holds in etcd for as long as the lock is ours: a transaction with this guard
            /// cannot go through later.
            pub fn guard(&self) -> Guard {
                self.0.guard()
            }

            /// Returns whether it is still had, as far as is known.
            pub fn is_held(&self) -> bool {
                self.0.loss().is_none()
            }

            /// Waits until it is lost, and returns why. It watches the key from the first time on that
            /// this is waited for.
            ///
            /// # Cancel safety
            ///
            /// Cancelling it changes nothing.
            pub async fn lost(&self) -> Lost {
                self.0.lost().await
            }

            /// Does `work` and returns what comes of it. Drops it where it stands if the lock is lost
            /// before it is done.
            ///
            /// # Errors
            ///
            /// The lock is lost.
            ///
            /// # Cancel safety
            ///
            /// As that of `work`.
            pub async fn hold<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
                self.0.hold(work).await
            }

            /// Gives the lock back. It is another one's to have when this returns.
            ///
            /// # Errors
            ///
            /// It was lost before that. It is given back all the same, in the background.
            ///
            /// # Cancel safety
            ///
            /// Once polled it is given back all the same; only the waiting is given up.
            pub async fn unlock(self) -> Result<(), Lost> {
                self.0.remove().await
            }
        }
    };
}
pub(crate) use lock_guard;
