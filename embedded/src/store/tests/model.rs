//! Random histories, beside a model: a whole map for each revision.

use std::collections::BTreeMap;

use etcd_client::proto::{PbTxnOpRequest, PbTxnRequestOp};
use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8, u8),
    /// Puts of several keys, one revision.
    Together(Vec<(u8, u8)>),
    Compact(u8),
    /// Begins to watch this many revisions ago.
    Watch(u8, u8, u8),
    /// A reader takes this many answers.
    Read(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_u8;
    prop_oneof![
        6 => (key.clone(), b'0'..=b'9').prop_map(|(key, value)| Step::Put(key, value)),
        3 => (key.clone(), key.clone()).prop_map(|(start, end)| Step::Delete(start, end)),
        2 => vec((key.clone(), b'0'..=b'9'), 1..4).prop_map(Step::Together),
        1 => (0..10_u8).prop_map(Step::Compact),
        2 => (key.clone(), key, 0..12_u8).prop_map(|(start, end, ago)| Step::Watch(start, end, ago)),
        4 => (0..4_u8, 0..5_u8).prop_map(|(reader, count)| Step::Read(reader, count)),
    ]
}

/// Values, and the revisions they were put at: a put of the value that was there counts too.
type Map = BTreeMap<u8, (u8, i64)>;

/// The store, and what must be true of it.
struct Run {
    store: Store,
    /// What was there at each revision; the first is 1.
    revisions: Vec<Map>,
    compacted: i64,
    readers: Vec<Reader>,
}

/// One who watches the keys from `start` to before `end`.
struct Reader {
    stream: StreamId,
    keys: std::ops::Range<u8>,
    /// The next revision it is to be told of.
    next: i64,
    is_created: bool,
    is_over: bool,
}

impl Run {
    fn take(&mut self, step: &Step) {
        let mut map = self.revisions.last().unwrap().clone();
        match step {
            Step::Put(key, value) => {
                let request = put(*key, *value);
                self.store.put(&request).unwrap();
                map.insert(*key, (*value, self.revision() + 1));
                self.revisions.push(map);
            }
            Step::Delete(start, end) => {
                let request = PbDeleteRequest {
                    key: vec![b'a' + start],
                    range_end: vec![b'a' + end],
                    prev_kv: true,
                };
                let response = self.store.delete(&request).unwrap();
                let gone: Vec<u8> = match start < end {
                    true => map.range(start..end).map(|(key, _)| *key).collect(),
                    false => Vec::new(),
                };
                assert_eq!(response.deleted, gone.len() as i64);
                assert_eq!(response.prev_kvs.len(), gone.len());
                map.retain(|key, _| !gone.contains(key));
                if !gone.is_empty() {
                    self.revisions.push(map);
                }
            }
            Step::Together(puts) => {
                let puts: BTreeMap<u8, u8> = puts.iter().copied().collect();
                let operations = puts.iter().map(|(key, value)| PbTxnRequestOp {
                    request: Some(PbTxnOpRequest::RequestPut(put(*key, *value))),
                });
                let request = PbTxnRequest {
                    success: operations.collect(),
                    ..PbTxnRequest::default()
                };
                self.store.txn(&request).unwrap();
                let revision = self.revision() + 1;
                map.extend(
                    puts.into_iter()
                        .map(|(key, value)| (key, (value, revision))),
                );
                self.revisions.push(map);
            }
            Step::Compact(ago) => {
                let revision = self.revision() - i64::from(*ago);
                let request = PbCompactionRequest {
                    revision,
                    physical: false,
                };
                let compacted = self.store.compact(&request);
                if revision > self.compacted {
                    compacted.unwrap();
                    self.compacted = revision;
                } else {
                    assert_eq!(compacted.unwrap_err(), StoreError::Compacted);
                }
            }
            Step::Watch(start, end, ago) => {
                let next = (self.revision() + 1 - i64::from(*ago)).max(1);
                let stream = StreamId(self.readers.len() as u64);
                self.store.open_stream(stream);
                let request = WatchRequest {
                    span: Span::new(&[b'a' + start], &[b'a' + end]),
                    ..everything(next)
                };
                self.store.watch(stream, request);
                self.readers.push(Reader {
                    stream,
                    keys: *start..*end,
                    next,
                    is_created: false,
                    is_over: false,
                });
            }
            Step::Read(reader, count) => {
                let index = usize::from(*reader);
                for _ in 0..*count {
                    self.read(index);
                }
            }
        }
        assert_eq!(self.store.revision(), self.revision());
    }

    fn revision(&self) -> i64 {
        self.revisions.len() as i64
    }

    /// Lets a reader take one answer, which must be the next thing that happened to its keys.
    fn read(&mut self, index: usize) -> bool {
        let Some(reader) = self.readers.get_mut(index) else {
            return false;
        };
        let Some(response) = self.store.poll_stream(reader.stream) else {
            return false;
        };
        assert!(!reader.is_over, "nothing comes after the end");
        if !reader.is_created {
            assert!(response.created);
            reader.is_created = true;
            reader.is_over = response.canceled;
            assert_eq!(response.canceled, reader.keys.is_empty());
            return true;
        }
        if response.canceled {
            assert!(reader.next < self.compacted);
            assert_eq!(response.compact_revision, self.compacted);
            reader.is_over = true;
            return true;
        }
        let last = response
            .events
            .last()
            .unwrap()
            .kv
            .as_ref()
            .unwrap()
            .mod_revision;
        let mut expected = Vec::new();
        for revision in reader.next..=last {
            expected.extend(changes(&self.revisions, revision, &reader.keys));
        }
        assert_eq!(told(std::slice::from_ref(&response)), expected);
        reader.next = last + 1;
        true
    }

    /// Everything that can be read is as it was, and every reader has heard everything.
    fn check(&mut self) {
        for revision in self.compacted.max(1)..=self.revision() {
            let request = PbRangeRequest {
                key: vec![0],
                range_end: vec![0],
                revision,
                ..PbRangeRequest::default()
            };
            let response = self.store.range(&request).unwrap();
            let found = response
                .kvs
                .iter()
                .map(|kv| (kv.key[0] - b'a', (kv.value[0], kv.mod_revision)));
            let expected = &self.revisions[revision as usize - 1];
            assert_eq!(&found.collect::<Map>(), expected, "at {revision}");
        }
        for index in 0..self.readers.len() {
            while self.read(index) {}
            let reader = &self.readers[index];
            if !reader.is_over {
                let missed: Vec<_> = (reader.next..=self.revision())
                    .flat_map(|revision| changes(&self.revisions, revision, &reader.keys))
                    .collect();
                assert_eq!(missed, [""; 0], "reader {index}");
            }
        }
    }
}

/// What a revision did to some keys, in order.
fn changes(revisions: &[Map], revision: i64, keys: &std::ops::Range<u8>) -> Vec<String> {
    let Some(before) = usize::try_from(revision - 2).ok().map(|it| &revisions[it]) else {
        return Vec::new();
    };
    let after = &revisions[revision as usize - 1];
    let mut changes = Vec::new();
    for key in keys.clone() {
        let name = char::from(b'a' + key);
        match (before.get(&key), after.get(&key)) {
            (before, Some(put)) if before != Some(put) => {
                changes.push(format!("{name}={}@{revision}", char::from(put.0)));
            }
            (Some(_), None) => changes.push(format!("{name} deleted@{revision}")),
            _ => {}
        }
    }
    changes
}

fn put(key: u8, value: u8) -> PbPutRequest {
    PbPutRequest {
        key: vec![b'a' + key],
        value: vec![value],
        ..PbPutRequest::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_revision_reads_as_it_was_and_every_watcher_hears_everything_once(
        steps in vec(step(), 1..60),
    ) {
        let mut run = Run {
            store: Store::new(),
            revisions: vec![Map::new()],
            compacted: -1,
            readers: Vec::new(),
        };
        for step in &steps {
            run.take(step);
        }
        run.check();
    }
}
