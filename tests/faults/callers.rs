//! Those who call the greeters all the time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use switchboard::Channel;
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

const CALLERS: usize = 4;

/// How long there is between two calls of one of them.
const PACE: Duration = Duration::from_millis(20);

pub(crate) struct Callers {
    calling: JoinSet<()>,
    stop: CancellationToken,
    seen: Arc<Mutex<Calls>>,
}

/// What came of their calls.
#[derive(Debug, Default, Clone)]
pub(crate) struct Calls {
    pub(crate) made: usize,
    /// Why each failed that did.
    pub(crate) failures: Vec<String>,
}

impl Callers {
    pub(crate) fn start(channel: &Channel) -> Self {
        let (mut calling, stop) = (JoinSet::new(), CancellationToken::new());
        let seen = Arc::<Mutex<Calls>>::default();
        for _ in 0..CALLERS {
            let (greeter, seen) = (GreeterClient::new(channel.clone()), seen.clone());
            let stopped = stop.clone().cancelled_owned();
            calling.spawn(async move {
                tokio::select! {
                    () = call(greeter, seen) => {}
                    () = stopped => {}
                }
            });
        }
        Self {
            calling,
            stop,
            seen,
        }
    }

    /// Ends them, and returns what they saw.
    pub(crate) async fn stop(self) -> Calls {
        self.stop.cancel();
        self.calling.join_all().await;
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn call(mut greeter: GreeterClient<Channel>, seen: Arc<Mutex<Calls>>) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request = HelloRequest { name: "you".into() };
        let answer = greeter.say_hello(request).await;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.made += 1;
        seen.failures
            .extend(answer.err().map(|status| status.to_string()));
    }
}
