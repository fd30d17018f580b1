//! Endpoints of versions and zones, and calls with filters.

use switchboard_resolver::{Channel, Endpoint, Filter};
use tonic::{Request, Status};

use super::{client, endpoint, hello};

/// An endpoint of a version in a zone.
pub fn server(address: &str, version: &str, zone: &str) -> Endpoint {
    endpoint(&[address])
        .with_metadata("version", version)
        .with_metadata("zone", zone)
}

/// An endpoint of a version.
pub fn version(address: &str, version: &str) -> Endpoint {
    endpoint(&[address]).with_metadata("version", version)
}

/// An endpoint in a zone.
pub fn in_zone(address: &str, zone: &str) -> Endpoint {
    endpoint(&[address]).with_metadata("zone", zone)
}

pub fn with_filter(filter: Filter) -> Request<switchboard_proto::HelloRequest> {
    let mut request = Request::new(hello("Ada"));
    request.extensions_mut().insert(filter);
    request
}

/// Makes a call with a filter and returns the address of who answered.
pub async fn filtered(channel: &Channel, filter: &Filter) -> Result<String, Status> {
    let mut client = client(channel);
    let reply = client.say_hello(with_filter(filter.clone())).await?;
    Ok(reply.into_inner().served_by)
}
