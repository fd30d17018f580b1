//! Those who call all the time.

use std::time::Instant;

use switchboard::Channel;
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How many calls are in flight at a time.
const CALLERS: usize = 4;

/// Those who call all the time, and tell when one server answers.
pub(super) struct Callers {
    calling: JoinSet<()>,
    stop: CancellationToken,
    answers: UnboundedReceiver<Instant>,
}

impl Callers {
    /// Begins to call, over one channel, whoever there is, and looks out for answers of the server at `address`.
    pub(super) fn start(channel: &Channel, address: &str) -> Self {
        let (answered, answers) = mpsc::unbounded_channel();
        let (stop, mut calling) = (CancellationToken::new(), JoinSet::new());
        for _ in 0..CALLERS {
            let client = GreeterClient::new(channel.clone());
            calling.spawn(call(
                client,
                stop.clone(),
                address.to_owned(),
                answered.clone(),
            ));
        }
        Self {
            calling,
            stop,
            answers,
        }
    }

    /// Returns when the next answer of that server came.
    pub(super) async fn next_answer(&mut self) -> Instant {
        self.answers.recv().await.expect("callers go on")
    }

    /// Ends with the calls that are in flight.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.calling.join_all().await;
    }
}

async fn call(
    mut client: GreeterClient<Channel>,
    stop: CancellationToken,
    address: String,
    answered: UnboundedSender<Instant>,
) {
    while !stop.is_cancelled() {
        let request = HelloRequest { name: "Ada".into() };
        let reply = client.say_hello(request).await.unwrap().into_inner();
        if reply.served_by == address {
            answered
                .send(Instant::now())
                .expect("somebody looks out for it");
        }
    }
}
