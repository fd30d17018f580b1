//! The lists in `docs/observability.md` name every event and every metric that there is in the code,
//! with its levels and fields, its type and unit, and no other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crates whose users see what they log and count.
const CRATES: [&str; 5] = [
    "src",
    "resolver/src",
    "registry/src",
    "coordination/src",
    "embedded/src",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every file that is compiled for users.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<_> = CRATES.map(|it| root().join(it)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Unit tests stand at the end.
                let code = text.split("\n#[cfg(test)]\nmod tests {").next();
                sources.push((path, code.unwrap_or_default().to_owned()));
            }
        }
    }
    assert!(sources.len() > 100, "{sources:?}");
    sources
}

/// The rows of the tables whose first column is headed so, cell by cell.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/observability.md")).unwrap();
    let (mut rows, mut is_inside) = (Vec::new(), false);
    for line in page.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            is_inside &= line.starts_with('|');
            continue;
        };
        let cells: Vec<_> = row.split('|').map(|it| it.trim().to_owned()).collect();
        if is_inside {
            rows.push(cells);
        }
        is_inside |= row.starts_with(&format!("{heading} |"));
    }
    assert!(rows.len() > 5, "{heading}: {rows:?}");
    rows
}

/// What stands in a cell, such as `` `service`, `id` ``.
fn words(cell: &str) -> BTreeSet<String> {
    let words = cell.split(", ").map(|it| it.trim_matches('`').to_owned());
    words.filter(|it| !it.is_empty()).collect()
}

/// What is said of an event, in all the places that log it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

/// What stands between the parenthesis that `text` begins behind and its end, split at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut depth, mut is_quoted) = (vec![String::new()], 0, false);
    for letter in text.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '(' | '[' | '{' if !is_quoted => depth += 1,
            ')' if !is_quoted && depth == 0 => break,
            ')' | ']' | '}' if !is_quoted => depth -= 1,
            ',' if !is_quoted && depth == 0 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        arguments.last_mut().unwrap().push(letter);
    }
    let arguments = arguments.iter().map(|it| it.trim().to_owned());
    arguments.filter(|it| !it.is_empty()).collect()
}

fn logged() -> BTreeMap<String, Event> {
    let mut events = BTreeMap::<_, Event>::new();
    for (path, text) in sources() {
        for (at, _) in text.match_indices("tracing::") {
            let path = path.display();
            let said = &text[at + "tracing::".len()..];
            let (level, said) = said.split_once("!(").unwrap();
            let known = ["error", "warn", "info", "debug", "trace"];
            let line = text[..at].lines().count();
            assert!(
                known.contains(&level),
                "{path}:{line}: expected: tracing::warn!(...)"
            );
            let arguments = arguments(said);
            let (name, rest) = arguments.split_first().unwrap();
            let name = name
                .strip_prefix("name: \"")
                .and_then(|it| it.strip_suffix('"'));
            let name = name.unwrap_or_else(|| panic!("{path}:{line}: expected: a name first"));
            let event = events.entry(name.to_owned()).or_default();
            event.levels.insert(level.to_uppercase());
            let fields = rest.iter().filter(|it| !it.starts_with('"'));
            event.fields.extend(fields.map(|field| {
                let name = field.split('=').next().unwrap();
                name.trim().trim_start_matches(['%', '?']).to_owned()
            }));
        }
    }
    events
}

#[test]
fn every_event_is_listed_with_its_levels_and_fields_and_no_other() {
    let listed = rows("event").into_iter().map(|cells| {
        let event = Event {
            levels: words(&cells[1]),
            fields: words(&cells[2]),
        };
        (cells[0].trim_matches('`').to_owned(), event)
    });
    let (count, listed) = (listed.len(), listed.collect::<BTreeMap<_, _>>());
    assert_eq!(count, listed.len(), "some are listed twice");
    assert_same(&listed, &logged());
}

#[test]
fn every_warning_says_what_to_do() {
    for cells in rows("event") {
        let is_warning = cells[1].contains("WARN");
        let is_ours = !cells[0].contains("embedded");
        assert!(!is_warning || !is_ours || !cells[4].is_empty(), "{cells:?}");
        assert!(!cells[3].is_empty(), "{cells:?}");
    }
}

/// A metric's type and unit.
#[derive(Debug, PartialEq, Eq)]
struct Metric {
    kind: String,
    unit: String,
}

/// The metrics that are described, by their names.
fn counted() -> BTreeMap<String, Metric> {
    let (mut names, mut described) = (BTreeMap::new(), BTreeMap::new());
    for (path, text) in sources() {
        for line in text.lines().filter(|it| it.contains("\"switchboard_")) {
            // Its users look for a constant, and so does this test.
            let constant = line.trim().strip_prefix("const ").unwrap_or_else(|| {
                panic!(
                    "{}: {line} (expected: const NAME: &str = ...)",
                    path.display()
                )
            });
            let (constant, name) = constant.split_once(": &str = ").unwrap();
            let name = name.trim_matches(['"', ';']).to_owned();
            assert!(names.insert(constant.to_owned(), name).is_none(), "{line}");
        }
        for (at, macro_name) in text.match_indices("metrics::describe_") {
            let (kind, said) = text[at + macro_name.len()..].split_once("!(").unwrap();
            let arguments = arguments(said);
            let unit = arguments[1].strip_prefix("Unit::").unwrap().to_lowercase();
            let kind = kind.to_owned();
            described.insert(arguments[0].clone(), Metric { kind, unit });
        }
    }
    let metrics = described.into_iter().map(|(constant, metric)| {
        let name = names.remove(&constant).expect(&constant);
        (name, metric)
    });
    let metrics = metrics.collect();
    assert!(names.is_empty(), "not described: {names:?}");
    metrics
}

#[test]
fn every_metric_is_listed_with_its_type_and_unit_and_no_other() {
    let listed = rows("metric").into_iter().map(|cells| {
        let metric = Metric {
            kind: cells[1].clone(),
            unit: cells[2].clone(),
        };
        (cells[0].trim_matches('`').to_owned(), metric)
    });
    assert_same(&listed.collect(), &counted());
}

/// As Prometheus and OpenTelemetry have it.
#[test]
fn metrics_are_named_by_their_types_and_units() {
    for (name, Metric { kind, unit }) in counted() {
        assert!(name.starts_with("switchboard_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert_eq!(unit == "seconds", name.ends_with("_seconds"), "{name}");
        let is_moment = kind == "gauge" && unit == "seconds";
        assert_eq!(is_moment, name.ends_with("_timestamp_seconds"), "{name}");
    }
}

#[test]
fn every_metric_says_what_it_means_and_when_to_be_woken() {
    for cells in rows("metric") {
        assert!(!cells[4].is_empty() && !cells[5].is_empty(), "{cells:?}");
    }
}

#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(
    listed: &BTreeMap<String, T>,
    there: &BTreeMap<String, T>,
) {
    let missing = there.keys().filter(|it| !listed.contains_key(*it));
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "not listed");
    let untrue = listed.keys().filter(|it| !there.contains_key(*it));
    assert_eq!(untrue.collect::<Vec<_>>(), [""; 0], "listed, and not there");
    for (name, is) in there {
        assert_eq!(&listed[name], is, "{name}: listed otherwise");
    }
}
