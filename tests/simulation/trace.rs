//! What happened in a run, in order: one line an event, each with the virtual time.

use std::{
    error::Error,
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

/// A run's trace; clones write the same one.
#[derive(Clone)]
pub(crate) struct Trace {
    start: Instant,
    lines: Arc<Mutex<Vec<String>>>,
    /// Whether lines are shown as they come, for whoever replays a seed.
    is_shown: bool,
}

impl Trace {
    /// Begins a trace; time counts from now.
    pub(crate) fn new(is_shown: bool) -> Self {
        Self {
            start: Instant::now(),
            lines: Arc::default(),
            is_shown,
        }
    }

    /// Writes a line.
    pub(crate) fn write(&self, event: impl Display) {
        let time = self.start.elapsed().as_secs_f64();
        let line = format!("{time:>9.3} {event}");
        if self.is_shown {
            eprintln!("{line}");
        }
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
    }

    /// Returns the lines there are.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }
}

/// Returns the hash of a trace, the same on every machine: FNV-1a.
pub(crate) fn hash(lines: &[String]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in lines.iter().flat_map(|line| line.bytes().chain([b'\n'])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    hash
}

/// Writes an error and all that caused it in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
