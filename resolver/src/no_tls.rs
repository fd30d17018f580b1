//! What stands for `tls` where that feature is off: a setting that nobody can make.

use crate::{Address, connector::Io};

#[derive(Debug, Clone)]
pub(crate) enum Tls {}

pub(crate) enum Handshake {}

/// The error of what never happens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Never {}

impl Tls {
    pub(crate) async fn prepare(&self, _: &Address) -> Result<Handshake, Never> {
        match *self {}
    }
}

impl Handshake {
    pub(crate) async fn run(self, _: Io) -> Result<Io, Never> {
        match self {}
    }
}
