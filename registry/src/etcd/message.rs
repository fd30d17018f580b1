//! What etcd tells of keys, in our own words.

use etcd_client::{EventType, ResponseHeader, WatchResponse};

use super::EtcdError;
use crate::lease::LeaseId;

/// What one key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its lease; 0 for a key without one.
    pub lease: LeaseId,
    /// The revision of its last change.
    pub revision: i64,
    /// The revision that brought it: a key that is deleted and put again has another one.
    pub created: i64,
}

impl KeyValue {
    /// Makes one as it would be without a lease, and before any revision, for tests of what reads them.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: 0,
            revision: 0,
            created: 0,
        }
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEvent {
    /// The key holds this now.
    Put(KeyValue),
    /// The key is gone.
    Delete {
        /// The key.
        key: Vec<u8>,
        /// The revision at which it went.
        revision: i64,
    },
}

impl KeyEvent {
    /// Returns the revision that brought it.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Put(kv) => kv.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Message {
    /// It is open, at a member that is at `revision`.
    Opened { revision: i64 },
    /// It is over, or was never opened.
    Cancelled(EtcdError),
    /// Changes in the order of their revisions, all those of a revision together.
    Events(Vec<KeyEvent>),
    /// It has told all there is.
    Progress,
}

impl From<&etcd_client::KeyValue> for KeyValue {
    fn from(kv: &etcd_client::KeyValue) -> Self {
        Self {
            key: kv.key().to_vec(),
            value: kv.value().to_vec(),
            lease: kv.lease(),
            revision: kv.mod_revision(),
            created: kv.create_revision(),
        }
    }
}

impl From<etcd_client::KeyValue> for KeyValue {
    fn from(kv: etcd_client::KeyValue) -> Self {
        let (lease, revision, created) = (kv.lease(), kv.mod_revision(), kv.create_revision());
        let (key, value) = kv.into_key_value();
        Self {
            key,
            value,
            lease,
            revision,
            created,
        }
    }
}

impl From<WatchResponse> for Message {
    fn from(response: WatchResponse) -> Self {
        // A watch that is refused is created and cancelled by one message.
        if response.canceled() {
            // etcd gives no reason where it has compacted.
            return Self::Cancelled(match response.compact_revision() {
                0 => EtcdError::cancelled(response.cancel_reason()),
                revision => EtcdError::compacted(revision),
            });
        }
        if response.created() {
            return Self::Opened {
                revision: revision(response.header()),
            };
        }
        let events = response.events().iter().filter_map(|event| {
            let kv = event.kv()?;
            Some(match event.event_type() {
                EventType::Put => KeyEvent::Put(kv.into()),
                EventType::Delete => KeyEvent::Delete {
                    key: kv.key().to_vec(),
                    revision: kv.mod_revision(),
                },
            })
        });
        let events: Vec<_> = events.collect();
        if events.is_empty() {
            Self::Progress
        } else {
            Self::Events(events)
        }
    }
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, ResponseHeader::revision)
}
