//! One attempt at a transaction: what is known, what it writes, what must hold so that it may, and
//! what is known for the next one if it did not.

use std::collections::BTreeMap;

use super::StmError;

/// How many keys a transaction may have. etcd takes 128 guards and 128 operations at once
/// (`--max-txn-ops`); with more than that it would refuse what is committed.
pub(super) const MOST_KEYS: usize = 128;

/// How large what is committed may be: etcd takes 1.5 MiB (`--max-request-bytes`), and says of a
/// larger request what cannot be told from an outage.
pub(super) const LARGEST: usize = 3 << 19;

/// What each guard or operation takes beside its key and its value, at most.
const OVERHEAD: usize = 48;

/// How much a commit that fails may bring back, so that the next attempt need not ask. Megabytes may
/// take longer than etcd is given to answer, and then nobody knew what came of the commit.
const MOST_BROUGHT: usize = 4 << 20;

/// One attempt at a transaction.
///
/// All that it reads is as of one revision: that of its first reading, or of the commit before that
/// failed and brought what is known.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    revision: Option<i64>,
    known: BTreeMap<String, Known>,
    written: BTreeMap<String, Option<Vec<u8>>>,
}

/// What is known of a key at the attempt's revision.
#[derive(Debug)]
struct Known {
    held: Held,
    /// Whether this attempt has read it. What it has not read may change.
    is_read: bool,
}

/// What a key held, and when it was changed last; 0 where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Option<Vec<u8>>,
    pub(super) revision: i64,
}

/// What an attempt has to say to one who reads a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is known.
    Known(Option<Vec<u8>>),
    /// etcd has to be asked what it held at this revision; 0 stands for the current one.
    Ask { revision: i64 },
}

/// What is to be done in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    /// What must hold.
    pub(super) guards: Vec<(String, Unchanged)>,
    /// What is put, or deleted, if it does.
    pub(super) writes: Vec<(String, Option<Vec<u8>>)>,
    /// What is read if it does not.
    pub(super) reads: Vec<String>,
}

/// Since when a key must be as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// It was changed last at this revision; at 0, there is none.
    At(i64),
    /// It was changed last at this revision or before, or there is none.
    Since(i64),
}

impl Attempt {
    /// Begins with what a commit that failed has found.
    pub(super) fn after(commit: Commit, revision: i64, found: Vec<Held>) -> Self {
        if commit.reads.is_empty() || commit.reads.len() != found.len() {
            return Self::default();
        }
        let known = commit.reads.into_iter().zip(found).map(|(key, held)| {
            let is_read = false;
            (key, Known { held, is_read })
        });
        Self {
            revision: Some(revision),
            known: known.collect(),
            written: BTreeMap::new(),
        }
    }

    /// Reads a key, as far as it is known.
    pub(super) fn look(&mut self, key: &str) -> Result<Look, StmError> {
        if let Some(value) = self.written.get(key) {
            return Ok(Look::Known(value.clone()));
        }
        self.make_room(key)?;
        Ok(match self.known.get_mut(key) {
            Some(known) => {
                known.is_read = true;
                Look::Known(known.held.value.clone())
            }
            None => Look::Ask {
                revision: self.revision.unwrap_or(0),
            },
        })
    }

    /// Takes in what etcd has answered at this revision.
    pub(super) fn learn(&mut self, key: String, revision: i64, held: Held) {
        self.revision.get_or_insert(revision);
        let is_read = true;
        self.known.insert(key, Known { held, is_read });
    }

    /// Writes a key, or deletes it.
    pub(super) fn write(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), StmError> {
        self.make_room(&key)?;
        self.written.insert(key, value);
        Ok(())
    }

    /// Returns what is to be done; nothing, where nothing was read or written.
    pub(super) fn commit(self) -> Result<Option<Commit>, StmError> {
        let read: BTreeMap<_, _> = self.known.into_iter().filter(|it| it.1.is_read).collect();
        let mut guards: Vec<_> = read
            .iter()
            .map(|(key, known)| (key.clone(), Unchanged::At(known.held.revision)))
            .collect();
        // Who has read nothing depends on nothing.
        if let Some(revision) = self.revision.filter(|_| !read.is_empty()) {
            // What was read is guarded already, and more strictly.
            let others = self.written.keys().filter(|key| !read.contains_key(*key));
            guards.extend(others.map(|key| (key.clone(), Unchanged::Since(revision))));
        }
        let brought = read.values().map(|it| it.held.value.as_ref());
        let brought: usize = brought.map(|it| it.map_or(0, Vec::len)).sum();
        let reads = match brought {
            ..=MOST_BROUGHT => read.into_keys().collect(),
            _ => Vec::new(),
        };
        let commit = Commit {
            guards,
            writes: self.written.into_iter().collect(),
            reads,
        };
        match commit.size() {
            size if size > LARGEST => Err(StmError::TooLarge(size)),
            _ if commit.guards.is_empty() && commit.writes.is_empty() => Ok(None),
            _ => Ok(Some(commit)),
        }
    }

    fn make_room(&self, key: &str) -> Result<(), StmError> {
        let is_read = |key: &str| self.known.get(key).is_some_and(|known| known.is_read);
        if self.written.contains_key(key) || is_read(key) {
            return Ok(());
        }
        let read = self.known.values().filter(|known| known.is_read).count();
        let others = self.written.keys().filter(|key| !is_read(key)).count();
        match read + others {
            ..MOST_KEYS => Ok(()),
            _ => Err(StmError::TooManyKeys),
        }
    }
}

impl Commit {
    /// Returns whether it changes nothing, so that it may be done twice.
    pub(super) fn only_reads(&self) -> bool {
        self.writes.is_empty()
    }

    /// Returns how large the request is, at most.
    fn size(&self) -> usize {
        let guards = self.guards.iter().map(|(key, _)| key.len());
        let value = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let writes = self.writes.iter().map(|(key, it)| key.len() + value(it));
        let reads = self.reads.iter().map(String::len);
        let all = guards.chain(writes).chain(reads);
        all.map(|bytes| bytes + OVERHEAD).sum::<usize>() + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(value: &str, revision: i64) -> Held {
        let value = Some(value.into());
        Held { value, revision }
    }

    fn ask(attempt: &mut Attempt, key: &str) -> i64 {
        match attempt.look(key).unwrap() {
            Look::Ask { revision } => revision,
            known => panic!("{known:?}"),
        }
    }

    fn known(attempt: &mut Attempt, key: &str) -> Option<String> {
        match attempt.look(key).unwrap() {
            Look::Known(value) => value.map(|value| String::from_utf8(value).unwrap()),
            ask => panic!("{ask:?}"),
        }
    }

    fn write(attempt: &mut Attempt, key: &str, value: &str) {
        attempt.write(key.into(), Some(value.into())).unwrap();
    }

    fn guard(key: &str, unchanged: Unchanged) -> (String, Unchanged) {
        (key.into(), unchanged)
    }

    #[test]
    fn the_first_reading_fixes_the_revision_of_all() {
        let mut attempt = Attempt::default();
        assert_eq!(ask(&mut attempt, "/a"), 0);
        attempt.learn("/a".into(), 7, held("1", 3));
        assert_eq!(ask(&mut attempt, "/b"), 7);
        attempt.learn("/b".into(), 9, Held::default());
        assert_eq!(ask(&mut attempt, "/c"), 7);
        // What is known is not asked for again.
        assert_eq!(known(&mut attempt, "/a").as_deref(), Some("1"));
        assert_eq!(known(&mut attempt, "/b"), None);
    }

    #[test]
    fn what_was_written_is_read_and_nobody_is_asked() {
        let mut attempt = Attempt::default();
        write(&mut attempt, "/a", "1");
        assert_eq!(known(&mut attempt, "/a").as_deref(), Some("1"));
        attempt.write("/a".into(), None).unwrap();
        assert_eq!(known(&mut attempt, "/a"), None);
        // It depends on nothing: it is written whatever others do.
        let commit = attempt.commit().unwrap().unwrap();
        assert_eq!((commit.guards.len(), commit.reads.len()), (0, 0));
        assert_eq!(commit.writes, [("/a".into(), None)]);
    }

    #[test]
    fn what_is_read_and_what_is_written_must_be_unchanged() {
        let mut attempt = Attempt::default();
        attempt.learn("/a".into(), 7, held("1", 3));
        attempt.learn("/none".into(), 7, Held::default());
        write(&mut attempt, "/a", "2");
        write(&mut attempt, "/b", "3");
        let commit = attempt.commit().unwrap().unwrap();
        let guards = [
            guard("/a", Unchanged::At(3)),
            guard("/none", Unchanged::At(0)),
            guard("/b", Unchanged::Since(7)),
        ];
        assert_eq!(commit.guards, guards);
        assert_eq!(commit.writes.len(), 2);
        assert_eq!(commit.reads, ["/a", "/none"]);
        assert!(!commit.only_reads());
    }

    #[test]
    fn who_only_reads_is_guarded_too() {
        let mut attempt = Attempt::default();
        assert_eq!(ask(&mut attempt, "/a"), 0);
        attempt.learn("/a".into(), 7, held("1", 3));
        let commit = attempt.commit().unwrap().unwrap();
        assert_eq!(commit.guards, [guard("/a", Unchanged::At(3))]);
        assert!(commit.only_reads());
        assert_eq!(Attempt::default().commit().unwrap(), None);
    }

    #[test]
    fn a_conflict_tells_the_next_attempt_what_is_there() {
        let mut attempt = Attempt::default();
        for key in ["/a", "/b"] {
            attempt.learn(key.into(), 7, held("1", 3));
        }
        let commit = attempt.commit().unwrap().unwrap();
        let mut next = Attempt::after(commit, 12, vec![held("2", 11), Held::default()]);
        assert_eq!(known(&mut next, "/a").as_deref(), Some("2"));
        assert_eq!(ask(&mut next, "/c"), 12, "as of what it was told");
        write(&mut next, "/d", "4");
        // It has not read /b this time.
        let commit = next.commit().unwrap().unwrap();
        let guards = [
            guard("/a", Unchanged::At(11)),
            guard("/d", Unchanged::Since(12)),
        ];
        assert_eq!(commit.guards, guards);
        assert_eq!(commit.reads, ["/a"]);
    }

    #[test]
    fn what_was_told_and_not_read_guards_nothing() {
        let mut attempt = Attempt::default();
        attempt.learn("/a".into(), 7, held("1", 3));
        let commit = attempt.commit().unwrap().unwrap();
        let mut next = Attempt::after(commit, 12, vec![held("2", 11)]);
        write(&mut next, "/b", "3");
        assert_eq!(next.commit().unwrap().unwrap().guards, []);
    }

    #[test]
    fn there_are_128_keys_at_most() {
        let mut attempt = Attempt::default();
        for key in 0..64 {
            attempt.learn(format!("/read/{key}"), 7, Held::default());
            write(&mut attempt, &format!("/written/{key}"), "1");
        }
        // Keys that it has.
        write(&mut attempt, "/read/1", "1");
        assert_eq!(known(&mut attempt, "/written/1").as_deref(), Some("1"));
        let one_more = attempt.look("/more").unwrap_err();
        assert!(matches!(one_more, StmError::TooManyKeys));
        let one_more = attempt.write("/more".into(), None).unwrap_err();
        assert!(matches!(one_more, StmError::TooManyKeys));
        assert_eq!(attempt.commit().unwrap().unwrap().guards.len(), 128);
    }

    #[test]
    fn what_is_committed_is_as_large_as_etcd_takes() {
        let mut attempt = Attempt::default();
        attempt.write("/a".into(), Some(vec![0; 1 << 20])).unwrap();
        attempt.write("/b".into(), Some(vec![0; 1 << 19])).unwrap();
        let error = attempt.commit().unwrap_err();
        assert!(matches!(error, StmError::TooLarge(size) if size > 3 << 19));
        // The last value counts.
        let mut attempt = Attempt::default();
        attempt.write("/a".into(), Some(vec![0; 2 << 20])).unwrap();
        attempt.write("/a".into(), Some(vec![0; 1 << 20])).unwrap();
        assert!(attempt.commit().is_ok());
    }

    #[test]
    fn a_conflict_brings_no_more_than_can_be_answered_in_time() {
        let mut attempt = Attempt::default();
        for key in 0..5 {
            let value = Some(vec![0; 1 << 20]);
            attempt.learn(format!("/{key}"), 7, Held { value, revision: 3 });
        }
        let commit = attempt.commit().unwrap().unwrap();
        assert_eq!((commit.guards.len(), commit.reads.len()), (5, 0));
        let mut next = Attempt::after(commit, 12, Vec::new());
        assert_eq!(ask(&mut next, "/0"), 0, "anew");
    }
}
