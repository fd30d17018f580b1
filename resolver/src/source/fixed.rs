//! A list that never changes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use crate::{Address, AddressError, Endpoint, Source, Update};

/// A fixed list of endpoints, as a [`Source`]; for a channel alone there is
/// [`Channel::balance`](crate::Channel::balance).
///
/// It never ends: a source that has ended is not known to be right any more, and a fixed list always
/// is.
///
/// ```
/// use switchboard_resolver::{Channel, Endpoint, Fixed};
///
/// let source = Fixed::new(["10.0.0.1:50051", "10.0.0.2:50051"])?;
/// let near = Endpoint::new("10.0.0.3:50051".parse()?).with_metadata("zone", "a");
/// let builder = Channel::builder(Fixed::from(vec![near]));
/// # drop((source, builder));
/// # Ok::<(), switchboard_resolver::AddressError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a source does nothing unless a channel polls it"]
pub struct Fixed {
    /// `None` once it was told.
    endpoints: Option<Vec<Endpoint>>,
}

impl Fixed {
    /// Makes a list of addresses, each an endpoint of its own.
    ///
    /// # Errors
    ///
    /// The first text that is not an address.
    pub fn new<A>(addresses: impl IntoIterator<Item = A>) -> Result<Self, AddressError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let endpoints = addresses
            .into_iter()
            .map(|address| Ok(Endpoint::new(address.try_into()?)))
            .collect::<Result<Vec<_>, AddressError>>()?;
        Ok(Self::from(endpoints))
    }
}

impl From<Vec<Endpoint>> for Fixed {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints: Some(endpoints),
        }
    }
}

impl Source for Fixed {
    fn poll_update(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Update>> {
        match self.endpoints.take() {
            Some(endpoints) => Poll::Ready(Some(Update::Snapshot(endpoints))),
            None => Poll::Pending,
        }
    }
}
