//! A planned chunk → its column bytes in memory, holding a permit for them.
//!
//! Only the bytes of the wanted columns of one row group are read, neighbouring ones in one request. Nothing is decoded.

mod chunk;
mod ranges;

use std::ops::Range;

use crate::error::ErrorKind;
use crate::footers::Footer;
use crate::runtime::memory_budget::Permit;
use crate::store::{Store, StoreError};
use crate::units::Bytes;

pub use chunk::{ChunkBytes, ChunkRead};

/// Unwanted bytes between two columns that are read along: at 100 MB/s they take 2.6 ms, a request takes longer.
const JOINED_GAP_BYTES: u64 = 256 * 1024;
/// Up to this size one request for everything between the first and the last wanted byte is always cheaper.
const SMALL_OBJECT_BYTES: u64 = 1 << 20;
/// A longer range is read in pieces of this size, side by side, so that each ends well within the request timeout.
const PIECE_BYTES: u64 = 16 << 20;

/// A row group whose bytes could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The storage refuses, does not answer, or holds another object by now.
    #[error("object `{key}`, row group {row_group}: its bytes cannot be fetched")]
    Store {
        /// The object.
        key: String,
        /// Position of the row group.
        row_group: usize,
        /// What happened.
        source: StoreError,
    },
}

crate::impl_failure!(FetchError);

impl FetchError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            FetchError::Store { source, .. } => source.kind(),
        }
    }
}

/// The ranges of an object of that size that fetching `columns` reads, sorted, apart from each other.
fn fetch_ranges(object_bytes: Bytes, columns: &[Range<u64>]) -> Vec<Range<u64>> {
    let gap = if object_bytes.0 <= SMALL_OBJECT_BYTES { SMALL_OBJECT_BYTES } else { JOINED_GAP_BYTES };
    ranges::split(&ranges::coalesce(columns.to_vec(), gap), PIECE_BYTES)
}

/// How many bytes of an object of that size [`fetch_row_group`] holds in memory for these columns, gaps included.
pub fn fetched_bytes(object_bytes: Bytes, columns: &[Range<u64>]) -> Bytes {
    fetch_ranges(object_bytes, columns).iter().map(|range| Bytes(range.end - range.start)).sum()
}

/// Fetches the bytes of some leaf columns of one row group, `columns`. The permit lives as long as the bytes do.
pub async fn fetch_row_group(
    store: &Store,
    footer: &Footer,
    row_group: usize,
    columns: &[Range<u64>],
    permit: Permit,
) -> Result<ChunkBytes, FetchError> {
    let size = footer.object.size;
    if let Some(whole) = &footer.whole {
        return Ok(ChunkBytes::new(size, vec![(0, whole.clone())], permit));
    }
    let ranges = fetch_ranges(size, columns);
    let buffers = store.read_ranges(footer.object.reference(), &ranges).await.map_err(|source| FetchError::Store {
        key: footer.object.key.clone(),
        row_group,
        source,
    })?;
    let segments = ranges.iter().map(|range| range.start).zip(buffers).collect();
    Ok(ChunkBytes::new(size, segments, permit))
}

#[cfg(test)]
mod tests;
