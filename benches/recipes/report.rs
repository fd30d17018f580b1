//! What was measured, for people and for programs.

use std::collections::BTreeMap;

use comfy_table::Table;
use serde_json::json;

use crate::{
    median::{median, sorted},
    side::Turn,
};

pub(crate) struct Report {
    json: bool,
    table: Table,
}

/// A side's turns, in the middle.
struct Middle {
    rate: f64,
    requests: f64,
    kinds: BTreeMap<&'static str, f64>,
}

impl Report {
    pub(crate) fn new(json: bool, has_go: bool) -> Self {
        let mut table = Table::new();
        let mut header = vec!["case", "ours, 1/s", "requests each"];
        if has_go {
            header.extend(["Go, 1/s", "requests each", "ratio", "of a round"]);
        }
        table.set_header(header);
        Self { json, table }
    }

    /// Adds a case, of any number of rounds, each with a turn of ours and maybe one of Go's.
    pub(crate) fn add(&mut self, case: &str, rounds: &[(Turn, Option<Turn>)]) {
        let ours = Middle::of(rounds.iter().map(|it| &it.0));
        let go = Middle::of(rounds.iter().filter_map(|it| it.1.as_ref()));
        let ratios = rounds
            .iter()
            .filter_map(|(ours, go)| Some(ours.rate / go.as_ref()?.rate));
        let ratios = sorted(ratios.collect());
        let mut line = json!({
            "bench": "recipes",
            "case": case,
        });
        let mut row = vec![case.to_owned()];
        for (side, middle) in [("ours", ours), ("go", go)] {
            let Some(Middle {
                rate,
                requests,
                kinds,
            }) = middle
            else {
                continue;
            };
            line[side] = json!(rate);
            line[format!("requests_{side}")] = json!(requests);
            line[format!("kinds_{side}")] = json!(kinds);
            row.push(format!("{rate:.0}"));
            let kinds = kinds.iter().filter(|(_, count)| **count >= 0.005);
            let kinds: Vec<_> = kinds.map(|(kind, it)| format!("{kind} {it:.2}")).collect();
            row.push(format!("{requests:.2}: {}", kinds.join(", ")));
        }
        if let [from, .., to] | [from @ to] = &ratios[..] {
            let ratio = median(&ratios);
            line["ratio"] = json!(ratio);
            line["ratio_from"] = json!(from);
            line["ratio_to"] = json!(to);
            row.extend([format!("{ratio:.2}"), format!("{from:.2} .. {to:.2}")]);
        }
        if self.json {
            println!("{line}");
        }
        self.table.add_row(row);
    }

    pub(crate) fn print(self) {
        if !self.json {
            println!("{}", self.table);
        }
    }
}

impl Middle {
    fn of<'a>(turns: impl Iterator<Item = &'a Turn>) -> Option<Self> {
        let turns: Vec<_> = turns.collect();
        let middle =
            |of: &dyn Fn(&Turn) -> f64| median(&sorted(turns.iter().map(|it| of(it)).collect()));
        let first = turns.first()?;
        let kinds = first.requests.keys();
        Some(Self {
            rate: middle(&|it| it.rate),
            requests: middle(&|it| it.requests.values().sum()),
            kinds: kinds
                .map(|kind| (*kind, middle(&|it| it.requests[kind])))
                .collect(),
        })
    }
}
