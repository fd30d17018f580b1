#![doc = include_str!("../README.md")]

pub use switchboard_registry::*;
pub use switchboard_resolver as resolver;
pub use switchboard_resolver::{
    Address, AddressError, Backoff, BuildError, CallError, CallErrorKind, Cause, Channel,
    ChannelState, Condition, ConnectError, Endpoint, EndpointState, KeepAlive, ResponseBody,
    ServedBy, Source, SourceState, Update, WaitForReady,
};
