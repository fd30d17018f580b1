//! A way to etcd on which requests are delayed, and answers lost.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::server::{Server, TTL, soon};

/// How long etcd says nothing once it has done all that it was asked for.
const QUIET: Duration = Duration::from_millis(300);

/// A way to etcd, until this is dropped.
pub(crate) struct Detour {
    endpoint: String,
    connections: Arc<Mutex<Vec<watch::Sender<Order>>>>,
    /// One for each connection whose requests have been delivered late.
    delivered: mpsc::UnboundedReceiver<()>,
    _stop: DropGuard,
}

/// What is done on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Carry,
    /// To keep what the client sends.
    KeepRequests,
    /// To keep what etcd sends.
    LoseAnswers,
    /// To hang up on the client alone.
    HangUp,
    /// To send on what was kept.
    Deliver,
}

impl Detour {
    pub(crate) async fn to(etcd: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (tell, delivered) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let (server, known, stopped) = (
            etcd.endpoint().to_owned(),
            connections.clone(),
            stop.clone(),
        );
        let accepting = async move {
            let tasks = TaskTracker::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // It may be away.
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let (orders, order) = watch::channel(Order::Carry);
                known.lock().unwrap().push(orders);
                let carrying = carry(client, server, order, tell.clone());
                tasks.spawn(stopped.clone().run_until_cancelled_owned(carrying));
            }
        };
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self {
            endpoint,
            connections,
            delivered,
            _stop: stop.drop_guard(),
        }
    }

    /// Connects a registry that goes this way.
    pub(crate) async fn registry(&self) -> Registry {
        let registry = Registry::builder(&*self.endpoint).unwrap().ttl(TTL);
        registry.connect().await.unwrap()
    }

    /// From now on, what is asked for does not arrive, until the client has another connection.
    pub(crate) fn keep_requests(&self) {
        self.order(Order::KeepRequests);
    }

    /// From now on, what is answered does not arrive, until the client has another connection.
    pub(crate) fn lose_answers(&self) {
        self.order(Order::LoseAnswers);
    }

    /// Lets the client hear that its connection has broken.
    pub(crate) fn hang_up(&self) {
        self.order(Order::HangUp);
    }

    /// Lets etcd have what was kept of the connections that broke.
    pub(crate) async fn deliver(&mut self) {
        let mut hung_up = self.connections.lock().unwrap().clone();
        hung_up.retain(|orders| *orders.borrow() == Order::HangUp);
        assert!(!hung_up.is_empty());
        for orders in hung_up {
            orders.send_replace(Order::Deliver);
            soon(self.delivered.recv()).await.unwrap();
        }
    }

    fn order(&self, order: Order) {
        for orders in self.connections.lock().unwrap().iter() {
            orders.send_if_modified(|it| {
                let is_over = matches!(it, Order::HangUp | Order::Deliver);
                if !is_over {
                    *it = order;
                }
                !is_over
            });
        }
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut orders: watch::Receiver<Order>,
    delivered: mpsc::UnboundedSender<()>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 1 << 14], vec![0; 1 << 14]);
    let mut kept = Vec::new();
    loop {
        let order = *orders.borrow_and_update();
        if order == Order::HangUp {
            break;
        }
        tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_err() { return },
            read = from_client.read(&mut asked) => match read {
                Ok(length) if length > 0 && order == Order::KeepRequests => kept.extend(&asked[..length]),
                Ok(length) if length > 0 => {
                    if to_server.write_all(&asked[..length]).await.is_err() { return }
                }
                _ => return,
            },
            read = from_server.read(&mut answered) => match read {
                Ok(length) if length > 0 && order == Order::LoseAnswers => {}
                Ok(length) if length > 0 => {
                    if to_client.write_all(&answered[..length]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
    drop((from_client, to_client));
    if orders
        .wait_for(|order| *order == Order::Deliver)
        .await
        .is_err()
    {
        return;
    }
    to_server.write_all(&kept).await.unwrap();
    while let Ok(Ok(1..)) = timeout(QUIET, from_server.read(&mut answered)).await {}
    let _ = delivered.send(());
}

/// Lets a request that was begun leave for etcd.
pub(crate) async fn let_it_leave() {
    sleep(Duration::from_millis(100)).await;
}
