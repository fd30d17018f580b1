//! Holds the docs against the table.

use crate::{report::HEADER, table::FAULTS};

const DOCS: &str = include_str!("../../docs/when-etcd-fails.md");

/// Sees that the docs promise of each fault what the tests hold, and of no other.
pub(crate) fn promise_the_same() {
    let rows = DOCS.lines().skip_while(|line| !line.starts_with(HEADER));
    let rows: Vec<&str> = rows
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    for (row, fault) in rows.iter().zip(FAULTS) {
        let promise = fault.promise();
        assert!(row.starts_with(&promise), "{row} (expected: {promise} ...)");
    }
    assert_eq!(rows.len(), FAULTS.len(), "rows of the docs' table");
}
