//! Endpoints in, one balanced gRPC channel out.

mod address;
mod backoff;
mod endpoint;
mod update;

pub use address::{Address, AddressError};
pub use backoff::Backoff;
pub use endpoint::Endpoint;
pub use update::{Cause, Source, Update};
