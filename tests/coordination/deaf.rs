//! A way to etcd on which questions and answers can be lost.

use switchboard::Registry;
use switchboard_test_support::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::server::{SOON, Server, TTL, soon};

/// What becomes of what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Answers arrive when it is open again.
    AnswersHeld,
    AnswersLost,
    QuestionsLost,
}

/// Passes on what is said, or does not.
pub(crate) struct Deaf {
    address: String,
    way: watch::Sender<Way>,
    cut: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Deaf {
    pub(crate) async fn to(etcd: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (way, cut) = (watch::Sender::new(Way::Open), watch::Sender::new(()));
        let (endpoint, ways, cuts) = (etcd.endpoint().to_owned(), way.clone(), cut.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (here, _) = listener.accept().await.unwrap();
                let Ok(there) = TcpStream::connect(&endpoint).await else {
                    continue;
                };
                connections.spawn(connect(here, there, ways.subscribe(), cuts.subscribe()));
            }
        });
        Self {
            address,
            way,
            cut,
            _tasks: tasks,
        }
    }

    /// Connects a registry this way.
    pub(crate) async fn registry(&self) -> Registry {
        let registry = Registry::builder(&*self.address).unwrap();
        registry.ttl(TTL).connect().await.expect("etcd is there")
    }

    /// Does `what`, to which etcd's answer is lost, once etcd has `done` it.
    pub(crate) async fn unheard<T>(
        &self,
        what: impl Future<Output = T>,
        done: impl AsyncFn() -> bool,
    ) -> T {
        self.way.send_replace(Way::AnswersLost);
        let losing = async {
            wait(done).await;
            self.cut();
        };
        tokio::join!(soon(what), losing).0
    }

    /// Begins `what`, of which etcd hears nothing; once `then` has happened the connection breaks.
    pub(crate) async fn unsaid<T>(
        &self,
        what: impl Future<Output = T>,
        then: impl Future<Output = ()>,
    ) -> T {
        self.way.send_replace(Way::QuestionsLost);
        let losing = async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            then.await;
            self.cut();
        };
        tokio::join!(soon(what), losing).0
    }

    /// No answer arrives until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.way.send_replace(Way::AnswersHeld);
    }

    pub(crate) fn release(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Ends the connections, so that what was lost is known to be. The next ones lose nothing.
    pub(crate) fn cut(&self) {
        self.way.send_replace(Way::Open);
        self.cut.send_replace(());
    }
}

/// Waits until something is so.
pub(crate) async fn wait(done: impl AsyncFn() -> bool) {
    let is_done = async || match done().await {
        true => Ok(()),
        false => Err("not yet"),
    };
    eventually(SOON, "etcd has done it", is_done).await;
}

async fn connect(
    here: TcpStream,
    there: TcpStream,
    way: watch::Receiver<Way>,
    mut cut: watch::Receiver<()>,
) {
    let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
    tokio::select! {
        biased;
        _ = cut.changed() => {}
        () = pass(from_here, to_there, way.clone(), Way::QuestionsLost) => {}
        () = pass(from_there, to_here, way, Way::AnswersLost) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    lost: Way,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if lost == Way::AnswersLost {
            let _ = way.wait_for(|way| *way != Way::AnswersHeld).await;
        }
        let is_lost = *way.borrow() == lost;
        if !is_lost && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
