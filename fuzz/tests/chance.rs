//! Each promise, given inputs by chance for a while; see the crate's documentation.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use switchboard_fuzz::{Chance, keys, service_configs, targets, transport, values};

const SEED: u64 = 20_260_101;

/// Shows the input that a promise was broken by.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("broken by: b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// Returns how many inputs there were.
#[allow(
    clippy::disallowed_methods,
    reason = "it measures the time that the machine gives it"
)]
fn give(corpus: &str, promise: fn(&[u8])) -> usize {
    let seconds = match env::var("SWITCHBOARD_FUZZ_SECONDS") {
        Ok(seconds) => seconds.parse().expect("a number of seconds"),
        Err(_) => 1,
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(corpus);
    let mut inputs = 0;
    for input in Chance::new(&folder, SEED) {
        let shown = Shown(&input);
        promise(shown.0);
        inputs += 1;
        if Instant::now() >= until {
            break;
        }
    }
    println!("{corpus}: {inputs} inputs in {seconds} s, seed {SEED}");
    inputs
}

#[test]
fn values_hold_what_they_promise() {
    assert!(give("values", values) > 10);
}

#[test]
fn keys_hold_what_they_promise() {
    assert!(give("keys", keys) > 10);
}

#[test]
fn service_configs_hold_what_they_promise() {
    assert!(give("service_configs", service_configs) > 10);
}

#[test]
fn targets_hold_what_they_promise() {
    assert!(give("targets", targets) > 10);
}

#[test]
fn transport_holds_what_it_promises() {
    assert!(give("transport", transport) > 10);
}

#[test]
fn the_same_seed_gives_the_same_inputs() {
    let inputs = |seed| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/values");
        Chance::new(&folder, seed).take(500).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
}
