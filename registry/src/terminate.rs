//! The signals by which a process is asked to end.

use std::{future::Future, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits until the process is asked to end: by SIGTERM, SIGINT, SIGQUIT or SIGHUP.
///
/// A second signal then ends the process at once, with exit code 130, whatever is still being
/// drained. The signals are caught from this call on, not from the first poll.
///
/// # Panics
///
/// Outside a tokio runtime.
///
/// # Cancel safety
///
/// Dropping the future gives the signals up, but they keep being caught: without it they do
/// nothing.
pub fn terminate() -> impl Future<Output = ()> + Send + 'static {
    let caught = Caught::new();
    async move {
        let mut caught = match caught {
            Ok(caught) => caught,
            Err(cause) => {
                // The process dies of them, as it would without this.
                tracing::warn!(name: "signals_not_caught", %cause, "signals end this process at once");
                return std::future::pending().await;
            }
        };
        caught.next().await;
        #[expect(
            clippy::disallowed_methods,
            reason = "it has no owner: it ends the process"
        )]
        tokio::spawn(async move {
            caught.next().await;
            std::process::exit(INTERRUPTED);
        });
    }
}

/// What shells report of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

struct Caught([Signal; 4]);

impl Caught {
    fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [term, int, quit, hangup] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
