//! Why there is no configuration, and why one was rejected.

use std::sync::Arc;

use switchboard_registry::NameError;
use switchboard_resolver::Cause;

use super::place::Place;
use crate::Failure;

/// Why a configuration cannot be loaded, followed or stored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// What is given is not a key.
    #[error(transparent)]
    Key(#[from] NameError),
    /// The key's extension does not tell how it is written.
    #[error("configuration key: {key} (expected: {expected})")]
    Extension {
        /// The key.
        key: String,
        /// The extensions that there are, or the feature that has this one.
        expected: &'static str,
    },
    /// What is to be stored is the value of several keys.
    #[error("configuration below {key}: several keys (expected: one, to store it)")]
    SeveralKeys {
        /// The key that they are below.
        key: String,
    },
    /// What is to be stored cannot be written.
    #[error("configuration {key} cannot be written")]
    Unwritable {
        /// The key.
        key: String,
        /// What stands in the way.
        #[source]
        cause: Cause,
    },
    /// What is in etcd is not what it should be, or what is to be stored is too large.
    #[error(transparent)]
    Invalid(Arc<InvalidConfig>),
    /// etcd did not do what it was asked for.
    #[error("configuration {key}")]
    Etcd {
        /// The key.
        key: String,
        /// What it says.
        #[source]
        cause: Failure,
    },
}

/// Why what is in etcd is not the configuration that it should be.
///
/// No value is shown, since it may be a secret.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// There is no key.
    #[error("no configuration: {key} (expected: a key there, or a default)")]
    Missing {
        /// The key.
        key: String,
    },
    /// There is more of it than is read.
    #[error("configuration {key}: {bytes} bytes (expected: at most {limit})")]
    TooLarge {
        /// The key.
        key: String,
        /// How much there is.
        bytes: usize,
        /// How much may be.
        limit: usize,
    },
    /// A value is not written as its key's extension has it, or what it says has another shape than the
    /// program's type.
    #[error("configuration {key} cannot be read")]
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// Two keys are of one field.
    #[error("configuration {key}: one field twice (expected: one key a field)")]
    Clash {
        /// One of the keys.
        key: String,
    },
}

impl ConfigError {
    pub(super) fn failed(place: &Place, cause: Failure) -> Self {
        Self::Etcd {
            key: place.to_string(),
            cause,
        }
    }
}

/// What a parser says of a value, without what it quotes of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unquoted(String);

/// What stands for what is left out.
const LEFT_OUT: char = '\u{2026}';

/// Longer messages quote, whatever they quote it in.
const LONGEST: usize = 200;

impl Unquoted {
    pub(super) fn cause(error: impl std::fmt::Display) -> Cause {
        let unquoted = without_strings(&error.to_string());
        let unquoted = without_bare_values(&unquoted);
        let line = unquoted.lines().next().unwrap_or_default();
        Arc::new(Self(line.chars().take(LONGEST).collect()))
    }
}

/// Leaves out what is in double quotes, where parsers have strings, and write a quote in one as `\"`.
fn without_strings(text: &str) -> String {
    let (mut kept, mut is_string, mut is_escaped) = (String::new(), false, false);
    for char in text.chars() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_string => is_escaped = true,
            '"' => {
                is_string = !is_string;
                kept.extend(is_string.then_some(LEFT_OUT));
            }
            _ if is_string => {}
            char => kept.push(char),
        }
    }
    kept
}

/// Leaves out what serde has in backticks and is not of the program's type (`de::Unexpected`, and
/// `de::Error`'s `unknown_variant` and `unknown_field`). It may have backticks in it, too.
fn without_bare_values(text: &str) -> String {
    const BEFORE: [&str; 6] = [
        "boolean `",
        "integer `",
        "floating point `",
        "character `",
        "unknown variant `",
        "unknown field `",
    ];
    const BEHIND: [&str; 2] = ["`, expected ", "`, there are no "];
    let begin = BEFORE
        .iter()
        .filter_map(|it| Some(text.find(it)? + it.len()));
    let Some(begin) = begin.min() else {
        return text.to_owned();
    };
    let (before, rest) = text.split_at(begin);
    let end = BEHIND.iter().filter_map(|it| rest.rfind(it)).max();
    let behind = end.map_or("", |end| &rest[end..]);
    format!("{before}{LEFT_OUT}{behind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_of_a_value_is_not_told() {
        for (said, told) in [
            (
                "invalid type: string \"hunter2\", expected u32 at line 1",
                "invalid type: string \u{2026}, expected u32 at line 1",
            ),
            ("missing field `port`", "missing field `port`"),
            ("open \"hunter2", "open \u{2026}"),
            ("first\n| hunter2", "first"),
            (
                r#"invalid type: string "a\"hunter2\\\"b", expected u32"#,
                "invalid type: string \u{2026}, expected u32",
            ),
            (
                "invalid type: integer `4711`, expected a string at line 1",
                "invalid type: integer `\u{2026}`, expected a string at line 1",
            ),
            (
                "unknown variant `hunter2`, expected ``, expected one of `fast`, `slow`",
                "unknown variant `\u{2026}`, expected one of `fast`, `slow`",
            ),
            (
                "unknown field `hunter2`, there are no fields",
                "unknown field `\u{2026}`, there are no fields",
            ),
            ("unknown variant `hunter2\n`", "unknown variant `\u{2026}"),
        ] {
            assert_eq!(Unquoted::cause(said).to_string(), told);
        }
    }
}
