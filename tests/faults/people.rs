//! What people do: to users, passwords, roles and certificates.

use std::path::PathBuf;

use switchboard::{Credentials, Tls};
use switchboard_test_support::{Authority, EtcdCertificates, Root};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use crate::scene::{LONG, Scene, Seen};

pub(crate) const USER: &str = "shop";
const PREFIX: &str = "/microservices/";

/// What an operator has laid out for the registries of a scene.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.set_password("the first");
        files.certify();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_password(&self, password: &str) {
        std::fs::write(self.path("password"), password).unwrap();
    }

    /// Lays out certificates of a new CA.
    fn certify(&self) {
        let authority = Authority::new("the CA");
        std::fs::write(self.path("ca.pem"), authority.pem()).unwrap();
        let etcd = self.of_etcd();
        authority
            .certify(&["127.0.0.1"])
            .write(&etcd.certificate, &etcd.key);
        let client = authority.certify(&["client"]);
        client.write(&self.path("client.pem"), &self.path("client.key"));
    }

    pub(crate) fn of_etcd(&self) -> EtcdCertificates {
        EtcdCertificates {
            certificate: self.path("etcd.pem"),
            key: self.path("etcd.key"),
            client_ca: self.path("ca.pem"),
        }
    }

    pub(crate) fn tls(&self) -> Tls {
        Tls::new()
            .ca_file(self.path("ca.pem"))
            .identity_files(self.path("client.pem"), self.path("client.key"))
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::with_password_file(USER, self.path("password")).unwrap()
    }
}

/// Users are demanded, and the registries have known from the start who they are.
pub(crate) async fn users_demanded(scene: &mut Scene) -> Seen {
    let began = Instant::now();
    root(scene).demand_users().await;
    scene.operator = root(scene).client();
    scene.well(began).await
}

/// Users are demanded no longer.
pub(crate) async fn users_waived(scene: &mut Scene) -> Seen {
    users_demanded(scene).await;
    let began = Instant::now();
    root(scene).serve_anybody().await;
    scene.operator = root(scene).client();
    scene.well(began).await
}

/// Their tokens end, over and over.
pub(crate) async fn tokens_end(scene: &mut Scene) -> Seen {
    users_demanded(scene).await;
    let began = Instant::now();
    let mut seen = Seen::default();
    while began.elapsed() < 2 * LONG {
        seen = seen.or_worse(scene.well(Instant::now()).await);
        sleep(LONG / 4).await;
    }
    seen
}

/// The password is changed, and only later the file that has it.
pub(crate) async fn password_changed(scene: &mut Scene) -> Seen {
    users_demanded(scene).await;
    root(scene).change_password(USER, "the second").await;
    sleep(LONG).await;
    scene.files.set_password("the second");
    scene.well(Instant::now()).await
}

/// What they may do is taken back, and granted again later.
pub(crate) async fn role_revoked(scene: &mut Scene) -> Seen {
    users_demanded(scene).await;
    root(scene).forbid(USER, PREFIX).await;
    let began = Instant::now();
    scene.refused().await;
    sleep_until(began + LONG).await;
    root(scene).allow(USER, PREFIX).await;
    scene.well(Instant::now()).await
}

/// Everybody gets certificates of a new CA, and etcd is restarted with its own.
pub(crate) async fn certificates_replaced(scene: &mut Scene) -> Seen {
    scene.files.certify();
    scene.cluster.restart(0).await;
    scene.well(Instant::now()).await
}

/// Adds the user that the registries are.
pub(crate) async fn add_user(root: &mut Root) {
    root.add_user(USER, "the first").await;
    root.allow(USER, PREFIX).await;
}

fn root(scene: &mut Scene) -> &mut Root {
    scene.root.as_mut().expect("this etcd has users")
}
