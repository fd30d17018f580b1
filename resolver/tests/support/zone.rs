//! A name server for one name, and what can go wrong with it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard_resolver::{Address, Dns};
use tokio::time::Instant;

/// A name server for one name.
#[derive(Clone, Default)]
pub struct Zone(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    answer: Answer,
    lookups: Vec<Instant>,
    under_way: usize,
}

#[derive(Clone, Default)]
pub enum Answer {
    #[default]
    Refused,
    Addresses(Vec<SocketAddr>),
    /// It takes a while until there are some.
    Late(Duration, Vec<SocketAddr>),
    /// There is none, for ever.
    Hangs,
}

impl Zone {
    pub fn with(addresses: &[&str]) -> Self {
        let zone = Self::default();
        zone.set(addresses);
        zone
    }

    pub fn set(&self, addresses: &[&str]) {
        self.answer(Answer::Addresses(parsed(addresses)));
    }

    pub fn answer(&self, answer: Answer) {
        self.0.lock().expect("no panic in between").answer = answer;
    }

    pub fn lookups(&self) -> Vec<Instant> {
        self.0.lock().expect("no panic in between").lookups.clone()
    }

    pub fn dns(&self) -> Dns {
        let zone = self.clone();
        let lookup = move |name: Address| {
            assert_eq!(name.to_string(), "greeter.example:80");
            zone.clone().look_up()
        };
        let dns = Dns::new("greeter.example:80").expect("a name").seed(7);
        dns.with_lookup(lookup)
    }

    pub fn lookups_under_way(&self) -> usize {
        self.0.lock().expect("no panic in between").under_way
    }

    async fn look_up(self) -> io::Result<Vec<SocketAddr>> {
        let answer = {
            let mut records = self.0.lock().expect("no panic in between");
            records.lookups.push(Instant::now());
            records.under_way += 1;
            assert_eq!(records.under_way, 1, "one lookup at a time");
            records.answer.clone()
        };
        let _ended = scopeguard(|| self.0.lock().expect("no panic in between").under_way -= 1);
        match answer {
            Answer::Refused => Err(io::Error::other("no such host")),
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Late(after, addresses) => {
                tokio::time::sleep(after).await;
                Ok(addresses)
            }
            Answer::Hangs => std::future::pending().await,
        }
    }
}

/// Does something when it is dropped.
fn scopeguard(act: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(act)
}

/// Reads socket addresses.
pub fn parsed(addresses: &[&str]) -> Vec<SocketAddr> {
    let parsed = addresses.iter().map(|it| it.parse().expect("an address"));
    parsed.collect()
}
