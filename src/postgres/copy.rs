//! Record batches in the target's column order → frames of PostgreSQL's binary COPY format → rows in the table.
//!
//! Encoding is computation and knows no connection; sending waits and computes nothing. Each column's encoder follows
//! the type that the catalog names, not the Arrow type. Row ids are made here.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type};
use arrow_array::{ArrayRef, Decimal128Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use tokio::time::timeout;
use uuid::Uuid;

use crate::error::ErrorKind;
use crate::impl_failure;
use crate::postgres::binary::{HEADER, TRAILER, Values, push_bytes};
use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::shape::{ColumnKind, TargetShape};
use crate::postgres::sql::quote;
use crate::postgres::value_check::{first_bad_decimal, first_bad_json, first_bad_text};
use crate::schema::target::{DECIMAL_PRECISION, DECIMAL_SCALE, OCP_DAILY_SUMMARY, TargetColumn, TargetType, Writer};

/// A batch of 2,048 rows comes to about this much. Below a mebibyte the calls cost more than the copying; above four nothing is
/// gained and the socket's back-pressure comes late.
const FRAME_BYTES: usize = 2 << 20;
const LARGEST_FRAME_BYTES: usize = 4 << 20;

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
            EncodeError::Layout { .. } | EncodeError::Lost(_) => ErrorKind::Bug,
        }
    }
}

/// Encodes the batches of a day, one by one and in any order.
pub struct DayEncoder {
    shape: Arc<TargetShape>,
    /// Per column the texts that were found to be storable, so that those shared by all batches are looked at once.
    storable: Vec<Mutex<Option<ArrayRef>>>,
}

impl DayEncoder {
    /// An encoder for rows of a table.
    pub fn new(shape: Arc<TargetShape>) -> Self {
        Self { shape, storable: OCP_DAILY_SUMMARY.rollup_columns().map(|_| Mutex::new(None)).collect() }
    }

    /// The table.
    pub fn shape(&self) -> &TargetShape {
        &self.shape
    }

    /// What comes before the first row.
    pub fn header() -> Bytes {
        Bytes::from_static(HEADER)
    }

    /// What comes after the last row.
    pub fn trailer() -> Bytes {
        Bytes::from_static(&TRAILER)
    }

    /// Looks at every value of a batch without encoding it.
    /// Errors: as for [`DayEncoder::encode`].
    pub fn check(&self, batch: &RecordBatch, first_row_index: usize) -> Result<(), EncodeError> {
        self.columns(batch, first_row_index).map(drop)
    }

    /// Encodes the rows of a batch; `first_row_index` is the position of its first row in the day.
    /// Shape: n rows of 36 columns → frames of at most 4 MiB; row order is kept, each row gets a version 7 uuid.
    /// Errors: a value that the target cannot hold, named by column and position; a batch with other columns.
    pub fn encode(&self, batch: &RecordBatch, first_row_index: usize) -> Result<Vec<Bytes>, EncodeError> {
        let columns = self.columns(batch, first_row_index)?;
        let column_count = u16::try_from(columns.len() + 1).expect("a table has fewer than 1,600 columns");
        let mut ids = RowIds::new();
        let mut rows = Vec::with_capacity(FRAME_BYTES);
        for row in 0..batch.num_rows() {
            rows.extend_from_slice(&column_count.to_be_bytes());
            push_bytes(ids.next(), &mut rows);
            for column in &columns {
                column.push(row, &mut rows);
            }
        }
        let mut rows = Bytes::from(rows);
        let mut frames = Vec::new();
        while rows.len() > LARGEST_FRAME_BYTES {
            frames.push(rows.split_to(LARGEST_FRAME_BYTES));
        }
        if !rows.is_empty() {
            frames.push(rows);
        }
        Ok(frames)
    }

    /// The columns of a batch in the order of the COPY, after a look at every value.
    fn columns<'a>(&self, batch: &'a RecordBatch, first_row_index: usize) -> Result<Vec<Values<'a>>, EncodeError> {
        let mut columns = Vec::new();
        for (position, column) in OCP_DAILY_SUMMARY.rollup_columns().enumerate() {
            let field = batch.schema_ref().fields().get(position);
            let layout = || EncodeError::Layout {
                position,
                found: field.map_or("absent".to_owned(), |field| format!("{} {}", field.name(), field.data_type())),
                expected: format!("{} {}", column.name, arrow_type(column.target_type)),
            };
            if !field.is_some_and(|field| field.name() == column.name && fits(field.data_type(), column.target_type)) {
                return Err(layout());
            }
            let array = batch.column(position);
            let kind = self.shape.kind_of(column.name);
            if let Some((row_index, reason)) = self.first_unstorable(position, array, column, kind) {
                return Err(EncodeError::Value { column: column.name, row_index: first_row_index + row_index, reason });
            }
            columns.push(Values::new(array, kind).ok_or_else(layout)?);
        }
        match batch.schema_ref().fields().get(columns.len()) {
            None => Ok(columns),
            Some(surplus) => Err(EncodeError::Layout {
                position: columns.len(),
                found: surplus.name().clone(),
                expected: "no further column".to_owned(),
            }),
        }
    }

    /// The first value that the target's column cannot hold.
    fn first_unstorable(
        &self,
        position: usize,
        array: &ArrayRef,
        column: &TargetColumn,
        kind: Option<&ColumnKind>,
    ) -> Option<(usize, Unstorable)> {
        let first_bad = |texts: &StringArray| match (column.target_type, kind) {
            (TargetType::Json, _) => first_bad_json(texts),
            (_, Some(ColumnKind::Varchar(limit))) => first_bad_text(texts, *limit),
            _ => first_bad_text(texts, None),
        };
        match column.target_type {
            TargetType::Varchar(_) | TargetType::Text | TargetType::Json => {
                let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() else {
                    return first_bad(array.as_string());
                };
                let mut storable = self.storable[position].lock().unwrap_or_else(PoisonError::into_inner);
                if storable.as_ref().is_some_and(|known| Arc::ptr_eq(known, dictionary.values())) {
                    return None;
                }
                if first_bad(dictionary.values().as_string()).is_none() {
                    *storable = Some(Arc::clone(dictionary.values()));
                    return None;
                }
                // Some text is bad; whether one of these rows has it is another question.
                let rows = dictionary.downcast_dict::<StringArray>().expect("the type was compared");
                first_bad(&rows.into_iter().collect())
            }
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
}

/// Streams frames into the table; returns the number of rows that PostgreSQL reports.
/// Errors: what PostgreSQL refuses; `NoProgress` if neither a frame is taken nor the
/// end confirmed within `patience`. After an error the connection must be dropped: the protocol may be in the middle of the
/// COPY.
pub async fn send(
    connection: &Connection,
    shape: &TargetShape,
    frames: impl Stream<Item = Bytes>,
    patience: Duration,
    action: &str,
) -> Result<u64, PostgresError> {
    let stalled = || PostgresError::NoProgress { action: action.to_owned(), seconds: patience.as_secs() };
    let failed = |error: tokio_postgres::Error| connection.error(action, &error);
    let mut frames = pin!(frames);
    let mut copy = pin!(connection.copy_in(action, &copy_statement(shape)).await?);
    while let Some(frame) = timeout(patience, frames.next()).await.map_err(|_| stalled())? {
        let sent = timeout(patience, copy.send(frame)).await.map_err(|_| stalled())?;
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

/// Whether a column of rows may have this type: a text may also be one of a dictionary.
fn fits(found: &DataType, target_type: TargetType) -> bool {
    let expected = arrow_type(target_type);
    match found {
        DataType::Dictionary(key, value) => **key == DataType::Int32 && **value == expected,
        other => *other == expected,
    }
}

/// Version 7 ids for the rows of a batch: time, number of the row, 62 random bits (RFC 9562, section 5.7). Ids that grow let the
/// index of the primary key grow at its end; random ones touch all of it.
struct RowIds {
    milliseconds: u64,
    row: u64,
    state: u64,
}

impl RowIds {
    /// Asks the operating system once for the time and the start of the random sequence.
    fn new() -> Self {
        let (first, second) = Uuid::new_v4().as_u64_pair();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // Each half has bits that are the same in every uuid; two of them together have none.
        Self { milliseconds, row: 0, state: first ^ second.rotate_left(32) }
    }

    /// The next id. (The mixing is that of SplitMix64, Steele and others, 2014; repeats are as unlikely as for random bits.)
    fn next(&mut self) -> [u8; 16] {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 4,096 rows have the same time; those after them are said to be a millisecond later.
        let time_and_row = (self.milliseconds << 12).wrapping_add(self.row);
        self.row += 1;
        let first = ((time_and_row >> 12) << 16) | 0x7000 | (time_and_row & 0xFFF);
        let second = ((mixed ^ (mixed >> 31)) >> 2) | (1 << 63);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&first.to_be_bytes());
        bytes[8..].copy_from_slice(&second.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests;
