//! What a test logs, down to the last frame.

use std::{cell::RefCell, io, sync::Once};

use tracing_subscriber::{
    Layer, filter::LevelFilter, filter::dynamic_filter_fn, fmt, layer::SubscriberExt,
    util::SubscriberInitExt,
};

thread_local! {
    /// All tasks of a test run on its thread, so this is the log of one test.
    static RECORDING: RefCell<Option<(LevelFilter, Vec<u8>)>> = const { RefCell::new(None) };
}

/// Records what the test logs, until it is dropped.
pub(crate) struct Log(());

impl Log {
    /// There is one subscriber for the process, since one per thread misses what another thread has
    /// logged before it.
    pub(crate) fn record(level: LevelFilter) -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            let is_recorded = dynamic_filter_fn(|event, _context| {
                RECORDING.with_borrow(|log| {
                    log.as_ref()
                        .is_some_and(|(level, _)| event.level() <= level)
                })
            });
            let lines = fmt::layer().with_ansi(false).with_writer(|| Writer);
            tracing_subscriber::registry()
                .with(lines.with_filter(is_recorded))
                .init();
        });
        RECORDING.set(Some((level, Vec::new())));
        Self(())
    }

    pub(crate) fn text(&self) -> String {
        RECORDING.with_borrow(|log| {
            let bytes = log.as_ref().map(|(_, bytes)| bytes.as_slice());
            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        RECORDING.set(None);
    }
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        RECORDING.with_borrow_mut(|log| {
            if let Some((_, bytes)) = log {
                bytes.extend(line);
            }
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
