//! Tokens that end, and how the registry goes on.

use etcd_client::Client;
use switchboard::SourceState;
use tokio::time::sleep;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;

/// Deletes a key, and waits until it is back.
async fn put_back(client: &mut Client, key: &str) {
    client.delete(key, None).await.expect("root may");
    eventually(SOON, "a deleted key is put back", async || {
        match client.get(key, None).await.expect("root may").count() {
            1 => Ok(()),
            count => Err(format!("{count} keys")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_that_ends_interrupts_nothing() {
    let (etcd, root) = guarded(&["--auth-token-ttl=1"]).await;
    let (address, _serving) = health().await;
    // Since 3.5.30 and 3.6.9 a renewal needs the token, and prolongs it: here there are 2.3 s from
    // one to the next, in which it ends, since etcd looks every second.
    let registry = registry_with(Duration::from_secs(7), &etcd, right()).await;
    let first = publish(
        &registry,
        Instance::new("greeter", address.as_str()).unwrap(),
    )
    .await;
    let instances = registry.discover("greeter").await.unwrap();
    let channel = registry.dial("greeter").connect().await.unwrap();
    let (lease_before, logins_before) = (lease(&first), logins(&etcd).await);
    let mut status = first.status();
    status.borrow_and_update();
    // Longer than the lease lasts after its first renewal.
    sleep(Duration::from_secs(11)).await;

    let other = Instance::new("other", "10.0.0.2:50051").unwrap();
    let second = publish(&registry, other.clone()).await;
    assert!(
        logins(&etcd).await > logins_before,
        "the token has not ended"
    );
    assert_eq!(lease(&first), lease_before);
    assert_eq!(lease(&second), lease_before);
    assert!(instances.staleness().is_none());
    assert_eq!(channel.state().source, SourceState::Fresh);
    let another = registry.dial("greeter").connect().await.unwrap();
    for channel in [channel, another] {
        let mut client = HealthClient::new(channel);
        let answer = client.check(HealthCheckRequest::default()).await;
        answer.expect("a server answers");
    }
    let third = publish(&registry, greeter(3)).await;
    fresh_with(&instances, 2, SOON).await;
    third.stop().await.unwrap();
    fresh_with(&instances, 1, SOON).await;
    // What was published since is watched, and what was before has not heard of the token's end.
    let key = format!("{PREFIX}other/{}", other.id());
    put_back(&mut root.client(), &key).await;
    assert!(!status.has_changed().unwrap(), "{:?}", *status.borrow());
}

#[tokio::test]
async fn watches_that_break_when_their_token_has_ended_go_on() {
    let (mut etcd, mut root) = guarded(&[]).await;
    let file = PasswordFile::new(PASSWORD);
    let registry = registry(&etcd, file.credentials()).await;
    let first = publish(&registry, greeter(1)).await;
    let instances = registry.discover("greeter").await.unwrap();
    let lease_before = lease(&first);
    // A restart ends the watches and keeps the tokens, and this ends ours.
    file.write("another one");
    root.change_password(USER, "another one").await;
    etcd.restart().await;

    let _second = publish(&registry, greeter(2)).await;
    fresh_with(&instances, 2, SOON).await;
    published_within(SOON, &first).await;
    assert_eq!(lease(&first), lease_before);
    let key = format!("{PREFIX}greeter/{}", greeter(1).id());
    put_back(&mut root.client(), &key).await;
}

#[tokio::test]
async fn a_token_of_an_older_revision_of_the_users_is_replaced_for_reads_writes_and_watches() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a key of at least thirty-two bytes").unwrap();
    let key = key.display();
    let token = format!("--auth-token=jwt,priv-key={key},sign-method=HS256,ttl=1h");
    let (mut etcd, mut root) = guarded(&[&token]).await;
    let registry = registry(&etcd, right()).await;
    let publisher = publish(&registry, greeter(1)).await;
    let instances = registry.discover("greeter").await.unwrap();

    root.add_user("somebody", "else").await;
    let before = logins(&etcd).await;
    let update = publisher.update(greeter(1).with_version("2"));
    timeout(SOON, update).await.expect("in time").unwrap();
    assert_eq!(logins(&etcd).await, before + 1);

    root.add_user("another", "one").await;
    let before = logins(&etcd).await;
    let others = registry.discover("other").await.unwrap();
    assert!(others.staleness().is_none());
    assert_eq!(logins(&etcd).await, before + 1);

    // Such a token outlives etcd, and the first that is to be done after is to open the watches.
    root.add_user("third", "one").await;
    etcd.restart().await;
    published_within(SOON, &publisher).await;
    fresh_with(&instances, 1, SOON).await;
    publisher.stop().await.unwrap();
    fresh_with(&instances, 0, SOON).await;
    assert!((1..=3).contains(&logins(&etcd).await));
}

#[tokio::test]
async fn users_may_be_demanded_and_no_longer_demanded_while_it_runs() {
    let (etcd, mut root) = unguarded(&[]).await;
    let registry = registry(&etcd, right()).await;
    let publisher = publish(&registry, greeter(1)).await;
    let instances = registry.discover("greeter").await.unwrap();
    assert_eq!(logins(&etcd).await, 0, "nobody is asked who they are");
    let lease_before = lease(&publisher);

    let mut version = 0;
    for _ in 0..2 {
        root.demand_users().await;
        let second = publish(&registry, greeter(2)).await;
        fresh_with(&instances, 2, SOON).await;
        second.stop().await.unwrap();
        root.serve_anybody().await;
        version += 1;
        let update = publisher.update(greeter(1).with_version(version.to_string()));
        timeout(SOON, update).await.expect("in time").unwrap();
        fresh_with(&instances, 1, SOON).await;
    }
    assert_eq!(lease(&publisher), lease_before);
}

#[tokio::test]
async fn a_password_that_is_changed_in_etcd_and_in_its_file_interrupts_nothing() {
    let (etcd, mut root) = guarded(&[]).await;
    let file = PasswordFile::new(PASSWORD);
    let registry = registry(&etcd, file.credentials()).await;
    let first = publish(&registry, greeter(1)).await;
    let instances = registry.discover("greeter").await.unwrap();
    let lease_before = lease(&first);
    file.write("another one");
    root.change_password(USER, "another one").await;
    let second = publish(&registry, greeter(2)).await;
    fresh_with(&instances, 2, SOON).await;
    assert_eq!(
        (lease(&first), lease(&second)),
        (lease_before, lease_before)
    );
}

#[tokio::test]
async fn a_hundred_requests_whose_token_has_ended_log_in_once() {
    let (etcd, mut root) = guarded(&[]).await;
    let file = PasswordFile::new(PASSWORD);
    let registry = registry(&etcd, file.credentials()).await;
    let mut publishers = Vec::new();
    for host in 0..100 {
        publishers.push(publish(&registry, greeter(host)).await);
    }
    file.write("another one");
    root.change_password(USER, "another one").await;
    let before = logins(&etcd).await;
    let mut updates = JoinSet::new();
    for (host, publisher) in (0..).zip(publishers) {
        updates.spawn(async move {
            let update = publisher.update(greeter(host).with_version("2"));
            timeout(SOON, update).await.expect("in time").unwrap();
            publisher
        });
    }
    updates.join_all().await;
    let asked = logins(&etcd).await - before;
    assert!((1..=3).contains(&asked), "{asked} logins");
}
