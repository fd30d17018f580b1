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
    delays: Table,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let mut table = Table::new();
        table.set_header([
            "case",
            "ours, us",
            "raw, us",
            "ratio",
            "from .. to",
            "requests",
            "raw requests",
        ]);
        let mut delays = Table::new();
        delays.set_header([
            "delay",
            "median, us",
            "p99, us",
            "put to watch: median, us",
            "p99, us",
            "ratio",
            "of p99",
            "times",
        ]);
        Self {
            json,
            table,
            delays,
            notes: Vec::new(),
        }
    }

    /// Adds a case, in microseconds, of any number of rounds, each with a turn of ours and one of raw etcd-client.
    pub(crate) fn add(&mut self, case: &str, rounds: &[(Turn, Turn)]) {
        let column = |of: fn(&(Turn, Turn)) -> f64| sorted(rounds.iter().map(of).collect());
        let (ours, raw) = (column(|it| it.0.micros), column(|it| it.1.micros));
        let ratios = column(|it| it.0.micros / it.1.micros);
        let requests = column(|it| it.0.requests as f64);
        let raw_requests = column(|it| it.1.requests as f64);
        if self.json {
            let line = json!({
                "bench": "registry",
                "case": case,
                "ours": median(&ours),
                "raw": median(&raw),
                "ratio": median(&ratios),
                "requests_ours": median(&requests) as u64,
                "requests_raw": median(&raw_requests) as u64,
            });
            println!("{line}");
        }
        self.table.add_row([
            case.to_owned(),
            format!("{:.0}", median(&ours)),
            format!("{:.0}", median(&raw)),
            format!("{:.2}", median(&ratios)),
            format!("{:.2} .. {:.2}", ratios[0], ratios[ratios.len() - 1]),
            format!("{:.0}", median(&requests)),
            format!("{:.0}", median(&raw_requests)),
        ]);
    }

    /// Adds how long something took each time, in microseconds, and a raw put until a watch heard of it.
    pub(crate) fn add_delay(&mut self, case: &str, ours: Vec<f64>, raw: Vec<f64>) {
        let (ours, raw) = (sorted(ours), sorted(raw));
        let ratio = median(&ours) / median(&raw);
        let (p99, raw_p99) = (at(&ours, 0.99), at(&raw, 0.99));
        if self.json {
            let line = json!({
                "bench": "registry",
                "case": case,
                "ours": median(&ours),
                "ours_p99": p99,
                "raw": median(&raw),
                "raw_p99": raw_p99,
                "ratio": ratio,
                "times": ours.len(),
            });
            println!("{line}");
        }
        self.delays.add_row([
            case.to_owned(),
            format!("{:.0}", median(&ours)),
            format!("{p99:.0}"),
            format!("{:.0}", median(&raw)),
            format!("{raw_p99:.0}"),
            format!("{ratio:.2}"),
            format!("{:.2}", p99 / raw_p99),
            ours.len().to_string(),
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
        println!("{}", self.delays);
        for note in self.notes {
            println!("{note}");
        }
    }
}

/// Returns how many requests etcd has seen: every unary call, and every stream.
pub(crate) async fn requests(etcd: &Etcd) -> u64 {
    etcd.metric("grpc_server_started_total", &[]).await as u64
}

/// Returns the value that so large a part of values, which are sorted, does not exceed.
pub(crate) fn at(values: &[f64], quantile: f64) -> f64 {
    values[((values.len() - 1) as f64 * quantile) as usize]
}
