//! The two servers that clients are tried on.

use std::fmt;

use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::Etcd;

/// Which server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Embedded,
    /// A real one: what passes on it is right.
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
pub(crate) enum Server {
    Embedded {
        etcd: EmbeddedEtcd,
        endpoint: String,
    },
    Real(Box<Etcd>),
}

impl Server {
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Embedded => {
                let etcd = EmbeddedEtcd::start();
                let address = etcd.listen("127.0.0.1:0").await;
                Self::Embedded {
                    endpoint: address.expect("a free port").to_string(),
                    etcd,
                }
            }
            Kind::Real => Self::Real(Box::new(Etcd::start().await)),
        }
    }

    /// Returns where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        match self {
            Self::Embedded { endpoint, .. } => endpoint,
            Self::Real(etcd) => etcd.endpoint(),
        }
    }

    /// Starts it again, with its data.
    pub(crate) async fn restart(&mut self) {
        match self {
            Self::Embedded { etcd, .. } => etcd.restart(),
            Self::Real(etcd) => etcd.restart().await,
        }
    }
}
