//! Decides what an answer of DNS comes to.
//!
//! The order of addresses means nothing, since DNS rotates it; an IPv4 address inside an IPv6 one is
//! that IPv4 address. An answer with something in it that cannot be a server is refused as a whole:
//! who gives such answers (a filter, a captive portal, a broken zone) is not to be believed.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{Address, Endpoint};

/// Why a name could not be looked up, or its answer is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// There was no answer, or one that says no.
    #[error("cannot look up {name}")]
    Lookup {
        /// What was looked up.
        name: Address,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There was no answer in time.
    #[error("cannot look up {name}: no answer within {after:?}")]
    TimedOut {
        /// What was looked up.
        name: Address,
        /// How long it was waited for.
        after: Duration,
    },
    /// The answer has no address, or none that can be dialed without saying from which interface.
    #[error("addresses of {name}: none (expected: at least one)")]
    NoAddress {
        /// What was looked up.
        name: Address,
    },
    /// The answer has an address in it that no server can have.
    #[error("address of {name}: {address} (expected: a server's address and port)")]
    NoServer {
        /// What was looked up.
        name: Address,
        /// What was among the answers.
        address: SocketAddr,
    },
    /// The answer has more addresses than one wants to connect to.
    #[error("addresses of {name}: {count} (expected: {max} at most)")]
    TooMany {
        /// What was looked up.
        name: Address,
        /// How many different addresses there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
}

/// Returns the endpoints that an answer stands for, sorted.
pub(super) fn endpoints(
    name: &Address,
    answer: Vec<SocketAddr>,
    max: usize,
) -> Result<Vec<Endpoint>, DnsError> {
    let mut addresses = BTreeSet::new();
    for address in answer {
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        if canonical.ip().is_unspecified() || canonical.port() == 0 {
            let name = name.clone();
            return Err(DnsError::NoServer { name, address });
        }
        // Of use only together with an interface of this machine, for which an address has no
        // place. Machines have their own names answered so, beside addresses that can be dialed.
        let is_link_local = matches!(canonical.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !is_link_local {
            addresses.insert(canonical);
        }
    }
    let (name, count) = (name.clone(), addresses.len());
    if count == 0 {
        return Err(DnsError::NoAddress { name });
    }
    if count > max {
        return Err(DnsError::TooMany { name, count, max });
    }
    let endpoints = addresses.into_iter().map(|address| {
        let parsed = Address::try_from(address);
        let address = parsed.map_err(|_| DnsError::NoServer {
            name: name.clone(),
            address,
        })?;
        Ok(Endpoint::new(address))
    });
    endpoints.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &[&str], max: usize) -> String {
        let answer = answer.iter().map(|it| it.parse().unwrap()).collect();
        match endpoints(&"greeter:80".parse().unwrap(), answer, max) {
            Ok(endpoints) => endpoints
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rotated_and_repeated_answers_are_the_same() {
        let expected = "10.0.0.1:80 10.0.0.2:80 [2001:db8::1]:80";
        for answer in [
            ["10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"].as_slice(),
            &["[2001:db8::1]:80", "10.0.0.2:80", "10.0.0.1:80"],
            &[
                "10.0.0.2:80",
                "[::ffff:10.0.0.1]:80",
                "10.0.0.1:80",
                "[2001:db8::1]:80",
            ],
        ] {
            assert_eq!(read(answer, 3), expected);
        }
    }

    #[test]
    fn what_no_server_can_have_refuses_the_whole_answer() {
        for bad in ["0.0.0.0:80", "[::]:80", "[::ffff:0.0.0.0]:80", "10.0.0.2:0"] {
            let expected =
                format!("address of greeter:80: {bad} (expected: a server's address and port)");
            assert_eq!(read(&["10.0.0.1:80", bad], 9), expected);
        }
    }

    #[test]
    fn none_and_too_many_are_refused_with_how_many_there_may_be() {
        let none = "addresses of greeter:80: none (expected: at least one)";
        assert_eq!(read(&[], 9), none);
        assert_eq!(read(&["[fe80::1%3]:80"], 9), none);
        let many = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:80", "10.0.0.3:80"];
        assert_eq!(
            read(&many, 2),
            "addresses of greeter:80: 3 (expected: 2 at most)"
        );
        assert_eq!(read(&many[..3], 2), "10.0.0.1:80 10.0.0.2:80");
    }

    #[test]
    fn what_can_be_dialed_from_one_interface_only_is_left_out() {
        let answer = ["[fe80::1%3]:80", "192.168.0.7:80"];
        assert_eq!(read(&answer, 9), "192.168.0.7:80");
    }
}
