//! What is shown of a text that others wrote.

/// How many characters are shown: values in etcd can be megabytes, and errors end in logs.
const LONGEST: usize = 160;

/// Returns the text, or its beginning if it is long.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
