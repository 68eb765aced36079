//! A stream of CSV bytes → its header, then blocks of whole records; a block is as large as it must be, up to a limit.

use std::io::{self, Read};

use memchr::memchr_iter;

use super::block::Block;
use super::error::RowProblem;
use super::records::whole_records;

/// Bytes of a block: some thousand records, and small enough for the second-level cache.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of the longest record that is accepted. A pod's labels have a few thousand at most.
const MOST_RECORD_BYTES: usize = 16 << 20;
/// What editors put before UTF-8 texts.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Cuts a stream.
#[derive(Debug)]
pub(super) struct BlockReader<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Line in which the buffer begins.
    line: u64,
    bytes_read: u64,
    has_ended: bool,
}

/// Why a stream cannot be cut.
#[derive(Debug)]
pub(super) enum CutError {
    /// It cannot be read.
    Io(io::Error),
    /// What it holds is no CSV.
    Row(u64, RowProblem),
}

impl<R: Read> BlockReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), line: 1, bytes_read: 0, has_ended: false }
    }

    /// The first record with its line end, after lines that are blank; empty for a stream that has no others. To be called
    /// once, first.
    pub(super) fn header(&mut self) -> Result<Vec<u8>, CutError> {
        let mut whole = self.fill_until_whole()?;
        if self.buffer.starts_with(BYTE_ORDER_MARK) {
            self.buffer.drain(..BYTE_ORDER_MARK.len());
            // The line end that was added to a mark alone stays.
            whole -= BYTE_ORDER_MARK.len();
        }
        while whole > 0 {
            let blank = self.blank_lines(whole);
            self.buffer.drain(..blank);
            if blank < whole {
                return Ok(self.cut_header(whole - blank));
            }
            whole = self.fill_until_whole()?;
        }
        Ok(Vec::new())
    }

    /// Bytes of the lines at the beginning of the whole records that hold nothing but blanks; they are counted.
    fn blank_lines(&mut self, whole: usize) -> usize {
        let mut blank = 0;
        for end in memchr_iter(b'\n', &self.buffer[..whole]) {
            if !self.buffer[blank..end].trim_ascii().is_empty() {
                break;
            }
            blank = end + 1;
            self.line += 1;
        }
        blank
    }

    /// The first of the whole records: headers with a line end inside quotes are not known.
    fn cut_header(&mut self, whole: usize) -> Vec<u8> {
        let end = memchr::memchr(b'\n', &self.buffer[..whole]).map_or(whole, |at| at + 1);
        let rest = self.buffer.split_off(end);
        self.line += 1;
        std::mem::replace(&mut self.buffer, rest)
    }

    /// The next records; `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, CutError> {
        let whole = self.fill_until_whole()?;
        if whole == 0 {
            return Ok(None);
        }
        let mut rest = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8);
        rest.extend_from_slice(&self.buffer[whole..]);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(whole);
        let first_line = self.line;
        self.line += memchr_iter(b'\n', &bytes).count() as u64;
        Ok(Some(Block { bytes, first_line }))
    }

    /// Bytes that came out of the stream so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Reads until the buffer holds whole records, and answers how many bytes they have; 0 at the end.
    fn fill_until_whole(&mut self) -> Result<usize, CutError> {
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted).map_err(CutError::Io)?;
            let whole = whole_records(&self.buffer);
            if whole > 0 || self.buffer.is_empty() {
                return Ok(whole);
            }
            if self.has_ended {
                return Err(CutError::Row(self.line, RowProblem::QuoteOpen));
            }
            if wanted >= MOST_RECORD_BYTES {
                return Err(CutError::Row(self.line, RowProblem::TooLong { most_bytes: MOST_RECORD_BYTES }));
            }
            wanted *= 2;
        }
    }

    /// Reads until the buffer holds `wanted` bytes or the stream ends; the last record gets a line end if it lacks one.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.buffer.len());
        if missing == 0 || self.has_ended {
            return Ok(());
        }
        self.buffer.reserve(missing + 1);
        let read = self.reader.by_ref().take(missing as u64).read_to_end(&mut self.buffer)?;
        self.bytes_read += read as u64;
        if read < missing {
            self.has_ended = true;
            if self.buffer.last().is_some_and(|last| *last != b'\n') {
                self.buffer.push(b'\n');
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &[u8]) -> Result<(Vec<u8>, Vec<Block>), CutError> {
        let mut reader = BlockReader::new(text);
        let header = reader.header()?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block()? {
            blocks.push(block);
        }
        assert_eq!(reader.bytes_read(), text.len() as u64);
        Ok((header, blocks))
    }

    #[test]
    fn blocks_are_whole_records_and_know_their_line() {
        let mut text = b"\xEF\xBB\xBFa,b\r\n".to_vec();
        let record = format!("\"x\n\",{}\n", "y".repeat(1_000));
        for _ in 0..5_000 {
            text.extend_from_slice(record.as_bytes());
        }
        text.extend_from_slice(b"last,one");
        let (header, blocks) = blocks(&text).unwrap();
        assert_eq!(header, b"a,b\r\n");
        assert!(blocks.len() > 3 && blocks.iter().all(|block| block.bytes.len() <= BLOCK_BYTES));
        let mut line = 2;
        for block in &blocks {
            assert_eq!(block.first_line, line);
            line += block.bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        assert_eq!(line, 2 + 10_000 + 1);
        let all: Vec<u8> = blocks.into_iter().flat_map(|block| block.bytes).collect();
        assert!(all.ends_with(b"last,one\n") && all.len() == 5_000 * record.len() + 9);
    }

    #[test]
    fn records_without_end_are_refused() {
        assert!(matches!(blocks(b"a\n\"open\n"), Err(CutError::Row(2, RowProblem::QuoteOpen))));
        let huge = [b"a\n".as_slice(), &vec![b'x'; MOST_RECORD_BYTES + 1]].concat();
        assert!(matches!(blocks(&huge), Err(CutError::Row(2, RowProblem::TooLong { .. }))));
        for empty in [b"".as_slice(), b"\n", b"\xEF\xBB\xBF", b"\xEF\xBB\xBF\r\n", b" \t\r\n\n  "] {
            let (header, blocks) = blocks(empty).unwrap();
            assert!(header.is_empty() && blocks.is_empty(), "{empty:?}");
        }
    }

    #[test]
    fn blank_lines_before_the_header_are_counted_and_passed_over() {
        let text = [b"\xEF\xBB\xBF \r\n".as_slice(), &b"\n".repeat(3 << 20), b"a,b\n1,2\n"].concat();
        let (header, blocks) = blocks(&text).unwrap();
        assert_eq!(header, b"a,b\n");
        assert_eq!(blocks[0].first_line, 3 + (3 << 20));
        assert_eq!(blocks[0].bytes, b"1,2\n");
    }
}
