//! Encoding without a server: layout, bounds and the errors.

use std::sync::Arc;

use arrow_array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, StringArray, new_null_array};

use super::*;
use crate::postgres::shape::{Relation, ShapeColumn};
use crate::postgres::sql::TableName;

fn shape() -> TargetShape {
    let columns = OCP_DAILY_SUMMARY
        .columns
        .iter()
        .map(|column| ShapeColumn {
            name: column.name.to_owned(),
            kind: match column.target_type {
                TargetType::Uuid => ColumnKind::Uuid,
                TargetType::Integer => ColumnKind::Integer,
                TargetType::Varchar(limit) => ColumnKind::Varchar(Some(limit)),
                TargetType::Text => ColumnKind::Text,
                TargetType::Date => ColumnKind::Date,
                TargetType::Json => ColumnKind::Jsonb,
                TargetType::Decimal => ColumnKind::Numeric(Some((33, 15))),
            },
            not_null: column.not_null,
            fills_itself: false,
            is_generated: false,
        })
        .collect();
    TargetShape { name: TableName::new("s", "t"), relation: Relation::Plain, columns }
}

/// Rows of nulls, but for the days and the given columns.
fn batch(row_count: usize, given: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = OCP_DAILY_SUMMARY.rollup_columns().map(|column| {
        let data_type = arrow_type(column.target_type);
        let array = match given.iter().find(|(name, _)| *name == column.name) {
            Some((_, array)) => Arc::clone(array),
            None if data_type == DataType::Date32 => Arc::new(Date32Array::from(vec![20_000; row_count])),
            None => new_null_array(&data_type, row_count),
        };
        (column.name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn decimals(values: Vec<i128>) -> ArrayRef {
    let array = Decimal128Array::from(values);
    Arc::new(array.with_precision_and_scale(DECIMAL_PRECISION, DECIMAL_SCALE).expect("33, 15"))
}

#[test]
fn a_day_without_rows_is_a_header_and_a_trailer() {
    let frames = encode(&[], &shape()).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].len(), 19 + 2);
    assert!(frames[0].starts_with(b"PGCOPY\n\xff\r\n\0"));
    assert!(frames[0].ends_with(&[0xff, 0xff]));
}

#[test]
fn frames_have_a_lower_and_an_upper_bound() {
    let labels: ArrayRef = Arc::new(StringArray::from(vec![format!("{{\"a\":\"{}\"}}", "x".repeat(40_000)); 500]));
    let frames = encode(&[batch(500, vec![("pod_labels", labels)])], &shape()).unwrap();
    let total: usize = frames.iter().map(Bytes::len).sum();
    assert!(total > 500 * 40_000);
    assert!(frames.iter().all(|frame| frame.len() <= LARGEST_FRAME_BYTES));
    assert!(frames.len() <= total / FRAME_BYTES + 1, "{} frames of {total} bytes", frames.len());
}

#[test]
fn a_value_that_does_not_fit_is_named_by_column_and_position_over_all_batches() {
    let good = batch(3, vec![]);
    let long: ArrayRef = Arc::new(StringArray::from(vec!["short", &"n".repeat(254)]));
    let error = encode(&[good.clone(), batch(2, vec![("node", long)])], &shape()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueUnusable);
    assert!(error.to_string().contains("column `node`, row 4"), "{error}");
    assert!(!error.to_string().contains("nnn"), "{error}");

    let nul: ArrayRef = Arc::new(StringArray::from(vec!["a\0b"]));
    let error = encode(&[batch(1, vec![("namespace", nul)])], &shape()).unwrap_err();
    assert!(error.to_string().contains("column `namespace`, row 0"), "{error}");

    let wide = decimals(vec![10_i128.pow(33)]);
    let error = encode(&[batch(1, vec![("node_capacity_cpu_cores", wide)])], &shape()).unwrap_err();
    assert!(error.to_string().contains("more than 33 digits"), "{error}");
}

#[test]
fn a_batch_with_other_columns_is_our_bug() {
    let strange = RecordBatch::try_from_iter([("node", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    let error = encode(&[strange], &shape()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert!(error.to_string().contains("report_period_id"), "{error}");

    let whole = batch(1, vec![]);
    let mut columns: Vec<(String, ArrayRef)> =
        whole.schema().fields().iter().zip(whole.columns()).map(|(f, c)| (f.name().clone(), Arc::clone(c))).collect();
    columns.push(("surplus".to_owned(), Arc::new(Int32Array::from(vec![1]))));
    let error = encode(&[RecordBatch::try_from_iter(columns).unwrap()], &shape()).unwrap_err();
    assert!(error.to_string().contains("surplus"), "{error}");
}
