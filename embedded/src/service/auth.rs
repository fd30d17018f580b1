//! Users, of which there are none.
//!
//! Written by hand, since etcd-client does not export all the messages that its trait for this
//! service needs.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tonic::{Status, body::Body, codegen::Service, server::NamedService};

use super::unimplemented;

/// Tells whoever logs in that nobody needs to, as an etcd without users does.
#[derive(Debug, Clone)]
pub(super) struct Auth;

impl NamedService for Auth {
    const NAME: &'static str = "etcdserverpb.Auth";
}

impl Service<http::Request<Body>> for Auth {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let status = match request.uri().path() {
            "/etcdserverpb.Auth/Authenticate" => {
                Status::failed_precondition("etcdserver: authentication is not enabled")
            }
            _ => unimplemented("the service of users and roles"),
        };
        ready(Ok(status.into_http()))
    }
}
