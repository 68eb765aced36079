//! How a run ended → one JSON line: whole for standard output, cut to what Kubernetes keeps for the termination log.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use tracing::warn;

use super::report::{DayReport, RunReport};
use crate::config::TERMINATION_LOG;
use crate::error::Failure;

/// Kubernetes keeps so many bytes of a termination log and cuts the rest off.
pub const MOST_BYTES: usize = 4_096;
/// Failed days that the short form names at most; fewer if their reasons are long.
const FAILED_DAYS: usize = 8;
/// Bytes of a reason in the short form.
const REASON_BYTES: usize = 400;

/// The whole report on one line, without line end.
pub fn line(report: &RunReport) -> String {
    serde_json::to_string(report).unwrap_or_else(|_| short_line(report))
}

/// The line of a termination log: the whole report if it fits, else the short form.
pub fn short_line(report: &RunReport) -> String {
    let whole = serde_json::to_string(report).unwrap_or_default();
    if !whole.is_empty() && whole.len() < MOST_BYTES {
        return whole;
    }
    let mut days = serde_json::Map::new();
    for day in &report.days {
        let count = days.get(&day.status).and_then(Value::as_u64).unwrap_or(0);
        days.insert(day.status.clone(), json!(count + 1));
    }
    let failed: Vec<&DayReport> = report.days.iter().filter(|day| day.error.is_some()).collect();
    let reason = |text: &Option<String>| text.as_deref().map(|text| cut(text, REASON_BYTES));
    for shown in (0..=failed.len().min(FAILED_DAYS)).rev() {
        let failed_day = |day: &&DayReport| json!({"source": day.source, "day": day.day, "error": reason(&day.error)});
        let failed_days: Vec<Value> = failed[..shown].iter().map(failed_day).collect();
        let short = json!({
            "run_id": report.run_id,
            "version": report.version,
            "exit_code": report.exit_code,
            "error": reason(&report.error),
            "windows": report.windows.iter().take(12).collect::<Vec<_>>(),
            "days": days,
            "failed_day_count": failed.len(),
            "failed_days": failed_days,
            "rows_in": report.rows_in,
            "rows_out": report.rows_out,
            "wall_seconds": report.wall_seconds,
            "peak_memory_bytes": report.peak_memory_bytes,
        })
        .to_string();
        if short.len() < MOST_BYTES {
            return short;
        }
    }
    json!({"run_id": report.run_id, "exit_code": report.exit_code, "error": reason(&report.error)}).to_string()
}

/// The line of a run that has no report.
pub fn failure_line(failure: &Failure) -> String {
    json!({"exit_code": failure.kind.exit_code(), "error": cut(&failure.full_text(), REASON_BYTES)}).to_string()
}

/// Puts a line into the termination log. The usual file is not made where it does not exist: outside of Kubernetes nobody
/// reads it. A log that cannot be written costs a warning and no more.
pub fn leave(path: &Path, line: &str) {
    let is_usual = path == Path::new(TERMINATION_LOG);
    let opened = std::fs::OpenOptions::new().write(true).truncate(true).create(!is_usual).open(path);
    let written = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    match written {
        Err(error) if !(is_usual && error.kind() == std::io::ErrorKind::NotFound) => {
            warn!(path = %path.display(), %error, "the termination log cannot be written");
        }
        _ => {}
    }
}

/// The beginning of a text.
fn cut(text: &str, most_bytes: usize) -> String {
    if text.len() <= most_bytes {
        return text.to_owned();
    }
    let end = (0..=most_bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::ErrorKind;

    fn report(day_count: usize, failed_count: usize, reason: &str) -> RunReport {
        let day = |index: usize| DayReport {
            source: "11111111-2222-3333-4444-555555555555".to_owned(),
            day: format!("2025-10-{:02}", index + 1),
            status: if index < failed_count { "failed" } else { "written" }.to_owned(),
            reason: "changed: object `x` is new".to_owned(),
            is_complete: true,
            rows_in: 1_000,
            rows_out: 10,
            rows_deleted: 10,
            sums: BTreeMap::from([("pod_usage_cpu_core_hours".to_owned(), "123456.000000000000000".to_owned())]),
            error: (index < failed_count).then(|| reason.to_owned()),
        };
        RunReport {
            run_id: "r".to_owned(),
            days: (0..day_count).map(day).collect(),
            exit_code: if failed_count > 0 { 65 } else { 0 },
            error: (failed_count > 0).then(|| format!("{failed_count} days failed")),
            ..RunReport::default()
        }
    }

    #[test]
    fn a_short_report_stays_whole_and_a_long_one_keeps_what_matters() {
        let few = report(2, 0, "");
        assert_eq!(short_line(&few), line(&few));
        let many = report(31, 20, "object `x`, row group 2: \"quoted\"");
        let parsed: Value = serde_json::from_str(&short_line(&many)).unwrap();
        assert_eq!((&parsed["exit_code"], &parsed["error"]), (&json!(65), &json!("20 days failed")));
        assert_eq!(parsed["days"], json!({"failed": 20, "written": 11}));
        assert_eq!(parsed["failed_days"].as_array().unwrap().len(), FAILED_DAYS);
        assert_eq!(parsed["failed_day_count"], 20);
        assert_eq!(serde_json::from_str::<Value>(&line(&many)).unwrap()["days"].as_array().unwrap().len(), 31);
    }

    #[test]
    fn no_line_is_longer_than_kubernetes_keeps() {
        for length in [0, 100, 399, 400, 401, 5_000] {
            for character in ["x", "ß", "\"", "\u{1}"] {
                let long = report(31, 31, &character.repeat(length));
                let line = short_line(&long);
                assert!(line.len() < MOST_BYTES, "{length} {character}: {}", line.len());
                let parsed: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(parsed["exit_code"], 65, "{length} {character}");
            }
        }
        let failure = Failure::new(ErrorKind::Config, "ß\n".repeat(10_000));
        let line = failure_line(&failure);
        assert!(line.len() < MOST_BYTES && !line.contains('\n'), "{}", line.len());
    }

    #[test]
    fn a_log_is_written_where_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        leave(&path, "a line that is longer");
        leave(&path, "a line");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a line\n");
        leave(&folder.path().join("no/folder"), "lost");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
