//! The list of promises names every test that holds one, under its file, and no other.

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

/// The file that a heading names, such as ``## A call (`tests/picking.rs`)``.
fn file(heading: &str) -> &str {
    let file = heading.split('`').nth(1);
    file.and_then(|it| it.strip_prefix("tests/"))
        .expect(heading)
}

#[test]
fn every_promise_has_its_test_and_every_such_test_its_promise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("CONFORMANCE.md")).unwrap();
    let mut promised = BTreeSet::new();
    for section in list.split("\n## ").skip(1) {
        let (heading, rows) = section.split_once('\n').unwrap();
        promised.extend(names(rows).map(|name| (file(heading).to_owned(), name.to_owned())));
    }
    let mut tested = BTreeSet::new();
    for entry in fs::read_dir(root.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "rs") {
            let file = path.file_name().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let functions = text.lines().filter(|line| line.contains("fn c"));
            let names = functions.flat_map(names);
            tested.extend(names.map(|name| (file.to_owned(), name.to_owned())));
        }
    }
    assert!(promised.len() > 50, "{promised:?}");
    assert_eq!(
        promised.difference(&tested).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "promised and not tested"
    );
    assert_eq!(
        tested.difference(&promised).collect::<Vec<_>>(),
        Vec::<&(String, String)>::new(),
        "tested and not promised"
    );
}
