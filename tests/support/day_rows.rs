//! Finished rows of a day for tests of the PostgreSQL target, made without the pipeline.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray, new_null_array,
};
use arrow_schema::DataType;
use gristmill::ledger::MadeFrom;
use gristmill::schema::target::{OCP_DAILY_SUMMARY, TargetType};
use gristmill::sink::{DayRows, Rows};
use gristmill::time::UsageDay;
use uuid::Uuid;

/// One in fixed-point units.
pub const UNIT: i128 = 1_000_000_000_000_000;
/// The measure that the made rows fill and sum.
pub const MEASURE: &str = "pod_usage_cpu_core_hours";

/// The day of a date.
pub fn day(text: &str) -> UsageDay {
    UsageDay::from_date(text.parse().expect("a date"))
}

/// A batch of the rollup's columns: the given arrays, constants where a column may not be null, null elsewhere.
pub fn batch(day: UsageDay, source: Uuid, row_count: usize, given: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = OCP_DAILY_SUMMARY.rollup_columns().map(|column| {
        let array: ArrayRef = match given.iter().find(|(name, _)| *name == column.name) {
            Some((_, array)) => Arc::clone(array),
            None => match column.target_type {
                TargetType::Date => Arc::new(Date32Array::from(vec![day.0; row_count])),
                TargetType::Uuid => {
                    Arc::new(FixedSizeBinaryArray::new(16, source.as_bytes().repeat(row_count).into(), None))
                }
                TargetType::Integer => new_null_array(&DataType::Int32, row_count),
                TargetType::Decimal => new_null_array(&DataType::Decimal128(33, 15), row_count),
                TargetType::Varchar(_) | TargetType::Text | TargetType::Json => {
                    new_null_array(&DataType::Utf8, row_count)
                }
            },
        };
        (column.name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Decimals in fixed-point units.
pub fn decimals(values: Vec<Option<i128>>) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(33, 15).expect("a valid precision"))
}

/// Texts.
pub fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

/// `row_count` pod rows, each with `usage` core hours in namespace `ns`.
pub fn pod_rows(day: UsageDay, source: Uuid, row_count: usize, usage: i128, report_period_id: Option<i32>) -> DayRows {
    let given = vec![
        ("report_period_id", Arc::new(Int32Array::from(vec![report_period_id; row_count])) as ArrayRef),
        ("namespace", texts(vec![Some("ns"); row_count])),
        ("data_source", texts(vec![Some("Pod"); row_count])),
        (MEASURE, decimals(vec![Some(usage * UNIT); row_count])),
        ("all_labels", texts(vec![Some("{}"); row_count])),
    ];
    DayRows {
        day,
        rows: Rows::Batches(vec![batch(day, source, row_count, given)]),
        input_row_count: row_count as u64 * 24,
        fingerprint: [7; 32],
        made_from: MadeFrom::default(),
        pod_sums: Vec::new(),
        basis: None,
        sums: vec![(MEASURE, usage * UNIT * row_count as i128)],
    }
}
