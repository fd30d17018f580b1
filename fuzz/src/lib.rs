//! What must hold of everything that switchboard reads, whatever others wrote.
//!
//! Each function takes any bytes and panics if a promise is broken. `cargo test` gives them a
//! second of chance each, or as long as `SWITCHBOARD_FUZZ_SECONDS` says; `fuzz_targets` gives them
//! to libFuzzer.

mod chance;
mod keys;
mod service_configs;
mod targets;
mod transport;
mod values;

pub use chance::Chance;
pub use keys::keys;
pub use service_configs::service_configs;
pub use targets::targets;
pub use transport::transport;
pub use values::values;

/// An error must say what was expected, or have a cause.
fn is_helpful(error: &dyn std::error::Error) {
    let message = error.to_string();
    assert!(
        message.contains("(expected: ") || error.source().is_some(),
        "{message}"
    );
}
