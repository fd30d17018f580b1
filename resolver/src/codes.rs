//! gRPC's codes by their names, as metrics show them and configurations have them.

/// Their names, by their numbers.
pub(crate) const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Returns the number of the code of this name, in whichever case.
pub(crate) fn number(name: &str) -> Option<i32> {
    let at = NAMES.iter().position(|it| it.eq_ignore_ascii_case(name))?;
    i32::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn codes_have_the_numbers_of_their_names() {
        for (at, name) in NAMES.into_iter().enumerate() {
            let code = format!("{:?}", Code::from(at as i32));
            assert_eq!(name.replace('_', ""), code.to_uppercase());
            assert_eq!(number(name), Some(at as i32));
        }
        assert_eq!(number("unavailable"), Some(14));
        assert_eq!(number("GONE"), None);
    }
}
