//! A channel's configuration in a key of etcd.

use futures::{Stream, stream};

use crate::{
    Registry,
    keys::{Followed, KeyPath, KeyRange},
};

/// Follows a key, and returns what it holds each time it changes, first what it holds now; `None` while
/// there is no such key. While etcd is away nothing is told, and the last one stays in force.
pub(crate) fn follow(
    registry: &Registry,
    key: &KeyPath,
) -> impl Stream<Item = Option<String>> + Send + use<> {
    let followed = registry.keys().follow(KeyRange::Key(key.to_string()));
    stream::unfold(followed, async |mut followed| {
        loop {
            followed.changed().await.ok()?;
            if let Some(text) = text(&followed) {
                return Some((text, followed));
            }
        }
    })
}

/// What stands for what is no text: no configuration either, and so refused and told.
const NO_TEXT: &str = "not UTF-8";

/// Returns what the key holds, once it was read.
fn text(followed: &Followed) -> Option<Option<String>> {
    let snapshot = followed.snapshot()?;
    let held = snapshot.keys().first();
    let read = |value: &[u8]| std::str::from_utf8(value).unwrap_or(NO_TEXT).to_owned();
    Some(held.map(|kv| read(&kv.value)))
}
