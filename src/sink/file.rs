//! Rows → one CSV or Parquet file per day: temporary name, fsync, rename.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Int32Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, TypedDictionaryArray};
use arrow_schema::{DataType, SchemaRef};
use futures::future::{BoxFuture, FutureExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tracing::warn;
use uuid::Uuid;

use super::{DayRows, Sink, Written};
use crate::config::FileFormat;
use crate::enrich::EnrichError;
use crate::enrich::decimal::decimal_text;
use crate::error::{ErrorKind, Failure};
use crate::impl_failure;
use crate::time::UsageDay;

/// The `file` target.
#[derive(Debug, Clone)]
pub struct FileSink {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    format: FileFormat,
    schema: SchemaRef,
    /// Whether a day without input rows loses the rows of its file.
    delete_empty_days: bool,
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileSinkError {
    /// The file system refuses.
    #[error("file `{path}` cannot be written")]
    Io {
        /// Path of the file or folder.
        path: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The Parquet library refuses.
    #[error("file `{path}` cannot be written as Parquet")]
    Parquet {
        /// Path of the file.
        path: String,
        /// What the library says.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The rows cannot be made.
    #[error(transparent)]
    Rows(#[from] EnrichError),
}

impl FileSinkError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Parquet { .. } => ErrorKind::FileUnwritable,
            Self::Rows(error) => error.kind(),
        }
    }
}

impl_failure!(FileSinkError);

impl FileSink {
    /// A sink that writes into a folder, which is created if it does not exist. Unless `delete_empty_days`, the file of a day that has no
    /// input rows any more stays as it is.
    /// Errors: the folder cannot be created.
    pub fn new(
        folder: &Path,
        format: FileFormat,
        schema: SchemaRef,
        delete_empty_days: bool,
    ) -> Result<Self, FileSinkError> {
        fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
        Ok(Self { inner: Arc::new(Inner { folder: folder.to_owned(), format, schema, delete_empty_days }) })
    }
}

impl Inner {
    fn write(&self, rows: &DayRows) -> Result<Written, FileSinkError> {
        let extension = match self.format {
            FileFormat::Csv => "csv",
            FileFormat::Parquet => "parquet",
        };
        let path = self.folder.join(format!("{}.{extension}", rows.day));
        if rows.input_row_count == 0 && !self.delete_empty_days && path.exists() {
            return Ok(Written::LeftAsItWas);
        }
        // Two runs at once must not write into each other's file.
        let temporary = self.folder.join(format!(".{}.{extension}.{}.tmp", rows.day, std::process::id()));
        let written = self
            .write_to(&temporary, rows)
            .and_then(|()| fs::rename(&temporary, &path).map_err(|source| io_error(&path, source)));
        if written.is_err() {
            // The first error is the one to report; a leftover has a name that nobody reads.
            let _best_effort = fs::remove_file(&temporary);
        }
        written?;
        if let Err(error) = sync_folder(&self.folder) {
            // The rows are there for everybody to see; only a power failure could still take the name away.
            warn!(%error, "the folder's entry is not yet durable");
        }
        Ok(Written::Replaced { deleted_row_count: 0, row_count: rows.row_count() })
    }

    fn write_to(&self, path: &Path, rows: &DayRows) -> Result<(), FileSinkError> {
        let file = File::create(path).map_err(|source| io_error(path, source))?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        match self.format {
            FileFormat::Csv => {
                write_csv_header(&mut writer, &self.schema).map_err(|source| io_error(path, source))?;
                for index in 0..rows.rows.batch_count() {
                    let (batch, _) = rows.rows.batch(index)?;
                    write_csv_rows(&mut writer, &batch).map_err(|source| io_error(path, source))?;
                }
            }
            FileFormat::Parquet => {
                let refused = |source| FileSinkError::Parquet { path: path.display().to_string(), source };
                let mut parquet = parquet_writer(&mut writer, &self.schema).map_err(refused)?;
                for index in 0..rows.rows.batch_count() {
                    let (batch, _) = rows.rows.batch(index)?;
                    plain(&batch, &self.schema).and_then(|batch| parquet.write(&batch)).map_err(refused)?;
                }
                parquet.close().map_err(refused)?;
            }
        }
        let file = writer.into_inner().map_err(|error| io_error(path, error.into_error()))?;
        file.sync_all().map_err(|source| io_error(path, source))
    }
}

impl Sink for FileSink {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        // Formatting and fsync take longer than an async thread may be held.
        let inner = Arc::clone(&self.inner);
        let writing = tokio::task::spawn_blocking(move || inner.write(&rows));
        async move {
            match writing.await {
                Ok(written) => Ok(written?),
                Err(error) => Err(Failure::new(ErrorKind::Bug, format!("writing a file broke down: {error}"))),
            }
        }
        .boxed()
    }

    fn parallel_days(&self) -> usize {
        2
    }
}

fn io_error(path: &Path, source: io::Error) -> FileSinkError {
    FileSinkError::Io { path: path.display().to_string(), source }
}

/// Makes the rename durable.
fn sync_folder(folder: &Path) -> Result<(), FileSinkError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io_error(folder, source))
}

fn parquet_writer<W: Write + Send>(writer: W, schema: &SchemaRef) -> parquet::errors::Result<ArrowWriter<W>> {
    let level = ZstdLevel::try_new(1)?;
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
    ArrowWriter::try_new(writer, SchemaRef::clone(schema), Some(properties))
}

/// The batch with plain texts: how the rows share them in memory does not show in a file's schema.
fn plain(batch: &RecordBatch, schema: &SchemaRef) -> parquet::errors::Result<RecordBatch> {
    let plain = |column: &ArrayRef| match texts(column) {
        Some(texts) => Arc::new(texts.into_iter().collect::<StringArray>()),
        None => Arc::clone(column),
    };
    let columns = batch.columns().iter().map(plain).collect();
    Ok(RecordBatch::try_new(SchemaRef::clone(schema), columns)?)
}

/// A column of shared texts.
fn texts(column: &ArrayRef) -> Option<TypedDictionaryArray<'_, Int32Type, StringArray>> {
    column.as_dictionary_opt::<Int32Type>()?.downcast_dict()
}

fn write_csv_header(writer: &mut impl Write, schema: &SchemaRef) -> io::Result<()> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    writeln!(writer, "{}", names.join(","))
}

/// A line per row: `\N` for null, quotes where a field needs them, doubled inside.
fn write_csv_rows(writer: &mut impl Write, batch: &RecordBatch) -> io::Result<()> {
    let mut line = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (position, column) in batch.columns().iter().enumerate() {
            if position > 0 {
                line.push(',');
            }
            push_field(column.as_ref(), row, &mut line);
        }
        line.push('\n');
        writer.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn push_field(column: &dyn Array, row: usize, line: &mut String) {
    if column.is_null(row) {
        line.push_str("\\N");
        return;
    }
    match column.data_type() {
        DataType::Utf8 => push_text(column.as_string::<i32>().value(row), line),
        DataType::Dictionary(..) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let texts = dictionary.values().as_string::<i32>();
            push_text(texts.value(dictionary.keys().value(row).unsigned_abs() as usize), line);
        }
        DataType::Int32 => line.push_str(&column.as_primitive::<Int32Type>().value(row).to_string()),
        DataType::Date32 => {
            line.push_str(&UsageDay(column.as_primitive::<Date32Type>().value(row)).to_string());
        }
        DataType::Decimal128(..) => decimal_text(column.as_primitive::<Decimal128Type>().value(row), line),
        DataType::FixedSizeBinary(16) => {
            let bytes = column.as_fixed_size_binary().value(row);
            line.push_str(&Uuid::from_slice(bytes).unwrap_or_default().to_string());
        }
        other => unreachable!("the target's columns are never {other}"),
    }
}

/// A text that reads as null, or holds a separator, is quoted.
fn push_text(text: &str, line: &mut String) {
    let needs_quotes = text == "\\N" || text.contains([',', '"', '\n', '\r']);
    if !needs_quotes {
        line.push_str(text);
        return;
    }
    line.push('"');
    line.push_str(&text.replace('"', "\"\""));
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_they_must_be() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("\\N", "\"\\N\""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\nlines", "\"two\nlines\""),
        ];
        for (text, expected) in cases {
            let mut line = String::new();
            push_text(text, &mut line);
            assert_eq!(line, expected);
        }
    }
}
