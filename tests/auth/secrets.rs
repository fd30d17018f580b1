//! What is never shown.

use std::error::Error;

use tracing_subscriber::filter::LevelFilter;

use super::{log::Log, *};

#[tokio::test]
async fn no_password_is_ever_shown() {
    let log = Log::record(LevelFilter::TRACE);
    let (etcd, mut root) = guarded(&[]).await;
    let file = PasswordFile::new(PASSWORD);
    let mut shown = Vec::new();
    for credentials in [right(), file.credentials()] {
        shown.push(format!("{credentials:?}"));
        let builder = Registry::builder(etcd.endpoint()).unwrap();
        shown.push(format!("{:?}", builder.credentials(credentials.unwrap())));
    }
    let registry = registry(&etcd, file.credentials()).await;
    let publisher = publish(&registry, greeter(1)).await;
    let instances = registry.discover("greeter").await.unwrap();
    shown.push(format!("{registry:?} {publisher:?} {instances:?}"));

    root.change_password(USER, "another one").await;
    let error = registry.publish(greeter(2)).unwrap();
    let error = error.published().await.unwrap_err();
    shown.push(format!("{error:?} {error} {:?}", error.source()));
    let error = registry.discover("other").await.unwrap_err();
    shown.push(format!("{error:?} {error} {:?}", error.source()));
    let seen = publisher.update(greeter(1).with_version("2")).await;
    shown.push(format!("{seen:?} {publisher:?} {:?}", publisher.status()));
    std::fs::write(file.path(), [PASSWORD.as_bytes(), b"\xff"].concat()).unwrap();
    eventually(SOON, "the file is read again", async || {
        let error = registry.discover("other").await.unwrap_err();
        let cause = error.source().expect("a cause").to_string();
        shown.push(cause.clone());
        match cause.contains("not UTF-8") {
            true => Ok(()),
            false => Err(cause),
        }
    })
    .await;
    registry.close().await;

    let log = log.text();
    assert!(log.contains("logged in to etcd") && log.contains("TRACE h2::"));
    shown.push(log);
    for text in shown {
        let found = text.lines().find(|line| line.contains("s3cret"));
        assert_eq!(found, None);
    }
}
