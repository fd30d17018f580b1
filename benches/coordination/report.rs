//! What was measured, for people and for programs.

use comfy_table::Table;
use serde_json::json;
use switchboard_test_support::Etcd;

use crate::median::{median, sorted};

/// One side's turn: what it took, and how many requests etcd saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) micros: f64,
    pub(crate) requests: u64,
}

pub(crate) struct Report {
    json: bool,
    table: Table,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let mut table = Table::new();
        table.set_header([
            "case",
            "ours, us (from .. to)",
            "raw, us (from .. to)",
            "ratio",
            "of a round",
            "requests",
            "raw requests",
        ]);
        Self {
            json,
            table,
            notes: Vec::new(),
        }
    }

    /// Adds a case, of any number of rounds, each with a turn of ours and one of raw etcd-client.
    pub(crate) fn add(&mut self, case: &str, rounds: &[(Turn, Turn)]) {
        let column = |of: fn(&(Turn, Turn)) -> f64| sorted(rounds.iter().map(of).collect());
        let (ours, raw) = (column(|it| it.0.micros), column(|it| it.1.micros));
        let ratio = median(&ours) / median(&raw);
        let ratios = column(|it| it.0.micros / it.1.micros);
        let requests = median(&column(|it| it.0.requests as f64));
        let raw_requests = median(&column(|it| it.1.requests as f64));
        if self.json {
            let line = json!({
                "bench": "coordination",
                "case": case,
                "ours": median(&ours),
                "raw": median(&raw),
                "ratio": ratio,
                "requests_ours": requests as u64,
                "requests_raw": raw_requests as u64,
            });
            println!("{line}");
        }
        let last = rounds.len() - 1;
        let spread = |it: &[f64]| format!("{:.0} ({:.0} .. {:.0})", median(it), it[0], it[last]);
        self.table.add_row([
            case.to_owned(),
            spread(&ours),
            spread(&raw),
            format!("{ratio:.2}"),
            format!("{:.2} .. {:.2}", ratios[0], ratios[last]),
            format!("{requests:.0}"),
            format!("{raw_requests:.0}"),
        ]);
    }

    /// Adds what fits no table.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn print(self) {
        if self.json {
            return;
        }
        println!("{}", self.table);
        for note in self.notes {
            println!("{note}");
        }
    }
}

/// Returns how many requests etcd has seen: every unary call, and every stream.
pub(crate) async fn requests(etcd: &Etcd) -> u64 {
    etcd.metric("grpc_server_started_total", &[]).await as u64
}
