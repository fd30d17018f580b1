//! What users of other registries report is held here by a test each, as the list of it says.

use std::{fs, path::Path};

/// How many promises there are: with fewer, one has gone that nobody misses.
const PROMISES: usize = 21;

/// Returns whether a file has a test of that name.
fn has_test(file: &str, name: &str) -> bool {
    let Some((before, _)) = file.split_once(&format!("fn {name}()")) else {
        return false;
    };
    let before = before.trim_end().trim_end_matches("async").trim_end();
    let attributes = before.lines().rev().map(str::trim_start);
    let mut attributes = attributes.take_while(|line| line.starts_with("#["));
    attributes.any(|line| line.contains("test"))
}

#[test]
fn what_users_report_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("docs/complaints.md")).unwrap();
    let rows = list.lines().filter(|line| line.starts_with("| "));
    let promises: Vec<_> = rows.skip(1).collect();
    for row in &promises {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [promise, reported, test] = cells[..] else {
            panic!("{row}")
        };
        assert!(!promise.is_empty() && !reported.is_empty(), "{row}");
        let (name, file) = test.trim_matches('`').split_once("` in `").expect(row);
        let text = fs::read_to_string(root.join(file)).expect(file);
        assert!(has_test(&text, name), "no test {name} in {file}: {promise}");
    }
    assert_eq!(promises.len(), PROMISES);
}
