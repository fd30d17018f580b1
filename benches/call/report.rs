//! What was measured, for people and for programs.

use comfy_table::Table;
use serde_json::json;

use crate::{
    load::{Cost, Load},
    median::{median, sorted},
};

pub(crate) struct Report {
    json: bool,
    /// Of the variants.
    names: Vec<&'static str>,
    table: Table,
}

impl Report {
    pub(crate) fn new(json: bool, names: Vec<&'static str>) -> Self {
        let mut table = Table::new();
        table.set_header([
            "case",
            "variant",
            "calls/s",
            "ratio",
            "from .. to",
            "CPU, us",
            "ratio",
            "from .. to",
            "p50, us",
            "p99, us",
        ]);
        Self { json, names, table }
    }

    /// Adds a case: of each round, what each variant cost, in the order of the names.
    pub(crate) fn add(&mut self, load: Load, rounds: &[Vec<Cost>]) {
        for index in 0..self.names.len() {
            self.add_variant(load, index, rounds);
        }
    }

    fn add_variant(&mut self, load: Load, index: usize, rounds: &[Vec<Cost>]) {
        let name = self.names[index];
        let values =
            |of: fn(&Cost) -> f64| sorted(rounds.iter().map(|it| of(&it[index])).collect());
        let ratios = |of: fn(&Cost) -> f64| {
            sorted(
                rounds
                    .iter()
                    .map(|it| of(&it[index]) / of(&it[0]))
                    .collect(),
            )
        };
        let (calls, cpu) = (values(|it| it.calls_per_s), values(|it| it.cpu_us_per_call));
        let (p50, p99) = (values(|it| it.p50_us), values(|it| it.p99_us));
        let (of_calls, of_cpu) = (ratios(|it| it.calls_per_s), ratios(|it| it.cpu_us_per_call));
        let case = load.case();
        if self.json {
            let line = json!({
                "bench": "call",
                "case": case,
                "variant": name,
                "in_flight": load.in_flight,
                "bytes": load.bytes,
                "calls_per_s": median(&calls),
                "cpu_us_per_call": median(&cpu),
                "p50_us": median(&p50),
                "p99_us": median(&p99),
                "ratio_calls": median(&of_calls),
                "ratio_cpu": median(&of_cpu),
            });
            println!("{line}");
        }
        let spread = |of: &[f64]| format!("{:.2} .. {:.2}", of[0], of[of.len() - 1]);
        self.table.add_row([
            format!("{case}, {} at once, {} bytes", load.in_flight, load.bytes),
            name.to_owned(),
            format!("{:.0}", median(&calls)),
            format!("{:.2}", median(&of_calls)),
            spread(&of_calls),
            format!("{:.1}", median(&cpu)),
            format!("{:.2}", median(&of_cpu)),
            spread(&of_cpu),
            format!("{:.0}", median(&p50)),
            format!("{:.0}", median(&p99)),
        ]);
    }

    pub(crate) fn print(self) {
        if !self.json {
            println!("{}", self.table);
        }
    }
}
