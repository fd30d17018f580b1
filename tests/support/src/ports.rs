//! Ports for a server that other tests, and the server's own clients, leave alone.

use std::net::{Ipv4Addr, TcpListener};

/// A block of loopback ports, held for as long as this lives, whether or not its server runs.
///
/// The first port of the block is bound for good: whoever binds it has the others. They lie below
/// the range that kernels give to outgoing connections; otherwise a client that keeps dialing a
/// killed server would, sooner or later, be given the very port that it dials as its own, connect
/// to itself, and keep the server from coming back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ports {
    _guard: TcpListener,
    /// Where clients connect.
    pub client: u16,
    /// Where clients connect over TLS.
    pub secured: u16,
    /// Where other members would connect.
    pub peer: u16,
}

impl Ports {
    /// Takes a block whose ports nobody listens on.
    ///
    /// # Panics
    ///
    /// If there seems to be none.
    pub fn take() -> Self {
        const BLOCK: u16 = 4;
        for _ in 0..1_000 {
            let first = fastrand::u16(20_000 / BLOCK..32_000 / BLOCK) * BLOCK;
            let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            if let Ok(guard) = bind(first)
                && bind(first + 1).is_ok()
                && bind(first + 2).is_ok()
                && bind(first + 3).is_ok()
            {
                return Self {
                    _guard: guard,
                    client: first + 1,
                    peer: first + 2,
                    secured: first + 3,
                };
            }
        }
        panic!("no free loopback ports between 20000 and 32000");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn blocks_that_are_held_do_not_overlap() {
        let held: Vec<_> = (0..300).map(|_| Ports::take()).collect();
        let ports: HashSet<_> = held
            .iter()
            .flat_map(|p| [p.client, p.peer, p.secured])
            .collect();
        assert_eq!(ports.len(), 900);
    }
}
