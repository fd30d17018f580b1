//! Registries and channels that are made from texts: targets, and what the environment says.

use std::{process::Command, time::Duration};

use switchboard::{
    AdvertiseError, Channel, Instance, Publisher, Registry, RegistryConfig, RegistryError,
    TargetError,
};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use switchboard_test_support::{Etcd, Example, Greeter, Process};
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;

const SOON: Duration = Duration::from_secs(10);

/// A greeter that serves until it is dropped, at the address that others dial.
struct Served {
    address: String,
    _serving: JoinSet<()>,
}

impl Served {
    async fn on(bind: &str, registry: &Registry) -> Self {
        let listener = TcpListener::bind(bind).await.expect("a free port");
        let bound = listener.local_addr().expect("it is bound");
        let address = registry.advertised(bound).await.expect("there is one");
        let address = address.to_string();
        let greeter = GreeterServer::new(Polite {
            address: address.clone(),
        });
        let server = Server::builder().add_service(greeter);
        let mut serving = JoinSet::new();
        serving.spawn(async {
            let incoming = TcpListenerStream::new(listener);
            let served = server.serve_with_incoming(incoming).await;
            served.expect("it serves");
        });
        Self {
            address,
            _serving: serving,
        }
    }

    async fn publish(&self, registry: &Registry, service: &str) -> Publisher {
        let instance = Instance::new(service, self.address.as_str()).expect("an instance");
        let publisher = registry.publish(instance).expect("it can be published");
        publisher.published().await.expect("etcd takes it");
        publisher
    }
}

fn vars<const N: usize>(vars: [(&str, &str); N]) -> [(String, String); N] {
    vars.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

async fn configured<const N: usize>(settings: [(&str, &str); N]) -> Registry {
    let config = RegistryConfig::from_vars(vars(settings)).expect("it makes sense");
    let connecting = Registry::from_config(config).connect();
    connecting.await.expect("etcd is there")
}

/// Calls once, and returns who answered.
async fn served_by(channel: Channel) -> String {
    let request = HelloRequest {
        name: "Ada".to_owned(),
    };
    let reply = timeout(SOON, GreeterClient::new(channel).say_hello(request)).await;
    let reply = reply.expect("in time").expect("it is answered");
    reply.into_inner().served_by
}

#[tokio::test]
async fn a_service_is_dialed_by_every_spelling_of_its_target() {
    let etcd = Etcd::start().await;
    let at = etcd.endpoint();
    let registry = Registry::connect(at).await.unwrap();
    let shop = Registry::builder(format!("{at}?namespace=/shop")).unwrap();
    let shop = shop.connect().await.unwrap();
    let (one, other) = tokio::join!(
        Served::on("127.0.0.1:0", &registry),
        Served::on("127.0.0.1:0", &registry)
    );
    let _published = (
        one.publish(&registry, "greeter").await,
        other.publish(&shop, "greeter").await,
        other.publish(&registry, "größe 50%").await,
    );

    for (target, server) in [
        (format!("etcd://{at}/greeter"), &one),
        (format!("{at}/greeter"), &one),
        (format!("etcd://127.0.0.1:1,{at}/greeter"), &one),
        (format!("etcd://{at}/greeter?layout=kratos"), &one),
        (format!("etcd://{at}/greeter?namespace=/shop"), &other),
        (
            format!("etcd://{at}/greeter?layout=kratos&namespace=%2Fshop"),
            &other,
        ),
        (format!("etcd://{at}/gr%C3%B6%C3%9Fe%2050%25"), &other),
        (format!("direct:///{}", one.address), &one),
        (format!("direct:///127.0.0.1:1,{}", other.address), &other),
    ] {
        let channel = switchboard::dial(&target).unwrap().connect().await;
        let channel = channel.unwrap_or_else(|error| panic!("{target}: {error:?}"));
        assert_eq!(served_by(channel).await, server.address, "{target}");
    }

    let direct = format!("direct:///{}", other.address);
    for (registry, target, server) in [
        (&registry, "etcd:///greeter", &one),
        (&registry, "discovery:///greeter", &one),
        (&registry, direct.as_str(), &other),
        (&shop, "etcd:///greeter", &other),
        (&registry, "etcd:///greeter?namespace=/shop", &other),
    ] {
        let channel = registry.dial_target(target).unwrap().connect().await;
        let channel = channel.unwrap_or_else(|error| panic!("{target}: {error:?}"));
        assert_eq!(served_by(channel).await, server.address, "{target}");
    }
}

#[tokio::test]
async fn servers_without_any_etcd_are_dialed_by_a_name_and_by_a_socket() {
    // etcd is not asked: nobody listens there.
    let registry = Registry::builder("127.0.0.1:1").unwrap();
    let registry = registry.connect_lazy().unwrap();
    let served = Served::on("127.0.0.1:0", &registry).await;
    let port = served.address.rsplit_once(':').unwrap().1;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("greeter @ home.sock");
    let socket = UnixListener::bind(&path).unwrap();
    let greeter = GreeterServer::new(Polite {
        address: "home".to_owned(),
    });
    let server = Server::builder().add_service(greeter);
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve_with_incoming(UnixListenerStream::new(socket)));
    let path = path
        .to_str()
        .unwrap()
        .replace(' ', "%20")
        .replace('@', "%40");

    for (target, server) in [
        (format!("dns:///localhost:{port}"), served.address.as_str()),
        (format!("unix:{path}"), "home"),
        (format!("unix://{path}"), "home"),
    ] {
        let of_its_own = switchboard::dial(&target).unwrap().connect().await;
        let of_a_registry = registry.dial_target(&target).unwrap().connect().await;
        for channel in [of_its_own, of_a_registry] {
            let channel = channel.unwrap_or_else(|error| panic!("{target}: {error:?}"));
            assert_eq!(served_by(channel).await, server, "{target}");
        }
    }
    let builder = switchboard::dial(format!("dns:///localhost:{port}")).unwrap();
    let channel = builder.connect_lazy().unwrap();
    let name = channel.state().service.clone();
    assert_eq!(name, Some(format!("localhost:{port}")), "the authority");
}

#[tokio::test]
async fn a_service_of_go_zero_is_dialed_by_go_zeros_spelling() {
    let etcd = Etcd::start().await;
    let at = etcd.endpoint();
    let registry = Registry::connect(at).await.unwrap();
    let server = Served::on("127.0.0.1:0", &registry).await;
    let mut client = etcd.client().await;
    let put = client
        .put("user.rpc/1", server.address.as_str(), None)
        .await;
    put.expect("etcd takes it");
    for target in [
        format!("etcd:///{at}?key=user.rpc"),
        format!("etcd://{at}/user.rpc?layout=go-zero"),
    ] {
        let channel = switchboard::dial(&target).unwrap().connect().await;
        let channel = channel.unwrap_or_else(|error| panic!("{target}: {error:?}"));
        assert_eq!(served_by(channel).await, server.address, "{target}");
    }
}

#[tokio::test]
async fn the_default_registry_is_that_of_the_environment() {
    let etcd = Etcd::start().await;
    let settings = [
        ("SWITCHBOARD_ETCD", etcd.endpoint()),
        ("SWITCHBOARD_NAMESPACE", "/shop"),
    ];
    let registry = configured(settings).await;
    let server = Served::on("127.0.0.1:0", &registry).await;
    let _publisher = server.publish(&registry, "greeter").await;

    let client = Example::build("greeter_client").await;
    for target in ["etcd:///greeter", "discovery:///greeter"] {
        let mut command = Command::new(client.executable());
        // Theirs, not this process's.
        command.envs(settings).args(["--target", target]);
        let mut process = Process::spawn(command);
        let line = process
            .wait_for_line(SOON, |line| line.starts_with("Hello"))
            .await;
        assert!(line.ends_with(&server.address), "{target}: {line}");
    }
}

#[tokio::test]
async fn variables_make_a_registry() {
    let etcd = Etcd::start().await;
    let registry = configured([
        ("SWITCHBOARD_ETCD", etcd.endpoint()),
        ("SWITCHBOARD_NAMESPACE", "/shop"),
        ("SWITCHBOARD_ADVERTISE", "greeter.example"),
        ("SWITCHBOARD_ZONE", "b"),
        ("SWITCHBOARD_TTL", "5"),
        ("POD_IP", "10.0.0.6"),
    ])
    .await;
    let address = registry.advertised("0.0.0.0:80".parse().unwrap()).await;
    let address = address.unwrap();
    assert_eq!(address.to_string(), "greeter.example:80");
    let instance = Instance::new("greeter", address).unwrap();
    let publisher = registry.publish(instance.clone()).unwrap();
    publisher.published().await.unwrap();

    let mut client = etcd.client().await;
    let key = format!("/shop/greeter/{}", instance.id());
    let held = client.get(key.as_str(), None).await.unwrap();
    let lease = held.kvs().first().expect("it is there").lease();
    let ttl = client.lease_time_to_live(lease, None).await.unwrap();
    assert_eq!(ttl.granted_ttl(), 5);
}

#[tokio::test]
async fn what_is_published_has_the_registrys_zone_unless_it_has_its_own() {
    let etcd = Etcd::start().await;
    let registry = Registry::builder(etcd.endpoint()).unwrap().zone("b");
    let registry = registry.connect().await.unwrap();
    let zones = async || {
        let instances = registry.discover("greeter").await.unwrap();
        let snapshot = instances.snapshot();
        let zones = snapshot
            .instances()
            .map(|instance| instance.metadata().get("zone").cloned());
        zones.collect::<Vec<_>>()
    };
    let instance = Instance::new("greeter", "10.0.0.1:80").unwrap();
    let publisher = registry.publish(instance.clone()).unwrap();
    publisher.published().await.unwrap();
    assert_eq!(zones().await, [Some("b".to_owned())]);

    let own = instance.clone().with_metadata("zone", "c");
    publisher.update(own).await.unwrap();
    assert_eq!(zones().await, [Some("c".to_owned())]);
    publisher.update(instance).await.unwrap();
    assert_eq!(zones().await, [Some("b".to_owned())]);
}

#[tokio::test]
async fn a_server_that_listens_on_whatever_there_is_is_dialed_where_it_is() {
    let etcd = Etcd::start().await;
    let registry = configured([("SWITCHBOARD_ETCD", etcd.endpoint())]).await;
    let server = Served::on("0.0.0.0:0", &registry).await;
    let _publisher = server.publish(&registry, "greeter").await;
    let channel = registry.dial("greeter").connect().await.unwrap();
    assert_eq!(served_by(channel).await, server.address);
    assert!(!server.address.starts_with("0.0.0.0"), "{}", server.address);
}

#[tokio::test]
async fn a_greeter_that_listens_on_whatever_there_is_is_called() {
    let etcd = Etcd::start().await;
    for (advertise, host) in [(None, None), (Some("localhost"), Some("localhost:"))] {
        let mut arguments = vec!["--listen", "0.0.0.0:0"];
        arguments.extend(advertise.iter().flat_map(|host| ["--advertise", host]));
        let mut server = Greeter::start(etcd.endpoint(), &arguments).await;
        let address = &server.address;
        assert!(
            host.is_none_or(|host| address.starts_with(host)),
            "{address}"
        );

        let registry = Registry::connect(etcd.endpoint()).await.unwrap();
        let channel = registry.dial("greeter").connect().await.unwrap();
        assert_eq!(&served_by(channel).await, address);
        server.process.kill();
        let ended = server.process.wait(SOON).await;
        assert!(!ended.status.success());
        let mut client = etcd.client().await;
        let prefix = etcd_client::DeleteOptions::new().with_prefix();
        client
            .delete("/microservices/", Some(prefix))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_loopback_is_no_address_to_advertise_where_etcd_is_elsewhere() {
    let registry = Registry::builder("10.255.255.1:2379").unwrap();
    let registry = registry.connect_lazy().unwrap();
    let refused = registry.advertised("127.0.0.1:80".parse().unwrap()).await;
    assert!(
        matches!(refused, Err(AdvertiseError::Loopback { .. })),
        "{refused:?}"
    );
    let given = Registry::builder("10.255.255.1:2379").unwrap();
    let given = given.advertise("127.0.0.1".parse().unwrap()).connect_lazy();
    let given = given.unwrap();
    let address = given.advertised("127.0.0.1:80".parse().unwrap()).await;
    assert_eq!(address.unwrap().to_string(), "127.0.0.1:80");
}

#[tokio::test]
async fn a_target_that_does_not_fit_is_refused() {
    let builder = |target: &str| Registry::builder(target).unwrap_err();
    assert!(matches!(
        builder("etcd://h:1/greeter"),
        TargetError::Service(_)
    ));
    assert!(matches!(
        builder("etcd:///greeter"),
        TargetError::NotEtcd(_)
    ));
    for target in ["direct:///h:1", "dns:///h:1", "unix:/run/x"] {
        assert!(
            matches!(builder(target), TargetError::NotEtcd(_)),
            "{target}"
        );
    }

    let dial = |target: &str| switchboard::dial(target).unwrap_err();
    assert!(matches!(
        dial("etcd://h:1"),
        RegistryError::Target(TargetError::NoService(_))
    ));

    let registry = Registry::builder("h:1").unwrap().connect_lazy().unwrap();
    let dial_target = |target: &str| registry.dial_target(target).unwrap_err();
    assert!(matches!(
        dial_target("etcd://h:1/greeter"),
        TargetError::OtherEtcd(_)
    ));
}
