//! A watch on a range of keys, over a stream of its own.

use etcd_client::{WatchFilterType, WatchOptions, WatchResponse, WatchStream};

use super::{Etcd, EtcdError, KeyRange, Kind, Message, REQUEST_TIMEOUT, bounded};

impl Etcd {
    /// Watches a range of keys, from a revision on. etcd's first message has come.
    pub(crate) async fn watch(&self, range: &KeyRange, from: i64) -> Result<Watching, EtcdError> {
        self.watch_for(range, from, None).await
    }

    /// Watches a range of keys for changes that are not of the kind `left_out`.
    pub(crate) async fn watch_for(
        &self,
        range: &KeyRange,
        from: i64,
        left_out: Option<WatchFilterType>,
    ) -> Result<Watching, EtcdError> {
        let options = WatchOptions::new().with_start_revision(from);
        let options = match left_out {
            Some(filter) => options.with_filters([filter]),
            None => options,
        };
        let options = match range {
            KeyRange::Key(_) => options,
            KeyRange::Under(_) => options.with_prefix(),
        };
        let (stream, first) = self.open(range.start(), &options).await?;
        let first = Some(first.into());
        Ok(Watching { stream, first })
    }

    /// Opens a stream with its first watch, and waits for what etcd says to that.
    pub(super) async fn open(
        &self,
        key: &str,
        options: &WatchOptions,
    ) -> Result<(WatchStream, WatchResponse), EtcdError> {
        let opened = self.request(&self.watch, REQUEST_TIMEOUT, |mut client| async move {
            let mut stream = client.watch(key, Some(options.clone())).await?;
            let first = stream.message().await?.ok_or_else(EtcdError::ended)?;
            if first.canceled() {
                // Only here does etcd look at the token of a watch, and it says so in a message.
                let error = EtcdError::cancelled(first.cancel_reason());
                if error.kind == Kind::Token {
                    return Err(error);
                }
            }
            Ok((stream, first))
        });
        opened.await
    }
}

/// An open watch.
pub(crate) struct Watching {
    stream: WatchStream,
    first: Option<Message>,
}

impl Watching {
    /// Waits for what the watch says next.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses no message.
    pub(crate) async fn message(&mut self) -> Result<Message, EtcdError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let response = self.stream.message().await?;
        Ok(response.ok_or_else(EtcdError::ended)?.into())
    }

    /// Asks for a progress notice.
    pub(crate) async fn ask_progress(&mut self) -> Result<(), EtcdError> {
        bounded(self.stream.request_progress()).await
    }
}
