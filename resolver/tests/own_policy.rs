//! Policies that users make, and how policies are set.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::FutureExt;
use support::*;
use switchboard_resolver::{
    CallInfo, Candidate, Channel, LeastRequest, Load, P2cEwma, PickError, Picker, Policy, RingHash,
    ServiceConfigError, WeightedRoundRobin,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::{Code, Request};

const THREE: [&str; 3] = ["a:1", "b:1", "c:1"];

/// Sends calls where a header says, and does what else it is told to.
#[derive(Debug, Clone, Default)]
struct Own {
    panics_in_policy: Arc<AtomicBool>,
    panics_before: Arc<AtomicBool>,
    panics_after: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    loads: Arc<Mutex<Vec<Arc<Load>>>>,
}

#[derive(Debug)]
struct Chooser {
    own: Own,
    addresses: Vec<String>,
}

impl Policy for Own {
    fn name(&self) -> &str {
        "own"
    }

    fn picker(&self, candidates: &[Candidate], _: u64) -> Box<dyn Picker> {
        self.asked.fetch_add(1, SeqCst);
        if self.panics_in_policy.load(SeqCst) {
            panic!("a bug in the policy");
        }
        *self.loads.lock().unwrap() = candidates.iter().map(|it| it.load().clone()).collect();
        let addresses = candidates.iter().map(|it| it.endpoint().to_string());
        Box::new(Chooser {
            own: self.clone(),
            addresses: addresses.collect(),
        })
    }

    fn reads_load(&self) -> bool {
        true
    }
}

impl Picker for Chooser {
    fn pick(
        &self,
        call: &CallInfo<'_>,
        take: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), PickError> {
        assert_eq!(call.path(), "/greeter.v1.Greeter/SayHello");
        let Some(wanted) = call.header(&"x-server".parse().unwrap()) else {
            return Err(PickError::new("x-server", "none", "an address"));
        };
        if self.own.panics_before.load(SeqCst) {
            panic!("a bug in the picker");
        }
        let index = self.addresses.iter().position(|it| it == wanted);
        // One that there is not is nobody's, and does no harm.
        take(index.unwrap_or(self.addresses.len()));
        if self.own.panics_after.load(SeqCst) {
            panic!("a bug in the picker");
        }
        Ok(())
    }
}

async fn with(network: &Network, policy: impl Policy) -> Channel {
    let builder = Channel::balance(THREE)
        .unwrap()
        .connector(network.connector());
    let channel = builder.policy(policy).connect_lazy().unwrap();
    until_ready(&channel, &THREE).await;
    channel
}

async fn call_to(channel: &Channel, address: &str) -> Result<String, tonic::Status> {
    let mut request = Request::new(hello("Ada"));
    request
        .metadata_mut()
        .insert("x-server", address.parse().unwrap());
    let reply = client(channel).say_hello(request).await?;
    Ok(reply.into_inner().served_by)
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_ones_own_chooses_and_refuses() {
    let network = Network::serving(&THREE);
    let channel = with(&network, Own::default()).await;
    for address in THREE {
        assert_eq!(call_to(&channel, address).await.unwrap(), address);
    }
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "x-server: none (expected: an address)");
    assert_eq!(channel.state().config.policy, "own");
    // Nobody's turn: it waits, and does not spin.
    let nobody = tokio::time::timeout(SOON, call_to(&channel, "d:1")).await;
    assert_eq!(nobody.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_panics_is_round_robin_from_then_on_and_the_panic_is_left_to_who_closes() {
    let network = Network::serving(&THREE);
    let (said, source) = source();
    let own = Own::default();
    let channel = builder(&network, source)
        .policy(own.clone())
        .connect_lazy()
        .unwrap();
    // Whatever is told of endpoints makes a new picker.
    let told = async |zone: &str| {
        let listed = THREE.map(|it| endpoint(&[it]).with_metadata("zone", zone));
        said.endpoints(listed.into());
        until(&channel, |it| {
            it.endpoints.iter().any(|it| it.metadata["zone"] == zone)
        })
        .await;
        until_ready(&channel, &THREE).await;
    };
    told("north").await;
    call_to(&channel, "a:1").await.unwrap();
    let logged = Logged::start();
    own.panics_in_policy.store(true, SeqCst);
    told("east").await;
    assert_eq!(channel.state().config.policy, "round_robin");
    let asked = own.asked.load(SeqCst);
    let shares = shares(&channel, 9).await;
    assert_eq!(shares, THREE.map(|it| (it.to_owned(), 3)).into());
    // It is not asked again, and it is told once.
    own.panics_in_policy.store(false, SeqCst);
    told("south").await;
    assert_eq!(own.asked.load(SeqCst), asked);
    assert_eq!(logged.names(), ["ERROR policy_panicked"]);

    let closed = std::panic::AssertUnwindSafe(channel.close()).catch_unwind();
    let panic = within(SOON, closed).await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"a bug in the policy"));
}

#[tokio::test(start_paused = true)]
async fn a_picker_that_panics_does_so_in_its_caller_and_leaves_nothing_behind() {
    let network = Network::serving(&THREE);
    let own = Own::default();
    let builder = Channel::balance(THREE)
        .unwrap()
        .connector(network.connector());
    // A slot that was lost would be missed at once.
    let builder = builder.max_calls_in_flight_per_endpoint(1);
    let channel = builder.policy(own.clone()).connect_lazy().unwrap();
    until_ready(&channel, &THREE).await;
    for panics in [&own.panics_before, &own.panics_after] {
        panics.store(true, SeqCst);
        for address in THREE {
            let channel = channel.clone();
            let mut task = JoinSet::new();
            task.spawn(async move { call_to(&channel, address).await });
            let error = within(SOON, task.join_next()).await.unwrap().unwrap_err();
            let panic = error.into_panic();
            assert_eq!(panic.downcast_ref(), Some(&"a bug in the picker"));
        }
        panics.store(false, SeqCst);
        let state = channel.state();
        assert!(state.endpoints.iter().all(|it| it.calls_in_flight() == 0));
        let loads = own.loads.lock().unwrap().clone();
        assert!(loads.iter().all(|it| it.calls_in_flight() == 0));
        for address in THREE {
            assert_eq!(call_to(&channel, address).await.unwrap(), address);
        }
    }
    within(SOON, channel.close()).await;
}

#[tokio::test(start_paused = true)]
async fn what_calls_put_on_endpoints_is_there_for_policies_of_ones_own() {
    let network = Network::serving(&["b:1", "c:1"]);
    let slow = tuned::Tuned::serve(&network, "a:1");
    slow.takes(Duration::from_millis(30));
    let own = Own::default();
    let channel = with(&network, own.clone()).await;
    call_to(&channel, "a:1").await.unwrap();
    slow.fails(100);
    for _ in 0..10 {
        call_to(&channel, "a:1").await.unwrap_err();
    }
    let loads = own.loads.lock().unwrap().clone();
    let latency = loads[0].latency().unwrap();
    assert!((30..40).contains(&latency.as_millis()), "{latency:?}");
    let rate = loads[0].success_rate();
    assert!((0.90..0.91).contains(&rate), "{rate}");
    assert!(loads[0].last_call() > loads[1].last_call());
    assert_eq!((loads[1].latency(), loads[1].success_rate()), (None, 1.0));
}

/// A policy with settings of its own.
#[derive(Debug)]
struct Picky(i32);

impl Policy for Picky {
    fn name(&self) -> &str {
        "picky"
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        match self.0 {
            0 => Ok(()),
            given => Err(ServiceConfigError::value("pick", given, "0")),
        }
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        P2cEwma.picker(candidates, seed)
    }
}

#[tokio::test(start_paused = true)]
async fn settings_that_make_no_sense_are_refused_when_the_channel_is_made() {
    let refused = |policy: Arc<dyn Policy>| {
        let builder = Channel::balance(THREE).unwrap().policy(policy);
        builder.connect_lazy().unwrap_err().to_string()
    };
    for (policy, expected) in [
        (
            Arc::new(LeastRequest { choices: 11 }) as Arc<dyn Policy>,
            "choiceCount: 11 (expected: from 2 to 10)",
        ),
        (
            Arc::new(RingHash::new().sizes(2_000, 1_000)),
            "maxRingSize: 1000 (expected: from minRingSize, 2000, to 8388608)",
        ),
        (
            Arc::new(RingHash::by_header("no name")),
            "requestHashHeader: no name (expected: the name of a header)",
        ),
        (
            Arc::new(WeightedRoundRobin::new().weight_key("")),
            "weightKey: \"\" (expected: a key of the metadata)",
        ),
        (Arc::new(Picky(7)), "pick: 7 (expected: 0)"),
    ] {
        assert_eq!(refused(policy), expected);
    }
    assert!(
        Channel::balance(THREE)
            .unwrap()
            .policy(Picky(0))
            .connect_lazy()
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_running_channel_takes_up_another_policy_and_keeps_its_last_good_one() {
    let network = Network::serving(&THREE);
    let (configs, told) = configs();
    let builder = Channel::balance(THREE)
        .unwrap()
        .connector(network.connector());
    let builder = builder.service_configs(told);
    let channel = builder.connect_lazy().unwrap();
    until_ready(&channel, &THREE).await;
    let tell = |name: &str, settings: &str| {
        configs.say(format!(
            r#"{{ "loadBalancingConfig": [{{ "{name}": {settings} }}] }}"#
        ));
    };
    for (name, good, policy, bad, expected) in [
        (
            "least_request_experimental",
            r#"{ "choiceCount": 3 }"#,
            "least_request",
            r#"{ "choiceCount": 1 }"#,
            "choiceCount: 1 (expected: from 2 to 10)",
        ),
        (
            "weighted_round_robin",
            r#"{ "weightKey": "power" }"#,
            "weighted_round_robin",
            r#"{ "weightKey": "" }"#,
            "weightKey",
        ),
        (
            "ring_hash",
            r#"{ "minRingSize": 100, "requestHashHeader": "x-user", "orRandom": true }"#,
            "ring_hash",
            r#"{ "minRingSize": -1 }"#,
            "policy ring_hash: {\"minRingSize\":-1} (expected: ",
        ),
        (
            "p2c_ewma",
            "{}",
            "p2c_ewma",
            r#"{ "choiceCount": 2 }"#,
            "policy p2c_ewma: {\"choiceCount\":2} (expected: unknown field `choiceCount`",
        ),
    ] {
        tell(name, good);
        until(&channel, |it| it.config.policy == policy).await;
        // Each answers, by its own lights; that all three are called has the odds of 2 of 3 to the power of
        // 60, at least, for it.
        assert_eq!(shares(&channel, 60).await.len(), 3, "{policy}");
        tell(name, bad);
        let mut rejected = String::new();
        until(&channel, |it| {
            rejected = it.config.rejected.clone().unwrap_or_default();
            !rejected.is_empty()
        })
        .await;
        assert!(rejected.starts_with(expected), "{rejected}");
        assert_eq!(channel.state().config.policy, policy);
        call(&channel).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_told_to_who_may_take_it_whoever_waits_before() {
    let network = Network::serving(&["c:1"]);
    let (fast, slow) = (
        tuned::Tuned::serve(&network, "a:1"),
        tuned::Tuned::serve(&network, "b:1"),
    );
    fast.takes(Duration::from_secs(3));
    slow.takes(Duration::from_secs(15));
    let builder = Channel::balance(THREE)
        .unwrap()
        .connector(network.connector());
    let builder = builder.max_calls_in_flight_per_endpoint(1);
    let channel = builder.policy(Own::default()).connect_lazy().unwrap();
    until_ready(&channel, &THREE).await;
    let start = Instant::now();
    let call_to = async |address: &str, after: u64| {
        sleep(Duration::from_millis(after)).await;
        assert_eq!(call_to(&channel, address).await.unwrap(), address);
        start.elapsed().as_secs()
    };
    // The last two wait, each for one of the first.
    let took = tokio::join!(
        call_to("a:1", 0),
        call_to("b:1", 0),
        call_to("b:1", 10),
        call_to("a:1", 20)
    );
    assert_eq!(took, (3, 15, 30, 6));
}

/// Offers everybody, and one that there is not, whoever has taken the call.
#[derive(Debug)]
struct Greedy(usize);

impl Policy for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }

    fn picker(&self, candidates: &[Candidate], _: u64) -> Box<dyn Picker> {
        Box::new(Greedy(candidates.len()))
    }
}

impl Picker for Greedy {
    fn pick(&self, _: &CallInfo<'_>, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        for index in 0..=self.0 {
            take(index);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_picker_that_goes_on_to_offer_takes_the_call_from_nobody() {
    let network = Network::serving(&THREE);
    let channel = with(&network, Greedy(0)).await;
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(served_by(&channel).await, "a:1");
    }
    assert_took(start, Duration::ZERO);
}
