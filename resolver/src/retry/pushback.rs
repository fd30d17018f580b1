//! What a server says of another attempt.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// What a server says of another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushback {
    /// Not before this has passed.
    After(Duration),
    /// There is to be none.
    Never,
}

impl Pushback {
    /// Reads it from a status' trailers: a number of milliseconds. One that is negative or no 32-bit number
    /// asks for no further attempt, and so do several (A6).
    pub(crate) fn of(trailers: &HeaderMap) -> Option<Self> {
        static NAME: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
        let mut values = trailers.get_all(&NAME).iter();
        let value = values.next()?;
        let millis = match values.next() {
            None => parse(value.as_bytes()),
            Some(_) => None,
        };
        Some(millis.map_or(Self::Never, Self::After))
    }
}

fn parse(digits: &[u8]) -> Option<Duration> {
    let is_number = match digits {
        [] => false,
        [b'0', _, ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    let text = str::from_utf8(digits).ok().filter(|_| is_number)?;
    let millis: i32 = text.parse().ok()?;
    Some(Duration::from_millis(u64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Pushback> {
        let name = HeaderName::from_static("grpc-retry-pushback-ms");
        let values = values.iter().map(|it| (name.clone(), it.parse().unwrap()));
        Pushback::of(&values.collect())
    }

    #[test]
    fn a_number_is_a_wait_and_all_else_is_no_more() {
        assert_eq!(of(&[]), None);
        for (text, millis) in [("0", 0), ("10", 10), ("2147483647", 2_147_483_647)] {
            let wait = Duration::from_millis(millis);
            assert_eq!(of(&[text]), Some(Pushback::After(wait)));
        }
        for text in ["-1", "", "+1", "007", "1.5", "soon", "2147483648", "1 "] {
            assert_eq!(of(&[text]), Some(Pushback::Never), "{text:?}");
        }
        assert_eq!(of(&["1", "1"]), Some(Pushback::Never));
    }
}
