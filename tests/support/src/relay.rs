//! A relay between two ends of TCP that a test can break.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How many pieces may be on their way in one direction.
const ON_THE_WAY: usize = 64;

/// What a member of an etcd says of itself at the head of whatever it asks another one for.
const ORIGIN: &str = "X-Server-From: ";

/// A port on loopback that leads to another one, until it is told not to.
///
/// Its methods are called as those of the embedded etcd's `Link` are. But [`heal`](Self::heal) also ends a
/// delay, being cut and refusing go together, and connections that hang are not refused.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Ends with it.
    _accepting: JoinSet<()>,
}

/// How it is on the way.
#[derive(Debug, Clone, Default)]
struct Weather {
    is_cut: bool,
    /// The members of an etcd for whom it is cut.
    cut_for: BTreeSet<String>,
    is_refusing: bool,
    delay: Duration,
    /// How often all connections were broken.
    resets: u64,
}

impl Weather {
    fn is_cut(&self, origin: Option<&str>) -> bool {
        self.is_cut || origin.is_some_and(|it| self.cut_for.contains(it))
    }
}

impl Relay {
    /// Starts one that leads to a port on loopback.
    ///
    /// # Panics
    ///
    /// If there is no port to listen on.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("it listens");
        let weather = watch::Sender::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, to, weather.subscribe()));
        Self {
            address,
            weather,
            _accepting: accepting,
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing pass, and loses nothing: connections stay, and new ones are not answered.
    pub fn cut(&self) {
        self.weather.send_modify(|it| it.is_cut = true);
    }

    /// The same, for what this member of an etcd asks another one for; its id is in hex.
    pub(crate) fn cut_for(&self, member: &str) {
        self.weather
            .send_modify(|it| it.cut_for.extend([member.to_owned()]));
    }

    /// Makes it as it was in the beginning.
    pub fn heal(&self) {
        self.weather.send_modify(|it| {
            *it = Weather {
                resets: it.resets,
                ..Weather::default()
            }
        });
    }

    /// Breaks new connections as soon as they are made.
    pub fn refuse(&self) {
        self.weather.send_modify(|it| it.is_refusing = true);
    }

    /// Lets all that is sent arrive that much later, in its order.
    pub fn delay(&self, by: Duration) {
        self.weather.send_modify(|it| it.delay = by);
    }

    /// Breaks all connections, now.
    pub fn reset(&self) {
        self.weather.send_modify(|it| it.resets += 1);
    }
}

async fn accept(listener: TcpListener, to: u16, weather: watch::Receiver<Weather>) {
    // They end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        connections.spawn(relay(stream, to, weather.clone()));
    }
}

/// Relays one connection, until either end or a reset ends it.
async fn relay(client: TcpStream, to: u16, mut weather: watch::Receiver<Weather>) {
    // What is dropped is broken, not ended.
    let _ = client.set_zero_linger();
    let resets = weather.borrow_and_update().resets;
    if weather.borrow().is_refusing {
        return;
    }
    let relayed = async {
        passing(&mut weather.clone(), None).await;
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
        server.set_zero_linger()?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (origin, known) = watch::channel(None);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::try_join!(
            pass(
                from_client,
                to_server,
                weather.clone(),
                known.clone(),
                Some(origin)
            ),
            pass(from_server, to_client, weather.clone(), known, None),
        )
    };
    let mut broken = weather.clone();
    tokio::select! {
        _ = relayed => {}
        _ = broken.wait_for(|it| it.resets > resets) => {}
    }
}

/// Waits until something may pass of what this member asked for.
async fn passing(weather: &mut watch::Receiver<Weather>, origin: Option<&str>) {
    // Who owns the weather owns this task.
    let _ = weather.wait_for(|it| !it.is_cut(origin)).await;
}

/// Passes on what comes in one direction, until that end has said all.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    known: watch::Receiver<Option<String>>,
    origin: Option<watch::Sender<Option<String>>>,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let delays = weather.clone();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            if let Some(sender) = origin.as_ref().filter(|it| it.borrow().is_none()) {
                sender.send_replace(origin_of(&buffer[..read]));
            }
            let due = Instant::now() + delays.borrow().delay;
            if sender.send((due, buffer[..read].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            let origin = known.borrow().clone();
            passing(&mut weather, origin.as_deref()).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

/// Returns which member of an etcd asks for something, if these bytes say so.
fn origin_of(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once(ORIGIN)?;
    Some(rest.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);
    const SOON: Duration = Duration::from_secs(5);

    /// Somebody who repeats all that is said, and a relay to there.
    async fn echo() -> (Relay, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut repeating = JoinSet::new();
        repeating.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        (Relay::start(port).await, repeating)
    }

    async fn say(stream: &mut TcpStream, what: &[u8]) -> io::Result<()> {
        stream.write_all(what).await?;
        let mut heard = vec![0; what.len()];
        stream.read_exact(&mut heard).await?;
        assert_eq!(heard, what);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_cut_passes_nothing_and_loses_nothing() {
        let (relay, _repeating) = echo().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        say(&mut stream, b"one").await.unwrap();
        relay.cut();
        stream.write_all(b"two").await.unwrap();
        let mut heard = [0; 3];
        let cut = timeout(MOMENT, stream.read_exact(&mut heard)).await;
        cut.expect_err("nothing passes");
        relay.heal();
        let passed = timeout(SOON, stream.read_exact(&mut heard)).await;
        passed.expect("in time").unwrap();
        assert_eq!(&heard, b"two");
    }

    #[tokio::test]
    async fn a_reset_breaks_what_there_is_and_a_refusal_what_comes() {
        let (relay, _repeating) = echo().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        say(&mut stream, b"one").await.unwrap();
        relay.reset();
        let broken = timeout(SOON, stream.read_u8()).await.expect("in time");
        broken.expect_err("it is broken");
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        say(&mut stream, b"two").await.unwrap();
        relay.refuse();
        let mut other = TcpStream::connect(relay.address()).await.unwrap();
        let refused = timeout(SOON, say(&mut other, b"three")).await;
        refused.expect("in time").unwrap_err();
        say(&mut stream, b"four").await.unwrap();
    }

    #[tokio::test]
    async fn a_delay_is_one_of_each_way_and_not_of_each_piece() {
        let (relay, _repeating) = echo().await;
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        relay.delay(MOMENT);
        let began = Instant::now();
        for _ in 0..20 {
            stream.write_all(b".").await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut heard = [0; 20];
        stream.read_exact(&mut heard).await.unwrap();
        assert!(began.elapsed() >= 2 * MOMENT);
        assert!(began.elapsed() < 15 * MOMENT, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn who_asks_is_known_by_what_it_says_at_its_head() {
        let (relay, _repeating) = echo().await;
        relay.cut_for("a1");
        let mut other = TcpStream::connect(relay.address()).await.unwrap();
        let head = b"GET /raft HTTP/1.1\r\nX-Server-From: b2\r\n\r\n";
        say(&mut other, head).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        let head = b"GET /raft HTTP/1.1\r\nX-Server-From: a1\r\n\r\n";
        let cut = timeout(MOMENT, say(&mut stream, head)).await;
        cut.expect_err("nothing passes");
    }
}
