//! The two servers that all of them use.

use std::{fmt, time::Duration};

use switchboard::{
    Registry,
    keys::{KeyRange, Selection},
};
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::{Etcd, eventually};

/// Far more than anything takes that is waited for, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long one who waits is seen to wait.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// How long the leases of registries and of Go's sessions are.
pub(crate) const TTL: Duration = Duration::from_secs(3);

/// Which server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Embedded,
    Real,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Real => "real",
        })
    }
}

/// A server with nothing in it, which ends when this is dropped.
pub(crate) struct Server {
    endpoint: String,
    _etcd: Either,
}

enum Either {
    Embedded(#[expect(dead_code, reason = "it lives")] EmbeddedEtcd),
    Real(#[expect(dead_code, reason = "it lives")] Box<Etcd>),
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Embedded => {
                let etcd = EmbeddedEtcd::start();
                let address = etcd.listen("127.0.0.1:0").await.expect("a free port");
                Self {
                    endpoint: address.to_string(),
                    _etcd: Either::Embedded(etcd),
                }
            }
            Kind::Real => {
                let etcd = Etcd::start().await;
                Self {
                    endpoint: etcd.endpoint().to_owned(),
                    _etcd: Either::Real(Box::new(etcd)),
                }
            }
        }
    }

    /// Returns where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Connects a registry of its own, as another process has it.
    pub(crate) async fn registry(&self) -> Registry {
        let registry = Registry::builder(&*self.endpoint).unwrap().ttl(TTL);
        registry.connect().await.expect("etcd is there")
    }

    /// Waits until there are as many keys that begin so.
    pub(crate) async fn keys(&self, prefix: &str, count: usize) {
        let registry = self.registry().await;
        let all = Selection::of(KeyRange::Under(prefix.to_owned()));
        eventually(LIMIT, &format!("{count} keys"), async || {
            let found = registry
                .keys()
                .select(&all)
                .await
                .map_err(|it| it.to_string())?;
            let keys = found.keys.iter().map(|kv| String::from_utf8_lossy(&kv.key));
            let keys: Vec<_> = keys.collect();
            if keys.len() == count {
                Ok(())
            } else {
                Err(format!("{keys:?}"))
            }
        })
        .await;
    }
}
