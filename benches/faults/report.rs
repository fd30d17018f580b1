//! What was measured, for people and for programs.

use comfy_table::Table;
use serde_json::json;

use crate::{fault::Fault, outcome::Outcomes, variant::Variant};

pub(crate) struct Report {
    json: bool,
    rate: u32,
    table: Table,
}

impl Report {
    /// Of calls at this rate.
    pub(crate) fn new(json: bool, rate: u32) -> Self {
        let mut table = Table::new();
        table.set_header([
            "case",
            "variant",
            "answered",
            "failed",
            "failed, 1 s later",
            "share",
            "normal after, ms",
            "longest, ms",
            "p99 of answered, ms",
        ]);
        Self { json, rate, table }
    }

    pub(crate) fn add(&mut self, fault: Fault, variant: Variant, outcomes: &Outcomes) {
        if self.json {
            let line = json!({
                "bench": "faults",
                "case": fault.name(),
                "variant": variant.name(),
                "calls_per_s": self.rate,
                "answered": outcomes.answered(),
                "failed": outcomes.failed(),
                "failed_after_1s": outcomes.failed_late(),
                "share_failed_after_1s": outcomes.share_failed_late(),
                "normal_after_ms": outcomes.normal_after_ms(),
                "longest_ms": outcomes.longest_ms(),
                "p99_ms": outcomes.p99_ms(),
            });
            println!("{line}");
        }
        let normal = outcomes.normal_after_ms();
        self.table.add_row([
            fault.name().to_owned(),
            variant.name().to_owned(),
            outcomes.answered().to_string(),
            outcomes.failed().to_string(),
            outcomes.failed_late().to_string(),
            format!("{:.2} %", outcomes.share_failed_late() * 100.0),
            normal.map_or("never".to_owned(), |ms| ms.to_string()),
            outcomes.longest_ms().to_string(),
            format!("{:.1}", outcomes.p99_ms()),
        ]);
    }

    pub(crate) fn print(self) {
        if !self.json {
            println!("{} calls a second", self.rate);
            println!("{}", self.table);
        }
    }
}
