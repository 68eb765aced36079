//! What a footer says of a column chunk's sizes and places → what can be believed of it.
//!
//! Some writers leave numbers out that others rely on. Whatever is left out is bounded by what the compression and the types
//! can yield, never taken for nothing.

use parquet::basic::{Compression, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

use crate::units::Bytes;

/// How many bytes a column chunk has once it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainSize {
    /// The footer says so.
    Said(Bytes),
    /// The footer says nothing that can be true of compressed bytes: 0, or no more than is stored. DuckDB before 0.6 wrote such
    /// footers. A guess from the types of the values and from the codec.
    Guessed(Bytes),
}

impl PlainSize {
    /// The number, however it is known.
    pub fn bytes(self) -> Bytes {
        match self {
            Self::Said(bytes) | Self::Guessed(bytes) => bytes,
        }
    }
}

/// Texts are taken to grow so much at most, as a guess: what Snappy can yield, the codec of the writers that leave sizes out.
const GUESSED_GROWTH: u64 = 22;
/// What else a value of fixed length may take in its page: levels, and what delta encodings put before each block.
const BESIDE_A_VALUE_BYTES: u64 = 4;
/// What a page takes beside its values.
const BESIDE_THE_VALUES_BYTES: u64 = 1_024;

/// How many bytes a column chunk has once it is decompressed.
pub fn plain_size(chunk: &ColumnChunkMetaData) -> PlainSize {
    let [stored, said, values] = [chunk.compressed_size(), chunk.uncompressed_size(), chunk.num_values()]
        .map(|number| u64::try_from(number).unwrap_or(0));
    let Some(growth) = growth(chunk.compression()) else { return PlainSize::Said(Bytes(said.max(stored))) };
    if said > stored {
        return PlainSize::Said(Bytes(said));
    }
    let guess = match values_bytes(chunk, values) {
        Some(bytes) => bytes.min(stored.saturating_mul(growth)),
        None => stored.saturating_mul(growth.min(GUESSED_GROWTH)),
    };
    PlainSize::Guessed(Bytes(guess.max(stored)))
}

/// Chunks of fewer stored bytes are often no smaller than they were before: their footers are right, and a guess at them is not far off.
const SMALL_BYTES: i64 = 64 * 1024;

/// Whether the guess at a chunk's size is to be put right once its pages are there.
pub fn is_guess_in_doubt(chunk: &ColumnChunkMetaData) -> bool {
    let is_guessed = matches!(plain_size(chunk), PlainSize::Guessed(_));
    is_guessed && (chunk.uncompressed_size() == 0 || chunk.compressed_size() > SMALL_BYTES)
}

/// The most bytes that so many values of a column can take, levels included; `None` for texts.
pub(super) fn values_bytes(chunk: &ColumnChunkMetaData, value_count: u64) -> Option<u64> {
    let descriptor = chunk.column_descr();
    let value_bytes = match descriptor.physical_type() {
        PhysicalType::BOOLEAN => 1,
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => u64::try_from(descriptor.type_length()).unwrap_or(0),
        PhysicalType::BYTE_ARRAY => return None,
    };
    let bytes = value_count.saturating_mul(value_bytes + BESIDE_A_VALUE_BYTES);
    Some(bytes.saturating_add(BESIDE_THE_VALUES_BYTES))
}

/// How many bytes one stored byte can become at most; `None` where nothing is compressed.
///
/// Sources: Snappy's format description (a copy element of three bytes repeats up to 64 bytes: 21.3); zlib's technical details
/// (1032:1, 258 bytes in two bits); LZ4's block format (each further byte lengthens a match by 255); RFC 8878 for Zstandard (a
/// block of 128 KiB that repeats one byte takes three bytes of header and that one). A command of Brotli (RFC 7932) may copy 16 MiB,
/// which bounds nothing: pages themselves are bounded.
pub(super) fn growth(compression: Compression) -> Option<u64> {
    match compression {
        Compression::UNCOMPRESSED => None,
        Compression::SNAPPY => Some(22),
        Compression::GZIP(_) => Some(1_032),
        Compression::LZ4 | Compression::LZ4_RAW => Some(255),
        Compression::ZSTD(_) => Some(32_768),
        Compression::BROTLI(_) | Compression::LZO => Some(super::pages::MAX_PAGE_BYTES),
    }
}

/// The same footer without dictionaries at impossible places: 0 stands for none with some writers, and a dictionary lies before
/// the data or nowhere. The chunk then begins with its data pages, as pyarrow and DuckDB read it.
pub(super) fn without_false_dictionaries(metadata: ParquetMetaData) -> Result<ParquetMetaData, ParquetError> {
    if !metadata.row_groups().iter().flat_map(|row_group| row_group.columns()).any(has_false_dictionary) {
        return Ok(metadata);
    }
    let mut builder = metadata.into_builder();
    let mut row_groups = Vec::with_capacity(builder.row_groups().len());
    for row_group in builder.take_row_groups() {
        let mut row_group = row_group.into_builder();
        let mut columns = row_group.take_columns();
        for column in columns.iter_mut().filter(|column| has_false_dictionary(column)) {
            *column = column.clone().into_builder().set_dictionary_page_offset(None).build()?;
        }
        row_groups.push(row_group.set_column_metadata(columns).build()?);
    }
    Ok(builder.set_row_groups(row_groups).build())
}

fn has_false_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    // Negative places are those of a corrupt footer, which is refused.
    chunk.dictionary_page_offset().is_some_and(|offset| offset == 0 || offset >= chunk.data_page_offset().max(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::file::metadata::{FileMetaData, RowGroupMetaData};
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    fn chunk(leaf: &str, compression: Compression, stored: i64, said: i64) -> ColumnChunkMetaData {
        let schema = Arc::new(parse_message_type(&format!("message m {{ {leaf} }}")).unwrap());
        let chunk = ColumnChunkMetaData::builder(SchemaDescriptor::new(schema).column(0))
            .set_compression(compression)
            .set_total_compressed_size(stored)
            .set_total_uncompressed_size(said)
            .set_num_values(10_000);
        chunk.build().unwrap()
    }

    fn size(leaf: &str, compression: Compression, stored: i64, said: i64) -> PlainSize {
        plain_size(&chunk(leaf, compression, stored, said))
    }

    #[test]
    fn a_size_that_cannot_be_true_is_guessed_from_types_and_codec() {
        let zstd = Compression::ZSTD(parquet::basic::ZstdLevel::default());
        let is_in_doubt =
            |stored, said| is_guess_in_doubt(&chunk("optional double a;", Compression::SNAPPY, stored, said));
        let text = "optional binary a (UTF8);";
        assert_eq!(size(text, Compression::SNAPPY, 5_000, 5_001), PlainSize::Said(Bytes(5_001)));
        for said in [0, 4_999, 5_000] {
            assert_eq!(size(text, Compression::SNAPPY, 5_000, said), PlainSize::Guessed(Bytes(110_000)));
            assert_eq!(size(text, zstd, 5_000, said), PlainSize::Guessed(Bytes(110_000)));
            assert_eq!(size("optional double a;", zstd, 5_000, said), PlainSize::Guessed(Bytes(121_024)));
            assert_eq!(
                size("optional double a;", Compression::SNAPPY, 5_000, said),
                PlainSize::Guessed(Bytes(110_000))
            );
        }
        assert_eq!(size("optional int32 a;", zstd, 900_000, 0), PlainSize::Guessed(Bytes(900_000)));
        assert!(!is_in_doubt(5_000, 5_000) && !is_in_doubt(90_000, 90_001));
        assert!(is_in_doubt(5_000, 0) && is_in_doubt(90_000, 90_000) && is_in_doubt(90_000, 0));
        // Nothing is compressed: the bytes are as many as are stored.
        assert_eq!(size(text, Compression::UNCOMPRESSED, 5_000, 0), PlainSize::Said(Bytes(5_000)));
    }

    #[test]
    fn a_dictionary_lies_before_the_data_or_nowhere() {
        let schema = Arc::new(parse_message_type("message m { optional double a; }").unwrap());
        let schema = Arc::new(SchemaDescriptor::new(schema));
        let mended = |dictionary: Option<i64>| {
            let chunk = ColumnChunkMetaData::builder(schema.column(0))
                .set_data_page_offset(100)
                .set_dictionary_page_offset(dictionary)
                .build()
                .unwrap();
            let row_group = RowGroupMetaData::builder(Arc::clone(&schema)).set_num_rows(7).add_column_metadata(chunk);
            let file = FileMetaData::new(1, 7, None, None, Arc::clone(&schema), None);
            let metadata = ParquetMetaData::new(file, vec![row_group.build().unwrap()]);
            let mended = without_false_dictionaries(metadata).unwrap();
            assert_eq!((mended.num_row_groups(), mended.row_group(0).num_rows()), (1, 7));
            mended.row_group(0).column(0).dictionary_page_offset()
        };
        assert_eq!([4, 99].map(|at| mended(Some(at))), [Some(4), Some(99)]);
        assert_eq!([0, 100, i64::MAX].map(|at| mended(Some(at))), [None; 3]);
        // Left for the check that refuses it.
        assert_eq!(mended(Some(-1)), Some(-1));
        assert_eq!(mended(None), None);
    }
}
