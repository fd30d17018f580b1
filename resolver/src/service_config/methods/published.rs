//! What holds for which methods, where calls look.
//!
//! One writer, any number of readers, and no lock. A channel where nothing is configured has nothing here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use tonic::Code;

use super::{MethodConfig, ServiceConfig};
use crate::{
    RetryPolicy,
    retry::{Pushback, Tokens},
};

/// What holds for which methods: what calls look at when they begin.
#[derive(Debug, Default)]
pub(crate) struct Methods(ArcSwapOption<Table>);

#[derive(Debug)]
struct Table {
    /// By `/service/method`, and by `/service/`.
    named: BTreeMap<String, Arc<Method>>,
    /// For all others.
    others: Option<Arc<Method>>,
    tokens: Option<Arc<Tokens>>,
}

/// What holds for one call.
#[derive(Debug, Default)]
pub(crate) struct Method {
    config: MethodConfig,
    /// Those of the channel, if it has some.
    tokens: Option<Arc<Tokens>>,
}

impl Methods {
    /// Lets a configuration hold for calls that begin from now on. Tokens that are configured as before stay
    /// as many as they are.
    pub(crate) fn publish(&self, config: &ServiceConfig) {
        let tokens = config.retry_throttling.map(|throttling| {
            let last = self.0.load();
            let last = last.as_ref().and_then(|it| it.tokens.as_ref());
            let same = last.filter(|it| it.throttling() == throttling);
            same.cloned()
                .unwrap_or_else(|| Arc::new(Tokens::new(throttling)))
        });
        let method = |config: MethodConfig| {
            let tokens = tokens.clone();
            Arc::new(Method { config, tokens })
        };
        let configured = config.methods.as_deref().into_iter().flatten();
        let mut named: BTreeMap<_, _> = configured
            .map(|(path, config)| (path.clone(), method(*config)))
            .collect();
        // All calls bring and take tokens.
        let unnamed = || tokens.is_some().then(|| method(MethodConfig::default()));
        let others = named.remove("").or_else(unnamed);
        let is_empty = named.is_empty() && others.is_none();
        let table = Table {
            named,
            others,
            tokens: tokens.clone(),
        };
        self.0.store((!is_empty).then(|| Arc::new(table)));
    }

    /// Returns what holds for a call of this path that begins now.
    pub(crate) fn of(&self, path: &str) -> Option<Arc<Method>> {
        let table = self.0.load();
        let Table { named, others, .. } = table.as_deref()?;
        let service = path.rfind('/').map(|end| &path[..=end]);
        let method = named
            .get(path)
            .or_else(|| named.get(service?))
            .or(others.as_ref());
        method.cloned()
    }
}

impl Method {
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.config.timeout
    }

    pub(crate) fn waits_for_ready(&self) -> bool {
        self.config.wait_for_ready
    }

    pub(crate) fn retry(&self) -> Option<&RetryPolicy> {
        self.config.retry.as_ref()
    }

    /// Returns whether a call may be made again, for all that other calls have met.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.as_ref().is_none_or(|it| it.are_enough())
    }

    /// Takes in with which code an attempt has ended, and with which trailers if the server said it.
    pub(crate) fn ended(&self, code: Code, trailers: Option<&HeaderMap>) {
        let Some(tokens) = &self.tokens else { return };
        let is_retried = || self.retry().is_some_and(|it| it.retries(code));
        let is_unwanted = || trailers.and_then(Pushback::of) == Some(Pushback::Never);
        match code {
            Code::Ok => tokens.succeeded(),
            // Others say nothing of how the server does, such as NOT_FOUND.
            _ if is_retried() || is_unwanted() => tokens.failed(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[(&str, u64)]) -> ServiceConfig {
        let mut config = ServiceConfig::default();
        for (name, seconds) in names {
            let method = MethodConfig::default().with_timeout(Duration::from_secs(*seconds));
            config = config.with_method(name, method).unwrap();
        }
        config
    }

    fn seconds(methods: &Methods, path: &str) -> Option<u64> {
        Some(methods.of(path)?.timeout()?.as_secs())
    }

    #[test]
    fn the_most_specific_name_counts() {
        let methods = Methods::default();
        assert!(methods.of("/a.B/C").is_none());
        methods.publish(&config(&[("", 1), ("a.B", 2), ("a.B/C", 3)]));
        for (path, expected) in [("/a.B/C", 3), ("/a.B/D", 2), ("/a.BC/C", 1), ("/", 1)] {
            assert_eq!(seconds(&methods, path), Some(expected), "{path}");
        }
        methods.publish(&config(&[("a.B", 2)]));
        assert_eq!(seconds(&methods, "/a.BC/C"), None);
        assert_eq!(seconds(&methods, "a.B"), None, "that is no path");
        methods.publish(&config(&[]));
        assert!(methods.0.load().is_none());
    }

    #[test]
    fn tokens_outlast_a_configuration_that_leaves_them_as_they_are() {
        let methods = Methods::default();
        let throttled = |most| config(&[("a.B", 2)]).with_retry_throttling(most, 0.1);
        methods.publish(&throttled(4).unwrap());
        let tokens = || methods.of("/x/y").unwrap().tokens.clone().unwrap();
        let first = tokens();
        methods.publish(&throttled(4).unwrap().with_policy(crate::RoundRobin));
        assert!(Arc::ptr_eq(&first, &tokens()));
        methods.publish(&throttled(5).unwrap());
        assert!(!Arc::ptr_eq(&first, &tokens()));
    }

    #[test]
    fn what_says_nothing_of_the_server_takes_no_token() {
        let methods = Methods::default();
        let retry = MethodConfig::default().with_retry(RetryPolicy::new(2, [14]));
        let config = ServiceConfig::default().with_method("a.B", retry).unwrap();
        methods.publish(&config.with_retry_throttling(2, 1.0).unwrap());
        let (retried, other) = (methods.of("/a.B/C").unwrap(), methods.of("/x/y").unwrap());
        retried.ended(Code::NotFound, None);
        // No code of this one is retried.
        other.ended(Code::Unavailable, None);
        assert!(retried.has_tokens());
        retried.ended(Code::Unavailable, None);
        assert!(!retried.has_tokens() && !other.has_tokens());
        other.ended(Code::Ok, None);
        assert!(retried.has_tokens());
        let pushback = [(
            "grpc-retry-pushback-ms".parse().unwrap(),
            "-1".parse().unwrap(),
        )];
        other.ended(Code::NotFound, Some(&pushback.into_iter().collect()));
        assert!(!retried.has_tokens());
    }
}
