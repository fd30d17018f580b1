//! What is said: of the scenes, of the servers, and in the end.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, LineStyle, Table, TableStyle};
use switchboard::Condition;

use crate::{
    caller::RATE,
    script::{Incident, SERVERS, Scene, Sight},
    serve::NAME,
    tally::{Figures, Tally, Verdict},
};

/// Says what happens.
pub(crate) fn scene(scene: Scene) -> Option<String> {
    use Incident::{Crash, Restart};
    let name = |incident: Incident| server(incident.server());
    Some(match scene {
        Scene::Opening => {
            format!("{SERVERS} greeters start, a process each, and publish themselves in etcd")
        }
        Scene::Calm { after: None, .. } => {
            format!("a caller dials \"{NAME}\" and finds them all: {RATE} calls a second")
        }
        Scene::Calm {
            after: Some(it), ..
        } => format!("{} is called again", name(it)),
        Scene::Struck(it @ Restart) => format!(
            "{} is told to stop (SIGTERM): it leaves etcd, finishes its calls",
            name(it)
        ),
        Scene::Struck(it @ Crash) => format!(
            "{} is killed (SIGKILL): it tells nobody, and etcd still lists it",
            name(it)
        ),
        Scene::Avoided(it) => format!("the others take over: {} gets no more calls", name(it)),
        Scene::Returning(it @ Restart, _) => {
            format!("{} has ended, and is started again", name(it))
        }
        Scene::Returning(it @ Crash, _) => format!(
            "its lease has run out: etcd has dropped {}; it is started again",
            name(it)
        ),
        Scene::Over => return None,
    })
}

/// Names a server.
pub(crate) fn server(number: usize) -> String {
    format!("server {}", number + 1)
}

/// Says how a server is, as the channel has it.
fn condition(condition: Option<Condition>) -> (&'static str, Color) {
    match condition {
        Some(Condition::Ready) => ("ready", Color::Green),
        Some(Condition::Connecting) => ("connecting", Color::Yellow),
        Some(Condition::Draining) => ("draining", Color::Yellow),
        Some(Condition::Failing) => ("unreachable", Color::Red),
        None => ("not in etcd", Color::DarkGrey),
        Some(_) => ("other", Color::Reset),
    }
}

/// One line: how the servers are, and how often each is called.
pub(crate) fn line(seen: &[Sight; SERVERS], rates: &[f64; SERVERS]) -> String {
    let servers = (0..SERVERS).map(|number| {
        let (state, _) = condition(seen[number].condition);
        format!("{} {state}, {:.0}/s", server(number), rates[number])
    });
    format!("{:9}{}", "", servers.collect::<Vec<_>>().join("; "))
}

/// The live table, and what came of the calls so far.
pub(crate) fn table(seen: &[Sight; SERVERS], rates: &[f64; SERVERS], tally: &Tally) -> String {
    let header = ["", "state", "calls/s", "calls", "failed", "p50", "p99"];
    let mut table = with_header(header);
    for number in 0..SERVERS {
        let (state, color) = condition(seen[number].condition);
        let figures = &tally.servers[number];
        table.add_row([
            Cell::new(server(number)),
            // As wide as the widest, so that the table stands still.
            Cell::new(format!("{state:11}")).fg(color),
            Cell::new(bar(rates[number])),
            right(format!("{:5}", figures.calls)),
            failed(figures),
            right(format!("{:>7}", millis(figures.latency(0.5)))),
            right(format!("{:>7}", millis(figures.latency(0.99)))),
        ]);
    }
    format!("{table}\n {}", verdict(tally))
}

/// Shows a rate as a number and a length.
fn bar(rate: f64) -> String {
    // Two servers that have all the calls fill it.
    const WIDTH: usize = 10;
    let length = (rate / f64::from(RATE / 2) * WIDTH as f64).round() as usize;
    format!("{rate:3.0} {:WIDTH$}", "■".repeat(length.min(WIDTH)))
}

/// The summary: what each incident cost.
pub(crate) fn summary(tally: &Tally) -> String {
    let mut table = with_header([
        "",
        "calls",
        "failed",
        "p99",
        "p99 above usual",
        "called again",
    ]);
    let usual = tally.calm.latency(0.99);
    let mut row = |name: &str, figures: &Figures, added: String, called_again: String| {
        table.add_row([
            Cell::new(name),
            right(figures.calls),
            failed(figures),
            right(millis(figures.latency(0.99))),
            right(added),
            Cell::new(called_again),
        ]);
    };
    row("undisturbed", &tally.calm, String::new(), String::new());
    for incident in Incident::ALL {
        let what = match incident {
            Incident::Restart => "restarted",
            Incident::Crash => "killed",
        };
        let cost = tally.cost(incident);
        if cost.figures.calls == 0 {
            continue; // It was stopped before that.
        }
        let added = cost.figures.latency(0.99).saturating_sub(usual);
        let called_again = match cost.called_again {
            Some(after) => format!("{:.1} s after its start", after.as_secs_f64()),
            None => "not yet".to_owned(),
        };
        row(
            &format!("{} {what}", server(incident.server())),
            &cost.figures,
            millis(added),
            called_again,
        );
    }
    row("all", &tally.all, String::new(), String::new());
    table.to_string()
}

/// What it comes to.
pub(crate) fn verdict(tally: &Tally) -> String {
    let calls = tally.all.calls;
    match tally.verdict() {
        Verdict::NoneFailed => format!("{calls} calls, 0 failed."),
        Verdict::InFlightOnly(failed) => format!(
            "{calls} calls, 0 failed, but for {failed} in flight on {} when it was killed.",
            server(Incident::Crash.server())
        ),
        Verdict::Failed(failed, first) => {
            format!("{calls} calls, {failed} failed that should not have; the first: {first}")
        }
    }
}

fn with_header<const COLUMNS: usize>(names: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    let heading = |name: &str| {
        let cell = Cell::new(name).add_attribute(Attribute::Bold);
        match name {
            "" | "state" | "calls/s" | "called again" => cell,
            _ => cell.set_alignment(CellAlignment::Right),
        }
    };
    table.set_header(names.map(heading));
    table
}

fn right(content: impl ToString) -> Cell {
    Cell::new(content).set_alignment(CellAlignment::Right)
}

fn failed(figures: &Figures) -> Cell {
    match figures.failed {
        0 => right(0),
        failed => right(failed).fg(Color::Red),
    }
}

fn millis(latency: Duration) -> String {
    format!("{:.1} ms", latency.as_secs_f64() * 1e3)
}
