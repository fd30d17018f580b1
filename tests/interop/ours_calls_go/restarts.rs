//! A server that dies, and is back.

use std::time::Duration;

use switchboard_test_support::{Ports, eventually};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status};

use super::{client, greet};
use crate::go::{Go, LIMIT};

const WORKERS: usize = 8;

pub(crate) async fn a_server_that_is_killed_is_called_again_when_it_is_back(go: Go) {
    let ports = Ports::take();
    let address = format!("127.0.0.1:{}", ports.client);
    let at = ["-address", &*address];
    let (lasting, mortal) = tokio::join!(go.serve(&[]), go.serve(&at));
    let client = client(&[&lasting, &mortal]).await;

    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (client, stopped) = (client.clone(), stopped.clone());
        workers.spawn(async move {
            let mut errors = Vec::new();
            while !*stopped.borrow() {
                errors.extend(greet(&client, "wait:5").await.err());
            }
            errors
        });
    }
    // Its turn comes between those of the workers' calls.
    eventually(LIMIT, "it is called", async || {
        match greet(&client, "you").await {
            Ok(reply) if reply.served_by == mortal.address => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    mortal.end().await;
    // It is missed by those that it held, and by nobody else, for as long as it is away.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mortal = go.serve(&at).await;
    eventually(LIMIT, "it is called again", async || {
        match greet(&client, "you").await {
            Ok(reply) if reply.served_by == mortal.address => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stop.send(true).unwrap();
    let errors: Vec<Status> = workers.join_all().await.into_iter().flatten().collect();
    assert!(errors.len() <= WORKERS, "{errors:#?}");
    assert!(
        errors.iter().all(|it| it.code() == Code::Unavailable),
        "{errors:#?}"
    );
}
