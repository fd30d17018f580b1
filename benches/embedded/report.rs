//! What was measured, for people and for programs.

use comfy_table::Table;
use serde_json::json;

use crate::median::{median, sorted};

pub(crate) struct Report {
    json: bool,
    table: Table,
    figures: Table,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let mut table = Table::new();
        table.set_header(["case", "embedded, us", "real, us", "ratio", "from .. to"]);
        let mut figures = Table::new();
        figures.set_header(["of the embedded etcd", "", ""]);
        Self {
            json,
            table,
            figures,
        }
    }

    /// Adds a case, in microseconds, of any number of rounds, each with a turn of the embedded and
    /// one of the real etcd.
    pub(crate) fn add(&mut self, case: &str, rounds: &[(f64, f64)]) {
        let column = |of: fn(&(f64, f64)) -> f64| sorted(rounds.iter().map(of).collect());
        let (embedded, real) = (column(|it| it.0), column(|it| it.1));
        let ratios = column(|it| it.0 / it.1);
        if self.json {
            let line = json!({
                "bench": "embedded",
                "case": case,
                "embedded": median(&embedded),
                "real": median(&real),
                "ratio": median(&ratios),
            });
            println!("{line}");
        }
        self.table.add_row([
            case.to_owned(),
            format!("{:.0}", median(&embedded)),
            format!("{:.0}", median(&real)),
            format!("{:.2}", median(&ratios)),
            format!("{:.2} .. {:.2}", ratios[0], ratios[ratios.len() - 1]),
        ]);
    }

    /// Adds a figure of the embedded etcd alone; there is none where the system does not tell.
    pub(crate) fn figure(&mut self, case: &str, figure: Option<f64>, unit: &str) {
        if self.json {
            let line = json!({ "bench": "embedded", "case": case, "figure": figure, "unit": unit });
            println!("{line}");
        }
        let written = match figure {
            Some(figure) if figure < 100.0 => format!("{figure:.1}"),
            Some(figure) => format!("{figure:.0}"),
            None => "not told here".to_owned(),
        };
        self.figures.add_row([case, &written, unit]);
    }

    pub(crate) fn print(self) {
        if !self.json {
            println!("{}\n{}", self.table, self.figures);
        }
    }
}
