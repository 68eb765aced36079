//! Record batches in the target's column order → frames of PostgreSQL's binary COPY format → rows in the table.
//!
//! Encoding is computation and knows no connection; sending waits and computes nothing. Each column's encoder follows
//! the type that the catalog names, not the Arrow type. Random row ids are made here.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type};
use arrow_array::{ArrayRef, Decimal128Array, FixedSizeBinaryArray, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use bytes::{Bytes, BytesMut};
use futures::SinkExt;
use pgpq::ArrowToPostgresBinaryEncoder;
use pgpq::encoders::{EncoderBuilder, StringEncoderBuilder};
use pgpq::pg_schema::PostgresType;
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::ErrorKind;
use crate::impl_failure;
use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::shape::{ColumnKind, TargetShape};
use crate::postgres::sql::quote;
use crate::postgres::value_check::{first_bad_decimal, first_bad_json, first_bad_text};
use crate::schema::target::{DECIMAL_PRECISION, DECIMAL_SCALE, OCP_DAILY_SUMMARY, TargetColumn, TargetType, Writer};

/// Frames are sent once they hold this much, and cut at the larger bound. Below a mebibyte the calls cost more than
/// the copying; above four nothing is gained and the socket's back-pressure comes late.
const FRAME_BYTES: usize = 1 << 20;
const LARGEST_FRAME_BYTES: usize = 4 << 20;
/// Rows encoded between two looks at the frame's size.
const ROWS_PER_STEP: usize = 256;

/// Why a value cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// PostgreSQL's text and jsonb cannot hold U+0000.
    #[error("holds a NUL character")]
    NulByte,
    /// Longer than the varchar.
    #[error("is longer than {limit} characters")]
    TooLong {
        /// Length of the column in characters.
        limit: usize,
    },
    /// Beyond the precision of the numeric.
    #[error("has more than {digits} digits at 15 decimal places")]
    TooManyDigits {
        /// Digits that fit, those after the point included.
        digits: u32,
    },
}

/// Rows that cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A value that PostgreSQL would refuse.
    #[error("column `{column}`, row {row_index} of the day's sorted rows: the value {reason}")]
    Value {
        /// Target column.
        column: &'static str,
        /// Position among the rows of the day.
        row_index: usize,
        /// Why.
        reason: Unstorable,
    },
    /// The batch is not what `DayRows` promises.
    #[error("column {position} of the finished rows is `{found}`, expected `{expected}`")]
    Layout {
        /// Position in the batch.
        position: usize,
        /// Name and type that were found.
        found: String,
        /// Name and type that were promised.
        expected: String,
    },
    /// The encoder refuses a column.
    #[error("the COPY encoder refuses the rows")]
    Encoder(#[from] pgpq::error::ErrorKind),
    /// The job on the CPU pool did not come back.
    #[error("encoding the rows of the day did not finish: {0}")]
    Lost(String),
}

impl_failure!(EncodeError);

impl EncodeError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EncodeError::Value { .. } => ErrorKind::ValueUnusable,
            EncodeError::Layout { .. } | EncodeError::Encoder(_) | EncodeError::Lost(_) => ErrorKind::Bug,
        }
    }
}

/// Encodes the rows of a day, header and trailer included.
/// Shape: k batches of 36 columns → frames of 1 to 4 MiB; row order is kept, each row gets a random version 4 uuid.
/// Errors: a value that the target cannot hold, named by column and position; a batch with other columns.
pub fn encode(batches: &[RecordBatch], shape: &TargetShape) -> Result<Vec<Bytes>, EncodeError> {
    let fields = copy_fields(shape);
    let mut encoder = ArrowToPostgresBinaryEncoder::try_new_with_encoders(&fields.schema, &fields.encoders)?;
    let mut frames = Vec::new();
    let mut frame = BytesMut::with_capacity(FRAME_BYTES);
    encoder.write_header(&mut frame)?;
    let mut first_row_index = 0;
    for batch in batches {
        let batch = checked_batch(batch, shape, &fields.schema, first_row_index)?;
        for offset in (0..batch.num_rows()).step_by(ROWS_PER_STEP) {
            let row_count = ROWS_PER_STEP.min(batch.num_rows() - offset);
            encoder.write_batch(&batch.slice(offset, row_count), &mut frame)?;
            if frame.len() >= FRAME_BYTES {
                cut(&mut frame, &mut frames);
            }
        }
        first_row_index += batch.num_rows();
    }
    encoder.write_footer(&mut frame)?;
    cut(&mut frame, &mut frames);
    Ok(frames)
}

/// Streams frames into the table; returns the number of rows that PostgreSQL reports.
/// Errors: what PostgreSQL refuses; `NoProgress` if neither a frame is taken nor the end confirmed within `patience`.
/// After an error the connection must be dropped: the protocol may be in the middle of the COPY.
pub async fn send(
    connection: &Connection,
    shape: &TargetShape,
    frames: &[Bytes],
    patience: Duration,
    action: &str,
) -> Result<u64, PostgresError> {
    let stalled = || PostgresError::NoProgress { action: action.to_owned(), seconds: patience.as_secs() };
    let failed = |error: tokio_postgres::Error| connection.error(action, &error);
    let mut copy = pin!(connection.copy_in(action, &copy_statement(shape)).await?);
    for frame in frames {
        let sent = timeout(patience, copy.send(frame.clone())).await.map_err(|_| stalled())?;
        if let Err(error) = sent {
            // The driver only says that the conversation is over; why is in the server's last answer.
            let reason = timeout(patience, copy.as_mut().finish()).await.map_err(|_| stalled())?;
            return Err(failed(reason.err().unwrap_or(error)));
        }
    }
    timeout(patience, copy.as_mut().finish()).await.map_err(|_| stalled())?.map_err(failed)
}

/// `COPY "s"."t" ("uuid", …) FROM STDIN (FORMAT binary)`.
fn copy_statement(shape: &TargetShape) -> String {
    let columns: Vec<String> = copy_columns().map(|column| quote(column.name)).collect();
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", shape.name.quoted(), columns.join(", "))
}

/// The row id, then the columns of the rollup.
fn copy_columns() -> impl Iterator<Item = &'static TargetColumn> {
    let by_sink = OCP_DAILY_SUMMARY.columns.iter().filter(|column| column.writer == Writer::Sink);
    by_sink.chain(OCP_DAILY_SUMMARY.rollup_columns())
}

struct CopyFields {
    schema: Arc<Schema>,
    encoders: HashMap<String, EncoderBuilder>,
}

/// Arrow fields and encoders for the columns of the COPY, by the target's types.
fn copy_fields(shape: &TargetShape) -> CopyFields {
    let mut fields = Vec::new();
    let mut encoders = HashMap::new();
    for column in copy_columns() {
        let kind = shape.kind_of(column.name);
        let is_wide_integer = kind == Some(&ColumnKind::BigInteger);
        let data_type = if is_wide_integer { DataType::Int64 } else { arrow_type(column.target_type) };
        let field = Arc::new(Field::new(column.name, data_type, true));
        let text_type = match kind {
            Some(ColumnKind::Jsonb) => Some(PostgresType::Jsonb),
            Some(ColumnKind::Json) => Some(PostgresType::Json),
            _ => None,
        };
        let encoder = match text_type {
            Some(text_type) => StringEncoderBuilder::new_with_output(Arc::clone(&field), text_type)
                .map(EncoderBuilder::String)
                .expect("jsonb and json are outputs of the string encoder"),
            None => EncoderBuilder::try_new(Arc::clone(&field)).expect("each Arrow type of the target has an encoder"),
        };
        encoders.insert(column.name.to_owned(), encoder);
        fields.push(field);
    }
    CopyFields { schema: Arc::new(Schema::new(fields)), encoders }
}

/// The Arrow type in which `DayRows` carries a column.
fn arrow_type(target_type: TargetType) -> DataType {
    match target_type {
        TargetType::Uuid => DataType::FixedSizeBinary(16),
        TargetType::Integer => DataType::Int32,
        TargetType::Varchar(_) | TargetType::Text | TargetType::Json => DataType::Utf8,
        TargetType::Date => DataType::Date32,
        TargetType::Decimal => DataType::Decimal128(DECIMAL_PRECISION, DECIMAL_SCALE),
    }
}

/// The batch with row ids in front, after a look at every value.
fn checked_batch(
    batch: &RecordBatch,
    shape: &TargetShape,
    schema: &Arc<Schema>,
    first_row_index: usize,
) -> Result<RecordBatch, EncodeError> {
    let mut arrays: Vec<ArrayRef> = vec![random_ids(batch.num_rows())];
    let found_schema = batch.schema();
    for (position, column) in OCP_DAILY_SUMMARY.rollup_columns().enumerate() {
        let expected = arrow_type(column.target_type);
        let found = found_schema.fields().get(position);
        if !found.is_some_and(|field| field.name() == column.name && *field.data_type() == expected) {
            return Err(EncodeError::Layout {
                position,
                found: found.map_or("absent".to_owned(), |field| format!("{} {}", field.name(), field.data_type())),
                expected: format!("{} {expected}", column.name),
            });
        }
        let array = batch.column(position);
        if let Some((row_index, reason)) = first_unstorable(array, column, shape.kind_of(column.name)) {
            return Err(EncodeError::Value { column: column.name, row_index: first_row_index + row_index, reason });
        }
        arrays.push(match shape.kind_of(column.name) {
            Some(ColumnKind::BigInteger) => {
                Arc::new(array.as_primitive::<Int32Type>().unary::<_, arrow_array::types::Int64Type>(i64::from))
                    as Arc<Int64Array>
            }
            _ => Arc::clone(array),
        });
    }
    if found_schema.fields().len() + 1 != arrays.len() {
        return Err(EncodeError::Layout {
            position: arrays.len() - 1,
            found: found_schema.field(arrays.len() - 1).name().clone(),
            expected: "no further column".to_owned(),
        });
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), arrays).expect("types and lengths were compared above"))
}

/// The first value that the target's column cannot hold.
fn first_unstorable(array: &ArrayRef, column: &TargetColumn, kind: Option<&ColumnKind>) -> Option<(usize, Unstorable)> {
    match column.target_type {
        TargetType::Varchar(_) | TargetType::Text => {
            let limit = match kind {
                Some(ColumnKind::Varchar(limit)) => *limit,
                _ => None,
            };
            first_bad_text(array.as_string::<i32>(), limit)
        }
        TargetType::Json => first_bad_json(array.as_string::<i32>()),
        TargetType::Decimal => {
            let values: &Decimal128Array = array.as_primitive::<Decimal128Type>();
            let digits = match kind {
                // Digits before the point that fit, seen at our 15 decimal places.
                Some(ColumnKind::Numeric(Some((precision, scale)))) => {
                    precision.saturating_sub(*scale) + u32::from(DECIMAL_SCALE.unsigned_abs())
                }
                _ => u32::from(DECIMAL_PRECISION),
            };
            first_bad_decimal(values, digits)
        }
        TargetType::Uuid | TargetType::Integer | TargetType::Date => None,
    }
}

/// Random version 4 ids, one per row.
fn random_ids(row_count: usize) -> ArrayRef {
    let mut ids = Vec::with_capacity(row_count * 16);
    for _ in 0..row_count {
        ids.extend_from_slice(Uuid::new_v4().as_bytes());
    }
    Arc::new(FixedSizeBinaryArray::new(16, ids.into(), None))
}

/// Moves what the frame holds into the list, in pieces that are not too large.
fn cut(frame: &mut BytesMut, frames: &mut Vec<Bytes>) {
    while frame.len() > LARGEST_FRAME_BYTES {
        frames.push(frame.split_to(LARGEST_FRAME_BYTES).freeze());
    }
    if !frame.is_empty() {
        frames.push(frame.split().freeze());
    }
}

#[cfg(test)]
mod tests;
