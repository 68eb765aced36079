//! Pages that are made from the code are up to date. `UPDATE_GOLDEN=1 cargo test --test pages` rewrites them.

use std::fmt::Write;
use std::path::Path;

use gristmill::rollups::declaration::{Grouped, KeepSets, Kernel, Key, Measure, Scan};
use gristmill::rollups::semantics::Semantics;
use gristmill::rollups::{node_roles, ocp_daily_summary};
use gristmill::schema::source::Column;
use gristmill::telemetry::metrics::{METRICS, MetricKind};

const BEGIN: &str =
    "<!-- generated from the declarations by tests/pages.rs: UPDATE_GOLDEN=1 cargo test --test pages -->\n";
const END: &str = "<!-- end of the generated part -->";

const BEGIN_METRICS: &str =
    "<!-- generated from src/telemetry/metrics.rs by tests/pages.rs: UPDATE_GOLDEN=1 cargo test --test pages -->\n";

#[test]
fn the_page_of_rollups_shows_the_declarations() {
    assert_up_to_date("docs/rollups.md", BEGIN, &generated());
}

#[test]
fn the_page_of_operations_shows_every_metric() {
    let mut table = String::from("\n| metric | kind | labels | what |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        writeln!(table, "| `{}` | {kind} | {} | {} |", metric.name, metric.labels, metric.help).expect("a string");
    }
    table.push('\n');
    assert_up_to_date("docs/operations.md", BEGIN_METRICS, &table);
}

/// The part of a page between its markers is this text.
fn assert_up_to_date(name: &str, begin: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let page = std::fs::read_to_string(&path).expect(name);
    let (head, rest) = page.split_once(begin).expect("the page has the marker of the generated part");
    let (_, tail) = rest.split_once(END).expect("the generated part ends");
    let expected = format!("{head}{begin}{generated}{END}{tail}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).expect("the page can be written");
    }
    let page = std::fs::read_to_string(&path).expect(name);
    assert!(page == expected, "{name} is out of date: UPDATE_GOLDEN=1 cargo test --test pages");
}

fn generated() -> String {
    let mut out = String::new();
    for (title, scans) in [
        ("Daily summary, `balanced`", ocp_daily_summary::scans(Semantics::Balanced, |_| true)),
        ("Daily summary, `self_hosted` and `trino`", ocp_daily_summary::scans(Semantics::SelfHosted, |_| true)),
        ("Node roles of a window (`balanced`)", node_roles::scans(Semantics::Balanced, |_| true)),
    ] {
        writeln!(out, "\n**{title}**\n\n| scan | reads | kernels |\n|---|---|---|").expect("a string");
        for scan in scans {
            let kernels: Vec<String> = scan.kernels.iter().map(kernel).collect();
            writeln!(out, "| `{}` | {} | {} |", scan.name, reads(&scan), kernels.join("<br>")).expect("a string");
        }
    }
    out.push('\n');
    out
}

fn reads(scan: &Scan) -> String {
    let columns = scan.columns();
    let required: Vec<&str> = columns.iter().filter(|column| column.required).map(|column| column.name).collect();
    format!("{}; {} columns, required: {}", scan.table, columns.len(), required.join(", "))
}

fn kernel(kernel: &Kernel) -> String {
    let names =
        |columns: &[&'static Column]| columns.iter().map(|c| format!("`{}`", c.name)).collect::<Vec<_>>().join(", ");
    match kernel {
        Kernel::Grouped(grouped) => text_of_grouped(grouped, &names),
        Kernel::Capacity(capacity) => format!(
            "capacity per `{}`: maximum per interval, summed over the day, of {}",
            capacity.key.name,
            names(&capacity.measures)
        ),
        Kernel::Members(members) => format!(
            "of the rows whose ({}) occurs in `{}`: {} `{}` per `{}`",
            names(&members.pair),
            members.of_scan,
            if members.greatest_attribute { "the greatest" } else { "every" },
            members.attribute.name,
            members.place.name
        ),
        Kernel::LabelSets(sets) => format!(
            "{} of `{}` per `{}`",
            match sets.keep {
                KeepSets::All => "all distinct sets",
                KeepSets::Latest => "the latest set",
            },
            sets.labels.name,
            sets.key.name
        ),
    }
}

fn text_of_grouped(grouped: &Grouped, names: &dyn Fn(&[&'static Column]) -> String) -> String {
    let keys: Vec<String> = grouped
        .keys
        .iter()
        .map(|key| match key {
            Key::Value(column) => format!("`{}`", column.name),
            Key::Equals(column, constant) => format!("`{}` = `{constant}`", column.name),
            Key::HasEntry(column, key, value) => format!("`{}` holds `{key}` = `{value}`", column.name),
        })
        .collect();
    let mut text = format!("grouped by {}", keys.join(", "));
    if let Some(column) = grouped.only_named {
        write!(text, " (only where `{}` is named)", column.name).expect("a string");
    }
    let sums: Vec<String> = grouped
        .sums
        .iter()
        .map(|measure| match measure {
            Measure::Column(column) => format!("`{}`", column.name),
            Measure::OrGreatest { column, left, right, .. } => {
                format!("`{}` (if null: the greater of `{}` and `{}`)", column.name, left.name, right.name)
            }
        })
        .collect();
    for (what, columns) in
        [("sums", sums.join(", ")), ("maxima", names(&grouped.maxima)), ("text maxima", names(&grouped.text_maxima))]
    {
        if !columns.is_empty() {
            write!(text, "; {what}: {columns}").expect("a string");
        }
    }
    text
}
