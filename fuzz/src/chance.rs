//! Inputs by chance: those of a corpus, changed a little.

use std::{fs, path::Path};

/// Yields inputs without end: first those of a corpus, then such as came of them by a few changes.
/// The same seed and corpus yield the same inputs.
#[derive(Debug)]
pub struct Chance {
    rng: fastrand::Rng,
    corpus: Vec<Vec<u8>>,
    shown: usize,
}

/// Changes to one input: enough to leave the shape it had, few enough not to always do so.
const MOST_CHANGES: usize = 6;

/// The longest input; what is longer is cut, or it would only grow.
const LONGEST: usize = 4096;

/// What tends to stand where the rules are.
const TOKENS: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"/",
    b"//",
    b"://",
    b"?",
    b"\n",
    b"\0",
    b"\xff",
    b"null",
    b"0",
    b"-1",
    b"65536",
    b"1e999",
    b"0.0.0.0:1",
    b"[::]:1",
    b"greeter",
    b"\xe2\x80\xae",
];

impl Chance {
    /// Reads a corpus: the files of a folder, in the order of their names.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn new(corpus: &Path, seed: u64) -> Self {
        let entries = fs::read_dir(corpus)
            .unwrap_or_else(|error| panic!("no corpus: {} ({error})", corpus.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
        paths.sort();
        let corpus: Vec<_> = paths
            .iter()
            .map(|path| fs::read(path).expect("a file that can be read"))
            .collect();
        assert!(!corpus.is_empty(), "an empty corpus");
        Self {
            rng: fastrand::Rng::with_seed(seed),
            corpus,
            shown: 0,
        }
    }

    fn any(&mut self) -> Vec<u8> {
        self.corpus[self.rng.usize(..self.corpus.len())].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.rng.usize(..=input.len());
        let end = (at + self.rng.usize(..=16)).min(input.len());
        match self.rng.u8(..7) {
            0 => input.insert(at, self.rng.u8(..)),
            1 if at < input.len() => input[at] ^= 1 << self.rng.u8(..8),
            2 => drop(input.drain(at..end)),
            3 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            4 => input.truncate(at),
            5 => {
                let other = self.any();
                input.truncate(at);
                input.extend_from_slice(&other[self.rng.usize(..=other.len())..]);
            }
            _ => {
                let token = TOKENS[self.rng.usize(..TOKENS.len())];
                input.splice(at..end, token.iter().copied());
            }
        }
    }
}

impl Iterator for Chance {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(given) = self.corpus.get(self.shown) {
            self.shown += 1;
            return Some(given.clone());
        }
        let mut input = self.any();
        for _ in 0..self.rng.usize(1..=MOST_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        Some(input)
    }
}
