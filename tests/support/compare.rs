//! Rows that were written against rows that were expected: text and JSON exactly, decimals within the contract's tolerance.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::collections::BTreeMap;

use gristmill::schema::target::{OCP_DAILY_SUMMARY, TargetType};
use serde_json::Value;

use super::csv::Row;

const RELATIVE_TOLERANCE: f64 = 1e-12;
const ABSOLUTE_TOLERANCE: f64 = 1e-9;

/// Texts that must be equal → numbers that must be close.
type Rows = BTreeMap<Vec<Option<String>>, Vec<Vec<Option<f64>>>>;

/// Compares as multisets; the error lists what is missing and what is extra.
pub fn same_rows(expected: &[Row], found: &[Row]) -> Result<(), String> {
    let (expected, mut found) = (index(expected), index(found));
    let mut problems = Vec::new();
    for (texts, rows) in expected {
        let candidates = found.entry(texts.clone()).or_default();
        for row in rows {
            match candidates.iter().position(|candidate| are_close(&row, candidate)) {
                Some(position) => {
                    candidates.swap_remove(position);
                }
                None => problems.push(format!("missing {texts:?} {row:?}, left with these texts: {candidates:?}")),
            }
        }
    }
    for (texts, rows) in found {
        problems.extend(rows.iter().map(|row| format!("extra {texts:?} {row:?}")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let shown = problems.iter().take(6).cloned().collect::<Vec<_>>().join("\n    ");
    Err(format!("{} differences:\n    {shown}", problems.len()))
}

fn index(rows: &[Row]) -> Rows {
    let mut index = Rows::new();
    for row in rows {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for column in OCP_DAILY_SUMMARY.rollup_columns() {
            let value = row.get(column.name).unwrap_or_else(|| panic!("column {} is there", column.name)).as_deref();
            match column.target_type {
                TargetType::Decimal => numbers.push(value.map(|text| text.parse().expect("a decimal"))),
                TargetType::Json => texts.push(value.map(canonical)),
                _ => texts.push(value.map(str::to_owned)),
            }
        }
        index.entry(texts).or_default().push(numbers);
    }
    index
}

/// JSON with sorted keys, so that texts can be compared as values. Numbers keep their text.
fn canonical(text: &str) -> String {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(entries) => {
                let entries: BTreeMap<String, Value> = entries.into_iter().map(|(k, v)| (k, sorted(v))).collect();
                Value::Object(entries.into_iter().collect())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
            // PostgreSQL prints the zeros of the usage cost as they were written; 0 and 0.000000000 are one value.
            Value::Number(number) => {
                let value: f64 = number.to_string().parse().expect("a number");
                if value == 0.0 { Value::from(0) } else { Value::Number(number) }
            }
            other => other,
        }
    }
    sorted(serde_json::from_str(text).expect("labels are JSON")).to_string()
}

fn are_close(left: &[Option<f64>], right: &[Option<f64>]) -> bool {
    left.iter().zip(right).all(|(left, right)| match (left, right) {
        (Some(left), Some(right)) => {
            (left - right).abs() <= RELATIVE_TOLERANCE * left.abs().max(right.abs()) + ABSOLUTE_TOLERANCE
        }
        (left, right) => left.is_none() && right.is_none(),
    })
}
