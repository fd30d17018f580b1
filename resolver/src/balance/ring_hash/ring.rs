//! The ring: where each endpoint stands, and who comes next.
//!
//! gRPC (A42) gives an endpoint places by its share of all weights, so that every change of the set changes
//! the places of all. Here a unit of weight has a number of places that goes in steps, and stays the same
//! for sets of many sizes: who stays keeps all places, and so all keys.

use std::fmt::Write;

use xxhash_rust::xxh64::xxh64;

use super::RingHash;

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// At least.
    pub(super) min: usize,
    /// At most; or one for each endpoint, if that is more.
    pub(super) max: usize,
}

/// Where each endpoint stands.
#[derive(Debug)]
pub(super) struct Ring {
    /// In the order of their hashes.
    places: Box<[Place]>,
    /// How many endpoints there are.
    count: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u64,
    index: u32,
}

/// A number of places that a unit of weight has. The others are by `STEP` apart: with equal endpoints of
/// weight 1, the first step is between one and two of them, where all keys move anyway, and the next one not
/// before there are eight.
const PLACES: f64 = 512.0;

/// How far apart the numbers are. Smaller steps come more often; after a larger one, the ring would be greater
/// than A42's greatest.
const STEP: f64 = 4.0;

impl Default for Sizes {
    /// A42's numbers.
    fn default() -> Self {
        Self {
            min: RingHash::MIN_SIZE,
            max: RingHash::MAX_SIZE,
        }
    }
}

impl Sizes {
    /// Returns how many places a unit of weight has, where all weights together are so much: the smallest
    /// number that makes a ring large enough.
    pub(super) fn places(self, total: f64) -> f64 {
        let (min, max) = (self.min as f64, self.max as f64);
        let mut places = PLACES;
        while total * places < min {
            places *= STEP;
        }
        while total * places / STEP >= min {
            places /= STEP;
        }
        places.min(max / total)
    }
}

impl Ring {
    /// Makes the ring of endpoints by what they are called, each with its weight. Who has none has no place.
    pub(super) fn new(endpoints: impl Iterator<Item = (String, f64)>, sizes: Sizes) -> Self {
        let endpoints: Vec<_> = endpoints.collect();
        let total: f64 = endpoints.iter().map(|it| it.1).sum();
        let count = endpoints.len();
        if total <= 0.0 {
            return Self {
                places: Box::default(),
                count,
            };
        }
        let a_unit = sizes.places(total);
        let mut places = Vec::new();
        for (index, (name, weight)) in endpoints.into_iter().enumerate() {
            if weight <= 0.0 {
                continue;
            }
            let of_it = (weight * a_unit).round().max(1.0) as u64;
            let mut place = name + "_";
            let length = place.len();
            for number in 0..of_it {
                place.truncate(length);
                // To a string, which takes all.
                let _ = write!(place, "{number}");
                places.push(Place {
                    hash: xxh64(place.as_bytes(), 0),
                    index: index as u32,
                });
            }
        }
        places.sort_unstable();
        Self {
            places: places.into(),
            count,
        }
    }

    /// Offers each endpoint that has a place, once, from this hash on.
    pub(super) fn pick(&self, hash: u64, take: &mut dyn FnMut(usize) -> bool) {
        let start = self.places.partition_point(|it| it.hash < hash);
        let (before, after) = self.places.split_at(start);
        let mut all = after.iter().chain(before).map(|it| it.index as usize);
        let Some(first) = all.next() else {
            return;
        };
        if take(first) {
            return;
        }
        // Hardly ever.
        let mut is_tried = vec![false; self.count];
        is_tried[first] = true;
        let mut untried = all.filter(|index| !std::mem::replace(&mut is_tried[*index], true));
        untried.find(|index| take(*index));
    }
}
