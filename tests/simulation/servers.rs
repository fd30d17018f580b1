//! Processes that serve greeters, published while they do.

use std::time::Duration;

use switchboard::{Drain, Incoming, Instance};
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::{
    auditor::Wanted,
    clients,
    script::{CLIENTS, Party, Place, Weather},
    world::World,
};

/// What they serve.
pub(crate) const SERVICE: &str = "greeter";

/// How long a server that is told to stop goes on serving.
const LINGER: Duration = Duration::from_secs(2);

/// Where a server listens.
pub(crate) fn address(server: usize) -> String {
    format!("server-{server}:50051")
}

/// One of them, through all its lives.
pub(crate) struct ServingProcess {
    world: World,
    index: usize,
    ttl: Duration,
    life: usize,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Down,
    Serving(Running),
    /// It was told to stop, gracefully.
    Stopping(Running),
    /// It is to start again once it has stopped.
    Restarting(Running),
}

/// A life of a server.
struct Running {
    stop: CancellationToken,
    crash: CancellationToken,
    task: JoinHandle<()>,
}

impl ServingProcess {
    pub(crate) fn new(world: &World, index: usize, ttl: Duration) -> Self {
        Self {
            world: world.clone(),
            index,
            ttl,
            life: 0,
            state: State::Down,
        }
    }

    /// What it is called on the network.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.host(), self.life)
    }

    fn host(&self) -> String {
        format!("server-{}", self.index)
    }

    fn who(&self) -> String {
        format!("s{}.{}", self.index, self.life)
    }

    /// Starts it, unless it runs; if it is about to end, [once it has](Self::look).
    pub(crate) async fn start(&mut self) {
        self.state = match std::mem::take(&mut self.state) {
            State::Down => State::Serving(self.begin()),
            State::Stopping(running) => State::Restarting(running),
            state => state,
        };
        self.look().await;
    }

    /// Starts it if it was to start again, and has stopped.
    pub(crate) async fn look(&mut self) {
        if matches!(&self.state, State::Restarting(running) if running.task.is_finished()) {
            self.ended().await;
            self.state = State::Serving(self.begin());
        }
    }

    fn begin(&mut self) -> Running {
        self.world.bury(&self.name());
        self.life += 1;
        let (world, party, address) = (&self.world, Party::Server(self.index), address(self.index));
        world.set_weather(party, &self.name(), Place::Etcd, Weather::Fair);
        let wanted = Wanted::At {
            address: address.clone(),
            version: "1".to_owned(),
        };
        world.claim(&self.who(), party, SERVICE, wanted);
        let listener = world.network().listen(address.as_str());
        let listener = Incoming::new(listener.expect("its former life has ended"));
        let instance = Instance::new(SERVICE, address.as_str()).expect("it is valid");
        let instance = instance.with_metadata("who", self.who()).with_version("1");
        let greeter = GreeterServer::new(Polite { address });
        let router = Server::builder().add_service(greeter);
        let (stop, crash) = (CancellationToken::new(), CancellationToken::new());
        let registry = world.registry(&self.name(), self.ttl);
        let serve = registry
            .serve(instance, router, listener)
            .drain(Drain {
                linger: LINGER,
                finish: Duration::from_secs(4),
                ..Drain::default()
            })
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        world.state().health.serves(self.index, world.now());
        let (crashed, world, name) = (crash.clone(), world.clone(), self.name());
        let task = self.world.tasks().spawn(async move {
            let served = crashed.run_until_cancelled(serve.into_future()).await;
            match served {
                Some(Ok(())) => world.trace().write(format_args!("{name} has stopped")),
                Some(Err(error)) => world.violation(format!("{name} ended: {error}")),
                None => {}
            }
        });
        Running { stop, crash, task }
    }

    /// Tells it to stop, gracefully. Returns whether it was serving.
    pub(crate) fn stop(&mut self) -> bool {
        let is_serving = matches!(self.state, State::Serving(_));
        self.state = match std::mem::take(&mut self.state) {
            State::Serving(running) => {
                self.world.unclaim(&self.who(), false);
                let goaway_at = self.world.now() + LINGER;
                self.world.state().health.stops(self.index, goaway_at);
                running.stop.cancel();
                State::Stopping(running)
            }
            state => state,
        };
        is_serving
    }

    /// Kills it: its connections break, and its record stays until its lease ends. Returns
    /// whether it ran.
    pub(crate) async fn crash(&mut self) -> bool {
        let (State::Serving(running) | State::Stopping(running) | State::Restarting(running)) =
            &self.state
        else {
            return false;
        };
        self.world.unclaim(&self.who(), false);
        let now = self.world.now();
        self.world.state().health.crashed(self.index, now);
        self.world.bury(&self.name());
        running.crash.cancel();
        for client in 0..CLIENTS {
            let network = self.world.network();
            let link = network.link(clients::name(client), address(self.index));
            link.reset();
        }
        self.ended().await;
        true
    }

    /// Waits until a life that is ending has ended.
    pub(crate) async fn ended(&mut self) {
        let (State::Serving(running) | State::Stopping(running) | State::Restarting(running)) =
            std::mem::take(&mut self.state)
        else {
            return;
        };
        if let Err(error) = running.task.await {
            let name = self.name();
            self.world.violation(format!("{name} broke: {error}"));
        }
    }
}
