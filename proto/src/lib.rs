//! The greeter service of switchboard's examples and tests, generated from `greeter.proto`, and the
//! greeter that they serve.

mod polite;

pub use polite::Polite;

tonic::include_proto!("greeter.v1");
