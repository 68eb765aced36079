//! Row groups of a plan → a table of DataFusion that streams them: one row group per partition in memory, only the columns
//! that a statement uses, each in the type that the SQL expects.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use parquet::basic::ConvertedType;
use parquet::file::metadata::ParquetMetaData;

use super::coerce::{coerce, sql_type};
use super::error::RecomputeError;
use super::segments::Segments;
use crate::footers::check_pages;
use crate::plan::ChunkPlan;
use crate::schema::source::{Column, Found};
use crate::store::Store;

/// Row groups that a partition fetches ahead of the one it decodes.
const FETCHED_AHEAD: usize = 1;
/// Unwanted bytes between two columns that are read along rather than asked around.
const JOINED_GAP_BYTES: u64 = 512 * 1024;

/// One report as the SQL sees it.
pub(super) struct ReportTable {
    store: Store,
    columns: Vec<&'static Column>,
    chunks: Vec<ChunkPlan>,
    partitions: usize,
}

impl ReportTable {
    /// A table with these columns over these row groups, in at most so many partitions.
    pub(super) fn new(store: &Store, columns: &[&'static Column], chunks: Vec<ChunkPlan>, partitions: usize) -> Self {
        Self { store: store.clone(), columns: columns.to_vec(), chunks, partitions: partitions.max(1) }
    }
}

impl fmt::Debug for ReportTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportTable").field("row_groups", &self.chunks.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for ReportTable {
    fn schema(&self) -> SchemaRef {
        schema_of(&self.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<&'static Column> = match projection {
            Some(wanted) => wanted.iter().map(|position| self.columns[*position]).collect(),
            None => self.columns.clone(),
        };
        let schema = schema_of(&columns);
        let partition = |number: usize| -> Arc<dyn PartitionStream> {
            let mine = self.chunks.iter().skip(number).step_by(self.partitions);
            Arc::new(Partition {
                store: self.store.clone(),
                schema: Arc::clone(&schema),
                columns: columns.clone(),
                chunks: mine.cloned().collect(),
            })
        };
        let partitions = (0..self.partitions).map(partition).collect();
        let plan = StreamingTableExec::try_new(Arc::clone(&schema), partitions, None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

fn schema_of(columns: &[&'static Column]) -> SchemaRef {
    let field = |column: &&Column| Field::new(column.name, sql_type(column.column_type), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

struct Partition {
    store: Store,
    schema: SchemaRef,
    columns: Vec<&'static Column>,
    chunks: Vec<ChunkPlan>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("row_groups", &self.chunks.len()).finish_non_exhaustive()
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batch_rows = context.session_config().batch_size();
        let (store, schema, columns) = (self.store.clone(), Arc::clone(&self.schema), self.columns.clone());
        let open = move |chunk: ChunkPlan| {
            let (store, schema, columns) = (store.clone(), Arc::clone(&schema), columns.clone());
            async move {
                let bytes = fetch(&store, &chunk, &columns).await?;
                let batches = Batches::open(chunk, bytes, schema, columns, batch_rows)?;
                Ok::<_, DataFusionError>(futures::stream::iter(batches))
            }
        };
        let batches = futures::stream::iter(self.chunks.clone()).map(open).buffered(1 + FETCHED_AHEAD).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// Positions of the columns among the file's top-level columns; `None` where the file lacks one.
fn roots(
    chunk: &ChunkPlan,
    metadata: &ParquetMetaData,
    columns: &[&'static Column],
) -> Result<Vec<Option<usize>>, RecomputeError> {
    let fields = metadata.file_metadata().schema_descr().root_schema().get_fields();
    let mut roots = Vec::with_capacity(columns.len());
    for column in columns {
        let object = || chunk.footer.object.key.clone();
        roots.push(match column.find(fields.iter().map(|field| field.name())) {
            Found::At(root) => Some(root),
            Found::Nowhere if column.required => {
                return Err(RecomputeError::Missing { object: object(), column: column.name });
            }
            Found::Nowhere => None,
            Found::Ambiguous(names) => {
                return Err(RecomputeError::Ambiguous {
                    object: object(),
                    column: column.name,
                    names: names.join("`, `"),
                });
            }
        });
    }
    Ok(roots)
}

/// The bytes of the columns of one row group.
async fn fetch(store: &Store, chunk: &ChunkPlan, columns: &[&'static Column]) -> Result<Segments, RecomputeError> {
    let object = &chunk.footer.object;
    let size = object.size.0;
    if let Some(whole) = &chunk.footer.whole {
        return Ok(Segments::new(size, vec![(0, whole.clone())]));
    }
    let metadata = chunk.footer.metadata();
    let wanted: Vec<usize> = roots(chunk, &metadata, columns)?.into_iter().flatten().collect();
    let schema = metadata.file_metadata().schema_descr();
    let row_group = metadata.row_group(chunk.row_group);
    let mut ranges = Vec::new();
    for leaf in (0..schema.num_columns()).filter(|leaf| wanted.contains(&schema.get_column_root_idx(*leaf))) {
        let column = row_group.column(leaf);
        // An offset that points nowhere was taken out when the footer was read.
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        // Negative numbers are a corrupt footer; the library's own function panics on them.
        let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        let (start, length) = range.ok_or_else(|| undecodable(chunk, &"a column begins or ends before the object"))?;
        ranges.push(start..start.saturating_add(length).min(size));
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let read = |range: std::ops::Range<u64>| store.read_range(object.reference(), range);
    let buffers = object_store::coalesce_ranges(&ranges, read, JOINED_GAP_BYTES).await;
    let place = || (object.key.clone(), chunk.row_group);
    let buffers = buffers.map_err(|source| {
        let (object, row_group) = place();
        RecomputeError::Store { object, row_group, source }
    })?;
    Ok(Segments::new(size, ranges.into_iter().map(|range| range.start).zip(buffers).collect()))
}

/// The batches of one row group.
struct Batches {
    chunk: ChunkPlan,
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    columns: Vec<&'static Column>,
    /// For each column its position among those that are read.
    positions: Vec<Option<usize>>,
    /// Columns whose text the reader does not check.
    unchecked: Vec<bool>,
}

impl Batches {
    fn open(
        chunk: ChunkPlan,
        bytes: Segments,
        schema: SchemaRef,
        columns: Vec<&'static Column>,
        batch_rows: usize,
    ) -> Result<Self, RecomputeError> {
        let metadata = chunk.footer.metadata();
        let roots = roots(&chunk, &metadata, &columns)?;
        let parquet_schema = metadata.file_metadata().schema_descr();
        let is_wanted = |leaf: &usize| roots.contains(&Some(parquet_schema.get_column_root_idx(*leaf)));
        let leaves: Vec<usize> = (0..parquet_schema.num_columns()).filter(is_wanted).collect();
        check_pages(&bytes, &metadata, chunk.row_group, &leaves).map_err(|problem| undecodable(&chunk, &problem))?;
        let unchecked = roots.iter().map(|root| {
            let leaves = (0..parquet_schema.num_columns())
                .filter(|leaf| Some(parquet_schema.get_column_root_idx(*leaf)) == *root);
            leaves.map(|leaf| parquet_schema.column(leaf)).any(|leaf| leaf.converted_type() != ConvertedType::UTF8)
        });
        let unchecked = unchecked.collect();
        let mut read: Vec<usize> = roots.iter().flatten().copied().collect();
        read.sort_unstable();
        let positions = roots.iter().map(|root| read.binary_search(root.as_ref()?).ok()).collect();
        let opened = (|| {
            // What the writer noted about Arrow types is no concern of ours; text is read as views.
            let plain = parquet_to_arrow_schema(parquet_schema, None)?;
            let fields = plain.fields().iter().map(|field| match field.data_type() {
                DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
                _ => Arc::clone(field),
            });
            let supplied = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(supplied);
            let mask = ProjectionMask::roots(parquet_schema, roots.iter().copied().flatten());
            let metadata = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options)?;
            ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
                .with_row_groups(vec![chunk.row_group])
                .with_projection(mask)
                .with_batch_size(batch_rows)
                .build()
        })();
        match opened {
            Ok(reader) => Ok(Self { reader, schema, columns, positions, unchecked, chunk }),
            Err(error) => Err(undecodable(&chunk, &error)),
        }
    }

    /// Columns in the order of the SQL's table.
    fn coerced(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for ((column, position), unchecked) in self.columns.iter().zip(&self.positions).zip(&self.unchecked) {
            let Some(found) = position.map(|position| batch.column(position)) else {
                arrays.push(new_null_array(&sql_type(column.column_type), batch.num_rows()));
                continue;
            };
            if *unchecked {
                check_utf8(found)
                    .map_err(|reason| undecodable(&self.chunk, &format!("column `{}` {reason}", column.name)))?;
            }
            let coerced = coerce(column.column_type, found).map_err(|error| undecodable(&self.chunk, &error))?;
            arrays.push(coerced.ok_or_else(|| RecomputeError::Unusable {
                object: self.chunk.footer.object.key.clone(),
                row_group: self.chunk.row_group,
                column: column.name,
                found: found.data_type().to_string(),
            })?);
        }
        // A statement that only counts needs no column.
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        // The Parquet library has panics on damaged pages; the reader is not used again after one.
        let next = catch_unwind(AssertUnwindSafe(|| self.reader.next()));
        match next {
            Ok(Some(Ok(batch))) => Some(self.coerced(&batch)),
            Ok(Some(Err(error))) => Some(Err(undecodable(&self.chunk, &error).into())),
            Ok(None) => None,
            Err(_) => Some(Err(undecodable(&self.chunk, &"the decoder panicked").into())),
        }
    }
}

fn undecodable(chunk: &ChunkPlan, reason: &dyn fmt::Display) -> RecomputeError {
    let object = chunk.footer.object.key.clone();
    RecomputeError::Undecodable { object, row_group: chunk.row_group, reason: reason.to_string() }
}

/// Text that is annotated as something else than UTF-8 arrives unchecked.
fn check_utf8(array: &ArrayRef) -> Result<(), &'static str> {
    let is_utf8 = match array.data_type() {
        DataType::Utf8View => {
            array.as_string_view().iter().flatten().all(|text| std::str::from_utf8(text.as_bytes()).is_ok())
        }
        _ => true,
    };
    if is_utf8 { Ok(()) } else { Err("is not UTF-8") }
}
