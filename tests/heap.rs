//! What 10,000 discovered instances cost in memory. A binary of its own: it counts all that the
//! process allocates.

use std::time::Duration;

use etcd_client::{Txn, TxnOp};
use switchboard::Registry;
use switchboard_test_support::{Etcd, eventually};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const INSTANCES: usize = 10_000;

/// Puts instances as kratos writes them; returns the bytes of their keys and values.
async fn put_all(etcd: &Etcd) -> usize {
    let mut client = etcd.client().await;
    let mut bytes = 0;
    let all: Vec<_> = (0..INSTANCES).collect();
    // etcd takes 128 operations in a transaction.
    for some in all.chunks(100) {
        let puts = some.iter().map(|number| {
            let id = format!("{number:032x}");
            let (high, low) = (number / 250, number % 250);
            let value = format!(
                r#"{{"id":"{id}","name":"greeter","version":"v1.2.3","metadata":{{"weight":"10","zone":"b"}},"endpoints":["grpc://10.0.{high}.{low}:9000"]}}"#
            );
            let key = format!("/microservices/greeter/{id}");
            bytes += key.len() + value.len();
            TxnOp::put(key, value, None)
        });
        let puts: Vec<_> = puts.collect();
        let put = client.txn(Txn::new().and_then(puts)).await;
        put.expect("etcd takes them");
    }
    bytes
}

#[tokio::test]
async fn an_instance_costs_at_most_a_kibibyte_beyond_its_key_and_value() {
    let etcd = Etcd::start().await;
    let bytes = put_all(&etcd).await;
    let _profiler = dhat::Profiler::builder().testing().build();
    let registry = Registry::connect(etcd.endpoint())
        .await
        .expect("etcd is there");
    // What the connection costs is there before.
    let none = registry.discover("nobody").await.expect("etcd answers");
    assert_eq!(none.snapshot().instances().len(), 0);
    let before = dhat::HeapStats::get().curr_bytes;

    let instances = registry.discover("greeter").await.expect("etcd answers");
    assert_eq!(instances.snapshot().instances().len(), INSTANCES);
    let most = bytes + INSTANCES * 1024;
    // The answer's own buffers go a moment later.
    let live = eventually(Duration::from_secs(5), "it costs little", async || {
        match dhat::HeapStats::get().curr_bytes - before {
            live if live <= most => Ok(live),
            live => Err(format!("{live} bytes, more than {most}")),
        }
    })
    .await;
    println!(
        "{} bytes an instance, of them {} of key and value",
        live / INSTANCES,
        bytes / INSTANCES
    );
}
