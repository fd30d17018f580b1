//! A way to etcd on which answers can be lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use switchboard::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::server::{Server, TTL};

/// Passes on what is said, except answers while it is deaf.
pub(crate) struct Deaf {
    address: String,
    is_deaf: Arc<AtomicBool>,
    cut: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Deaf {
    pub(crate) async fn to(etcd: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_deaf = Arc::new(AtomicBool::new(false));
        let cut = watch::Sender::new(());
        let (endpoint, deaf, cuts) = (etcd.endpoint().to_owned(), is_deaf.clone(), cut.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (here, _) = listener.accept().await.unwrap();
                let Ok(there) = TcpStream::connect(&endpoint).await else {
                    continue;
                };
                connections.spawn(connect(here, there, deaf.clone(), cuts.subscribe()));
            }
        });
        Self {
            address,
            is_deaf,
            cut,
            _tasks: tasks,
        }
    }

    /// Connects a registry this way.
    pub(crate) async fn registry(&self) -> Registry {
        let registry = Registry::builder(&*self.address).unwrap();
        registry.ttl(TTL).connect().await.expect("etcd is there")
    }

    /// From now on no answer arrives.
    pub(crate) fn lose_answers(&self) {
        self.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Ends the connections, so that what was lost is known to be. The next ones lose nothing.
    pub(crate) fn break_connections(&self) {
        self.is_deaf.store(false, Ordering::SeqCst);
        self.cut.send_replace(());
    }
}

async fn connect(
    here: TcpStream,
    there: TcpStream,
    deaf: Arc<AtomicBool>,
    mut cut: watch::Receiver<()>,
) {
    let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
    tokio::select! {
        () = ask(from_here, to_there) => {}
        () = answer(from_there, to_here, &deaf) => {}
        _ = cut.changed() => {}
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = copy(&mut from, &mut to).await;
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let is_lost = deaf.load(Ordering::SeqCst);
        if !is_lost && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
