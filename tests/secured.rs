//! An etcd and a service inside TLS.

#![cfg(feature = "tls")]

use std::{error::Error, path::PathBuf, time::Duration};

use switchboard::{
    Credentials, DiscoverError, Drain, Instance, PublicationStatus, Publisher, Registry,
    RegistryError, Tls, TlsError,
};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use switchboard_test_support::{Authority, Certified, Etcd, EtcdCertificates, eventually};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};
use tonic::transport::{Identity, Server, ServerTlsConfig};

const SOON: Duration = Duration::from_secs(10);

/// What an operator has laid out on disk: etcd's files, and those of its clients.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(authority: &Authority) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = Self { folder };
        files.of_etcd(authority, &authority.certify(&["127.0.0.1"]));
        files.of_clients(authority);
        files
    }

    /// Lays out what etcd reads.
    fn of_etcd(&self, client_ca: &Authority, identity: &Certified) {
        let files = self.etcd();
        identity.write(&files.certificate, &files.key);
        std::fs::write(files.client_ca, client_ca.pem()).expect("a file");
    }

    /// Lays out what clients read.
    fn of_clients(&self, authority: &Authority) {
        std::fs::write(self.path("ca.pem"), authority.pem()).expect("a file");
        let identity = authority.certify(&["client"]);
        identity.write(&self.path("client.pem"), &self.path("client.key"));
    }

    fn etcd(&self) -> EtcdCertificates {
        EtcdCertificates {
            certificate: self.path("etcd.pem"),
            key: self.path("etcd.key"),
            client_ca: self.path("etcd-clients-ca.pem"),
        }
    }

    /// What a client is set up with.
    fn tls(&self) -> Tls {
        Tls::new()
            .ca_file(self.path("ca.pem"))
            .identity_files(self.path("client.pem"), self.path("client.key"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

async fn connect(etcd: &Etcd, tls: Tls) -> Result<Registry, RegistryError> {
    let builder = Registry::builder(etcd.endpoint()).expect("a target");
    builder.tls(tls).connect().await
}

/// Why etcd cannot be reached, with all causes.
async fn refusal(etcd: &Etcd, tls: Tls) -> String {
    let error = connect(etcd, tls).await.expect_err("it is refused");
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn publish(registry: &Registry, service: &str) -> Publisher {
    let instance = Instance::new(service, "10.0.0.1:50051").expect("an instance");
    let publisher = registry.publish(instance).expect("it can be published");
    publisher.published().await.expect("etcd takes it");
    publisher
}

#[tokio::test]
async fn a_registry_publishes_and_discovers_in_an_etcd_that_wants_certificates() {
    let authority = Authority::new("CA");
    let files = Files::new(&authority);
    let etcd = Etcd::start_secured(files.etcd()).await;
    let registry = connect(&etcd, files.tls()).await.unwrap();
    let publisher = publish(&registry, "greeter").await;

    let other = connect(&etcd, files.tls()).await.unwrap();
    let found = other.discover("greeter").await.unwrap();
    assert_eq!(found.snapshot().instances().len(), 1);
    let key = format!(
        "/microservices/greeter/{}",
        found.snapshot().instances().next().unwrap().id()
    );
    let record = etcd.client().await.get(key, None).await.unwrap();
    assert_ne!(record.kvs()[0].lease(), 0);
    publisher.stop().await.unwrap();
}

#[tokio::test]
async fn what_stands_between_a_registry_and_etcd_is_told() {
    let authority = Authority::new("CA");
    let other = Authority::new("other CA");
    let files = Files::new(&authority);
    let etcd = Etcd::start_secured(files.etcd()).await;
    let trusting = || Tls::new().ca_pem(authority.pem());
    let stranger = other.certify(&["client"]);

    let text = refusal(&etcd, Tls::new().ca_pem(other.pem())).await;
    assert!(text.contains("certificate is of an unknown CA"), "{text}");
    let text = refusal(&etcd, trusting().server_name("etcd.test")).await;
    assert!(text.contains("(expected: one for etcd.test)"), "{text}");
    // etcd's refusal may be lost with the connection; that it asked is known.
    let text = refusal(&etcd, trusting()).await;
    assert!(
        text.contains("certificate") && text.contains(": none is set ("),
        "{text}"
    );
    let strange = trusting().identity_pem(&stranger.certificate, &stranger.key);
    let text = refusal(&etcd, strange).await;
    assert!(
        text.contains("certificate") && text.contains(": the one shown: "),
        "{text}"
    );

    // etcd reads its own certificate at each handshake.
    files.of_etcd(&authority, &authority.certify(&["10.0.0.1"]));
    let text = refusal(&etcd, files.tls()).await;
    assert!(
        text.contains("for IpAddress(10.0.0.1) (expected: one for 127.0.0.1)"),
        "{text}"
    );
    files.of_etcd(&authority, &authority.certify_expired(&["127.0.0.1"]));
    let text = refusal(&etcd, files.tls()).await;
    assert!(text.contains("certificate expired"), "{text}");

    let missing = Tls::new().ca_file(files.path("missing.pem"));
    let error = connect(&etcd, missing).await.unwrap_err();
    let is_that = matches!(
        &error,
        RegistryError::Channel(switchboard::BuildError::Tls(TlsError::Unreadable { file, .. }))
            if file.ends_with("missing.pem")
    );
    assert!(is_that, "{error:?}");
}

#[tokio::test]
async fn without_tls_set_a_secured_etcd_is_not_reached() {
    let files = Files::new(&Authority::new("CA"));
    let etcd = Etcd::start_secured(files.etcd()).await;
    let error = Registry::connect(etcd.endpoint()).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn certificates_of_another_ca_on_disk_and_an_etcd_restarted_with_them_are_gone_along_with() {
    let old = Authority::new("CA");
    // Under the same name, as when a CA's key is replaced.
    let new = Authority::new("CA");
    let files = Files::new(&old);
    let mut etcd = Etcd::start_secured(files.etcd()).await;
    let registry = connect(&etcd, files.tls()).await.unwrap();
    let publisher = publish(&registry, "greeter").await;
    let found = registry.discover("greeter").await.unwrap();

    etcd.kill().await;
    files.of_etcd(&new, &new.certify(&["127.0.0.1"]));
    etcd.restart().await;
    eventually(
        SOON,
        "the list is stale, for etcd's certificate",
        async || {
            let staleness = found.staleness().map(|it| format!("{:?}", it.cause));
            match staleness.unwrap_or_default() {
                text if text.contains("unknown CA") => Ok(()),
                text => Err(text),
            }
        },
    )
    .await;
    assert_eq!(found.snapshot().instances().len(), 1, "the list stays");

    files.of_clients(&new);
    eventually(SOON, "the list is fresh", async || {
        match found.staleness() {
            None => Ok(()),
            Some(staleness) => Err(format!("{staleness:?}")),
        }
    })
    .await;
    eventually(SOON, "it is published", async || {
        match &*publisher.status().borrow() {
            PublicationStatus::Published { .. } => Ok(()),
            status => Err(format!("{status:?}")),
        }
    })
    .await;
    publish(&registry, "other").await.stop().await.unwrap();
    assert_eq!(found.snapshot().instances().len(), 1);
}

#[tokio::test]
async fn a_server_inside_tls_is_published_and_called_by_channels_inside_tls_alone() {
    let authority = Authority::new("CA");
    let files = Files::new(&authority);
    let etcd = Etcd::start_secured(files.etcd()).await;
    let registry = connect(&etcd, files.tls()).await.unwrap();

    // Its certificate names the service, as kratos has it.
    let identity = authority.certify(&["greeter"]);
    let identity = Identity::from_pem(identity.certificate, identity.key);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let instance = Instance::new("greeter", address.as_str())
        .unwrap()
        .with_tls();
    let router = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_service(GreeterServer::new(Polite {
            address: address.clone(),
        }));
    let (stop, stopped) = oneshot::channel::<()>();
    let drain = Drain {
        linger: Duration::ZERO,
        ..Drain::default()
    };
    let serve = registry
        .clone()
        .serve(instance, router, listener)
        .drain(drain)
        .require_published(SOON)
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        });
    let mut served = JoinSet::new();
    served.spawn(serve.into_future());
    let mut found = registry.discover("greeter").await.unwrap();
    while found.snapshot().instances().len() == 0 {
        tokio::time::timeout(SOON, found.changed())
            .await
            .expect("in time")
            .unwrap();
    }
    let origin = found.snapshot().instances().next().unwrap().origins()[0].to_string();
    assert_eq!(origin, format!("grpcs://{address}"));

    let tls = Tls::new().ca_pem(authority.pem()).server_name("greeter");
    let channel = registry.dial("greeter").tls(tls).connect().await.unwrap();
    let request = HelloRequest { name: "Ada".into() };
    let reply = GreeterClient::new(channel.clone())
        .say_hello(request)
        .await
        .unwrap();
    assert_eq!(reply.get_ref().served_by, address);

    let error = registry
        .dial("greeter")
        .connect()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no endpoints in plaintext"), "{error}");

    drop(channel);
    stop.send(()).unwrap();
    served.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn who_has_a_certificate_and_a_password_is_the_user_of_the_password() {
    let files = Files::new(&Authority::new("ours"));
    let etcd = Etcd::start_secured(files.etcd()).await;
    let mut root = etcd.root().await;
    root.add_user("shop", "s3cret").await;
    root.allow("shop", "/microservices/").await;
    root.demand_users().await;
    // etcd takes those who have not logged in for the one that their certificate is named after.
    let connect = |password: &str| {
        let credentials = Credentials::new("shop", password).expect("credentials");
        let builder = Registry::builder(etcd.endpoint()).expect("a target");
        builder.tls(files.tls()).credentials(credentials).connect()
    };
    let wrong = connect("wrong").await.expect("etcd is there");
    let Err(DiscoverError::Denied { cause, .. }) = wrong.discover("greeter").await else {
        panic!("it is not refused")
    };
    assert!(cause.to_string().contains("shop"), "{cause}");
    let registry = connect("s3cret").await.expect("etcd is there");
    let instance = Instance::new("greeter", "10.0.0.1:50051").expect("an instance");
    let publisher = registry.publish(instance).expect("it can be published");
    publisher.published().await.expect("etcd takes it");
    let instances = registry.discover("greeter").await.expect("it may be read");
    assert_eq!(instances.snapshot().instances().len(), 1);
}
