//! Decides which value a configuration has: the newest one that could be read.
//!
//! ```text
//! Good      offered something else that can be read     -> Good, with that
//! Good      offered what cannot be read                 -> Rejected, with the last good value
//! Rejected  offered what can be read                    -> Good, with that
//! Rejected  offered something else that cannot be read  -> Rejected, told again
//! any       offered the same again                      -> nothing, and nothing is told
//! ```

use std::sync::Arc;

use switchboard_registry::keys::KeyValue;

use super::InvalidConfig;

/// The value of a configuration, and what was offered last.
#[derive(Debug)]
pub(super) struct Adoption<T, Read> {
    read: Read,
    offered: Vec<Arc<KeyValue>>,
    value: Arc<T>,
    rejected: Option<Arc<InvalidConfig>>,
}

/// What became of an offer.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It is what was offered before.
    Same,
    /// It is the value now.
    Adopted,
    /// It is the value now, and the one before was rejected.
    Recovered,
    /// It cannot be read, and the last good value stays.
    Rejected(Arc<InvalidConfig>),
}

impl<T, Read> Adoption<T, Read>
where
    Read: Fn(&[Arc<KeyValue>]) -> Result<Arc<T>, InvalidConfig>,
{
    /// Begins with what the keys hold.
    pub(super) fn begin(read: Read, keys: &[Arc<KeyValue>]) -> Result<Self, InvalidConfig> {
        Ok(Self {
            value: read(keys)?,
            read,
            offered: keys.to_vec(),
            rejected: None,
        })
    }

    pub(super) fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Returns what stands in etcd and is not what it should be.
    pub(super) fn rejected(&self) -> &Option<Arc<InvalidConfig>> {
        &self.rejected
    }

    /// Takes in what the keys hold now.
    pub(super) fn offer(&mut self, keys: &[Arc<KeyValue>]) -> Verdict {
        let is_like = |one: &Arc<KeyValue>, other: &Arc<KeyValue>| {
            Arc::ptr_eq(one, other) || (&one.key, &one.value) == (&other.key, &other.value)
        };
        let offered = &self.offered;
        if keys.len() == offered.len() && keys.iter().zip(offered).all(|(a, b)| is_like(a, b)) {
            return Verdict::Same;
        }
        self.offered = keys.to_vec();
        match (self.read)(keys) {
            Ok(value) => {
                self.value = value;
                match self.rejected.take() {
                    Some(_) => Verdict::Recovered,
                    None => Verdict::Adopted,
                }
            }
            Err(invalid) => {
                let invalid = Arc::new(invalid);
                self.rejected = Some(invalid.clone());
                Verdict::Rejected(invalid)
            }
        }
    }
}
