use std::collections::BTreeSet;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::{Endpoint, logged::Logged};

/// Endpoints, each with its weight.
fn candidates(weights: &[(usize, f64)]) -> Vec<Candidate> {
    let candidates = weights.iter().map(|(number, weight)| {
        let address = format!("10.0.{}.{}:1", number / 250, number % 250);
        let endpoint = Endpoint::new(address.parse().unwrap());
        Candidate::new(endpoint.with_metadata("weight", weight.to_string()))
    });
    candidates.collect()
}

fn alike(count: usize) -> Vec<(usize, f64)> {
    (0..count).map(|number| (number, 1.0)).collect()
}

/// The numbers of the endpoints that keys go to, if some cannot be taken.
fn homes(weights: &[(usize, f64)], keys: usize, cannot_be: &[usize]) -> Vec<usize> {
    let picker = RingHash::new().picker(&candidates(weights), 0);
    let home = |key: usize| {
        let mut request = Request::new(());
        let key = HashKey::new(key.to_be_bytes());
        request.extensions_mut().insert(key);
        let mut offered = Vec::new();
        let take = &mut |index: usize| {
            offered.push(weights[index].0);
            !cannot_be.contains(&weights[index].0)
        };
        picker.pick(&CallInfo::of(&request), take).unwrap();
        let distinct: BTreeSet<_> = offered.iter().collect();
        assert_eq!(distinct.len(), offered.len(), "nobody is offered twice");
        *offered.last().unwrap()
    };
    (0..keys).map(home).collect()
}

#[test]
fn hashes_are_those_of_other_languages() {
    // From xxHash's own tests: nothing, and "Nobody inspects the spammish repetition".
    assert_eq!(HashKey::new("").hash(), 0xef46_db37_51d8_e999);
    let text = "Nobody inspects the spammish repetition";
    assert_eq!(HashKey::new(text).hash(), 0xfbce_a83c_8a37_8bf1);
}

#[test]
fn when_one_leaves_only_its_keys_move_and_to_those_who_are_next_if_it_cannot_be_taken() {
    for count in [2, 3, 4, 5, 7, 9, 16, 31, 33] {
        let all = alike(count);
        let before = homes(&all, 2_000, &[]);
        for gone in [0, count / 2, count - 1] {
            let rest: Vec<_> = all.iter().copied().filter(|it| it.0 != gone).collect();
            let after = homes(&rest, 2_000, &[]);
            let skipped = homes(&all, 2_000, &[gone]);
            assert_eq!(after, skipped, "{gone} of {count}");
            for (before, after) in before.iter().zip(&after) {
                assert!(before == after || *before == gone, "{gone} of {count}");
            }
            let moved = before.iter().filter(|it| **it == gone).count();
            assert!(moved > 0, "{gone} of {count}");
        }
    }
}

#[test]
fn its_keys_move_to_more_than_one() {
    let (before, after) = (homes(&alike(4), 2_000, &[]), homes(&alike(4), 2_000, &[1]));
    let moved = before
        .iter()
        .zip(&after)
        .filter(|(before, _)| **before == 1);
    let heirs: BTreeSet<_> = moved.map(|(_, after)| *after).collect();
    assert_eq!(heirs, [0, 2, 3].into());
}

/// The hashes are what they are: there is no chance in it.
#[test]
fn keys_are_shared_by_weight() {
    for count in [4, 8, 20] {
        let homes = homes(&alike(count), 20_000, &[]);
        for number in 0..count {
            let keys = homes.iter().filter(|it| **it == number).count();
            let share = keys as f64 * count as f64 / 20_000.0;
            assert!((0.7..1.3).contains(&share), "{number} of {count}: {share}");
        }
    }
    let homes = homes(&[(0, 1.0), (1, 3.0), (2, 0.0)], 20_000, &[]);
    let keys = |number| homes.iter().filter(|it| **it == number).count();
    assert!(keys(0).abs_diff(5_000) < 500, "{}", keys(0));
    assert_eq!(keys(2), 0);
}

#[test]
fn a_ring_is_never_smaller_nor_much_larger_than_it_should_be() {
    let sizes = Sizes::default();
    for total in [1e-6, 0.5, 1.0, 2.0, 3.0, 7.9, 8.0, 33.0, 1e3, 4e9, 1e13] {
        let size = total * sizes.places(total);
        assert!((1_024.0..=4_096.0).contains(&size), "{total}: {size}");
    }
    let narrow = Sizes { min: 100, max: 150 };
    for total in [1.0, 5.0, 77.0] {
        let size = total * narrow.places(total);
        assert!((99.9..=150.1).contains(&size), "{total}: {size}");
    }
}

#[test]
fn the_order_of_addresses_does_not_matter() {
    let home = |addresses: [&str; 2]| {
        let [one, other] = addresses.map(|it| it.parse().unwrap());
        let twofold = Endpoint::new(one).with_address(other);
        let another = Endpoint::new("10.0.0.9:1".parse().unwrap());
        let candidates = [twofold, another].map(Candidate::new);
        let picker = RingHash::by_header("x-user").picker(&candidates, 0);
        let home = |key: usize| {
            let request = Request::builder().header("x-user", key).body(()).unwrap();
            let mut home = None;
            let take = &mut |index| home.replace(index).is_none();
            picker.pick(&CallInfo::of(&request), take).unwrap();
            home
        };
        (0..200).map(home).collect::<Vec<_>>()
    };
    let homes = home(["10.0.0.1:1", "10.0.0.2:1"]);
    assert_eq!(homes, home(["10.0.0.2:1", "10.0.0.1:1"]));
    assert!(homes.contains(&Some(0)) && homes.contains(&Some(1)));
}

#[test]
fn a_call_without_a_key_is_refused_or_goes_anywhere() {
    let candidates = candidates(&alike(3));
    let request = Request::new(());
    let refused = |policy: RingHash| {
        let picker = policy.picker(&candidates, 0);
        let take = &mut |_| panic!("nobody is called");
        let error = picker.pick(&CallInfo::of(&request), take);
        error.unwrap_err().to_string()
    };
    assert_eq!(
        refused(RingHash::new()),
        "ring_hash key: none (expected: the request extension HashKey)"
    );
    assert_eq!(
        refused(RingHash::by_header("X-User")),
        "ring_hash key: none (expected: a header x-user or the request extension HashKey)"
    );
    let picker = RingHash::new().or_random().picker(&candidates, 0);
    let mut counts = [0; 3];
    for _ in 0..3_000 {
        let take = &mut |index: usize| {
            counts[index] += 1;
            true
        };
        picker.pick(&CallInfo::of(&request), take).unwrap();
    }
    // As the ring is shared, and the seed is fixed.
    assert!(counts.iter().all(|it| *it > 700), "{counts:?}");
}

#[test]
fn the_extension_goes_before_the_header_which_may_have_any_bytes() {
    let candidates = candidates(&alike(7));
    let picker = RingHash::by_header("x-user").picker(&candidates, 0);
    let home = |header: &[u8], key: Option<&[u8]>| {
        let header = http::HeaderValue::from_bytes(header).unwrap();
        let mut request = Request::new(());
        request.headers_mut().insert("x-user", header);
        if let Some(key) = key {
            request.extensions_mut().insert(HashKey::new(key));
        }
        let mut home = None;
        let take = &mut |index| home.replace(index).is_none();
        picker.pick(&CallInfo::of(&request), take).unwrap();
        home.unwrap()
    };
    for key in 0x80..0xff_u8 {
        assert_eq!(home(&[key], None), home(b"x", Some(&[key])));
    }
}

#[test]
fn how_busy_an_endpoint_is_or_how_new_moves_no_key() {
    let fresh = candidates(&alike(3));
    let mut other = fresh.clone();
    other[1] = Candidate::with(fresh[1].endpoint().clone(), 0.1, Default::default());
    let ring = |candidates: &[Candidate]| format!("{:?}", RingHash::new().picker(candidates, 1));
    assert_eq!(ring(&fresh), ring(&other));
    assert!(!RingHash::new().reads_load());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |policy: RingHash| policy.check().unwrap_err().to_string();
    assert_eq!(
        refused(RingHash::new().sizes(0, 5)),
        "minRingSize: 0 (expected: from 1 to 8388608)"
    );
    assert_eq!(
        refused(RingHash::new().sizes(6, 5)),
        "maxRingSize: 5 (expected: from minRingSize, 6, to 8388608)"
    );
    assert_eq!(
        refused(RingHash::by_header("")),
        "requestHashHeader:  (expected: the name of a header)"
    );
    assert_eq!(
        refused(RingHash::new().weight_key("")),
        "weightKey: \"\" (expected: a key of the metadata)"
    );
    assert!(
        RingHash::by_header("x-user-bin")
            .sizes(1, 1)
            .check()
            .is_ok()
    );
}

#[test]
fn nobody_to_take_is_no_pick() {
    for policy in [
        RingHash::new().or_random(),
        RingHash::new().sizes(1, 1).or_random(),
    ] {
        for count in 0..4 {
            let picker = policy.picker(&candidates(&alike(count)), 0);
            let mut offered = 0;
            let take = &mut |_| {
                offered += 1;
                false
            };
            let request = Request::new(());
            picker.pick(&CallInfo::of(&request), take).unwrap();
            assert_eq!(offered, count, "each one once");
        }
    }
}

#[test]
fn a_weight_that_is_none_is_told() {
    let logged = Logged::start();
    let candidates = candidates(&[(0, -1.0), (1, 1.0)]);
    RingHash::new().picker(&candidates, 0);
    assert_eq!(logged.names(), ["WARN endpoint_weight_rejected"]);
}

proptest! {
    #[test]
    fn whatever_the_weights_only_the_keys_of_who_leaves_move_if_the_ring_stays_large_enough(
        weights in prop::collection::vec(1.0f64..1.5, 3..6),
        gone in 0usize..3,
    ) {
        let all: Vec<_> = weights.into_iter().enumerate().collect();
        let rest: Vec<_> = all.iter().copied().filter(|it| it.0 != gone).collect();
        let (before, after) = (homes(&all, 300, &[]), homes(&rest, 300, &[]));
        for (before, after) in before.into_iter().zip(after) {
            prop_assert!(before == after || before == gone);
        }
    }
}

#[test]
fn a_ring_of_those_who_weigh_next_to_nothing_has_an_end() {
    for weight in [f64::from_bits(1), 1e-320, 1e-300] {
        assert_eq!(homes(&[(0, weight)], 10, &[]), [0; 10]);
        let both = homes(&[(0, weight), (1, weight)], 1_000, &[]);
        let ones = both.into_iter().sum::<usize>();
        assert!((300..700).contains(&ones), "{ones}");
    }
}
