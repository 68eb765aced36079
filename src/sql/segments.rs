//! Fetched pieces of an object → what the Parquet reader reads from.

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Pieces of one object by their position in it.
#[derive(Clone)]
pub(super) struct Segments {
    object_bytes: u64,
    pieces: Vec<(u64, Bytes)>,
}

impl Segments {
    /// Pieces in the order of their positions.
    pub(super) fn new(object_bytes: u64, pieces: Vec<(u64, Bytes)>) -> Self {
        Self { object_bytes, pieces }
    }

    /// Everything from a position to the end of the piece that holds it.
    fn from(&self, start: u64) -> Result<Bytes> {
        let holding = self.pieces.iter().find_map(|(begin, bytes)| {
            let inside = usize::try_from(start.checked_sub(*begin)?).ok()?;
            (inside < bytes.len()).then(|| bytes.slice(inside..))
        });
        holding.ok_or_else(|| ParquetError::EOF(format!("byte {start} was not fetched")))
    }
}

impl Length for Segments {
    fn len(&self) -> u64 {
        self.object_bytes
    }
}

impl ChunkReader for Segments {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} were not fetched")));
        }
        Ok(bytes.slice(..length))
    }
}
