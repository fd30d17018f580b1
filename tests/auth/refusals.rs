//! What etcd refuses, how that is told, and what comes of mending it.

use std::error::Error;

use switchboard::{DiscoverError, PublishError};
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;

use super::{log::Log, *};

/// What `published` says must be a refusal that it does not wait for, for this reason.
async fn refused(publisher: &Publisher, reason: &str) {
    let refused = timeout(SOON, publisher.published()).await;
    let error = refused.expect("in time").expect_err("a refusal");
    assert!(matches!(error, PublishError::Denied { .. }), "{error:?}");
    let cause = error.source().expect("a cause").to_string();
    assert!(cause.contains(reason), "{cause}");
    match &*publisher.status().borrow() {
        PublicationStatus::Retrying { cause } => {
            assert!(matches!(**cause, PublishError::Denied { .. }), "{cause:?}");
        }
        status => panic!("{status:?}"),
    };
}

/// What `discover` says must be a refusal that it does not wait for, for this reason.
async fn not_to_be_discovered(registry: &Registry, reason: &str) {
    let refused = timeout(SOON, registry.discover("greeter")).await;
    let error = refused.expect("in time").expect_err("a refusal");
    let DiscoverError::Denied { service, cause } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(service.to_string(), "greeter");
    assert!(cause.to_string().contains(reason), "{cause}");
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once_asked_for_seldom_and_mended_in_its_file() {
    let log = Log::record(LevelFilter::INFO);
    let (etcd, _root) = guarded(&[]).await;
    let before = logins(&etcd).await;
    let file = PasswordFile::new("not it");
    let registry = registry(&etcd, file.credentials()).await;
    let publishers: Vec<_> = (0..20)
        .map(|host| registry.publish(greeter(host)).unwrap())
        .collect();
    let reason = "login as shop: etcdserver: authentication failed";
    for publisher in &publishers {
        refused(publisher, reason).await;
    }
    not_to_be_discovered(&registry, reason).await;
    // A span to count in, not one to hope for.
    sleep(Duration::from_secs(5)).await;
    let asked = logins(&etcd).await - before;
    assert!(asked <= 4, "{asked} logins in 5 s");

    std::fs::remove_file(file.path()).unwrap();
    not_to_be_discovered(
        &registry,
        &format!("password file {}", file.path().display()),
    )
    .await;
    file.write(PASSWORD);
    for publisher in &publishers {
        published_within(MENDED, publisher).await;
    }
    let instances = timeout(SOON, registry.discover("greeter")).await;
    assert_eq!(instances.unwrap().unwrap().snapshot().instances().len(), 20);
    let log = log.text();
    let of = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (of(": not published"), of(": published ")),
        (20, 20),
        "{log}"
    );
}

#[tokio::test]
async fn a_lease_that_etcd_refuses_is_told_by_the_publications_and_mended() {
    let (etcd, mut root) = guarded(&[]).await;
    let file = PasswordFile::new(PASSWORD);
    let registry = registry(&etcd, file.credentials()).await;
    let publisher = publish(&registry, greeter(1)).await;
    root.change_password(USER, "another one").await;
    let lease_before = lease(&publisher);
    root.client().lease_revoke(lease_before).await.unwrap();
    eventually(
        SOON,
        "the publication is refused",
        async || match &*publisher.status().borrow() {
            PublicationStatus::Retrying { cause }
                if matches!(**cause, PublishError::Denied { .. }) =>
            {
                Ok(())
            }
            status => Err(format!("{status:?}")),
        },
    )
    .await;
    refused(&publisher, "login as shop: ").await;
    file.write("another one");
    // What was refused is the lease first, and the key after it.
    published_within(2 * MENDED, &publisher).await;
    assert_ne!(lease(&publisher), lease_before);
}

#[tokio::test]
async fn what_a_user_may_not_do_is_told_at_once_and_done_when_it_may() {
    let (mut etcd, mut root) = guarded(&[]).await;
    root.forbid(USER, PREFIX).await;
    let registry = registry(&etcd, right()).await;
    let publisher = registry.publish(greeter(1)).unwrap();
    let reason = "etcdserver: permission denied (PermissionDenied)";
    refused(&publisher, reason).await;
    not_to_be_discovered(&registry, reason).await;
    let connected = timeout(SOON, registry.dial("greeter").connect()).await;
    let error = connected.expect("in time").unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
    root.allow(USER, PREFIX).await;
    published_within(MENDED, &publisher).await;

    let instances = registry.discover("greeter").await.unwrap();
    root.forbid(USER, PREFIX).await;
    etcd.restart().await;
    eventually(
        SOON,
        "the list is stale for that reason",
        async || match instances.staleness() {
            Some(staleness) if staleness.cause.to_string().contains("permission denied") => Ok(()),
            staleness => Err(format!("{staleness:?}")),
        },
    )
    .await;
    assert_eq!(instances.snapshot().instances().len(), 1);
    root.allow(USER, PREFIX).await;
    fresh_with(&instances, 1, MENDED).await;
    published_within(MENDED, &publisher).await;
}

#[tokio::test]
async fn without_credentials_it_is_told_that_they_are_wanted() {
    let (etcd, _root) = guarded(&[]).await;
    let registry = registry(&etcd, None).await;
    let reason = "user: none (expected: credentials";
    refused(&registry.publish(greeter(1)).unwrap(), reason).await;
    not_to_be_discovered(&registry, reason).await;
}

#[tokio::test]
async fn a_server_that_is_no_etcd_is_told_to_be_none() {
    let (address, _serving) = health().await;
    let registry = Registry::connect(address.as_str()).await.unwrap();
    let reason = "no etcd: ";
    refused(&registry.publish(greeter(1)).unwrap(), reason).await;
    not_to_be_discovered(&registry, reason).await;
}
