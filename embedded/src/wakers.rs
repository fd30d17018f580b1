//! Who waits at an end of a connection.

use futures::task::AtomicWaker;

/// The one who reads there and the one who writes. Woken only while no lock is held: a waker may
/// run anything.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

impl Wakers {
    pub(crate) fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
    }
}
