//! What a call and its channel tell each other beside the request and the response.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

use crate::Endpoint;

/// As an extension of a request: the call waits for an endpoint instead of failing while none can
/// be reached.
///
/// It waits until its deadline; without one, for ever. Either way it fails when the channel is
/// closed.
///
/// ```
/// use std::time::Duration;
/// use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
/// use switchboard_resolver::{Channel, WaitForReady};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nowhere: [&str; 0] = [];
/// let mut client = GreeterClient::new(Channel::balance(nowhere)?.connect_lazy()?);
/// let mut request = tonic::Request::new(HelloRequest::default());
/// request.extensions_mut().insert(WaitForReady);
/// request.set_timeout(Duration::from_millis(20));
/// let status = client.say_hello(request).await.unwrap_err();
/// assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitForReady;

/// As an extension of a request: what [`RingHash`](crate::RingHash) chooses the endpoint by. Calls with the
/// same key go to the same endpoint, for as long as it can be called.
///
/// ```
/// use switchboard_proto::HelloRequest;
/// use switchboard_resolver::HashKey;
///
/// let mut request = tonic::Request::new(HelloRequest::default());
/// request.extensions_mut().insert(HashKey::new("user 7"));
/// assert_eq!(HashKey::new("user 7"), HashKey::new(b"user 7"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HashKey(u64);

impl HashKey {
    /// Makes a key of any bytes. It is their hash (XXH64): keys that are the same are so in each process.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self(xxh64(key.as_ref(), 0))
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashKey({:016x})", self.0)
    }
}

/// As an extension of a response: the endpoint that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedBy(pub(crate) Endpoint);

impl ServedBy {
    /// Returns the endpoint, as the source described it when the call was sent.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}
