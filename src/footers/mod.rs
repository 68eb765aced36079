//! Objects → Parquet footers → the days each row group touches.
//!
//! Reads footers only, never column data. One bad object does not hide the others: each gets its own result.

mod days;
mod guard;
mod pages;
mod sizes;
mod thrift;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes as Buffer, BytesMut};
use futures::StreamExt;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataReader};

use crate::discover::ObjectInfo;
use crate::error::ErrorKind;
use crate::store::{Difference, Store, StoreError};
use crate::units::Bytes;

pub use days::DaySpan;
pub use pages::{PageProblem, check_pages, claimed_bytes};
pub use sizes::{PlainSize, is_guess_in_doubt, plain_size};

/// Length and magic at the end of every Parquet file.
const TAIL_BYTES: usize = 8;
/// The smallest Parquet file: magic, then the tail.
const SMALLEST_FILE_BYTES: u64 = 12;
/// How much of an object's end is read at first. A footer of thirty columns and one row group takes 5 to 10 KiB.
const FIRST_READ_BYTES: u64 = 32 * 1024;
/// A longer footer would describe hundreds of thousands of column chunks; it is refused before it is read.
const MAX_FOOTER_BYTES: u64 = 32 << 20;
/// Objects that came whole with the first read are kept until their rows are decoded, up to this many bytes in all.
const KEPT_WHOLE_BYTES: u64 = 8 << 20;
/// A footer of so few row groups is decoded again for each of them, in microseconds; one of many would take quadratic time.
const DECODED_EACH_TIME: usize = 4;

/// What the end of an object tells about its rows.
#[derive(Debug, Clone)]
pub struct Footer {
    /// The object.
    pub object: Arc<ObjectInfo>,
    /// One entry per row group, in file order.
    pub row_groups: Vec<RowGroupSpan>,
    /// The object itself, if it was small enough to come whole with its footer.
    pub whole: Option<Buffer>,
    description: Description,
}

/// What a footer says, in the form that is kept for a whole run: decoded it takes several times as much memory.
#[derive(Debug, Clone)]
enum Description {
    Encoded(Buffer),
    Decoded(Arc<ParquetMetaData>),
}

impl Footer {
    /// `encoded` is the footer without length and magic, from which `metadata` and `row_groups` come.
    fn new(
        object: Arc<ObjectInfo>,
        encoded: &[u8],
        (metadata, row_groups): (ParquetMetaData, Vec<RowGroupSpan>),
        whole: Option<Buffer>,
    ) -> Self {
        let description = if row_groups.len() <= DECODED_EACH_TIME {
            // A copy: the bytes may be a small part of all that were read.
            Description::Encoded(Buffer::copy_from_slice(encoded))
        } else {
            Description::Decoded(Arc::new(metadata))
        };
        Self { object, row_groups, whole, description }
    }

    /// Schema, row groups, statistics; without page indexes. Ask once for whatever needs it.
    pub fn metadata(&self) -> Arc<ParquetMetaData> {
        match &self.description {
            Description::Encoded(encoded) => {
                Arc::new(decode(encoded).expect("the same bytes were decoded when they were read"))
            }
            Description::Decoded(metadata) => Arc::clone(metadata),
        }
    }

    /// Memory that this footer takes as long as it lives.
    pub fn held_bytes(&self) -> Bytes {
        let of_whole = self.whole.as_ref().map_or(0, Buffer::len);
        let of_description = match &self.description {
            Description::Encoded(encoded) => encoded.len(),
            Description::Decoded(metadata) => metadata.memory_size(),
        };
        Bytes((of_whole + of_description) as u64)
    }
}

/// Rows and days of one row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowGroupSpan {
    /// Position in the file.
    pub index: usize,
    /// Rows; may be 0.
    pub row_count: u64,
    /// Days its rows may lie on.
    pub days: DaySpan,
}

/// An object whose footer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// The bytes could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The listing stays the same while the object is another one at each read.
    #[error("the listing of an object stays as it is, and each time it is read it is another one")]
    Inconsistent {
        /// In what it differs.
        source: StoreError,
    },
    /// Nothing in it.
    #[error("object `{key}` has zero bytes")]
    Empty {
        /// The object.
        key: String,
    },
    /// The end of the object is not the end of a Parquet file.
    #[error("object `{key}` ({size}) does not end like a Parquet file; it is truncated or something else")]
    NotParquet {
        /// The object.
        key: String,
        /// Its size.
        size: Bytes,
    },
    /// Parquet with an encrypted footer.
    #[error("object `{key}` has an encrypted footer, which is not supported")]
    Encrypted {
        /// The object.
        key: String,
    },
    /// The length of the footer is impossible.
    #[error("object `{key}` ({size}) claims a footer of {footer}; it is truncated or corrupt")]
    FooterLength {
        /// The object.
        key: String,
        /// Its size.
        size: Bytes,
        /// The claimed length.
        footer: Bytes,
    },
    /// The footer breaks a rule before it is decoded.
    #[error("object `{key}`: the footer is corrupt: {reason}")]
    Malformed {
        /// The object.
        key: String,
        /// Which rule.
        reason: &'static str,
    },
    /// The footer cannot be decoded.
    #[error("object `{key}`: the footer cannot be decoded")]
    Undecodable {
        /// The object.
        key: String,
        /// Why.
        source: ParquetError,
    },
    /// The decoder broke down.
    #[error("object `{key}`: the footer makes the decoder fail")]
    DecoderFailed {
        /// The object.
        key: String,
    },
    /// A row group describes what cannot be.
    #[error("object `{key}`, row group {row_group}: {reason}")]
    RowGroup {
        /// The object.
        key: String,
        /// Position of the row group.
        row_group: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A column chunk is not inside the object.
    #[error("object `{key}` ({size}), row group {row_group}, column `{column}`: its bytes lie outside the object")]
    ColumnOutside {
        /// The object.
        key: String,
        /// Its size.
        size: Bytes,
        /// Position of the row group.
        row_group: usize,
        /// Path of the column.
        column: String,
    },
}

crate::impl_failure!(FooterError);

impl FooterError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            FooterError::Store(error) => error.kind(),
            FooterError::Inconsistent { .. } => ErrorKind::ObjectInconsistent,
            _ => ErrorKind::ObjectUnreadable,
        }
    }

    /// The same error of an object that was listed as it is now all the time.
    pub fn of_same_listing(self) -> Self {
        match self {
            // One that is listed and not there may be there in a while.
            FooterError::Store(StoreError::Changed { difference: Difference::Gone, .. }) => self,
            FooterError::Store(source @ StoreError::Changed { .. }) => FooterError::Inconsistent { source },
            other => other,
        }
    }
}

/// Reads all footers concurrently; one result per object, in the order of `objects`.
pub async fn read_footers(
    store: &Store,
    objects: Vec<Arc<ObjectInfo>>,
) -> Vec<(Arc<ObjectInfo>, Result<Footer, FooterError>)> {
    let allowance = AtomicU64::new(KEPT_WHOLE_BYTES);
    futures::stream::iter(objects)
        .map(|object| {
            let allowance = &allowance;
            async move {
                let footer = read_footer(store, &object, allowance).await;
                (object, footer)
            }
        })
        .buffered(store.concurrent_requests())
        .collect()
        .await
}

/// Where a column chunk lies in its object; `None` if that is not inside `size`.
pub fn column_range(chunk: &ColumnChunkMetaData, size: Bytes) -> Option<Range<u64>> {
    // The library's own `byte_range` panics on negative numbers.
    let start = u64::try_from(chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset())).ok()?;
    let length = u64::try_from(chunk.compressed_size()).ok()?;
    let end = start.checked_add(length)?;
    (end <= size.0).then_some(start..end)
}

/// The footer of an object that is in memory as a whole; `object.size` is its length.
pub fn footer_of(object: &Arc<ObjectInfo>, whole: &Buffer) -> Result<Footer, FooterError> {
    check_size(object)?;
    let footer_bytes = usize::try_from(footer_length(object, whole)?).expect("lies inside the object");
    let footer_end = whole.len() - TAIL_BYTES;
    let footer = &whole[footer_end - footer_bytes..footer_end];
    Ok(Footer::new(Arc::clone(object), footer, describe(object, footer)?, Some(whole.clone())))
}

fn check_size(object: &ObjectInfo) -> Result<(), FooterError> {
    match object.size.0 {
        0 => Err(FooterError::Empty { key: object.key.clone() }),
        size if size < SMALLEST_FILE_BYTES => {
            Err(FooterError::NotParquet { key: object.key.clone(), size: object.size })
        }
        _ => Ok(()),
    }
}

async fn read_footer(store: &Store, object: &Arc<ObjectInfo>, allowance: &AtomicU64) -> Result<Footer, FooterError> {
    let key = || object.key.clone();
    let size = object.size.0;
    check_size(object)?;
    let first_start = size.saturating_sub(FIRST_READ_BYTES);
    let end = store.read_range(object.reference(), first_start..size).await?;
    let footer_bytes = footer_length(object, &end)?;
    let footer_start = size - TAIL_BYTES as u64 - footer_bytes;
    let footer = if footer_start >= first_start {
        let start = usize::try_from(footer_start - first_start).expect("lies inside the first read");
        end.slice(start..end.len() - TAIL_BYTES)
    } else {
        let missing = store.read_range(object.reference(), footer_start..first_start).await?;
        let mut joined = BytesMut::with_capacity(missing.len() + end.len());
        joined.extend_from_slice(&missing);
        joined.extend_from_slice(&end[..end.len() - TAIL_BYTES]);
        joined.freeze()
    };
    let whole = (first_start == 0 && take_allowance(allowance, size)).then_some(end);
    let object = Arc::clone(object);
    // A thread for blocking work: decoding a long footer takes milliseconds, and should the decoder panic, only that
    // task ends.
    let decoded = tokio::task::spawn_blocking(move || {
        let described = describe(&object, &footer)?;
        Ok(Footer::new(object, &footer, described, whole))
    });
    decoded.await.map_err(|_| FooterError::DecoderFailed { key: key() })?
}

/// Reads length and magic from the end of an object, and checks that the footer can be where they say.
fn footer_length(object: &ObjectInfo, end: &[u8]) -> Result<u64, FooterError> {
    let key = || object.key.clone();
    let not_parquet = || FooterError::NotParquet { key: key(), size: object.size };
    let tail: &[u8; TAIL_BYTES] = end.last_chunk().ok_or_else(not_parquet)?;
    let tail = FooterTail::try_new(tail).map_err(|_| not_parquet())?;
    if tail.is_encrypted_footer() {
        return Err(FooterError::Encrypted { key: key() });
    }
    let footer_bytes = tail.metadata_length() as u64;
    let room = object.size.0 - SMALLEST_FILE_BYTES;
    if footer_bytes == 0 || footer_bytes > room.min(MAX_FOOTER_BYTES) {
        return Err(FooterError::FooterLength { key: key(), size: object.size, footer: Bytes(footer_bytes) });
    }
    Ok(footer_bytes)
}

fn take_allowance(allowance: &AtomicU64, bytes: u64) -> bool {
    let take = |left: u64| left.checked_sub(bytes);
    allowance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}

fn decode(footer: &[u8]) -> Result<ParquetMetaData, ParquetError> {
    sizes::without_false_dictionaries(ParquetMetaDataReader::decode_metadata(footer)?)
}

/// Decodes a footer and checks what later stages rely on: numbers that are not negative, columns inside the object.
fn describe(object: &ObjectInfo, footer: &[u8]) -> Result<(ParquetMetaData, Vec<RowGroupSpan>), FooterError> {
    let key = || object.key.clone();
    guard::check(footer).map_err(|reason| FooterError::Malformed { key: key(), reason })?;
    let metadata = decode(footer).map_err(|source| FooterError::Undecodable { key: key(), source })?;
    let time_column = days::time_column(metadata.file_metadata().schema_descr());
    let mut row_groups = Vec::with_capacity(metadata.num_row_groups());
    for (index, row_group) in metadata.row_groups().iter().enumerate() {
        let broken = |reason| FooterError::RowGroup { key: key(), row_group: index, reason };
        let row_count = u64::try_from(row_group.num_rows()).map_err(|_| broken("its number of rows is negative"))?;
        if row_group.total_byte_size() < 0 {
            return Err(broken("its size is negative"));
        }
        for chunk in row_group.columns() {
            if chunk.uncompressed_size() < 0 || chunk.num_values() < 0 {
                return Err(broken("a column chunk has a negative size"));
            }
            if column_range(chunk, object.size).is_none() {
                let column = chunk.column_path().string();
                return Err(FooterError::ColumnOutside { key: key(), size: object.size, row_group: index, column });
            }
        }
        let days = time_column.map_or(DaySpan::Unknown, |leaf| days::span_of(row_group.column(leaf)));
        row_groups.push(RowGroupSpan { index, row_count, days });
    }
    Ok((metadata, row_groups))
}

#[cfg(test)]
mod tests;
