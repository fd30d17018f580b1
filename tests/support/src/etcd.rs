//! A real etcd server.

use std::net::Ipv4Addr;

use etcd_client::Client;
use rustix::process::Signal;

use crate::{
    binary::{Binary, Program},
    member::{EtcdCertificates, Failure, Member, Membership, Settings, options},
    root::Root,
};

/// A real etcd server with one member, on loopback, in a temporary folder. It is killed when this
/// is dropped.
///
/// ```no_run
/// # use switchboard_test_support::Etcd;
/// # async fn example() {
/// let mut etcd = Etcd::start().await;
/// let mut client = etcd.client().await;
/// client.put("key", "value", None).await.unwrap();
/// etcd.kill().await;
/// etcd.restart().await;
/// assert_eq!(client.get("key", None).await.unwrap().count(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct Etcd {
    member: Member,
    endpoint: String,
}

impl Etcd {
    /// Starts a server with etcd's default settings, and waits until it is healthy.
    ///
    /// # Panics
    ///
    /// If there is no etcd and none can be had, with what to install or set; if it does not become
    /// healthy, with the end of its log.
    pub async fn start() -> Self {
        Self::start_with([]).await
    }

    /// Starts a server with further flags, such as `--auth-token-ttl=4`; see
    /// [`start`](Self::start).
    pub async fn start_with(flags: impl IntoIterator<Item = &str>) -> Self {
        Self::launch_with(flags, None).await
    }

    /// Starts a server that speaks TLS at its [`endpoint`](Self::endpoint), with those who have a
    /// certificate; see [`start`](Self::start). This one's own [`client`](Self::client) is let in
    /// without, elsewhere.
    pub async fn start_secured(certificates: EtcdCertificates) -> Self {
        Self::launch_with([], Some(certificates)).await
    }

    async fn launch_with(
        flags: impl IntoIterator<Item = &str>,
        certificates: Option<EtcdCertificates>,
    ) -> Self {
        let binary = Binary::find(Program::Etcd).await;
        let settings = Settings {
            binary: binary.unwrap_or_else(|error| panic!("{error}")),
            flags: flags.into_iter().map(str::to_owned).collect(),
            certificates,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut member = Member::new("alone".to_owned(), settings.clone());
            member.launch(&alone(&member));
            match member.health().await {
                Ok(()) => {
                    return Self {
                        endpoint: format!("{}:{}", Ipv4Addr::LOCALHOST, member.served()),
                        member,
                    };
                }
                Err(Failure::PortTaken) if attempts < 5 => {}
                Err(failure) => member.fail(failure),
            }
        }
    }

    /// Returns where clients connect, as `127.0.0.1:port`. It stays the same over restarts.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns a new client with a connection of its own, which gives up on a call after 2 s, and
    /// on a connection that shows no life within 9 s.
    ///
    /// # Panics
    ///
    /// If etcd-client refuses the endpoint. An etcd that is down is noticed by the first call.
    pub async fn client(&self) -> Client {
        self.member.client().await
    }

    /// Adds the user who may do everything; see [`Root`].
    ///
    /// # Panics
    ///
    /// If there is one already, or etcd demands a user.
    pub async fn root(&self) -> Root {
        Root::add(self.client().await, &self.member.plain(), options()).await
    }

    /// Kills the server, as a crash would, and waits until it is gone. What it had acknowledged is
    /// in its data folder.
    pub async fn kill(&mut self) {
        self.member.kill();
    }

    /// Stops the server where it stands: its connections stay open, and nothing answers.
    /// [`thaw`](Self::thaw) wakes it.
    ///
    /// # Panics
    ///
    /// If the server has been killed.
    pub fn freeze(&mut self) {
        self.member.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    ///
    /// # Panics
    ///
    /// If the server has been killed.
    pub fn thaw(&mut self) {
        self.member.signal(Signal::CONT);
    }

    /// Starts the server again, with the same data on the same ports, and waits until it is
    /// healthy. One that still runs is killed first.
    ///
    /// # Panics
    ///
    /// If it does not become healthy, with the end of its log.
    pub async fn restart(&mut self) {
        let membership = alone(&self.member);
        self.member.restart(&membership).await;
    }

    /// Starts the server again on the same ports, with nothing in it; see
    /// [`restart`](Self::restart).
    ///
    /// # Panics
    ///
    /// If it does not become healthy, with the end of its log.
    pub async fn wipe_and_restart(&mut self) {
        self.member.wipe();
        self.restart().await;
    }

    /// Waits until the server says that it is healthy: it has a leader, and can commit. It accepts
    /// connections earlier.
    ///
    /// # Panics
    ///
    /// If it ends, or does not become healthy within a minute, with the end of its log.
    pub async fn healthy(&mut self) {
        if let Err(failure) = self.member.health().await {
            self.member.fail(failure);
        }
    }

    /// Returns what the server counts, in Prometheus' text format.
    ///
    /// # Panics
    ///
    /// If the server does not answer within a second.
    pub async fn metrics(&self) -> String {
        let answer = self.member.ask("/metrics").await;
        answer.expect("etcd tells its metrics")
    }

    /// Returns the sum of a metric over its series: those that carry all of `labels`, such as
    /// `grpc_method="Range"`. It is 0 as long as there is none.
    ///
    /// # Panics
    ///
    /// As [`metrics`](Self::metrics).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
    }
}

/// Says that a member is the only one.
fn alone(member: &Member) -> Membership {
    Membership {
        members: member.named(),
        is_joined: false,
    }
}

/// Adds up the series of a metric that carry all of the labels.
pub(crate) fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let series = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (named, labelled) = series.split_once('{').unwrap_or((series, ""));
        let is_meant = named == name && labels.iter().all(|label| labelled.contains(label));
        is_meant.then(|| value.parse::<f64>().expect("a number"))
    });
    series.sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::eventually;

    async fn holds(etcd: &Etcd, key: &str) -> bool {
        let mut client = etcd.client().await;
        client.get(key, None).await.unwrap().count() == 1
    }

    #[tokio::test]
    async fn a_put_survives_a_kill_and_not_a_wipe() {
        let mut etcd = Etcd::start().await;
        let endpoint = etcd.endpoint().to_owned();
        let mut client = etcd.client().await;
        client.put("key", "value", None).await.unwrap();

        etcd.kill().await;
        client.get("key", None).await.unwrap_err();
        etcd.restart().await;
        assert!(holds(&etcd, "key").await);

        etcd.wipe_and_restart().await;
        assert!(!holds(&etcd, "key").await);
        assert_eq!(etcd.endpoint(), endpoint);
    }

    #[tokio::test]
    async fn a_frozen_server_answers_nothing_until_it_is_thawed() {
        let mut etcd = Etcd::start().await;
        let mut client = etcd.client().await;
        client.put("key", "value", None).await.unwrap();

        etcd.freeze();
        client.get("key", None).await.unwrap_err();
        etcd.thaw();
        etcd.healthy().await;
        eventually(Duration::from_secs(10), "a call succeeds", async || {
            client.get("key", None).await
        })
        .await;
    }

    #[test]
    fn a_metric_is_summed_over_the_series_that_are_meant() {
        let metrics = "# TYPE calls counter\r\ncalls{method=\"Range\",code=\"OK\"} 3\n\
            calls{method=\"Range\",code=\"Unknown\"} 1e+00\ncalls{method=\"Put\"} 7\n\
            calls_total 9\nwatchers 2\n";
        assert_eq!(sum(metrics, "calls", &["method=\"Range\""]), 4.0);
        assert_eq!(
            sum(metrics, "calls", &["method=\"Range\"", "code=\"OK\""]),
            3.0
        );
        assert_eq!(sum(metrics, "watchers", &[]), 2.0);
        assert_eq!(sum(metrics, "leases", &[]), 0.0);
    }

    #[tokio::test]
    async fn two_servers_know_nothing_of_each_other() {
        let (one, two) = tokio::join!(Etcd::start(), Etcd::start());
        let mut client = one.client().await;
        client.put("key", "value", None).await.unwrap();
        assert!(holds(&one, "key").await && !holds(&two, "key").await);
    }

    #[tokio::test]
    #[should_panic(expected = "its log ends:")]
    async fn a_server_that_does_not_start_shows_its_log() {
        Etcd::start_with(["--no-such-flag"]).await;
    }
}
