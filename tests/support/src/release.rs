//! Releases of etcd, each at hand or built by Go.

use std::path::PathBuf;

use tokio::sync::OnceCell;

use crate::{
    binary::{Binary, Program},
    go::build_go,
};

/// Which etcd it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Release {
    /// The one that all other tests have.
    Found,
    /// The last 3.5, built by Go.
    V3_5,
    /// The last 3.6, built by Go.
    V3_6,
}

impl Release {
    /// Gets it, once for the process.
    pub(crate) async fn binary(self) -> Result<&'static Binary, &'static str> {
        static V3_5: OnceCell<Result<Binary, &'static str>> = OnceCell::const_new();
        static V3_6: OnceCell<Result<Binary, &'static str>> = OnceCell::const_new();
        let (built, folder) = match self {
            Self::Found => return Binary::find(Program::Etcd).await,
            Self::V3_5 => (&V3_5, "tests/support/etcd/3.5"),
            Self::V3_6 => (&V3_6, "tests/support/etcd/3.6"),
        };
        let built = built.get_or_init(|| async move {
            let path: PathBuf = build_go(folder).await?;
            let binary = Binary::at(Program::Etcd, path).await;
            Ok(binary.unwrap_or_else(|error| panic!("{folder}: {error}")))
        });
        built.await.as_ref().map_err(|reason| *reason)
    }
}
