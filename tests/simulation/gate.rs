//! What a process does, while it does not stand still.

use std::pin::pin;

use tokio::sync::watch;

/// Stands still, together with all that goes [through](Self::through) it, and goes on as if nothing
/// was.
#[derive(Clone)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(true))
    }

    pub(crate) fn set_open(&self, is_open: bool) {
        self.0.send_replace(is_open);
    }

    /// Polls `future` while the gate is open. What wakes it meanwhile is not lost: it is polled when
    /// the gate opens.
    pub(crate) fn through<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let mut gate = self.0.subscribe();
        async move {
            let mut future = pin!(future);
            loop {
                // An error is the end of the process, which ends this too.
                let _ = gate.wait_for(|is_open| *is_open).await;
                tokio::select! {
                    biased;
                    Ok(_) = gate.wait_for(|is_open| !is_open) => {}
                    done = &mut future => return done,
                }
            }
        }
    }
}
