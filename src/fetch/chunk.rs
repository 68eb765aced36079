//! Fetched ranges of one object → what the Parquet decoder reads from, as if the whole object were there.

use std::io::Read;
use std::sync::Arc;

use bytes::{Buf, Bytes as Buffer, BytesMut};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::runtime::memory_budget::Permit;
use crate::units::Bytes;

/// Some ranges of one object in memory. Clones share the bytes; the last one dropped frees the permit.
/// A read outside the ranges is an error.
#[derive(Debug, Clone)]
pub struct ChunkBytes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    object_bytes: Bytes,
    /// Sorted by start, not overlapping, none empty; neighbours may touch.
    segments: Vec<Segment>,
    permit: Permit,
}

#[derive(Debug)]
struct Segment {
    start: u64,
    buffer: Buffer,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }
}

impl ChunkBytes {
    /// Puts ranges (start and bytes) together. They must not overlap.
    pub fn new(object_bytes: Bytes, ranges: Vec<(u64, Buffer)>, permit: Permit) -> Self {
        let mut segments: Vec<Segment> = ranges
            .into_iter()
            .filter(|(_, buffer)| !buffer.is_empty())
            .map(|(start, buffer)| Segment { start, buffer })
            .collect();
        segments.sort_by_key(|segment| segment.start);
        let are_apart = segments.windows(2).all(|pair| pair[0].end() <= pair[1].start);
        assert!(are_apart, "fetched ranges of an object overlap");
        Self { inner: Arc::new(Inner { object_bytes, segments, permit }) }
    }

    /// Bytes that are in memory.
    pub fn held_bytes(&self) -> Bytes {
        self.inner.segments.iter().map(|segment| Bytes(segment.buffer.len() as u64)).sum()
    }

    /// Bytes that the permit stands for.
    pub fn permit_bytes(&self) -> Bytes {
        self.inner.permit.bytes()
    }

    /// Makes the permit stand for more, where the bytes turn out to need it. Only before the first clone.
    pub fn grow_permit(&mut self, bytes: Bytes) {
        let inner = Arc::get_mut(&mut self.inner).expect("bytes are cloned when they are decoded");
        inner.permit.grow(bytes);
    }

    /// The index of the segment that holds a position.
    fn segment_at(&self, position: u64) -> Option<usize> {
        let segments = &self.inner.segments;
        let index = segments.partition_point(|segment| segment.start <= position).checked_sub(1)?;
        (position < segments[index].end()).then_some(index)
    }

    /// The fetched bytes from a position to the end of its segment; empty outside the segments.
    fn rest_of_segment(&self, position: u64) -> Buffer {
        let Some(index) = self.segment_at(position) else { return Buffer::new() };
        let segment = &self.inner.segments[index];
        let offset = usize::try_from(position - segment.start).expect("lies inside a buffer");
        segment.buffer.slice(offset..)
    }

    fn outside(&self, position: u64) -> ParquetError {
        let text = format!("byte {position} of {} was not fetched", self.inner.object_bytes.0);
        ParquetError::EOF(text)
    }
}

impl Length for ChunkBytes {
    fn len(&self) -> u64 {
        self.inner.object_bytes.0
    }
}

impl ChunkReader for ChunkBytes {
    type T = ChunkRead;

    fn get_read(&self, start: u64) -> Result<ChunkRead, ParquetError> {
        let current = self.rest_of_segment(start);
        if current.is_empty() {
            return Err(self.outside(start));
        }
        Ok(ChunkRead { chunk: self.clone(), position: start, current })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Buffer, ParquetError> {
        if length == 0 {
            return Ok(Buffer::new());
        }
        let mut current = self.rest_of_segment(start);
        if current.len() >= length {
            current.truncate(length);
            return Ok(current);
        }
        // The range goes over the border of two requests. Whether it was fetched is checked before memory is reserved:
        // the length comes from a page header and may be anything.
        let mut pieces = Vec::new();
        let (mut position, mut missing) = (start, length);
        while missing > 0 {
            let mut piece = self.rest_of_segment(position);
            if piece.is_empty() {
                return Err(self.outside(position));
            }
            piece.truncate(missing);
            position += piece.len() as u64;
            missing -= piece.len();
            pieces.push(piece);
        }
        let mut joined = BytesMut::with_capacity(length);
        pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
        Ok(joined.freeze())
    }
}

/// Reads a [`ChunkBytes`] onwards from a position; ends where the fetched bytes end.
#[derive(Debug)]
pub struct ChunkRead {
    chunk: ChunkBytes,
    /// Where the next byte lies in the object.
    position: u64,
    current: Buffer,
}

impl Read for ChunkRead {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        if self.current.is_empty() {
            self.current = self.chunk.rest_of_segment(self.position);
        }
        let count = self.current.len().min(target.len());
        self.current.copy_to_slice(&mut target[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::memory_budget::MemoryBudget;

    async fn chunk(budget: &MemoryBudget) -> ChunkBytes {
        let buffer = |text: &'static str| Buffer::from_static(text.as_bytes());
        let ranges = vec![(30, buffer("uvwxyz")), (10, buffer("abc")), (13, buffer("def"))];
        ChunkBytes::new(Bytes(100), ranges, budget.acquire(Bytes(2048)).await)
    }

    #[tokio::test]
    async fn reads_inside_the_ranges_are_slices() {
        let budget = MemoryBudget::new(Bytes(4096));
        let chunk = chunk(&budget).await;
        assert_eq!(chunk.len(), 100);
        assert_eq!(chunk.held_bytes(), Bytes(12));
        assert_eq!(&chunk.get_bytes(31, 3).unwrap()[..], b"vwx");
        assert_eq!(&chunk.get_bytes(10, 6).unwrap()[..], b"abcdef", "over the border of two segments");
        assert_eq!(&chunk.get_bytes(0, 0).unwrap()[..], b"");
        let mut text = String::new();
        chunk.get_read(12).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "cdef");
    }

    #[tokio::test]
    async fn reads_outside_the_ranges_are_errors() {
        let budget = MemoryBudget::new(Bytes(4096));
        let chunk = chunk(&budget).await;
        for (start, length) in [(9, 1), (10, 7), (16, 1), (35, 2), (36, 1), (u64::MAX, 1), (10, usize::MAX)] {
            assert!(chunk.get_bytes(start, length).is_err(), "{start} + {length}");
        }
        assert!(chunk.get_read(16).is_err());
        assert!(chunk.get_read(100).is_err());
    }

    #[tokio::test]
    async fn the_last_clone_frees_the_permit() {
        let budget = MemoryBudget::new(Bytes(4096));
        let chunk = chunk(&budget).await;
        let read = chunk.clone().get_read(10).unwrap();
        drop(chunk);
        assert_eq!(budget.in_flight(), Bytes(2048));
        drop(read);
        assert_eq!(budget.in_flight(), Bytes(0));
    }
}
