//! Why a configuration is refused.

/// Why a [`ServiceConfig`](crate::ServiceConfig) is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceConfigError {
    /// What was given is not of the shape that is expected.
    #[error("service config: {0}")]
    Shape(String),
    /// A value makes no sense.
    #[error("{what}: {given} (expected: {expected})")]
    Value {
        /// What it is about, such as a field.
        what: String,
        /// What was given.
        given: String,
        /// What makes sense.
        expected: String,
    },
}

impl ServiceConfigError {
    /// Makes an error that says what it is about, what was given, and what makes sense.
    pub fn value(
        what: impl Into<String>,
        given: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Value {
            what: shortened(what.into()),
            given: shortened(given.to_string()),
            expected: shortened(expected.into()),
        }
    }

    /// Says where the field is that it is about.
    pub(crate) fn within(self, place: &str) -> Self {
        match self {
            Self::Value {
                what,
                given,
                expected,
            } => Self::Value {
                what: format!("{place}.{what}"),
                given,
                expected,
            },
            other => other,
        }
    }

    pub(crate) fn shape(error: &serde_json::Error) -> Self {
        Self::Shape(shortened(error.to_string()))
    }
}

/// Cuts what is too long for a log: others wrote it, and it may be the whole configuration.
pub(crate) fn shortened(text: String) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
