//! Rows → the bytes of one Parquet object in the physical form of the reference (contract, section 1.5).

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;

use super::LabelStyle;
use super::rows::HOUR_MILLISECONDS;
use super::tables::{Content, GeneratedColumn, Row};
use crate::objects::writer_options;
use crate::time::{BillingMonth, SECONDS_PER_DAY, UsageDay};

/// Rows that are turned into arrays at a time: a few megabytes.
const BATCH_ROWS: usize = 4_096;
/// Named in every file; fixed, so that another version of the library does not change the bytes by its name alone.
const CREATED_BY: &str = "gristmill generate";

/// A Parquet object under construction: one row group, kept in memory.
pub(super) struct ParquetBytes<'c> {
    columns: Vec<GeneratedColumn>,
    style: LabelStyle,
    schema: SchemaRef,
    period_start: i64,
    period_end: i64,
    writer: ArrowWriter<Vec<u8>>,
    waiting: Vec<Row<'c>>,
    row_count: u64,
}

impl<'c> ParquetBytes<'c> {
    /// An object without rows; `rows_per_file` is the most it will hold.
    pub(super) fn new(
        columns: Vec<GeneratedColumn>,
        style: LabelStyle,
        month: BillingMonth,
        rows_per_file: usize,
    ) -> Result<Self, ParquetError> {
        let fields: Vec<Field> =
            columns.iter().map(|column| Field::new(column.name, data_type(column.content, style), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let options = writer_options(CREATED_BY, rows_per_file);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options)?;
        Ok(Self {
            columns,
            style,
            schema,
            period_start: milliseconds(month.first_day()),
            period_end: milliseconds(month.next().first_day()),
            writer,
            waiting: Vec::with_capacity(BATCH_ROWS),
            row_count: 0,
        })
    }

    /// Appends a row.
    pub(super) fn push(&mut self, row: Row<'c>) -> Result<(), ParquetError> {
        self.waiting.push(row);
        self.row_count += 1;
        if self.waiting.len() == BATCH_ROWS { self.encode_waiting() } else { Ok(()) }
    }

    /// Number of rows and the finished bytes.
    pub(super) fn finish(mut self) -> Result<(u64, Vec<u8>), ParquetError> {
        self.encode_waiting()?;
        Ok((self.row_count, self.writer.into_inner()?))
    }

    fn encode_waiting(&mut self) -> Result<(), ParquetError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (mut text_index, mut label_index, mut number_index) = (0, 0, 0);
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let index = match column.content {
                Content::Key | Content::Greatest => &mut text_index,
                Content::Labels => &mut label_index,
                _ => &mut number_index,
            };
            arrays.push(self.array(column.content, *index)?);
            // Timestamps have no position among the numbers.
            if !is_timestamp(column.content) {
                *index += 1;
            }
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        self.writer.write(&batch)?;
        self.waiting.clear();
        Ok(())
    }

    /// The waiting rows' values of a column; `index` is its position among the columns of its kind.
    fn array(&self, content: Content, index: usize) -> Result<ArrayRef, ParquetError> {
        let rows = &self.waiting;
        let timestamps = |values: Vec<i64>| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(values)) };
        Ok(match content {
            Content::PeriodStart => timestamps(vec![self.period_start; rows.len()]),
            Content::PeriodEnd => timestamps(vec![self.period_end; rows.len()]),
            Content::IntervalStart => timestamps(rows.iter().map(|row| row.interval_start).collect()),
            Content::IntervalEnd => {
                // The operator names the last second of the hour.
                timestamps(rows.iter().map(|row| row.interval_start + HOUR_MILLISECONDS - 1_000).collect())
            }
            Content::Key | Content::Greatest => {
                Arc::new(StringArray::from_iter_values(rows.iter().map(|row| Cow::as_ref(&row.texts[index]))))
            }
            Content::Sum | Content::Maximum => {
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.numbers[index])))
            }
            Content::Labels if self.style == LabelStyle::Json => self.json_labels(index),
            Content::Labels => self.map_labels(index)?,
        })
    }

    fn json_labels(&self, index: usize) -> ArrayRef {
        let mut builder = StringBuilder::new();
        let mut text = String::new();
        for row in &self.waiting {
            text.clear();
            row.labels[index].write_json(&mut text);
            builder.append_value(&text);
        }
        Arc::new(builder.finish())
    }

    fn map_labels(&self, index: usize) -> Result<ArrayRef, ParquetError> {
        let names = arrow_array::builder::MapFieldNames {
            entry: MAP_ENTRIES.to_owned(),
            key: MAP_KEY.to_owned(),
            value: MAP_VALUE.to_owned(),
        };
        let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        for row in &self.waiting {
            for (key, value) in row.labels[index].pairs() {
                builder.keys().append_value(key);
                builder.values().append_value(value);
            }
            builder.append(true)?;
        }
        Ok(Arc::new(builder.finish()))
    }
}

/// Names inside a map column, as pyarrow writes them.
const MAP_ENTRIES: &str = "key_value";
const MAP_KEY: &str = "key";
const MAP_VALUE: &str = "value";

fn data_type(content: Content, style: LabelStyle) -> DataType {
    match content {
        Content::Key | Content::Greatest => DataType::Utf8,
        Content::Sum | Content::Maximum => DataType::Float64,
        Content::Labels if style == LabelStyle::Json => DataType::Utf8,
        Content::Labels => {
            let pair = Fields::from(vec![
                Field::new(MAP_KEY, DataType::Utf8, false),
                Field::new(MAP_VALUE, DataType::Utf8, true),
            ]);
            DataType::Map(Arc::new(Field::new(MAP_ENTRIES, DataType::Struct(pair), false)), false)
        }
        // No time zone: the reference's OCP timestamps do not carry the UTC flag.
        Content::PeriodStart | Content::PeriodEnd | Content::IntervalStart | Content::IntervalEnd => {
            DataType::Timestamp(TimeUnit::Millisecond, None)
        }
    }
}

fn is_timestamp(content: Content) -> bool {
    matches!(content, Content::PeriodStart | Content::PeriodEnd | Content::IntervalStart | Content::IntervalEnd)
}

fn milliseconds(day: UsageDay) -> i64 {
    i64::from(day.0) * SECONDS_PER_DAY * 1_000
}
