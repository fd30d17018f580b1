//! How an endpoint is connected to.
//!
//! Its addresses are tried in order, each as soon as the one before has failed or has had a while:
//! one that swallows packets costs no more than that (Happy Eyeballs, RFC 8305; gRPC's A61).

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use http::uri::{Authority, InvalidUri, Scheme};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::{
    Address, Backoff, Cause, Endpoint, Security,
    connector::Connector,
    error::chain,
    tls::Tls,
    transport::{self, Connection, Transport, Vacancy},
};

/// How long an address is tried alone, as in gRPC's A61.
const HEAD_START: Duration = Duration::from_millis(250);

/// How the endpoints of a channel are connected to.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) connector: Connector,
    /// What is put around the connector's byte streams.
    pub(crate) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) settings: transport::Settings,
    /// What `:authority` is; the endpoint's own address if `None`.
    pub(crate) authority: Option<Authority>,
    /// Where calls wait for a stream.
    pub(crate) vacancy: Arc<Vacancy>,
}

/// Why an endpoint could not be connected to: each of its addresses with what happened there.
#[derive(Debug, Clone)]
pub(crate) struct Refused(Vec<(Address, Cause)>);

impl Dialing {
    /// Returns whether endpoints are spoken to inside TLS.
    pub(crate) fn security(&self) -> Security {
        match self.tls {
            Some(_) => Security::Tls,
            None => Security::Plaintext,
        }
    }

    /// Connects to one of an endpoint's addresses. What its calls leave to be done runs on `tasks`.
    pub(crate) async fn dial(
        &self,
        endpoint: &Endpoint,
        tasks: &TaskTracker,
    ) -> Result<(Transport, Connection), Refused> {
        let end = Instant::now() + self.connect_timeout;
        let addresses = endpoint.addresses();
        let mut refusals: Vec<Option<Cause>> = vec![None; addresses.len()];
        let mut attempts = FuturesUnordered::new();
        let mut next_at = Instant::now();
        let mut waiting = addresses.iter().enumerate();
        loop {
            tokio::select! {
                biased;
                Some((index, connected)) = attempts.next() => match connected {
                    Ok(connected) => return Ok(connected),
                    Err(cause) => {
                        refusals[index] = Some(cause);
                        next_at = Instant::now();
                    }
                },
                () = tokio::time::sleep_until(next_at), if waiting.len() > 0 => {
                    if let Some((index, address)) = waiting.next() {
                        let attempt = self.dial_one(address, end, tasks);
                        attempts.push(async move { (index, attempt.await) });
                    }
                    next_at = Instant::now() + HEAD_START;
                }
                else => break,
            }
        }
        let refused = addresses.iter().cloned().zip(refusals);
        Err(Refused(
            refused
                .filter_map(|(it, cause)| Some((it, cause?)))
                .collect(),
        ))
    }

    async fn dial_one(
        &self,
        address: &Address,
        end: Instant,
        tasks: &TaskTracker,
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
        let mut io = timeout_at(end, self.connector.connect(address))
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
        let (tasks, vacancy) = (tasks.clone(), self.vacancy.clone());
        let handshake = transport::handshake(io, scheme, authority, self.settings, tasks, vacancy);
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

impl fmt::Display for Refused {
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

impl Error for Refused {}
