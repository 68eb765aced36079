//! Finished columns → the same with the doubles that the decimals were rounded from, to compare engines by.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

use super::batches::EnrichError;
use crate::rollups::ocp_daily_summary::{COLUMNS, ColumnValue, Finish};
use crate::time::UsageDay;

/// Decimals become Float64; everything else stays.
/// Shape: `rounded` are the batches made of `finish`, in the order of its rows.
pub fn unrounded(day: UsageDay, finish: &Finish, rounded: &[RecordBatch]) -> Result<Vec<RecordBatch>, EnrichError> {
    let mut rest = finish.rows.as_slice();
    let mut batches = Vec::with_capacity(rounded.len());
    for batch in rounded {
        let (rows, after) = rest.split_at(batch.num_rows());
        rest = after;
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for ((field, column), (_, value)) in batch.schema().fields().iter().zip(batch.columns()).zip(&COLUMNS) {
            if let ColumnValue::Number { get, .. } = value {
                let numbers: Float64Array = rows.iter().map(get).collect();
                fields.push(Arc::new(Field::new(field.name(), DataType::Float64, true)));
                columns.push(Arc::new(numbers) as ArrayRef);
            } else {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
            }
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        batches.push(batch.map_err(|source| EnrichError::Arrow { day, source })?);
    }
    Ok(batches)
}
