//! Targets.

use switchboard_registry::Target;

use crate::is_helpful;

/// Reads a target: what is one is the same when it has been written and read again;
/// what is none is refused with what was expected.
pub fn targets(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let target: Target = match text.parse() {
        Ok(target) => target,
        Err(error) => return is_helpful(&error),
    };
    let written = target.to_string();
    assert_eq!(written.parse(), Ok(target), "{written}");
}
