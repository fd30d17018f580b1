//! What all have in common who hold something in etcd, by an [`Entry`](crate::entry::Entry) each.

/// Gives what holds something by the entry in a field the methods that tell whether it is held.
macro_rules! held {
    ($guard:ident, $entry:tt, $what:literal) => {
        impl $guard {
            #[doc = concat!("Returns what holds in etcd for as long as ", $what, " is ours: a")]
            /// transaction with this guard cannot go through later.
            pub fn guard(&self) -> switchboard_registry::keys::Guard {
                self.$entry.guard()
            }

            #[doc = concat!("Returns whether ", $what, " is still ours, as far as is known.")]
            pub fn is_held(&self) -> bool {
                self.$entry.loss().is_none()
            }

            #[doc = concat!("Waits until ", $what, " is lost, and returns why. It watches the key")]
            /// from the first time on that this is waited for.
            ///
            /// # Cancel safety
            ///
            /// Cancelling it changes nothing.
            pub async fn lost(&self) -> crate::Lost {
                self.$entry.lost().await
            }

            /// Does `work` and returns what comes of it. Drops it where it stands if
            #[doc = concat!($what, " is lost before it is done.")]
            ///
            /// # Errors
            ///
            #[doc = concat!("Where ", $what, " is lost.")]
            ///
            /// # Cancel safety
            ///
            /// As that of `work`.
            pub async fn hold<T>(&self, work: impl Future<Output = T>) -> Result<T, crate::Lost> {
                self.$entry.hold(work).await
            }
        }
    };
}
pub(crate) use held;

/// Gives a guard of a lock its methods but the token, whose meaning differs.
macro_rules! lock_guard {
    ($guard:ident) => {
        $crate::guard::held!($guard, 0, "the lock");

        impl $guard {
            /// Gives the lock back. It is another one's to have when this returns.
            ///
            /// # Errors
            ///
            /// It was lost before that. It is given back all the same, in the background.
            ///
            /// # Cancel safety
            ///
            /// Once polled it is given back all the same; only the waiting is given up.
            pub async fn unlock(self) -> Result<(), crate::Lost> {
                self.0.remove().await
            }
        }
    };
}
pub(crate) use lock_guard;
