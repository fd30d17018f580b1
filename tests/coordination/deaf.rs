//! A way to etcd on which questions and answers can be lost.

use std::time::Duration;

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
    /// Questions arrive long after the connection has ended on which they were asked.
    QuestionsHeld,
}

/// Passes on what is said, or does not.
pub(crate) struct Deaf {
    address: String,
    way: watch::Sender<Way>,
    cut: watch::Sender<()>,
    land: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Deaf {
    pub(crate) async fn to(etcd: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (way, cut) = (watch::Sender::new(Way::Open), watch::Sender::new(()));
        let land = watch::Sender::new(());
        let (endpoint, ways) = (etcd.endpoint().to_owned(), way.clone());
        let (cuts, lands) = (cut.clone(), land.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (here, _) = listener.accept().await.unwrap();
                let Ok(there) = TcpStream::connect(&endpoint).await else {
                    continue;
                };
                let (cuts, lands) = (cuts.subscribe(), lands.subscribe());
                connections.spawn(connect(here, there, ways.subscribe(), cuts, lands));
            }
        });
        Self {
            address,
            way,
            cut,
            land,
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
            tokio::time::sleep(Duration::from_millis(50)).await;
            then.await;
            self.cut();
        };
        tokio::join!(soon(what), losing).0
    }

    /// Does `what`, the first question of which etcd hears only when it [lands](Self::land).
    pub(crate) async fn late<T>(&self, what: impl Future<Output = T>) -> T {
        self.way.send_replace(Way::QuestionsHeld);
        let losing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.cut();
        };
        tokio::join!(soon(what), losing).0
    }

    /// Lets etcd hear what was held back, and waits as long as that may take.
    pub(crate) async fn land(&self) {
        self.land.send_replace(());
        tokio::time::sleep(Duration::from_millis(300)).await;
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
    mut land: watch::Receiver<()>,
) {
    let ((from_here, to_here), (mut from_there, mut to_there)) =
        (here.into_split(), there.into_split());
    let mut held = Vec::new();
    tokio::select! {
        biased;
        _ = cut.changed() => {}
        () = ask(from_here, &mut to_there, way.clone(), &mut held) => {}
        () = answer(&mut from_there, to_here, way) => {}
    }
    if !held.is_empty() && land.changed().await.is_ok() && to_there.write_all(&held).await.is_ok() {
        let _ = from_there.read_to_end(&mut held).await;
    }
}

async fn ask(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    way: watch::Receiver<Way>,
    held: &mut Vec<u8>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let way = *way.borrow();
        match way {
            Way::QuestionsLost => {}
            Way::QuestionsHeld => held.extend_from_slice(&buffer[..length]),
            _ if to.write_all(&buffer[..length]).await.is_ok() => {}
            _ => return,
        }
    }
}

async fn answer(from: &mut OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let _ = way.wait_for(|way| *way != Way::AnswersHeld).await;
        let is_lost = *way.borrow() == Way::AnswersLost;
        if !is_lost && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
