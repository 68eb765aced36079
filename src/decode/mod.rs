//! Column bytes of one row group → batches of typed columns, dictionaries kept.
//!
//! Physical types are coerced here (contract, section 1.5) and nowhere else. No row is looked at one by one.

mod column;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

use crate::error::ErrorKind;
use crate::footers::{PageProblem, check_pages};
use crate::impl_failure;
use crate::plan::projection::Projection;
use crate::schema::source::Column;

use column::Unusable;
pub use column::{BatchColumn, LabelColumn, TextColumn, Times};

/// Rows per batch: a batch of about 17 columns then stays in the second-level cache (see docs/architecture.md, speed).
pub const BATCH_ROWS: usize = 4_096;

/// Some rows of a row group.
#[derive(Debug)]
pub struct Batch {
    /// Position of the first row within the row group.
    pub first_row: usize,
    /// Number of rows.
    pub row_count: usize,
    /// `interval_start`.
    pub times: Times,
    /// The scan's columns in the scan's order; the first one is `interval_start` itself and stays empty here.
    pub columns: Vec<BatchColumn>,
}

/// Why a row group cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The Parquet library refuses the bytes.
    #[error("object `{object}`, row group {row_group}: the columns cannot be decoded")]
    Parquet {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// What the Parquet library says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A page claims what cannot be, or differs from its checksum.
    #[error("object `{object}`, row group {row_group}: {problem}")]
    Page {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Which page, and why.
        problem: PageProblem,
    },
    /// Fewer or more rows than the footer promises.
    #[error("object `{object}`, row group {row_group}: {found} rows, the footer says {expected}")]
    RowCount {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Rows of the footer.
        expected: usize,
        /// Rows decoded.
        found: usize,
    },
    /// A name or label is not text.
    #[error("object `{object}`, row group {row_group}, row {row}: column `{column}` is not UTF-8")]
    NotUtf8 {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Position of the row within the row group.
        row: usize,
        /// Name of the column.
        column: &'static str,
    },
    /// A decoded column has a type that the plan did not ask for.
    #[error("object `{object}`, row group {row_group}: column `{column}` decodes to {found}")]
    ColumnType {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Name of the column.
        column: &'static str,
        /// Arrow type.
        found: String,
    },
}

impl DecodeError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parquet { .. } | Self::Page { .. } | Self::RowCount { .. } => ErrorKind::ObjectUnreadable,
            Self::ColumnType { .. } | Self::NotUtf8 { .. } => ErrorKind::ColumnUnusable,
        }
    }
}

impl_failure!(DecodeError);

/// What to decode, and what to call it in messages.
#[derive(Debug, Clone)]
pub struct RowGroup<'a> {
    /// Key of the object.
    pub object: &'a str,
    /// Footer of the object.
    pub metadata: Arc<ParquetMetaData>,
    /// Position of the row group.
    pub row_group: usize,
    /// Columns to read.
    pub projection: &'a Projection,
    /// The scan's columns, `interval_start` first.
    pub columns: &'a [&'static Column],
    /// Rows per batch.
    pub batch_rows: usize,
}

/// Iterator over the batches of a row group; ends with an error if the rows do not add up to the footer's count.
pub struct Batches<'a> {
    row_group: RowGroup<'a>,
    reader: ParquetRecordBatchReader,
    /// For each column of the scan its position in the decoded batch.
    positions: Vec<Option<usize>>,
    next_row: usize,
    expected_rows: usize,
    ended: bool,
}

impl<'a> Batches<'a> {
    /// Opens a row group for decoding. Nothing is decoded before all pages have been looked at.
    pub fn open<R: ChunkReader + Clone + 'static>(bytes: R, row_group: RowGroup<'a>) -> Result<Self, DecodeError> {
        check_pages(&bytes, &row_group.metadata, row_group.row_group, &row_group.projection.leaves).map_err(
            |problem| DecodeError::Page {
                object: row_group.object.to_owned(),
                row_group: row_group.row_group,
                problem,
            },
        )?;
        let refuse = |source: parquet::errors::ParquetError| parquet_error(&row_group, source);
        let options = ArrowReaderOptions::new().with_schema(Arc::clone(&row_group.projection.schema));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&row_group.metadata), options).map_err(refuse)?;
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), row_group.projection.leaves.iter().copied());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
            .with_projection(mask)
            .with_row_groups(vec![row_group.row_group])
            .with_batch_size(row_group.batch_rows)
            .build()
            .map_err(refuse)?;
        let mut present: Vec<usize> = row_group.projection.roots.iter().flatten().copied().collect();
        present.sort_unstable();
        let position = |root: &Option<usize>| root.and_then(|root| present.binary_search(&root).ok());
        let positions = row_group.projection.roots.iter().map(position).collect();
        let rows = row_group.metadata.row_group(row_group.row_group).num_rows();
        let expected_rows = usize::try_from(rows).unwrap_or(0);
        Ok(Self { row_group, reader, positions, next_row: 0, expected_rows, ended: false })
    }

    fn convert(&mut self, decoded: &RecordBatch) -> Result<Batch, DecodeError> {
        let array = |position: usize| self.positions[position].map(|at| decoded.column(at));
        let refuse = |position: usize, unusable| self.refuse(position, array(position), unusable);
        let times = Times::new(array(0), decoded.num_rows()).ok_or_else(|| refuse(0, Unusable::Type))?;
        let mut columns = vec![BatchColumn::Absent];
        for (position, column) in self.row_group.columns.iter().enumerate().skip(1) {
            let column = BatchColumn::new(column.column_type, array(position));
            let is_unchecked = self.row_group.projection.unchecked[position];
            let column = if is_unchecked { column.and_then(BatchColumn::checked) } else { column };
            columns.push(column.map_err(|unusable| refuse(position, unusable))?);
        }
        let first_row = self.next_row;
        self.next_row += decoded.num_rows();
        Ok(Batch { first_row, row_count: decoded.num_rows(), times, columns })
    }

    fn refuse(&self, position: usize, array: Option<&ArrayRef>, unusable: Unusable) -> DecodeError {
        let (object, row_group) = (self.row_group.object.to_owned(), self.row_group.row_group);
        let column = self.row_group.columns[position].name;
        match unusable {
            Unusable::Type => {
                let found = array.map_or_else(String::new, |array| array.data_type().to_string());
                DecodeError::ColumnType { object, row_group, column, found }
            }
            Unusable::NotUtf8 { row } => DecodeError::NotUtf8 { object, row_group, row: self.next_row + row, column },
        }
    }

    fn end(&mut self) -> Option<Result<Batch, DecodeError>> {
        self.ended = true;
        if self.next_row == self.expected_rows {
            return None;
        }
        Some(Err(DecodeError::RowCount {
            object: self.row_group.object.to_owned(),
            row_group: self.row_group.row_group,
            expected: self.expected_rows,
            found: self.next_row,
        }))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.reader.next() {
            None => self.end(),
            Some(Ok(decoded)) => {
                let batch = self.convert(&decoded);
                self.ended = batch.is_err();
                Some(batch)
            }
            Some(Err(source)) => {
                self.ended = true;
                Some(Err(parquet_error(&self.row_group, source)))
            }
        }
    }
}

fn parquet_error(row_group: &RowGroup<'_>, source: impl std::error::Error + Send + Sync + 'static) -> DecodeError {
    DecodeError::Parquet {
        object: row_group.object.to_owned(),
        row_group: row_group.row_group,
        source: Box::new(source),
    }
}
