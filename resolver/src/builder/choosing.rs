//! Who is called: which endpoints a channel connects to, and how calls are shared between them.

use futures::Stream;

use super::ChannelBuilder;
use crate::{Filter, Policy, ServiceConfig, Split, ZonePreference};

impl ChannelBuilder {
    /// Connects only to endpoints that match the filter; to all unless set.
    ///
    /// An endpoint that does not match any more is let go at once: it gets no more calls, and its calls in
    /// flight finish. If none that is listed matches, calls fail with UNAVAILABLE, which says so, unless the
    /// filter has a fallback ([`Filter::or_any`]). It may change while the channel runs
    /// ([`service_configs`](Self::service_configs)).
    pub fn filter(mut self, filter: Filter) -> Self {
        self.config = self.config.with_filter(filter);
        self
    }

    /// Shares calls between groups of endpoints, such as versions, in percent; see [`Split`]. Unless set,
    /// all endpoints are one group.
    pub fn split(mut self, split: Split) -> Self {
        self.config = self.config.with_split(split);
        self
    }

    /// Keeps calls in a zone while it has enough READY endpoints; see [`ZonePreference`]. Unless set, zones
    /// do not matter.
    ///
    /// ```
    /// use switchboard_resolver::Channel;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
    ///     .prefer_zone("a")
    ///     .connect_lazy()?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn prefer_zone(mut self, zone: impl Into<ZonePreference>) -> Self {
        self.config = self.config.with_zone(zone);
        self
    }

    /// Connects to `count` endpoints at most, of those that match the filter; to all unless set.
    ///
    /// Where 1,000 clients connect to 1,000 servers each, both spend more on connections than on calls. Each
    /// channel chooses by chance (its own, of its [`seed`](Self::seed)), so that servers get about as many
    /// clients each: of n clients that choose a share p of the servers, n x p, with a standard deviation
    /// below the root of that. With few clients that is uneven: it is meant for many. When an endpoint
    /// comes or goes, one entry of the subset changes at most (rendezvous hashing, as gRPC's A68).
    ///
    /// One that leaves it for another is let go at once, with its calls in flight.
    ///
    /// ```
    /// use switchboard_resolver::Channel;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::balance(["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"])?
    ///     .subset(2)
    ///     .connect_lazy()?;
    /// channel.watch_state().wait_for(|state| state.endpoints.len() == 2).await?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn subset(mut self, count: usize) -> Self {
        self.config = self.config.with_subset(count);
        self
    }

    /// Sets how one of the endpoints that may be called is chosen for a call;
    /// [`RoundRobin`](crate::RoundRobin) unless set.
    ///
    /// ```
    /// use switchboard_resolver::{Channel, RoundRobin};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
    ///     .policy(RoundRobin)
    ///     .connect_lazy()?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.config = self.config.with_policy(policy);
        self
    }

    /// Sets all of the above at once, and what holds for the calls of which methods: whatever may also be set by
    /// a configuration that changes while the channel runs. What it does not say stays as it was set before.
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchboard_resolver::{Channel, MethodConfig, ServiceConfig};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let quick = MethodConfig::default().with_timeout(Duration::from_millis(200));
    /// let config = ServiceConfig::default().with_method("greeter.Greeter/SayHello", quick)?;
    /// let channel = Channel::balance(["10.0.0.1:50051"])?.service_config(config).connect_lazy()?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn service_config(mut self, config: ServiceConfig) -> Self {
        self.config = config.or(&self.config);
        self
    }

    /// Follows a configuration that may change while the channel runs: gRPC's service config in JSON
    /// ([`ServiceConfig::from_json`]), told anew each time it changes; `None` if there is none any more.
    ///
    /// What it does not say is as this builder has it. One that makes no sense is told in
    /// [`ChannelState::config`](crate::ChannelState::config) and in the log, and the last good one stays in
    /// force; so it does when the stream ends. Calls do not wait for the first one.
    ///
    /// ```
    /// use switchboard_resolver::Channel;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let text = r#"{ "loadBalancingConfig": [{ "fastest": {} }] }"#.to_owned();
    /// let channel = Channel::balance(["10.0.0.1:50051"])?
    ///     .service_configs(tokio_stream::iter([Some(text)]))
    ///     .connect_lazy()?;
    /// let mut state = channel.watch_state();
    /// let state = state.wait_for(|state| state.config.rejected.is_some()).await?;
    /// assert_eq!(state.config.policy, "round_robin");
    /// # drop(state);
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn service_configs(
        mut self,
        configs: impl Stream<Item = Option<String>> + Send + 'static,
    ) -> Self {
        self.configs = Some(Box::pin(configs));
        self
    }
}
