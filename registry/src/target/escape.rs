//! Percent-encoding, as URLs have it (RFC 3986, section 2.1).

use std::{borrow::Cow, fmt};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::TargetError;

/// What is encoded where a target is written: all that has a meaning in one, and all that is
/// unreserved stays readable.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b',');

pub(super) fn encode(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, ENCODED)
}

/// Decodes; a `%` without two hex digits, and what is not UTF-8, is refused.
pub(super) fn decode(encoded: &str) -> Result<Cow<'_, str>, TargetError> {
    let is_hex = |rest: &str| {
        let digits = rest.bytes().take(2);
        digits.filter(u8::is_ascii_hexdigit).count() == 2
    };
    if let Some(rest) = encoded.split('%').skip(1).find(|rest| !is_hex(rest)) {
        let digits: String = rest.chars().take(2).collect();
        return Err(TargetError::Escape(format!("%{digits}")));
    }
    let decoded = percent_decode_str(encoded).decode_utf8();
    decoded.map_err(|_| TargetError::NotUtf8)
}
