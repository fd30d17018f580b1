//! A greeter inside TLS, connected to through pipes in memory.

use std::{
    io,
    sync::{Arc, Mutex},
};

use switchboard_proto::{Polite, greeter_server::GreeterServer};
use switchboard_test_support::{Authority, Certified};
use tokio::{io::DuplexStream, task::JoinSet};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version,
    },
};
use tonic::transport::Server;
use tower::util::MapRequestLayer;

/// What a server does with those who connect.
#[derive(Clone)]
pub enum Conduct {
    Serve(Arc<ServerConfig>),
    /// Hangs up after the handshake, without a word.
    HangUp(Arc<ServerConfig>),
    /// Speaks HTTP/2 without TLS.
    Plaintext,
    /// Accepts, and says nothing.
    Silence,
}

/// A server's side of TLS, as most servers have it.
pub struct Settings {
    pub identity: Certified,
    pub protocols: &'static [&'static str],
    pub version: &'static SupportedProtocolVersion,
    /// Whose certificates clients must have.
    pub client_ca: Option<String>,
}

impl Settings {
    pub fn new(identity: Certified) -> Self {
        Self {
            identity,
            protocols: &["h2"],
            version: &version::TLS13,
            client_ca: None,
        }
    }

    pub fn with_client_ca(mut self, authority: &Authority) -> Self {
        self.client_ca = Some(authority.pem());
        self
    }

    pub fn serve(self) -> Conduct {
        Conduct::Serve(self.config())
    }

    pub fn hang_up(self) -> Conduct {
        Conduct::HangUp(self.config())
    }

    fn config(self) -> Arc<ServerConfig> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[self.version])
            .expect("a version");
        let builder = match self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(&pem)).expect("a CA");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::from_pem_slice(self.identity.key.as_bytes()).expect("a key");
        let mut config = builder
            .with_single_cert(vec![certificate(&self.identity.certificate)], key)
            .expect("a certificate and its key");
        config.alpn_protocols = self
            .protocols
            .iter()
            .map(|it| it.as_bytes().into())
            .collect();
        Arc::new(config)
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A server that every dial reaches, whatever the address.
#[derive(Clone)]
pub struct Site(Arc<Mutex<Inside>>);

struct Inside {
    conduct: Conduct,
    dials: Vec<String>,
    connections: JoinSet<()>,
}

impl Site {
    pub fn new(conduct: Conduct) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            conduct,
            dials: Vec::new(),
            connections: JoinSet::new(),
        })))
    }

    /// Ends all connections, and begins to do otherwise.
    pub fn becomes(&self, conduct: Conduct) {
        let mut inside = self.0.lock().expect("no panic in between");
        inside.conduct = conduct;
        inside.connections = JoinSet::new();
    }

    /// The addresses that were dialed.
    pub fn dials(&self) -> Vec<String> {
        self.0.lock().expect("no panic in between").dials.clone()
    }

    /// What a channel connects with.
    pub fn connector(
        &self,
    ) -> impl Fn(http::Uri) -> std::future::Ready<io::Result<DuplexStream>> + Send + Sync + 'static
    {
        let site = self.clone();
        move |uri| {
            let address = uri.authority().expect("host and port").to_string();
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let mut inside = site.0.lock().expect("no panic in between");
            inside.dials.push(address.clone());
            let conduct = inside.conduct.clone();
            inside.connections.spawn(serve(conduct, theirs, address));
            std::future::ready(Ok(ours))
        }
    }
}

async fn serve(conduct: Conduct, theirs: DuplexStream, address: String) {
    match conduct {
        Conduct::Serve(config) => {
            // What clients have against it is seen on their side.
            if let Ok(mut inside) = TlsAcceptor::from(config).accept(theirs).await {
                let (mut near, far) = tokio::io::duplex(64 * 1024);
                let carrying =
                    async { tokio::io::copy_bidirectional(&mut inside, &mut near).await };
                let _ = tokio::join!(carrying, greet(far, address));
            }
        }
        // It ends when the result is dropped.
        Conduct::HangUp(config) => drop(TlsAcceptor::from(config).accept(theirs).await),
        Conduct::Plaintext => greet(theirs, address).await,
        Conduct::Silence => {
            std::future::pending::<()>().await;
            drop(theirs);
        }
    }
}

/// Greets; `header:scheme` is answered with what `:scheme` was.
fn greet(io: DuplexStream, address: String) -> impl Future<Output = ()> {
    let show_scheme = MapRequestLayer::new(|mut request: http::Request<tonic::body::Body>| {
        let scheme = request.uri().scheme_str().unwrap_or("none");
        let scheme = scheme.parse().expect("a header");
        request.headers_mut().insert("scheme", scheme);
        request
    });
    let server = Server::builder()
        .layer(show_scheme)
        .add_service(GreeterServer::new(Polite { address }));
    let incoming = tokio_stream::once(Ok::<_, io::Error>(io));
    async {
        server
            .serve_with_incoming(incoming)
            .await
            .expect("a server that serves")
    }
}
