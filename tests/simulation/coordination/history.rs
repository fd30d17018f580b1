//! All that has been in the store, at every revision of each of its lives: it has a new one after a
//! wipe. Says what must not be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use switchboard_embedded::{EmbeddedEtcd, KeyValue};

use crate::trace::Trace;

/// A configuration in one key.
pub(super) const AT: &str = "/sim/limits.json";
/// A configuration in several.
pub(super) const BELOW: &str = "/sim/app";
/// What its keys are called.
pub(super) const FIELDS: [&str; 3] = ["a", "b", "c"];
/// How large a configuration may be.
pub(super) const LIMIT: usize = 200;
pub(super) const TOPIC: &str = "news";
pub(super) const JOB: &str = "job";
pub(super) const GROUP: &str = "workers";
/// What conditions are waited for.
pub(super) const FLAGS: [&str; 3] = ["/sim/flags/a", "/sim/flags/b", "/sim/flags/stop"];

/// What a configuration's keys say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Absent,
    Good(u64),
    Bad,
}

/// What something was, by the revisions that brought it.
pub(super) type Track<T> = BTreeMap<i64, T>;

/// A message that was sent.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    pub(super) revision: i64,
    pub(super) payload: String,
    has_lease: bool,
    pub(super) gone_at: Option<i64>,
}

/// From one wipe to the next.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) at: Track<Content>,
    pub(super) below: Track<Content>,
    pub(super) messages: BTreeMap<u64, Posted>,
    pub(super) head: u64,
    epoch: String,
    pub(super) progress: Track<Option<u8>>,
    pub(super) flags: Track<[Option<Vec<u8>>; 3]>,
    /// The values of the members' keys.
    pub(super) members: Arc<BTreeMap<String, String>>,
    /// Up to which message the topic was to be trimmed.
    trimmed: u64,
}

#[derive(Debug)]
pub(super) struct History {
    pub(super) lives: Vec<Life>,
    /// Of all lives.
    pub(super) seen_members: BTreeSet<String>,
}

impl<'a> Life {
    /// Returns which revision brought what was there at that one, and what it was.
    pub(super) fn of(track: &'a Track<Content>, revision: i64) -> (i64, Content) {
        let last = track.range(..=revision).next_back();
        last.map_or((0, Content::Absent), |(at, content)| (*at, *content))
    }

    /// Returns what is there now.
    pub(super) fn last(track: &'a Track<Content>) -> Content {
        Self::of(track, i64::MAX).1
    }
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            lives: vec![Life::begin()],
            seen_members: BTreeSet::new(),
        }
    }

    pub(super) fn now(&self) -> &Life {
        self.lives.last().expect("there is always one")
    }

    pub(super) fn now_mut(&mut self) -> &mut Life {
        self.lives.last_mut().expect("there is always one")
    }

    /// Returns which life this is.
    pub(super) fn life(&self) -> usize {
        self.lives.len() - 1
    }

    pub(super) fn wiped(&mut self) {
        self.lives.push(Life::begin());
    }

    /// Somebody is about to trim the topic.
    pub(super) fn trims(&mut self, sequence: u64) {
        let life = self.now_mut();
        life.trimmed = life.trimmed.max(sequence);
    }

    /// Returns how often a message was sent, in the life in which that was most often.
    pub(super) fn times_sent(&self, payload: &str) -> usize {
        let times = |life: &Life| {
            let messages = life.messages.values();
            messages.filter(|it| it.payload == payload).count()
        };
        self.lives.iter().map(times).max().unwrap_or(0)
    }

    /// Takes in all revisions that are new. Returns what must not be.
    pub(super) fn audit(&mut self, etcd: &EmbeddedEtcd, trace: &Trace) -> Vec<String> {
        let mut violations = Vec::new();
        for revision in self.now().revision + 1..=etcd.revision() {
            let keys = etcd.keys_at(revision);
            let keys = keys.expect("what is compacted was audited before");
            let keys: BTreeMap<_, _> = keys
                .into_iter()
                .map(|kv| {
                    (
                        String::from_utf8(kv.key.clone()).expect("keys are text"),
                        kv,
                    )
                })
                .collect();
            let life = self.now_mut();
            life.revision = revision;
            let found = life.take(&keys, trace);
            violations.extend(found.into_iter().map(|it| format!("at {revision}: {it}")));
            let members = self.now().members.clone();
            self.seen_members.extend(members.values().cloned());
        }
        violations
    }
}

impl Life {
    fn begin() -> Self {
        Self {
            revision: 1,
            ..Self::default()
        }
    }

    fn take(&mut self, keys: &BTreeMap<String, KeyValue>, trace: &Trace) -> Vec<String> {
        let revision = self.revision;
        let mut violations = Vec::new();
        for (name, track, content) in [
            ("at", &mut self.at, at(keys)),
            ("below", &mut self.below, below(keys)),
        ] {
            let changed = keys
                .iter()
                .any(|(key, kv)| key.starts_with(name_of(name)) && kv.mod_revision == revision);
            let (_, before) = Life::of(track, revision);
            if changed || before != content {
                trace.write(format_args!("  {revision} {name} {content:?}"));
                let twice = track.values().any(|it| *it == content);
                if matches!(content, Content::Good(_)) && twice {
                    violations.push(format!("{name} is written twice: {content:?}"));
                }
                track.insert(revision, content);
            }
        }
        self.take_topic(keys, trace, &mut violations);

        let percent = keys.get(&format!("/switchboard/progress/{JOB}"));
        let percent = percent.map(|kv| text(&kv.value).parse().expect("a number"));
        let before = self.progress.last_key_value().and_then(|(_, it)| *it);
        if percent != before {
            trace.write(format_args!("  {revision} progress {percent:?}"));
            if percent.is_some() && percent < before {
                violations.push(format!("progress goes back: {before:?} to {percent:?}"));
            }
            self.progress.insert(revision, percent);
        }
        let flags = FLAGS.map(|key| keys.get(key).map(|kv| kv.value.clone()));
        if self.flags.last_key_value().map(|it| it.1) != Some(&flags) {
            self.flags.insert(revision, flags);
        }
        let prefix = format!("/switchboard/members/{GROUP}/");
        let members = keys.iter().filter(|(key, _)| key.starts_with(&prefix));
        let members: BTreeMap<_, _> = members
            .map(|(key, kv)| (key.clone(), incarnation(&kv.value)))
            .collect();
        if *self.members != members {
            trace.write(format_args!("  {revision} members {:?}", members.values()));
            self.members = Arc::new(members);
        }
        violations
    }

    fn take_topic(
        &mut self,
        keys: &BTreeMap<String, KeyValue>,
        trace: &Trace,
        violations: &mut Vec<String>,
    ) {
        let (revision, prefix) = (self.revision, format!("/switchboard/topics/{TOPIC}/"));
        let name = |sequence: u64| format!("{prefix}{sequence:020}");
        for (sequence, posted) in &mut self.messages {
            if posted.gone_at.is_some() {
                continue;
            }
            match keys.get(&name(*sequence)) {
                Some(kv) if kv.mod_revision == posted.revision => {}
                Some(_) => violations.push(format!("message {sequence} is overwritten")),
                None => {
                    trace.write(format_args!("  {revision} - message {sequence}"));
                    if !posted.has_lease && *sequence > self.trimmed {
                        violations.push(format!("message {sequence} has vanished"));
                    }
                    posted.gone_at = Some(revision);
                }
            }
        }
        let Some(head) = keys.get(&format!("{prefix}head")) else {
            return;
        };
        if head.mod_revision != revision {
            return;
        }
        let value = text(&head.value);
        let (epoch, sequence) = value.split_once(' ').expect("a head");
        let sequence: u64 = sequence.parse().expect("a number");
        if sequence != self.head + 1 || (self.head > 0 && epoch != self.epoch) {
            let (was, at) = (&self.epoch, self.head);
            violations.push(format!("the head goes from {was} {at} to {value}"));
        }
        (self.epoch, self.head) = (epoch.to_owned(), sequence);
        let message = keys.get(&name(sequence));
        let Some(kv) = message.filter(|kv| kv.mod_revision == revision) else {
            violations.push(format!("head {sequence} without its message"));
            return;
        };
        let value = text(&kv.value);
        let (line, payload) = value.split_once('\n').expect("a message");
        if !line.starts_with(epoch) {
            violations.push(format!("message {sequence} is of another epoch"));
        }
        trace.write(format_args!("  {revision} + message {sequence} {payload}"));
        if self.messages.values().any(|it| it.payload == payload) {
            violations.push(format!("{payload} is sent twice"));
        }
        let posted = Posted {
            revision,
            payload: payload.to_owned(),
            has_lease: kv.lease.is_some(),
            gone_at: None,
        };
        self.messages.insert(sequence, posted);
    }
}

fn name_of(track: &str) -> &'static str {
    match track {
        "at" => AT,
        _ => BELOW,
    }
}

fn at(keys: &BTreeMap<String, KeyValue>) -> Content {
    let Some(kv) = keys.get(AT) else {
        return Content::Absent;
    };
    let value: Option<BTreeMap<String, u64>> = serde_json::from_slice(&kv.value).ok();
    match value.filter(|_| kv.value.len() <= LIMIT) {
        Some(value) => Content::Good(value["counter"]),
        None => Content::Bad,
    }
}

fn below(keys: &BTreeMap<String, KeyValue>) -> Content {
    let values = FIELDS.map(|field| keys.get(&format!("{BELOW}/{field}/n")));
    if values.iter().all(Option::is_none) {
        return Content::Absent;
    }
    let [a, b, c] = values.map(|kv| kv.and_then(|kv| text(&kv.value).parse().ok()));
    match a {
        Some(number) if a == b && b == c => Content::Good(number),
        _ => Content::Bad,
    }
}

fn incarnation(value: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(value).expect("a member");
    value["metadata"]["who"].as_str().expect("who").to_owned()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
