//! Column bytes of a row group → yes or no, before the Parquet library sees the pages.
//!
//! The library reserves memory for as many bytes and values as a page claims, and a reservation that fails ends the
//! process, which no caller can catch. This walk holds every claim against what the footer said, on which the memory permit
//! stands, and against the bytes that are there. Pages that carry a checksum are held against that as well.

use std::sync::Arc;

use bytes::Bytes as Buffer;
use flate2::Crc;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::column_range;
use super::sizes::{PlainSize, growth, is_guess_in_doubt, plain_size, values_bytes};
use super::thrift::{Checked, ENDS_EARLY, MAX_DEPTH, Walk, wire};
use crate::units::Bytes;

/// Most pages headers are shorter; statistics of long texts make longer ones.
const FIRST_HEADER_BYTES: usize = 256;
/// Longer headers are refused: statistics are cut to some bytes by every writer.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// What a writer may have left out of the uncompressed size in the footer: headers of pages, for example.
const FORGOTTEN_BYTES: u64 = 64 * 1024;
/// No page comes near: writers cut them at a few megabytes, the most generous one at 100 MB.
pub(super) const MAX_PAGE_BYTES: u64 = 1 << 30;
/// How much texts may grow where the footer does not say how large they are: as much as Zstandard can make them. Brotli could do more,
/// but no writer leaves the size out and uses it.
const GROWTH_OF_TEXTS: u64 = 32_768;
/// Labels, or whatever a column repeats, per row on average. An object of Kubernetes has no room for more.
const MAX_REPEATED_PER_ROW: u64 = 1_024;
/// Rows for which a few may be much longer than the average.
const SLACK_ROWS: u64 = 64;
/// Numbers of fixed length have at most 32 bytes, uuids 16.
const MAX_FIXED_BYTES: i32 = 1_024;

/// A page that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}`, page {page}: {reason}")]
pub struct PageProblem {
    /// Path of the column.
    pub column: String,
    /// Position of the page among those of the column chunk, the dictionary included.
    pub page: usize,
    /// What is wrong.
    pub reason: String,
}

/// Looks at every page of some leaf columns of a row group, at the values only where nothing else bounds them.
pub fn check_pages<R: ChunkReader + Clone + 'static>(
    bytes: &R,
    metadata: &ParquetMetaData,
    row_group: usize,
    leaves: &[usize],
) -> Result<(), PageProblem> {
    let row_group = metadata.row_group(row_group);
    let row_count = u64::try_from(row_group.num_rows()).unwrap_or(0);
    for leaf in leaves {
        let chunk = row_group.column(*leaf);
        let mut walk = ChunkWalk { bytes, chunk, row_count, page: 0 };
        walk.all_pages().map_err(|reason| PageProblem {
            column: chunk.column_path().string(),
            page: walk.page,
            reason: reason.to_string(),
        })?;
    }
    Ok(())
}

/// How many bytes some leaf columns have once they are decompressed: by the headers of their pages, as far as these can be read,
/// where the guess at it is in doubt.
pub fn claimed_bytes<R: ChunkReader + Clone + 'static>(
    bytes: &R,
    metadata: &ParquetMetaData,
    row_group: usize,
    leaves: &[usize],
) -> Bytes {
    let row_group = metadata.row_group(row_group);
    let of_leaf = |leaf: &usize| {
        let chunk = row_group.column(*leaf);
        match is_guess_in_doubt(chunk) {
            true => ChunkWalk { bytes, chunk, row_count: 0, page: 0 }.claimed_bytes(),
            false => plain_size(chunk).bytes(),
        }
    };
    leaves.iter().map(of_leaf).sum()
}

/// Why a page is refused: a rule, or the library's error.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("{0}")]
    Rule(&'static str),
    #[error(transparent)]
    Library(#[from] ParquetError),
}

impl From<&'static str> for Reason {
    fn from(rule: &'static str) -> Self {
        Self::Rule(rule)
    }
}

/// The pages of one column chunk.
struct ChunkWalk<'a, R> {
    bytes: &'a R,
    chunk: &'a ColumnChunkMetaData,
    row_count: u64,
    page: usize,
}

impl<R: ChunkReader + Clone + 'static> ChunkWalk<'_, R> {
    fn all_pages(&mut self) -> Result<(), Reason> {
        let range = column_range(self.chunk, Bytes(self.bytes.len())).ok_or("its bytes lie outside the object")?;
        let values_of_chunk = self.values_of_chunk()?;
        let (mut position, mut value_count, mut has_delta_lengths) = (range.start, 0, false);
        while position < range.end {
            let (header, header_bytes) = self.header(position, range.end)?;
            position += header_bytes;
            if header.stored_bytes > range.end - position {
                return Err("it claims more bytes than its column has".into());
            }
            self.check_size(&header)?;
            self.check_checksum(&header, position)?;
            if header.is_dictionary && header.value_count > header.plain_bytes {
                return Err("its dictionary claims more values than bytes".into());
            }
            if !header.is_dictionary {
                value_count += header.value_count;
                has_delta_lengths |= is_delta_lengths(header.encoding);
            }
            if value_count > values_of_chunk {
                return Err("the pages claim more values than the footer".into());
            }
            position += header.stored_bytes;
            self.page += 1;
        }
        if has_delta_lengths { self.check_delta_lengths() } else { Ok(()) }
    }

    fn claimed_bytes(&self) -> Bytes {
        let Some(range) = column_range(self.chunk, Bytes(self.bytes.len())) else { return Bytes(0) };
        let (mut position, mut claimed) = (range.start, 0_u64);
        while position < range.end {
            let Ok((header, header_bytes)) = self.header(position, range.end) else { break };
            claimed = claimed.saturating_add(header.plain_bytes.min(MAX_PAGE_BYTES));
            position = position.saturating_add(header_bytes).saturating_add(header.stored_bytes);
        }
        Bytes(claimed)
    }

    /// How many values the footer claims, if it can be.
    fn values_of_chunk(&self) -> Checked<u64> {
        let descriptor = self.chunk.column_descr();
        if descriptor.physical_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY
            && descriptor.type_length() > MAX_FIXED_BYTES
        {
            return Err("its values have a length that no number has");
        }
        let value_count = u64::try_from(self.chunk.num_values()).unwrap_or(0);
        let per_row = if descriptor.max_rep_level() > 0 { MAX_REPEATED_PER_ROW } else { 1 };
        if value_count > (self.row_count + SLACK_ROWS * (per_row - 1)).saturating_mul(per_row) {
            return Err("the footer claims more values than the rows can have");
        }
        Ok(value_count)
    }

    /// Reads the header at a position; answers how long it is.
    fn header(&self, position: u64, end: u64) -> Result<(PageHeader, u64), Reason> {
        let left = usize::try_from(end - position).unwrap_or(usize::MAX).min(MAX_HEADER_BYTES);
        let mut length = FIRST_HEADER_BYTES.min(left);
        loop {
            let bytes = self.bytes.get_bytes(position, length)?;
            let mut walk = Walk { rest: &bytes };
            match PageHeader::read(&mut walk) {
                Err(_) if length < left => length = (length * 16).min(left),
                header => return Ok((header?, (bytes.len() - walk.rest.len()) as u64)),
            }
        }
    }

    /// The uncompressed size is what memory is reserved for before anything is decompressed.
    fn check_size(&self, header: &PageHeader) -> Checked<()> {
        // Without compression the library takes the bytes as they are.
        let Some(most_per_byte) = growth(self.chunk.compression()) else { return Ok(()) };
        if header.plain_bytes > header.stored_bytes.saturating_mul(most_per_byte).saturating_add(FORGOTTEN_BYTES) {
            return Err("it claims to grow more than its compression can");
        }
        if header.plain_bytes > self.most_plain_bytes(header).saturating_add(FORGOTTEN_BYTES).min(MAX_PAGE_BYTES) {
            return Err(match plain_size(self.chunk) {
                PlainSize::Said(_) => "it claims to be larger uncompressed than the footer says of the whole column",
                PlainSize::Guessed(_) => "it claims to be larger uncompressed than its values can be",
            });
        }
        Ok(())
    }

    /// How large a page may be by what the footer says of the whole column; where it says nothing, by the values that the page
    /// claims to have, which the footer bounds as well.
    fn most_plain_bytes(&self, header: &PageHeader) -> u64 {
        match plain_size(self.chunk) {
            PlainSize::Said(bytes) => bytes.0,
            PlainSize::Guessed(_) => {
                let values = header.value_count.min(u64::try_from(self.chunk.num_values()).unwrap_or(0));
                let of_texts = header.stored_bytes.saturating_mul(GROWTH_OF_TEXTS);
                values_bytes(self.chunk, values).unwrap_or(of_texts)
            }
        }
    }

    fn check_checksum(&self, header: &PageHeader, position: u64) -> Result<(), Reason> {
        let Some(expected) = header.checksum else { return Ok(()) };
        let length = usize::try_from(header.stored_bytes).map_err(|_| ENDS_EARLY)?;
        let mut found = Crc::new();
        found.update(&self.bytes.get_bytes(position, length)?);
        if found.sum() == expected { Ok(()) } else { Err("its checksum is another one".into()) }
    }

    /// Delta encodings of texts hold their number of values inside the page. They are rare enough to be decompressed twice.
    fn check_delta_lengths(&mut self) -> Result<(), Reason> {
        self.page = 0;
        let row_count = usize::try_from(self.row_count).unwrap_or(usize::MAX);
        let mut pages = SerializedPageReader::new(Arc::new(self.bytes.clone()), self.chunk, row_count, None)?;
        while let Some(page) = pages.get_next_page()? {
            if is_delta_lengths(page.encoding()) && page.is_data_page() {
                let lengths = self.after_levels(&page)?;
                check_delta_values(&lengths, page.encoding(), u64::from(page.num_values()))?;
            }
            self.page += 1;
        }
        Ok(())
    }

    /// What follows the levels of a page.
    fn after_levels(&self, page: &Page) -> Checked<Buffer> {
        let descriptor = self.chunk.column_descr();
        let mut skipped = 0_usize;
        match page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                skipped = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
            }
            Page::DataPage { buf, def_level_encoding, rep_level_encoding, .. } => {
                for (most, encoding) in
                    [(descriptor.max_rep_level(), rep_level_encoding), (descriptor.max_def_level(), def_level_encoding)]
                {
                    if most == 0 {
                        continue;
                    }
                    if *encoding != Encoding::RLE {
                        return Err("its levels have an encoding that was given up before its values' came");
                    }
                    let length = buf.get(skipped..).and_then(<[u8]>::first_chunk).ok_or(ENDS_EARLY)?;
                    skipped = skipped.saturating_add(4).saturating_add(u32::from_le_bytes(*length) as usize);
                }
            }
            Page::DictionaryPage { .. } => {}
        }
        let buffer = page.buffer();
        if skipped > buffer.len() { Err(ENDS_EARLY) } else { Ok(buffer.slice(skipped..)) }
    }
}

fn is_delta_lengths(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY)
}

/// The lengths at the start of delta-encoded texts; where texts share prefixes, there are lengths of those first.
fn check_delta_values(page: &[u8], encoding: Encoding, most: u64) -> Checked<()> {
    let mut walk = Walk { rest: page };
    if encoding == Encoding::DELTA_BYTE_ARRAY {
        walk.delta_numbers(most)?;
    }
    walk.delta_numbers(most)
}

impl Walk<'_> {
    /// Passes over numbers in DELTA_BINARY_PACKED, of which there may be no more than the page has values.
    fn delta_numbers(&mut self, most: u64) -> Checked<()> {
        let (block_values, parts) = (self.varint()?, self.varint()?);
        let value_count = self.varint()?;
        self.zigzag()?;
        if value_count > most {
            return Err("it claims more lengths than values");
        }
        let values_of_part = block_values.checked_div(parts).ok_or("its lengths are in blocks without parts")?;
        let parts = usize::try_from(parts).map_err(|_| ENDS_EARLY)?;
        if values_of_part == 0 || values_of_part % 8 != 0 {
            return Err("its lengths are in parts that end inside a byte");
        }
        let mut left = value_count.saturating_sub(1);
        while left > 0 {
            self.zigzag()?;
            for bits in self.take(parts)? {
                if left == 0 {
                    break;
                }
                let part_bytes = (values_of_part / 8).saturating_mul(u64::from(*bits));
                self.take(usize::try_from(part_bytes).map_err(|_| ENDS_EARLY)?)?;
                left = left.saturating_sub(values_of_part);
            }
        }
        Ok(())
    }
}

/// What matters of a page's header.
#[derive(Debug, PartialEq)]
struct PageHeader {
    stored_bytes: u64,
    plain_bytes: u64,
    checksum: Option<u32>,
    is_dictionary: bool,
    value_count: u64,
    encoding: Encoding,
}

/// Numbers of the fields in the format's definition of a page header.
mod field {
    pub(super) const KIND: i64 = 1;
    pub(super) const PLAIN_BYTES: i64 = 2;
    pub(super) const STORED_BYTES: i64 = 3;
    pub(super) const CHECKSUM: i64 = 4;
    pub(super) const DATA: i64 = 5;
    pub(super) const INDEX: i64 = 6;
    pub(super) const DICTIONARY: i64 = 7;
    pub(super) const DATA_V2: i64 = 8;
    pub(super) const VALUE_COUNT: i64 = 1;
    pub(super) const ENCODING: i64 = 2;
    pub(super) const ENCODING_V2: i64 = 4;
}

/// Kinds of pages.
mod kind {
    pub(super) const DATA: i32 = 0;
    pub(super) const INDEX: i32 = 1;
    pub(super) const DICTIONARY: i32 = 2;
    pub(super) const DATA_V2: i32 = 3;
}

impl PageHeader {
    /// Wire types must be those of the definition: the library goes by the numbers of the fields alone.
    fn read(walk: &mut Walk<'_>) -> Checked<Self> {
        let (mut kind, mut stored, mut plain, mut checksum) = (None, None, None, None);
        let (mut data, mut dictionary, mut data_v2) = (None, None, None);
        let mut number = 0;
        while let Some(wire_type) = walk.field(&mut number)? {
            match (number, wire_type) {
                (field::KIND, wire::I32) => kind = Some(walk.int()?),
                (field::PLAIN_BYTES, wire::I32) => plain = Some(walk.int()?),
                (field::STORED_BYTES, wire::I32) => stored = Some(walk.int()?),
                (field::CHECKSUM, wire::I32) => checksum = Some(walk.int()?.cast_unsigned()),
                (field::DATA, wire::STRUCT) => data = Some(walk.values(field::ENCODING)?),
                (field::DICTIONARY, wire::STRUCT) => dictionary = Some(walk.values(field::ENCODING)?),
                (field::DATA_V2, wire::STRUCT) => data_v2 = Some(walk.values(field::ENCODING_V2)?),
                (field::INDEX, wire::STRUCT) => walk.skip(wire::STRUCT, MAX_DEPTH)?,
                (field::KIND..=field::DATA_V2, _) => return Err("its header has a field of another type"),
                _ => walk.skip(wire_type, MAX_DEPTH)?,
            }
        }
        let bytes = |claimed: Option<i32>| {
            u64::try_from(claimed.ok_or("its header has no size")?).map_err(|_| "its size is negative")
        };
        let of_kind = match kind {
            Some(kind::DATA) => data,
            Some(kind::DICTIONARY) => dictionary,
            Some(kind::DATA_V2) => data_v2,
            Some(kind::INDEX) => Some((0, Encoding::PLAIN)),
            _ => None,
        };
        let (value_count, encoding) = of_kind.ok_or("it is of no known kind")?;
        Ok(Self {
            stored_bytes: bytes(stored)?,
            plain_bytes: bytes(plain)?,
            checksum,
            is_dictionary: kind == Some(kind::DICTIONARY),
            value_count,
            encoding,
        })
    }
}

impl Walk<'_> {
    fn int(&mut self) -> Checked<i32> {
        i32::try_from(self.zigzag()?).map_err(|_| "a number of its header is too large")
    }

    /// Number and encoding of the values, from the part of a header that belongs to the kind of page.
    fn values(&mut self, encoding_field: i64) -> Checked<(u64, Encoding)> {
        let (mut value_count, mut encoding) = (None, None);
        let mut number = 0;
        while let Some(wire_type) = self.field(&mut number)? {
            if number == field::VALUE_COUNT && wire_type == wire::I32 {
                value_count = Some(self.int()?);
            } else if number == encoding_field && wire_type == wire::I32 {
                encoding = Some(self.int()?);
            } else if number == field::VALUE_COUNT || number == encoding_field {
                return Err("its header has a field of another type");
            } else {
                self.skip(wire_type, MAX_DEPTH)?;
            }
        }
        let value_count = value_count.ok_or("its header has no number of values")?;
        let value_count = u64::try_from(value_count).map_err(|_| "its number of values is negative")?;
        Ok((value_count, encoding_of(encoding.ok_or("its header has no encoding")?)?))
    }
}

fn encoding_of(number: i32) -> Checked<Encoding> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err("its encoding is unknown"),
    })
}

#[cfg(test)]
mod tests;
