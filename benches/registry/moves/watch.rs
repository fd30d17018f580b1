//! What etcd tells of keys, by etcd-client.

use std::time::Instant;

use etcd_client::{Client, EventType, WatchOptions, WatchStream};
use switchboard_test_support::Etcd;

/// A watch on the keys below a prefix, over a connection of its own.
pub(super) struct Watch {
    events: WatchStream,
}

impl Watch {
    pub(super) async fn open(etcd: &Etcd, prefix: &str) -> Self {
        let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
        let options = WatchOptions::new().with_prefix();
        let mut events = client.watch(prefix, Some(options)).await.unwrap();
        assert!(events.message().await.unwrap().unwrap().created());
        Self { events }
    }

    /// Waits for the next event, which is of that kind, and returns when it came.
    pub(super) async fn next(&mut self, kind: EventType) -> Instant {
        let message = self.events.message().await.unwrap().unwrap();
        let came = Instant::now();
        let kinds: Vec<_> = message.events().iter().map(|it| it.event_type()).collect();
        assert_eq!(kinds, [kind]);
        came
    }
}
