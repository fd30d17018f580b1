//! The keys of a topic, and what is in them.

use std::fmt;

use switchboard_registry::keys::Segment;

/// The keys of a topic.
#[derive(Debug)]
pub(super) struct Names {
    /// It ends in `/`.
    prefix: String,
    head: String,
}

/// Which life of a topic something is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

/// By which a sender knows a message of its own again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// What a key of a topic says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Message {
        epoch: Epoch,
        sequence: u64,
        mark: Mark,
        payload: &'a [u8],
    },
    /// The last message that was sent is this one.
    Head { epoch: Epoch, sequence: u64 },
}

#[derive(Debug, thiserror::Error)]
#[error("not what a topic has (expected: a head, or a numbered message)")]
pub(super) struct NoRecord;

impl Epoch {
    pub(super) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl Mark {
    pub(super) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Names {
    pub(super) fn of(topic: &Segment) -> Self {
        let prefix = format!("/switchboard/topics/{topic}/");
        Self {
            head: format!("{prefix}head"),
            prefix,
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Lists have it after all messages, as letters come after digits.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    /// Lists have messages in the order of their numbers, which have the same length.
    pub(super) fn message(&self, sequence: u64) -> String {
        format!("{}{sequence:020}", self.prefix)
    }

    /// Reads a key that starts with the prefix.
    pub(super) fn read<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<Record<'a>, NoRecord> {
        let name = key.strip_prefix(self.prefix.as_bytes()).ok_or(NoRecord)?;
        if name == b"head" {
            return head(value).ok_or(NoRecord);
        }
        // The first message has 1.
        let sequence = number(name, 10).filter(|it| *it > 0 && name.len() == 20);
        message(sequence.ok_or(NoRecord)?, value).ok_or(NoRecord)
    }
}

pub(super) fn write_head(epoch: Epoch, sequence: u64) -> Vec<u8> {
    format!("{epoch} {sequence}").into_bytes()
}

pub(super) fn write_message(epoch: Epoch, mark: Mark, payload: &[u8]) -> Vec<u8> {
    let first_line = format!("{epoch} {mark}\n");
    [first_line.as_bytes(), payload].concat()
}

fn head(value: &[u8]) -> Option<Record<'_>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (epoch, sequence) = (&value[..space], &value[space + 1..]);
    Some(Record::Head {
        epoch: Epoch(number(epoch, 16)?),
        sequence: number(sequence, 10)?,
    })
}

fn message(sequence: u64, value: &[u8]) -> Option<Record<'_>> {
    let line = value.iter().position(|byte| *byte == b'\n')?;
    let (first_line, payload) = (&value[..line], &value[line + 1..]);
    let space = first_line.iter().position(|byte| *byte == b' ')?;
    Some(Record::Message {
        epoch: Epoch(number(&first_line[..space], 16)?),
        sequence,
        mark: Mark(number(&first_line[space + 1..], 16)?),
        payload,
    })
}

/// Reads digits and nothing else.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let is_digit = |it: char| it.is_digit(radix);
    u64::from_str_radix(text, radix)
        .ok()
        .filter(|_| text.chars().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names::of(&"prices".parse().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(epoch: u64, mark: u64, sequence in 1..=u64::MAX, payload: Vec<u8>) {
            let (names, epoch, mark) = (names(), Epoch(epoch), Mark(mark));
            let value = write_message(epoch, mark, &payload);
            let read = names.read(names.message(sequence).as_bytes(), &value).unwrap();
            prop_assert_eq!(read, Record::Message { epoch, sequence, mark, payload: &payload });
            let value = write_head(epoch, sequence);
            let read = names.read(names.head().as_bytes(), &value).unwrap();
            prop_assert_eq!(read, Record::Head { epoch, sequence });
        }

        #[test]
        fn whatever_others_write_is_read_or_refused(key: Vec<u8>, value: Vec<u8>) {
            let names = names();
            for key in [&[names.prefix().as_bytes(), &key].concat(), names.head().as_bytes(), names.message(1).as_bytes()] {
                let _ = names.read(key, &value);
            }
        }

        #[test]
        fn messages_are_listed_in_the_order_of_their_numbers(a: u64, b: u64) {
            let names = names();
            prop_assert_eq!(a.cmp(&b), names.message(a).cmp(&names.message(b)));
            prop_assert!(names.message(a).as_str() < names.head());
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let names = names();
        let message = b"0000000000000001 0000000000000002\nhello".as_slice();
        for (key, value) in [
            ("/switchboard/topics/prices/1", message),
            ("/switchboard/topics/prices/+0000000000000000001", message),
            ("/switchboard/topics/prices/00000000000000000001/x", message),
            ("/switchboard/topics/other/00000000000000000001", message),
            ("/switchboard/topics/prices/00000000000000000001", b"hello"),
            (
                "/switchboard/topics/prices/00000000000000000001",
                b"1\nhello",
            ),
            ("/switchboard/topics/prices/head", b"1"),
            ("/switchboard/topics/prices/head", b"1 x"),
        ] {
            assert!(names.read(key.as_bytes(), value).is_err(), "{key}");
        }
    }
}
