//! What is said: of the scenes, of the servers, and in the end.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use switchboard::Condition;

use crate::{
    caller::RATE,
    script::{Incident, SERVERS, Scene, Sight},
    tally::{Figures, Tally, Verdict},
};

/// Says what happens.
pub(crate) fn scene(scene: Scene) -> Option<String> {
    let name = |incident: Incident| server(incident.server());
    Some(match scene {
        Scene::Opening => format!(
            "{SERVERS} greeters start, each a process of its own, and publish themselves in etcd"
        ),
        Scene::Calm { after: None, .. } => {
            format!("all are known; a caller, by the name alone, makes {RATE} calls a second")
        }
        Scene::Calm {
            after: Some(incident),
            ..
        } => format!("{} is called again", name(incident)),
        Scene::Struck(incident @ Incident::Restart) => format!(
            "{} is told to stop (SIGTERM): it leaves etcd first, then finishes its calls",
            name(incident)
        ),
        Scene::Struck(incident @ Incident::Crash) => format!(
            "{} is killed (SIGKILL): it can tell nobody, and etcd still lists it",
            name(incident)
        ),
        Scene::Avoided(incident) => {
            format!(
                "{} is called no more; the others serve its share",
                name(incident)
            )
        }
        Scene::Returning(incident @ Incident::Restart, _) => {
            format!("{} has ended, and is started again", name(incident))
        }
        Scene::Returning(incident @ Incident::Crash, _) => format!(
            "{}'s lease has run out: gone from etcd too, it is started again",
            name(incident)
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
    format!("  {}", servers.collect::<Vec<_>>().join("; "))
}

/// The live table, and what came of the calls so far.
pub(crate) fn table(
    addresses: &[String; SERVERS],
    seen: &[Sight; SERVERS],
    rates: &[f64; SERVERS],
    tally: &Tally,
) -> String {
    let mut table = with_header([
        "", "address", "state", "calls/s", "calls", "errors", "p50", "p99",
    ]);
    for number in 0..SERVERS {
        let (state, color) = condition(seen[number].condition);
        let figures = &tally.servers[number];
        table.add_row([
            Cell::new(server(number)),
            Cell::new(&addresses[number]),
            // As wide as the longest, so that the table stands still.
            Cell::new(format!("{state:11}")).fg(color),
            right(format!("{:.0}", rates[number])),
            right(figures.calls),
            failed(figures),
            right(millis(figures.latency(0.5))),
            right(millis(figures.latency(0.99))),
        ]);
    }
    format!(
        "{table}\n {} calls, {} failed",
        tally.all.calls, tally.all.failed
    )
}

/// The summary: what each incident cost.
pub(crate) fn summary(tally: &Tally) -> String {
    let mut table = with_header(["", "calls", "failed", "p50", "p99", "called again"]);
    let mut row = |name: &str, figures: &Figures, called_again: String| {
        table.add_row([
            Cell::new(name),
            right(figures.calls),
            failed(figures),
            right(millis(figures.latency(0.5))),
            right(millis(figures.latency(0.99))),
            Cell::new(called_again),
        ]);
    };
    row("undisturbed", &tally.calm, String::new());
    for incident in Incident::ALL {
        let name = match incident {
            Incident::Restart => "server 1 restarted",
            Incident::Crash => "server 2 killed",
        };
        let cost = tally.cost(incident);
        let called_again = match cost.called_again {
            Some(after) => format!("{:.1} s after its start", after.as_secs_f64()),
            None => "not yet".to_owned(),
        };
        row(name, &cost.figures, called_again);
    }
    row("all", &tally.all, String::new());
    table.to_string()
}

/// The last word.
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
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(names.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
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
