//! Many watches, each on one key, over one stream.

use etcd_client::{WatchOptions, WatchResponse, WatchStream};

use super::{Etcd, EtcdError, Message, bounded};

/// An open stream of watches on single keys. The ids are the caller's choice, positive, and used
/// once: etcd's own follow the order of its answers, and could be taken for another's.
pub(crate) struct KeyStream {
    stream: WatchStream,
    first: Option<WatchResponse>,
}

impl Etcd {
    /// Opens a stream with its first watch, from a revision on. etcd's first message has come.
    pub(crate) async fn watch_key(
        &self,
        id: i64,
        key: &str,
        from: i64,
    ) -> Result<KeyStream, EtcdError> {
        let (stream, first) = self.open(key, &options(id, from)).await?;
        let first = Some(first);
        Ok(KeyStream { stream, first })
    }
}

impl KeyStream {
    /// Adds a watch, from a revision on.
    pub(crate) async fn add(&mut self, id: i64, key: &str, from: i64) -> Result<(), EtcdError> {
        bounded(self.stream.watch(key, Some(options(id, from)))).await
    }

    /// Ends a watch. It may have said something meanwhile.
    pub(crate) async fn remove(&mut self, id: i64) -> Result<(), EtcdError> {
        bounded(self.stream.cancel(id)).await
    }

    /// Waits for what one of the watches says next. One that etcd refused to open has no id, which
    /// is told as `None`.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses no message.
    pub(crate) async fn message(&mut self) -> Result<(Option<i64>, Message), EtcdError> {
        let response = match self.first.take() {
            Some(first) => first,
            None => self.stream.message().await?.ok_or_else(EtcdError::ended)?,
        };
        let id = Some(response.watch_id()).filter(|id| *id > 0);
        Ok((id, response.into()))
    }
}

fn options(id: i64, from: i64) -> WatchOptions {
    WatchOptions::new()
        .with_watch_id(id)
        .with_start_revision(from)
}
