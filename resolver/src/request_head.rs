//! The head of a request: what a call asks for, whatever endpoint it goes to.

use std::sync::Arc;

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, Entry, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT},
    request::Parts,
    uri::PathAndQuery,
};
use tokio::time::{Duration, Instant};

use crate::{
    CallInfo, WaitForReady,
    balance::Headers,
    deadline::{Deadline, GRPC_TIMEOUT},
    service_config::{Method as MethodInForce, Methods},
    transport::Transport,
};

/// The head of a request, from which any number of requests can be made.
pub(crate) struct RequestHead {
    method: Method,
    path: PathAndQuery,
    /// For the first request; most calls need no other.
    headers: Option<HeaderMap>,
    /// For those after it.
    spare: Spare,
    pub(crate) wait_for_ready: bool,
    pub(crate) deadline: Deadline,
    /// What holds for calls of its method, if something does.
    pub(crate) configured: Option<Arc<MethodInForce>>,
    /// How often it was made before, in vain.
    pub(crate) attempts_before: u32,
    /// Those that came along, for whoever chooses an endpoint.
    extensions: Extensions,
}

/// The caller's own headers: those that no request has anew.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// Most calls have one, their content's type, for which nothing is allocated here.
    first: Option<(HeaderName, HeaderValue)>,
    more: Vec<(HeaderName, HeaderValue)>,
}

impl RequestHead {
    /// Takes in the head of a call that starts now, on a channel with this timeout and these methods.
    pub(crate) fn new(head: Parts, timeout: Option<Duration>, methods: &Methods) -> Self {
        let Parts {
            method,
            uri,
            mut headers,
            extensions,
            ..
        } = head;
        // One pass: to look for each name would cost as much each time.
        let (mut caller_timeout, mut is_te_right, mut has_forbidden) = (None, None, false);
        let mut spare = Spare::default();
        for (name, value) in &headers {
            match name {
                name if *name == TE => {
                    is_te_right = Some(is_te_right != Some(false) && *value == TRAILERS);
                }
                name if *name == GRPC_TIMEOUT => caller_timeout = caller_timeout.or(Some(value)),
                name if FORBIDDEN.contains(name) => has_forbidden = true,
                name => spare.push((name.clone(), value.clone())),
            }
        }
        let now = Instant::now().into_std();
        let mut deadline = Deadline::new(caller_timeout, timeout, now);
        let configured = methods.of(uri.path());
        if let Some(method) = &configured
            && let Some(timeout) = method.timeout()
            && deadline.shorten(timeout)
            && let Some(timeout) = deadline.grpc_timeout(now)
        {
            headers.insert(&GRPC_TIMEOUT, timeout);
        }
        if has_forbidden {
            for name in &FORBIDDEN {
                headers.remove(name);
            }
        }
        if is_te_right != Some(true) {
            headers.insert(TE, TRAILERS.clone());
        }
        set_user_agent(&mut headers);
        let wait_for_ready = extensions.get::<WaitForReady>().is_some()
            || configured.as_ref().is_some_and(|it| it.waits_for_ready());
        let path = uri.into_parts().path_and_query;
        Self {
            method,
            path: path.unwrap_or(PathAndQuery::from_static("/")),
            spare,
            headers: Some(headers),
            wait_for_ready,
            deadline,
            configured,
            attempts_before: 0,
            extensions,
        }
    }

    /// Describes the call to who chooses an endpoint.
    pub(crate) fn info(&self) -> CallInfo<'_> {
        let headers = match &self.headers {
            Some(headers) => Headers::All(headers),
            None => Headers::Spare(&self.spare),
        };
        CallInfo::new(
            self.path.path(),
            headers,
            &self.extensions,
            self.deadline.start(),
        )
    }

    /// Returns the extensions, emptied, for the response: what holds them costs more than what is in them.
    pub(crate) fn take_extensions(&mut self) -> Extensions {
        let mut extensions = std::mem::take(&mut self.extensions);
        extensions.clear();
        extensions
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
                let mut headers = self.spare.headers();
                headers.insert(TE, TRAILERS.clone());
                set_user_agent(&mut headers);
                (headers, self.deadline.grpc_timeout(now))
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
        if self.attempts_before > 0 {
            let before = HeaderValue::from(self.attempts_before);
            request.headers_mut().insert(&ATTEMPTS_BEFORE, before);
        }
        request
    }
}

impl Spare {
    fn push(&mut self, header: (HeaderName, HeaderValue)) {
        match self.first {
            None => self.first = Some(header),
            Some(_) => self.more.push(header),
        }
    }

    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut all = self.first.iter().chain(&self.more);
        all.find(|it| it.0 == *name).map(|it| &it.1)
    }

    fn headers(&self) -> HeaderMap {
        self.first.iter().chain(&self.more).cloned().collect()
    }
}

/// Of one hop over HTTP/1: HTTP/2 forbids them (RFC 9113, 8.2.2), and gateways pass them on.
static FORBIDDEN: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// By which a server knows a call that is made again, and how often it was before (A6).
static ATTEMPTS_BEFORE: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// What every gRPC request says it can take: proxies that cannot are told by it.
static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Says who calls, beside whom the caller says it is.
fn set_user_agent(headers: &mut HeaderMap) {
    static OURS: HeaderValue =
        HeaderValue::from_static(concat!("switchboard/", env!("CARGO_PKG_VERSION")));
    match headers.entry(USER_AGENT) {
        Entry::Vacant(entry) => drop(entry.insert(OURS.clone())),
        Entry::Occupied(mut entry) => {
            let combined = [entry.get().as_bytes(), b" ", OURS.as_bytes()].concat();
            entry.insert(HeaderValue::from_bytes(&combined).unwrap_or_else(|_| OURS.clone()));
        }
    }
}
