//! The head of a request: what a call asks for, whatever endpoint it goes to.

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, Entry, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT},
    request::Parts,
    uri::PathAndQuery,
};
use tokio::time::{Duration, Instant};

use crate::{
    WaitForReady,
    deadline::{Deadline, GRPC_TIMEOUT},
    transport::Transport,
};

/// The head of a request, from which any number of requests can be made.
pub(crate) struct RequestHead {
    method: Method,
    path: PathAndQuery,
    /// For the first request; most calls need no other.
    headers: Option<HeaderMap>,
    /// For those after it, without the timeout. A list is made for half of what a second map costs.
    spare_headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) wait_for_ready: bool,
    pub(crate) deadline: Deadline,
    /// Those that came along, emptied. They become the response's: what holds them costs more than
    /// what is in them.
    pub(crate) extensions: Extensions,
}

impl RequestHead {
    /// Takes in the head of a call that starts now, on a channel with this timeout.
    pub(crate) fn new(head: Parts, timeout: Option<Duration>) -> Self {
        let Parts {
            method,
            uri,
            mut headers,
            mut extensions,
            ..
        } = head;
        let deadline = Deadline::new(&headers, timeout, Instant::now().into_std());
        set_headers(&mut headers);
        let wait_for_ready = extensions.get::<WaitForReady>().is_some();
        extensions.clear();
        let path = uri.into_parts().path_and_query;
        Self {
            method,
            path: path.unwrap_or(PathAndQuery::from_static("/")),
            spare_headers: spare(&headers),
            headers: Some(headers),
            wait_for_ready,
            deadline,
            extensions,
        }
    }

    /// Returns the request as it is sent now to the server at the other end.
    pub(crate) fn request(
        &mut self,
        transport: &Transport,
        now: std::time::Instant,
    ) -> Request<()> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(transport.scheme().clone());
        uri.authority = Some(transport.authority().clone());
        uri.path_and_query = Some(self.path.clone());
        let (headers, timeout) = match self.headers.take() {
            Some(headers) => (headers, self.deadline.changed_timeout(now)),
            None => {
                let spare = self.spare_headers.iter().cloned();
                (spare.collect(), self.deadline.grpc_timeout(now))
            }
        };
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).expect("all three parts are there");
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        if let Some(timeout) = timeout {
            request.headers_mut().insert(&GRPC_TIMEOUT, timeout);
        }
        request
    }
}

fn spare(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut spare = Vec::with_capacity(headers.len());
    let wanted = headers.iter().filter(|(name, _)| **name != GRPC_TIMEOUT);
    spare.extend(wanted.map(|(name, value)| (name.clone(), value.clone())));
    spare
}

/// Of one hop over HTTP/1: HTTP/2 forbids them (RFC 9113, 8.2.2), and gateways pass them on.
static FORBIDDEN: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Sets what every gRPC request has, and takes out what none may have.
fn set_headers(headers: &mut HeaderMap) {
    static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
    static OURS: HeaderValue =
        HeaderValue::from_static(concat!("switchboard/", env!("CARGO_PKG_VERSION")));
    // One pass, since hardly any request has one.
    if headers.keys().any(|name| FORBIDDEN.contains(name)) {
        for name in &FORBIDDEN {
            headers.remove(name);
        }
    }
    headers.insert(TE, TRAILERS.clone());
    match headers.entry(USER_AGENT) {
        Entry::Vacant(entry) => drop(entry.insert(OURS.clone())),
        Entry::Occupied(mut entry) => {
            let combined = [entry.get().as_bytes(), b" ", OURS.as_bytes()].concat();
            entry.insert(HeaderValue::from_bytes(&combined).unwrap_or_else(|_| OURS.clone()));
        }
    }
}
