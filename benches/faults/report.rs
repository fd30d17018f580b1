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
            "from .. to",
            "failed, 1 s later",
            "share",
            "normal after, ms",
            "longest, ms",
            "mean of answered, ms",
            "p99, ms",
            "from .. to",
        ]);
        Self { json, rate, table }
    }

    pub(crate) fn add(&mut self, fault: Fault, variant: Variant, outcomes: &Outcomes) {
        let (failed_least, failed_most) = outcomes.failed_spread();
        let (p99_least, p99_most) = outcomes.p99_spread_ms();
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
                "mean_ms": outcomes.mean_ms(),
                "p99_ms": outcomes.p99_ms(),
                "failed_least": failed_least,
                "failed_most": failed_most,
                "p99_ms_least": p99_least,
                "p99_ms_most": p99_most,
            });
            println!("{line}");
        }
        let normal = outcomes.normal_after_ms();
        self.table.add_row([
            fault.name().to_owned(),
            variant.name().to_owned(),
            outcomes.answered().to_string(),
            outcomes.failed().to_string(),
            format!("{failed_least} .. {failed_most}"),
            outcomes.failed_late().to_string(),
            format!("{:.2} %", outcomes.share_failed_late() * 100.0),
            normal.map_or("never".to_owned(), |ms| ms.to_string()),
            outcomes.longest_ms().to_string(),
            format!("{:.1}", outcomes.mean_ms()),
            format!("{:.1}", outcomes.p99_ms()),
            format!("{p99_least:.1} .. {p99_most:.1}"),
        ]);
    }

    pub(crate) fn print(self) {
        if !self.json {
            println!("{} calls a second", self.rate);
            println!("{}", self.table);
        }
    }
}
