//! What is logged, at INFO and above, while a test runs.

use std::{cell::RefCell, sync::Once};

use tracing::{Event, Level, Subscriber, subscriber::set_global_default};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

thread_local! {
    static EVENTS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Remembers what this thread logs, until it is dropped.
pub struct Logged(());

struct Events;

impl Logged {
    pub fn start() -> Self {
        // One for all threads: tracing may take a subscriber of one thread for none when another
        // thread is the first to log something.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            set_global_default(Registry::default().with(Events)).expect("no other subscriber");
        });
        EVENTS.set(Some(Vec::new()));
        Self(())
    }

    /// The levels and names so far, such as `WARN endpoint_failing`.
    pub fn names(&self) -> Vec<String> {
        EVENTS.with_borrow(|events| events.clone().unwrap_or_default())
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        EVENTS.set(None);
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || !metadata.target().starts_with("switchboard") {
            return;
        }
        EVENTS.with_borrow_mut(|events| {
            if let Some(events) = events {
                events.push(format!("{} {}", metadata.level(), metadata.name()));
            }
        });
    }
}
