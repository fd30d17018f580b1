//! Decides what a call that starts now may expect.
//!
//! - An endpoint is READY, or suspect at least: it is called.
//! - Nothing is known yet, or an endpoint is dialed for the first time or redialed after its
//!   connection was lost, or has yet to say whether it is healthy: the call waits.
//! - Otherwise it fails at once, with the newest of what went wrong: the last failed connection, what
//!   an endpoint's health service said, or the source's trouble.
//!
//! Reads no clock and holds no connection.

use std::{fmt, time::Instant};

use crate::{
    Cause, Endpoint, Filter, Security, Split,
    error::chain,
    state::{Condition, SourceState},
};

/// What a call that starts now may expect.
#[derive(Debug, Clone)]
pub(crate) enum Outlook {
    Ready,
    Waiting(Obstacle),
    Failing(Obstacle),
}

/// What keeps calls from being sent.
#[derive(Debug, Clone)]
pub(crate) enum Obstacle {
    /// The source has said nothing yet.
    Unanswered,
    /// The source says that there are no endpoints.
    NoEndpoints,
    /// The source names endpoints, as many, and none of them is of the channel's kind.
    NoneOfOurs(usize, Security),
    /// The source names endpoints, as many, and none of them matches the channel's filter.
    NoneListed(usize, Filter),
    /// Endpoints can be called, as many, and none of them matches the call's filter.
    NoMatch(usize, Filter),
    /// Endpoints can be called, and none of them is in a group of the split.
    OutsideSplit {
        split: Split,
        /// What the call's own filter is, if it has one.
        filter: Option<Filter>,
        /// The values that those have that can be called, and that the filter lets through.
        there: String,
    },
    /// The source cannot tell.
    Source(Cause),
    /// An endpoint is being dialed, after what went wrong if something did.
    Connecting(Endpoint, Option<Cause>),
    /// An endpoint is silent, and others that are not may not be called.
    Silent(Endpoint),
    /// The channel was idle, and is being woken.
    Idle,
    /// All connections were lost, and their tasks are about to say so.
    Lost,
    /// Every server has as many calls in flight as it allows or as it may have, this one for one.
    Busy(Endpoint),
    /// An endpoint cannot be reached, or is not healthy.
    Endpoint(Endpoint, Cause),
}

/// Something that went wrong, and when.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) at: Instant,
    pub(crate) cause: Cause,
}

/// What the source last said.
#[derive(Debug, Clone)]
pub(crate) enum SourceStatus {
    Pending,
    Fresh,
    Stale { since: Instant, trouble: Trouble },
    Failed(Trouble),
    Ended,
}

/// What is known of one endpoint.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) condition: Condition,
    pub(crate) last_trouble: Option<&'a Trouble>,
}

/// Decides the outlook; `endpoints` is `None` before the first snapshot.
pub(crate) fn outlook(source: &SourceStatus, endpoints: Option<&[Observed<'_>]>) -> Outlook {
    let trouble = source.trouble();
    let Some(endpoints) = endpoints else {
        return match trouble {
            None => Outlook::Waiting(Obstacle::Unanswered),
            Some(trouble) => Outlook::Failing(Obstacle::Source(trouble.cause.clone())),
        };
    };
    let is_called = |it: &Observed<'_>| match it.condition {
        Condition::Ready | Condition::Suspect | Condition::Ejected => true,
        Condition::Connecting
        | Condition::Failing
        | Condition::Unhealthy
        | Condition::Idle
        | Condition::Draining => false,
    };
    if endpoints.iter().any(is_called) {
        return Outlook::Ready;
    }
    let connecting = endpoints
        .iter()
        // One that has not heard yet that the channel is called again is about to.
        .find(|it| matches!(it.condition, Condition::Connecting | Condition::Idle));
    if let Some(it) = connecting {
        let cause = it.last_trouble.map(|trouble| trouble.cause.clone());
        return Outlook::Waiting(Obstacle::Connecting(it.endpoint.clone(), cause));
    }
    let last_failed = endpoints
        .iter()
        .filter_map(|it| it.last_trouble.map(|last| (it.endpoint, last)))
        .max_by_key(|(_, last)| last.at);
    Outlook::Failing(match (last_failed, trouble) {
        (Some((endpoint, last)), trouble) if trouble.is_none_or(|it| it.at < last.at) => {
            Obstacle::Endpoint(endpoint.clone(), last.cause.clone())
        }
        (_, Some(trouble)) => Obstacle::Source(trouble.cause.clone()),
        (_, None) => Obstacle::NoEndpoints,
    })
}

impl SourceStatus {
    /// Returns whether the source knows that its last snapshot is right.
    pub(crate) fn is_right(&self) -> bool {
        matches!(self, Self::Fresh)
    }

    fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Pending | Self::Fresh | Self::Ended => None,
            Self::Stale { trouble, .. } | Self::Failed(trouble) => Some(trouble),
        }
    }

    /// Returns the status as it is shown.
    pub(crate) fn state(&self) -> SourceState {
        match self {
            Self::Pending => SourceState::Pending,
            Self::Fresh => SourceState::Fresh,
            Self::Stale { since, trouble } => SourceState::Stale {
                since: *since,
                cause: chain(&*trouble.cause),
            },
            Self::Failed(trouble) => SourceState::Failed {
                cause: chain(&*trouble.cause),
            },
            Self::Ended => SourceState::Ended,
        }
    }
}

impl Obstacle {
    /// Returns the endpoint that stands in the way, if it is one.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Connecting(endpoint, _)
            | Self::Endpoint(endpoint, _)
            | Self::Silent(endpoint)
            | Self::Busy(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// Returns what went wrong, if something did.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Source(cause) | Self::Endpoint(_, cause) => Some(cause),
            Self::Connecting(_, cause) => cause.as_ref(),
            Self::Unanswered
            | Self::NoEndpoints
            | Self::NoneOfOurs(..)
            | Self::NoneListed(..)
            | Self::NoMatch(..)
            | Self::OutsideSplit { .. }
            | Self::Silent(_)
            | Self::Idle
            | Self::Lost
            | Self::Busy(_) => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => write!(f, "the endpoints are not known yet"),
            Self::NoEndpoints => write!(f, "no endpoints"),
            Self::NoneOfOurs(others, ours) => {
                let (hint, theirs) = match ours {
                    Security::Plaintext => ("this channel has no TLS set", Security::Tls),
                    Security::Tls => ("this channel has TLS set", Security::Plaintext),
                };
                write!(f, "no endpoints {ours} ({hint}, and {others} are {theirs})")
            }
            Self::NoneListed(count, filter) => {
                write!(
                    f,
                    "none of {count} endpoints matches the channel's filter (expected: {filter})"
                )
            }
            Self::NoMatch(count, filter) => {
                write!(
                    f,
                    "none of {count} endpoints that can be called matches the call's filter (expected: {filter})"
                )
            }
            Self::OutsideSplit {
                split,
                filter,
                there,
            } => {
                write!(f, "no endpoint that can be called ")?;
                if let Some(filter) = filter {
                    write!(f, "and matches the call's filter {filter} ")?;
                }
                let key = split.key();
                write!(
                    f,
                    "is in a group of the split by {key}: {there} (expected: {split})"
                )
            }
            Self::Silent(endpoint) => write!(f, "endpoint {endpoint}: silent"),
            Self::Idle => write!(f, "the channel was idle"),
            Self::Lost => write!(f, "all connections were lost"),
            Self::Busy(endpoint) => {
                write!(
                    f,
                    "endpoint {endpoint}: as many calls in flight as are allowed"
                )
            }
            Self::Source(cause) => {
                write!(f, "the endpoints cannot be found: {}", chain(&**cause))
            }
            Self::Connecting(endpoint, None) => write!(f, "endpoint {endpoint}: connecting"),
            Self::Connecting(endpoint, Some(cause)) => {
                write!(
                    f,
                    "endpoint {endpoint}: connecting, after {}",
                    chain(&**cause)
                )
            }
            Self::Endpoint(endpoint, cause) => {
                write!(f, "endpoint {endpoint}: {}", chain(&**cause))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Endpoints `a:1`, `b:1` and so on, each in a condition, with some trouble as many seconds after
    /// the start.
    struct Scene {
        start: Instant,
        source: SourceStatus,
        endpoints: Option<Vec<One>>,
    }

    type One = (Endpoint, Condition, Option<Trouble>);

    impl Scene {
        fn new() -> Self {
            Self {
                start: tokio::time::Instant::now().into_std(),
                source: SourceStatus::Pending,
                endpoints: None,
            }
        }

        fn trouble(&self, second: u64, text: &str) -> Trouble {
            Trouble {
                at: self.start + Duration::from_secs(second),
                cause: Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(text)),
            }
        }

        fn with_source_failed(mut self, second: u64) -> Self {
            self.source = SourceStatus::Failed(self.trouble(second, "etcd is away"));
            self
        }

        fn with_endpoints(mut self, conditions: &[(Condition, Option<u64>)]) -> Self {
            let endpoints = ["a:1", "b:1", "c:1"].iter().zip(conditions);
            let endpoints = endpoints
                .map(|(address, &(condition, failed_at))| {
                    let endpoint = Endpoint::new(address.parse().unwrap());
                    let trouble =
                        failed_at.map(|at| self.trouble(at, &format!("{address} refused")));
                    (endpoint, condition, trouble)
                })
                .collect();
            self.endpoints = Some(endpoints);
            if matches!(self.source, SourceStatus::Pending) {
                self.source = SourceStatus::Fresh;
            }
            self
        }

        fn outlook(&self) -> String {
            let endpoints = self.endpoints.as_ref().map(|endpoints| {
                let observed = endpoints
                    .iter()
                    .map(|(endpoint, condition, trouble)| Observed {
                        endpoint,
                        condition: *condition,
                        last_trouble: trouble.as_ref(),
                    });
                observed.collect::<Vec<_>>()
            });
            match outlook(&self.source, endpoints.as_deref()) {
                Outlook::Ready => "ready".to_owned(),
                Outlook::Waiting(obstacle) => format!("wait: {obstacle}"),
                Outlook::Failing(obstacle) => format!("fail: {obstacle}"),
            }
        }
    }

    use Condition::{Connecting, Failing, Ready, Unhealthy};

    #[test]
    fn before_the_first_answer_calls_wait() {
        assert_eq!(
            Scene::new().outlook(),
            "wait: the endpoints are not known yet"
        );
    }

    #[test]
    fn trouble_before_the_first_snapshot_fails_calls() {
        let scene = Scene::new().with_source_failed(1);
        assert_eq!(
            scene.outlook(),
            "fail: the endpoints cannot be found: etcd is away"
        );
    }

    #[test]
    fn no_endpoints_fail_calls() {
        assert_eq!(
            Scene::new().with_endpoints(&[]).outlook(),
            "fail: no endpoints"
        );
    }

    #[test]
    fn one_ready_endpoint_is_enough_whatever_else_fails() {
        let scene = Scene::new().with_source_failed(9);
        let scene = scene.with_endpoints(&[(Failing, Some(1)), (Ready, None), (Connecting, None)]);
        assert_eq!(scene.outlook(), "ready");
    }

    #[test]
    fn calls_wait_for_who_connects_while_others_fail() {
        let scene = Scene::new().with_endpoints(&[(Failing, Some(1)), (Connecting, None)]);
        assert_eq!(scene.outlook(), "wait: endpoint b:1: connecting");
        let scene = Scene::new().with_endpoints(&[(Connecting, Some(2))]);
        assert_eq!(
            scene.outlook(),
            "wait: endpoint a:1: connecting, after a:1 refused"
        );
    }

    #[test]
    fn nobody_is_called_who_is_not_healthy_nor_waited_for() {
        let unhealthy = (Unhealthy, Some(2));
        let scene = Scene::new().with_endpoints(&[(Failing, Some(1)), unhealthy]);
        assert_eq!(scene.outlook(), "fail: endpoint b:1: b:1 refused");
        let scene = Scene::new().with_endpoints(&[(Connecting, None), unhealthy]);
        assert_eq!(scene.outlook(), "wait: endpoint a:1: connecting");
        let scene = Scene::new().with_endpoints(&[(Ready, None), unhealthy]);
        assert_eq!(scene.outlook(), "ready");
    }

    #[test]
    fn of_all_that_fails_the_newest_is_told() {
        let failing = [(Failing, Some(1)), (Failing, Some(3)), (Failing, Some(2))];
        let scene = Scene::new().with_endpoints(&failing);
        assert_eq!(scene.outlook(), "fail: endpoint b:1: b:1 refused");
        let scene = Scene::new().with_source_failed(2).with_endpoints(&failing);
        assert_eq!(scene.outlook(), "fail: endpoint b:1: b:1 refused");
        let scene = Scene::new().with_source_failed(4).with_endpoints(&failing);
        assert_eq!(
            scene.outlook(),
            "fail: the endpoints cannot be found: etcd is away"
        );
    }
}
