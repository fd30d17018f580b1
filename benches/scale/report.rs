//! What was measured, for people and for programs.

use comfy_table::Table;
use serde_json::json;

pub(crate) struct Report {
    json: bool,
    table: Table,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let mut table = Table::new();
        table.set_header(["case", "figure", "unit", "at most"]);
        Self { json, table }
    }

    /// Adds a figure, and what it is to be at most, if anything; there is none where the system
    /// does not tell.
    pub(crate) fn figure(
        &mut self,
        case: &str,
        figure: Option<f64>,
        unit: &str,
        promise: Option<f64>,
    ) {
        if self.json {
            let line = json!({
                "bench": "scale",
                "case": case,
                "figure": figure,
                "unit": unit,
                "promise": promise,
            });
            println!("{line}");
        }
        let written = |number: f64| match number {
            few if few < 10.0 => format!("{few:.2}"),
            many => format!("{many:.0}"),
        };
        let figure = figure.map_or("not told here".to_owned(), written);
        let promise = promise.map(written).unwrap_or_default();
        self.table.add_row([case, &figure, unit, &promise]);
    }

    pub(crate) fn print(self) {
        if !self.json {
            println!("{}", self.table);
        }
    }
}
