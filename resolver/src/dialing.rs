//! How an endpoint is connected to.
//!
//! Its addresses are tried in order, and so are those that a host's name stands for, as `staggered` has
//! it: one that swallows packets hardly delays the others.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use http::uri::{Authority, InvalidUri, Scheme};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::{
    Address, Backoff, Cause, Endpoint, Security,
    connector::Connector,
    error::chain,
    health,
    staggered::first_of,
    tls::Tls,
    transport::{self, Capacity, Connection, Traffic, Transport, Vacancy},
};

/// How the endpoints of a channel are connected to.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) connector: Connector,
    /// What is put around the connector's byte streams.
    pub(crate) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) settings: transport::Settings,
    /// What connected endpoints are asked; `None` if nothing.
    pub(crate) health: Option<health::Asked>,
    /// What `:authority` is; the endpoint's own address if `None`.
    pub(crate) authority: Option<Authority>,
    /// Where calls wait for a stream.
    pub(crate) vacancy: Arc<Vacancy>,
}

/// Why an endpoint could not be connected to: each of its addresses with what happened there.
#[derive(Debug, Clone)]
pub(crate) struct DialError(Vec<(Address, Cause)>);

impl Dialing {
    /// Returns whether endpoints are spoken to inside TLS.
    pub(crate) fn security(&self) -> Security {
        match self.tls {
            Some(_) => Security::Tls,
            None => Security::Plaintext,
        }
    }

    /// Returns what all connections of one endpoint have in common.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity::new(self.settings.max_calls_in_flight, self.vacancy.clone())
    }

    /// Connects to one of an endpoint's addresses. What its calls leave to be done runs on `tasks`.
    pub(crate) async fn dial(
        &self,
        endpoint: &Endpoint,
        tasks: &TaskTracker,
        capacity: &Capacity,
    ) -> Result<(Transport, Connection), DialError> {
        let end = Instant::now() + self.connect_timeout;
        let addresses = endpoint.addresses();
        let attempts = addresses
            .iter()
            .map(|it| self.dial_one(it, end, tasks, capacity));
        let attempts: Vec<_> = attempts.collect();
        first_of(attempts)
            .await
            .map_err(|causes| DialError(addresses.iter().cloned().zip(causes).collect()))
    }

    async fn dial_one(
        &self,
        address: &Address,
        end: Instant,
        tasks: &TaskTracker,
        capacity: &Capacity,
    ) -> Result<(Transport, Connection), Cause> {
        let patience = end.saturating_duration_since(Instant::now());
        let timed_out = |what: &str| -> Cause {
            let text = format!("{what} within {patience:?}");
            Arc::new(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let authority = match &self.authority {
            Some(authority) => authority.clone(),
            None => authority(address).map_err(|error| -> Cause { Arc::new(error) })?,
        };
        // Before the address is dialed: what is wrong with our own files is no server's business.
        let tls = match &self.tls {
            Some(tls) => {
                let prepared = timeout_at(end, tls.prepare(address)).await;
                let prepared = prepared.map_err(|_| timed_out("the files of TLS were not read"))?;
                Some(prepared.map_err(|error| -> Cause { Arc::new(error) })?)
            }
            None => None,
        };
        let traffic = Arc::new(Traffic::default());
        let mut io = timeout_at(end, self.connector.connect(address, &traffic))
            .await
            .map_err(|_| timed_out("no connection"))?
            .map_err(|error| -> Cause { Arc::new(error) })?;
        if let Some(tls) = tls {
            io = timeout_at(end, tls.run(io))
                .await
                .map_err(|_| timed_out("connected, but no TLS handshake with the server"))?
                .map_err(|error| -> Cause { Arc::new(error) })?;
        }
        let scheme = match self.security() {
            Security::Plaintext => Scheme::HTTP,
            Security::Tls => Scheme::HTTPS,
        };
        let (tasks, capacity) = (tasks.clone(), capacity.clone());
        let handshake = transport::handshake(
            io,
            traffic,
            scheme,
            authority,
            self.settings,
            tasks,
            capacity,
        );
        timeout_at(end, handshake)
            .await
            .map_err(|_| timed_out("connected, but no HTTP/2 settings from the server"))?
    }
}

/// What a server is called that has no other name.
fn authority(address: &Address) -> Result<Authority, InvalidUri> {
    match address.path() {
        None => Authority::try_from(address.to_string()),
        Some(_) => Authority::try_from(address.host()),
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect: ")?;
        if let [(_, cause)] = &self.0[..] {
            return write!(f, "{}", chain(&**cause));
        }
        for (index, (address, cause)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {}", chain(&**cause))?;
        }
        Ok(())
    }
}

impl Error for DialError {}
