//! Which endpoints are asked for, by what is known of them.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{Endpoint, ServiceConfigError};

/// Where sources say which version a server runs.
pub(super) const VERSION: &str = "version";

/// Where sources say in which zone a server is.
pub(super) const ZONE: &str = "zone";

/// Which endpoints are asked for, by their metadata ([`Endpoint::metadata`]). Cheap to clone.
///
/// On a channel ([`ChannelBuilder::filter`](crate::ChannelBuilder::filter)) it says which endpoints are
/// connected at all. As an extension of a request it says which of those that are connected may have that
/// call:
///
/// ```
/// use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
/// use switchboard_resolver::{Channel, Filter};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .name("greeter")
///     .filter(Filter::version("v2").and(Filter::metadata("tier", "gold")))
///     .connect_lazy()?;
/// let mut client = GreeterClient::new(channel);
/// let mut request = tonic::Request::new(HelloRequest::default());
/// request.extensions_mut().insert(Filter::zone("a"));
/// let status = client.say_hello(request).await.unwrap_err();
/// assert_eq!(
///     status.message(),
///     "service greeter: none of 2 endpoints matches the channel's filter (expected: version=v2 and tier=gold)",
/// );
/// # Ok(()) }
/// ```
///
/// If none matches, calls fail with UNAVAILABLE, and say so; with [`or_any`](Self::or_any) they go to all.
///
/// What serves the calls of a filter is made when the first of them comes after a change of the endpoints,
/// and kept until the next one, for the first 64 different filters. Each call with a further one costs as
/// much as there are endpoints: a filter is for what groups servers, and not for what tells calls apart.
#[derive(Clone)]
pub struct Filter(Arc<Inner>);

struct Inner {
    terms: Vec<Term>,
    or_any: bool,
    /// Of all that makes it equal to another one: a call looks for it among others.
    hash: u64,
}

/// That a key has one of these values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Term {
    key: String,
    /// Each once, and sorted: there may be thousands, and each endpoint's is looked for among them.
    values: Vec<String>,
}

impl Filter {
    /// Asks for a version: for a value of the metadata's key `version`.
    pub fn version(version: impl Into<String>) -> Self {
        Self::metadata(VERSION, version)
    }

    /// Asks for a zone: for a value of the metadata's key `zone`.
    pub fn zone(zone: impl Into<String>) -> Self {
        Self::metadata(ZONE, zone)
    }

    /// Asks for a value of one of the metadata's keys.
    pub fn metadata(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::one_of(key, [value])
    }

    /// Asks for one of several values of one of the metadata's keys; without any value nothing matches.
    ///
    /// ```
    /// use switchboard_resolver::{Endpoint, Filter};
    ///
    /// let filter = Filter::one_of("tier", ["gold", "silver"]);
    /// let endpoint = Endpoint::new("10.0.0.1:50051".parse()?);
    /// assert!(filter.matches(&endpoint.clone().with_metadata("tier", "silver")));
    /// assert!(!filter.matches(&endpoint));
    /// # Ok::<(), switchboard_resolver::AddressError>(())
    /// ```
    pub fn one_of<V: Into<String>>(
        key: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::new(vec![Term::new(key.into(), values)], false)
    }

    /// Asks for one of several values of each of some keys; with no keys at all every endpoint matches.
    pub(crate) fn all_of(terms: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let terms = terms.into_iter();
        let terms = terms.map(|(key, values)| Term::new(key, values));
        Self::new(terms.collect(), false)
    }

    fn new(terms: Vec<Term>, or_any: bool) -> Self {
        let mut hasher = DefaultHasher::new();
        (&terms, or_any).hash(&mut hasher);
        Self(Arc::new(Inner {
            terms,
            or_any,
            hash: hasher.finish(),
        }))
    }

    /// Asks for what both ask for; it has a fallback if one of them has.
    pub fn and(self, other: Self) -> Self {
        let terms = [&self.0.terms[..], &other.0.terms[..]].concat();
        Self::new(terms, self.0.or_any || other.0.or_any)
    }

    /// Sets the fallback: all endpoints, if none matches. Without it there is none, since a server that
    /// was not asked for may do the wrong thing.
    pub fn or_any(self) -> Self {
        Self::new(self.0.terms.clone(), true)
    }

    /// Returns whether an endpoint is asked for.
    pub fn matches(&self, endpoint: &Endpoint) -> bool {
        let metadata = endpoint.metadata();
        let mut terms = self.0.terms.iter();
        terms.all(|Term { key, values }| {
            metadata
                .get(key)
                .is_some_and(|it| values.binary_search(it).is_ok())
        })
    }

    /// Returns whether all endpoints will do if none matches.
    pub(super) fn has_fallback(&self) -> bool {
        self.0.or_any
    }

    /// Returns a number that filters have in common that ask for the same.
    pub(crate) fn hash(&self) -> u64 {
        self.0.hash
    }

    /// Refuses one that nothing can match.
    pub(crate) fn check(&self) -> Result<(), ServiceConfigError> {
        let mut terms = self.0.terms.iter();
        let is_wrong = |term: &&Term| term.key.is_empty() || term.values.is_empty();
        match terms.find(is_wrong) {
            Some(_) => Err(ServiceConfigError::value(
                "filter",
                self,
                "keys, and at least one value for each",
            )),
            None => Ok(()),
        }
    }
}

impl Term {
    fn new(key: String, mut values: Vec<String>) -> Self {
        values.sort_unstable();
        values.dedup();
        Self { key, values }
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        Arc::ptr_eq(one, other)
            || one.hash == other.hash && one.or_any == other.or_any && one.terms == other.terms
    }
}

impl Eq for Filter {}

impl fmt::Display for Filter {
    /// Writes `version=v2 and tier=gold|silver, or any`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = self.0.terms.iter();
        let terms: Vec<_> = terms
            .map(|it| format!("{}={}", it.key, it.values.join("|")))
            .collect();
        f.write_str(match terms.is_empty() {
            true => "any",
            false => "",
        })?;
        f.write_str(&terms.join(" and "))?;
        f.write_str(if self.0.or_any { ", or any" } else { "" })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_equal_by_what_they_ask_for() {
        let gold = || Filter::version("v2").and(Filter::metadata("tier", "gold"));
        assert_eq!(gold(), gold());
        assert_ne!(gold(), gold().or_any());
        assert_ne!(gold(), Filter::version("v2"));
        assert_ne!(Filter::version("v1"), Filter::version("v2"));
        assert_ne!(Filter::version("v1"), Filter::zone("v1"));
        let tiers = |values: &[&str]| Filter::one_of("tier", values.iter().copied());
        assert_eq!(tiers(&["a", "b"]), tiers(&["b", "a", "b"]));
        assert_eq!(tiers(&["a", "b"]).hash(), tiers(&["b", "a"]).hash());
    }

    #[test]
    fn one_that_nothing_can_match_is_refused() {
        let none: [&str; 0] = [];
        let filter = Filter::zone("a").and(Filter::one_of("tier", none));
        assert_eq!(
            filter.check().unwrap_err().to_string(),
            "filter: zone=a and tier= (expected: keys, and at least one value for each)"
        );
        assert!(Filter::metadata("", "x").check().is_err());
        assert!(Filter::all_of([]).check().is_ok());
    }

    #[test]
    fn all_terms_must_hold_and_one_value_of_each() {
        let endpoint = Endpoint::new("a:1".parse().unwrap());
        let endpoint = endpoint
            .with_metadata("version", "v2")
            .with_metadata("tier", "gold");
        let gold = Filter::one_of("tier", ["silver", "gold"]);
        assert!(gold.clone().and(Filter::version("v2")).matches(&endpoint));
        assert!(!gold.and(Filter::version("v1")).matches(&endpoint));
        assert!(!Filter::zone("a").matches(&endpoint));
        assert!(Filter::all_of([]).matches(&endpoint));
    }
}
