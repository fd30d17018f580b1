//! Records of all kinds under one prefix.

use etcd_client::GetOptions;
use switchboard::Layout;

use super::{Client, Fleet, Framework, Peers, stand_in::StandIn};

const SERVICE: &str = "greeter";

/// What is no record of a server that can be called.
const GARBAGE: [(&str, &[u8]); 6] = [
    ("empty", b""),
    ("half", br#"{"id":"k","name":"greeter","endpo"#),
    ("bytes", b"\xff\xfe\0"),
    ("anywhere", b"0.0.0.0:50051"),
    (
        "others",
        br#"{"id":"k","name":"other","endpoints":["grpc://127.0.0.1:1"]}"#,
    ),
    ("text", b"to be written"),
];

pub(crate) async fn all_who_can_be_called_are_found_among_garbage(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let mut etcd = fleet.etcd.client().await;
    let mut addresses = Vec::new();
    let mut servers = Vec::new();
    for framework in Framework::ALL {
        let (address, endpoint) = (fleet.address(), fleet.etcd.endpoint());
        let server = peers.serve(framework, endpoint, SERVICE, &address, &[]);
        servers.push(server.await);
        addresses.push(address);
    }
    // kratos' server has a prefix of its own: what it put there lies here as well.
    let prefix = GetOptions::new().with_prefix();
    let found = etcd.get("/microservices/greeter/", Some(prefix)).await;
    let record = found.unwrap().take_kvs().remove(0);
    let put = etcd.put("greeter/kratos", record.value(), None).await;
    put.unwrap();
    for (id, value) in GARBAGE {
        let put = etcd.put(format!("greeter/{id}"), value, None).await;
        put.unwrap();
    }
    // And one of ours, in the layout of host and port.
    let ours = fleet.address();
    let port = ours.rsplit(':').next().unwrap();
    let value = format!(r#"{{"name":"greeter","host":"127.0.0.1","port":{port}}}"#);
    etcd.put("greeter/ours", value, None).await.unwrap();
    let _our_server = StandIn::at(&ours).await;
    addresses.push(ours);

    let registry = fleet.registry().await.with_layout(Layout::go_zero());
    let mut client = Client::ours(registry.dial(SERVICE));
    let all: Vec<_> = addresses.iter().map(|it| &**it).collect();
    client.reach_all(&all).await;
    let instances = registry.discover(SERVICE).await.unwrap();
    assert_eq!(instances.snapshot().rejected(), GARBAGE.len());
    assert_eq!(instances.snapshot().instances().len(), all.len());
}
