//! Keys that are named after the moment, as those of etcd's Go package `recipes` (`key.go`):
//! `<prefix><nanoseconds since 1970>`.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Whatever the clock says, there are so many digits that none is taken for something else.
const SHORTEST: i64 = 1_000_000_000;

/// Returns a key that nothing else of this process has, nor had.
///
/// That another process has it is unlikely, and seen when it is put: then it is time for another one.
pub(crate) fn key(prefix: &str) -> String {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0));
    let moment = next(&LAST, now.max(SHORTEST));
    format!("{prefix}{moment}")
}

/// Tells that what is left of a key without its prefix is such a name, and nothing below it.
pub(crate) fn is_moment(rest: &[u8]) -> bool {
    !rest.is_empty() && rest.iter().all(u8::is_ascii_digit)
}

/// Returns `now`, or the first moment behind the last one where the clock has not gone on since then.
fn next(last: &AtomicI64, now: i64) -> i64 {
    let after = |last| now.max(last + 1);
    match last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        Some(after(last))
    }) {
        Ok(last) | Err(last) => after(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_is_told_twice_whatever_the_clock_does() {
        let last = AtomicI64::new(0);
        let told = [5, 5, 3, 9, 7, 20].map(|now| next(&last, now));
        assert_eq!(told, [5, 6, 7, 9, 10, 20]);
    }

    #[test]
    fn a_key_ends_in_digits_alone() {
        let key = key("/a/read/");
        assert!(is_moment(key.strip_prefix("/a/read/").unwrap().as_bytes()));
        for rest in ["", "12/34", "ready", "694d8a2c", "12 "] {
            assert!(!is_moment(rest.as_bytes()), "{rest}");
        }
    }
}
