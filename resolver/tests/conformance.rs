//! The list of promises names every test that holds one, and no other.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{collections::BTreeSet, fs, path::Path};

/// The names in a text that look like those of such tests, such as `c10_ready_endpoints_share`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        let number = word.strip_prefix('c').and_then(|rest| rest.split_once('_'));
        number.is_some_and(|(number, _)| {
            !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
        })
    })
}

#[test]
fn every_promise_has_its_test_and_every_such_test_its_promise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("CONFORMANCE.md")).unwrap();
    let promised: BTreeSet<_> = names(&list).map(str::to_owned).collect();
    let mut tested = BTreeSet::new();
    for entry in fs::read_dir(root.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let functions = text.lines().filter(|line| line.contains("fn c"));
            tested.extend(functions.flat_map(names).map(str::to_owned));
        }
    }
    assert!(promised.len() > 50, "{promised:?}");
    assert_eq!(
        promised.difference(&tested).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "promised and not tested"
    );
    assert_eq!(
        tested.difference(&promised).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "tested and not promised"
    );
}
