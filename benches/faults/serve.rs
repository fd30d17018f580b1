//! A server: a greeter that behaves as its input tells, line by line.

use std::{
    convert::Infallible,
    future::pending,
    net::TcpListener,
    task::{Context, Poll},
};

use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    runtime::{Builder, Runtime},
    sync::watch,
    time::{Instant, interval, sleep},
};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};

use crate::conduct::{Answer, Conduct, TURN};

/// Serves at an address, and says so. Returns when its input ends.
pub(crate) async fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    println!("{address}");
    let begin = Instant::now();
    let (told, conduct) = watch::channel((Conduct::Usual, begin));
    let mut life = Some(Life::begin(listener, &address, conduct.clone()));
    let mut turns = interval(TURN);
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Some(line) = line.unwrap() else { return };
                told.send_replace((line.parse().unwrap(), Instant::now()));
                // A server that is there in turns begins with being gone.
                turns.reset_immediately();
            }
            _ = turns.tick() => {
                life = match life.take() {
                    Some(life) if conduct.borrow().0 == Conduct::Dropping => {
                        life.end();
                        None
                    }
                    Some(life) => Some(life),
                    None => {
                        let listener = TcpListener::bind(&address).unwrap();
                        Some(Life::begin(listener, &address, conduct.clone()))
                    }
                };
            }
        }
    }
}

/// What the server was told last, and when.
type Told = watch::Receiver<(Conduct, Instant)>;

/// A runtime that serves; when it ends, so do the connections.
struct Life(Runtime);

impl Life {
    fn begin(listener: TcpListener, address: &str, told: Told) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let address = address.to_owned();
        runtime.spawn(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let greeter = GreeterServer::new(Polite { address });
            let server = Server::builder().add_service(Moody { greeter, told });
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self(runtime)
    }

    fn end(self) {
        self.0.shutdown_background();
    }
}

/// The greeter, as it was told to be.
#[derive(Clone)]
struct Moody {
    greeter: GreeterServer<Polite>,
    told: Told,
}

impl NamedService for Moody {
    const NAME: &'static str = GreeterServer::<Polite>::NAME;
}

impl Service<http::Request<Body>> for Moody {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut greeter = self.greeter.clone();
        let (conduct, since) = *self.told.borrow();
        let answer = conduct.answer(since.elapsed());
        Box::pin(async move {
            match answer {
                Answer::After(time) => {
                    sleep(time).await;
                    greeter.call(request).await
                }
                Answer::Unavailable => Ok(Status::unavailable("told to fail").into_http()),
                Answer::Never => pending().await,
            }
        })
    }
}
