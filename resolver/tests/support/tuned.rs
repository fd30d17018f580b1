//! Greeters that answer as they are told to: when, and what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use switchboard_proto::{
    HelloReply, HelloRequest, HellosRequest,
    greeter_server::{Greeter, GreeterServer},
};
use switchboard_resolver::{Channel, ChannelBuilder, Policy};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};
use tokio_stream::Empty;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use super::{Network, call};

/// A greeter that answers each call at once and well, until it is told otherwise. Its streams say nothing, and
/// end after the interval that is asked for, if there is one.
#[derive(Clone)]
pub struct Tuned {
    address: String,
    micros: Arc<AtomicU64>,
    /// How many of a hundred calls fail, at once.
    fails: Arc<AtomicUsize>,
    /// How the others end.
    code: Arc<AtomicI32>,
    /// What these wait for, each for one of its own.
    turns: Arc<Semaphore>,
    calls: Arc<AtomicUsize>,
}

impl Tuned {
    pub fn serve(network: &Network, address: &str) -> Self {
        let tuned = Self {
            address: address.to_owned(),
            micros: Arc::default(),
            fails: Arc::default(),
            code: Arc::default(),
            turns: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            calls: Arc::default(),
        };
        tuned.serve_again(network);
        tuned
    }

    /// Serves where it has been shut down.
    pub fn serve_again(&self, network: &Network) {
        network.serve_as(&self.address, GreeterServer::new(self.clone()));
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn takes(&self, time: Duration) {
        self.micros.store(time.as_micros() as u64, SeqCst);
    }

    pub fn fails(&self, of_a_hundred: usize) {
        self.fails.store(of_a_hundred, SeqCst);
    }

    pub fn answers(&self, code: Code) {
        self.code.store(code as i32, SeqCst);
    }

    /// Lets no call end from now on.
    pub fn hold(&self) {
        self.turns.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets so many end.
    pub fn release(&self, calls: usize) {
        self.turns.add_permits(calls);
    }

    /// Returns how many calls came since this was asked last.
    pub fn calls(&self) -> usize {
        self.calls.swap(0, SeqCst)
    }
}

/// Servers `s0:1` and so on, and a channel over them that is set like that.
pub async fn balanced<const N: usize>(
    set: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Network, [Tuned; N], Channel) {
    let network = Network::new();
    let addresses: [String; N] = std::array::from_fn(|it| format!("s{it}:1"));
    let servers = addresses.each_ref().map(|it| Tuned::serve(&network, it));
    let addresses = addresses.each_ref().map(String::as_str);
    let builder = Channel::balance(addresses).expect("addresses");
    let builder = set(builder.connector(network.connector()));
    let channel = builder.connect_lazy().expect("a channel");
    super::until_ready(&channel, &addresses).await;
    (network, servers, channel)
}

/// Servers that all take so long, and a channel over them with this policy.
pub async fn tuned<const N: usize>(
    policy: impl Policy,
    time: Duration,
) -> (Network, [Tuned; N], Channel) {
    // Where chance decides, it is the same each time.
    let (network, servers, channel) = balanced(|builder| builder.policy(policy).seed(17)).await;
    servers.iter().for_each(|it| it.takes(time));
    (network, servers, channel)
}

/// Begins a call each millisecond, and waits until all have ended, well or badly.
pub async fn calls(channel: &Channel, calls: usize) {
    let mut all = JoinSet::new();
    for _ in 0..calls {
        let channel = channel.clone();
        all.spawn(async move { drop(call(&channel).await) });
        sleep(Duration::from_millis(1)).await;
    }
    super::within(super::SOON, all.join_all()).await;
}

/// Returns how many calls each server got since this was asked last.
pub fn counts<const N: usize>(servers: &[Tuned; N]) -> [usize; N] {
    servers.each_ref().map(Tuned::calls)
}

#[async_trait]
impl Greeter for Tuned {
    type SayHellosStream = BoxStream<'static, Result<HelloReply, Status>>;
    type ChatStream = Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let call = self.calls.fetch_add(1, SeqCst);
        // Spread, so that few calls are enough to meet both.
        if call * 37 % 100 < self.fails.load(SeqCst) {
            return Err(Status::internal("tuned to fail"));
        }
        let micros = self.micros.load(SeqCst);
        if micros > 0 {
            sleep(Duration::from_micros(micros)).await;
        }
        self.turns.acquire().await.expect("it stays open").forget();
        match Code::from(self.code.load(SeqCst)) {
            Code::Ok => Ok(Response::new(HelloReply {
                served_by: self.address.clone(),
                ..HelloReply::default()
            })),
            code => Err(Status::new(code, "tuned to fail")),
        }
    }

    async fn say_hellos(
        &self,
        request: Request<HellosRequest>,
    ) -> Result<Response<Self::SayHellosStream>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let silence = async move {
            match request.get_ref().interval_ms {
                0 => std::future::pending().await,
                millis => sleep(Duration::from_millis(millis.into())).await,
            }
        };
        let silence = stream::once(silence).filter_map(async |()| None);
        Ok(Response::new(silence.boxed()))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn chat(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
