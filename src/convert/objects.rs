//! Rows of one report and day → the bytes of a raw and of a daily Parquet object.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use super::block::Part;
use super::daily::daily_batch;
use super::header::Shape;
use crate::objects::writer_options;
use crate::schema::source::Variant;
use crate::time::UsageDay;

/// Named in every file; fixed, so that another version does not change the bytes by its name alone.
const CREATED_BY: &str = "gristmill convert";

/// Neighbouring rows of a part.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) part: Arc<Part>,
    pub(super) rows: Range<usize>,
}

impl Slice {
    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }
}

/// The rows of an object, and what it says about them.
#[derive(Debug)]
pub(super) struct ObjectRows {
    pub(super) shape: Arc<Shape>,
    pub(super) day: UsageDay,
    pub(super) slices: Vec<Slice>,
    /// What is kept beside the rows, in Parquet and in the metadata of the stored object.
    pub(super) metadata: Vec<(&'static str, String)>,
}

impl ObjectRows {
    pub(super) fn row_count(&self) -> usize {
        self.slices.iter().map(Slice::row_count).sum()
    }
}

/// A finished object: its number of rows and its bytes.
pub(super) type Encoded = (usize, Vec<u8>);

/// Encodes one copy of an object.
pub(super) fn encode(rows: &ObjectRows, variant: Variant) -> Result<Encoded, ParquetError> {
    match variant {
        Variant::Raw => {
            let with_partitions = rows.slices.iter().any(|slice| slice.part.has_profiles);
            let schema = rows.shape.raw_schema(with_partitions);
            let indices: Vec<usize> = rows.shape.raw_columns(with_partitions).map(|(index, _)| index).collect();
            let batches = rows.slices.iter().map(|slice| {
                let Slice { part, rows } = slice;
                let arrays = indices.iter().map(|index| part.columns[*index].slice(rows.start, rows.len()));
                Ok(RecordBatch::try_new(Arc::clone(&schema), arrays.collect())?)
            });
            write(&schema, batches, rows)
        }
        Variant::Daily => {
            let batch = daily_batch(&rows.shape, &rows.slices, rows.day)?;
            write(&batch.schema(), std::iter::once(Ok(batch)), rows)
        }
    }
}

fn write(
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, ParquetError>>,
    rows: &ObjectRows,
) -> Result<Encoded, ParquetError> {
    let options = writer_options(CREATED_BY, rows.row_count().max(1));
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options)?;
    let mut row_count = 0;
    for batch in batches {
        let batch = batch?;
        row_count += batch.num_rows();
        writer.write(&batch)?;
    }
    for (key, value) in &rows.metadata {
        writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
    }
    Ok((row_count, writer.into_inner()?))
}
