//! A call that looks for an endpoint, as policies see it.

use std::time::Instant;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request};

use crate::{Filter, request_head::Spare};

/// A call that looks for an endpoint, as a [`Picker`](crate::Picker) sees it.
#[derive(Debug, Clone, Copy)]
pub struct CallInfo<'a> {
    path: &'a str,
    headers: Headers<'a>,
    extensions: &'a Extensions,
    start: Instant,
}

/// Where a call's headers are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Headers<'a> {
    All(&'a HeaderMap),
    /// They have left with a request that came back.
    Spare(&'a Spare),
}

impl<'a> CallInfo<'a> {
    /// Describes a request of a call that starts now, for tests of a policy.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        let headers = Headers::All(request.headers());
        let start = tokio::time::Instant::now().into_std();
        Self::new(request.uri().path(), headers, request.extensions(), start)
    }

    /// Sets when the call starts, for tests of a policy.
    pub fn with_start(mut self, start: Instant) -> Self {
        self.start = start;
        self
    }

    pub(crate) fn new(
        path: &'a str,
        headers: Headers<'a>,
        extensions: &'a Extensions,
        start: Instant,
    ) -> Self {
        Self {
            path,
            headers,
            extensions,
            start,
        }
    }

    /// Returns when the call started: the time now, for a policy that needs to know it, unless the call
    /// has had to wait. A clock that is read for each pick would cost more than most picks do.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Returns what is called: `/greeter.Greeter/SayHello`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// Returns the first value of one of the caller's headers.
    pub fn header(&self, name: &HeaderName) -> Option<&'a HeaderValue> {
        match self.headers {
            Headers::All(headers) => headers.get(name),
            Headers::Spare(spare) => spare.get(name),
        }
    }

    /// Returns the extensions of its request, by which a caller tells a policy what it has to know.
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// Returns which endpoints it may go to, if its caller says so.
    pub(crate) fn filter(&self) -> Option<&'a Filter> {
        self.extensions.get()
    }
}
