//! Column chunks made by hand whose pages claim too much, and sound ones.

use parquet::basic::Compression;
use parquet::file::metadata::{FileMetaData, RowGroupMetaData};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::SchemaDescriptor;

use super::*;

const ROWS: i64 = 100;

/// A field of a 32-bit number: step to its number, type, zigzag.
fn int(step: u8, value: i32) -> Vec<u8> {
    let mut bytes = vec![step << 4 | wire::I32];
    let mut rest = ((value << 1) ^ (value >> 31)).cast_unsigned();
    while rest > 0x7F {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
    bytes
}

struct TestPage {
    kind: i32,
    plain_bytes: i32,
    checksum: Option<u32>,
    value_count: i32,
    encoding: i32,
    content: Vec<u8>,
}

impl TestPage {
    fn data(value_count: i32, encoding: i32, content: Vec<u8>) -> Self {
        let plain_bytes = i32::try_from(content.len()).unwrap();
        Self { kind: kind::DATA, plain_bytes, checksum: None, value_count, encoding, content }
    }

    fn bytes(&self) -> Vec<u8> {
        let stored = i32::try_from(self.content.len()).unwrap();
        let mut bytes = [int(1, self.kind), int(1, self.plain_bytes), int(1, stored)].concat();
        let mut before = 3;
        if let Some(checksum) = self.checksum {
            bytes.extend(int(1, checksum.cast_signed()));
            before = 4;
        }
        let part = if self.kind == kind::DICTIONARY { field::DICTIONARY } else { field::DATA };
        bytes.push(u8::try_from(part - before).unwrap() << 4 | wire::STRUCT);
        bytes.extend([int(1, self.value_count), int(1, self.encoding)].concat());
        if self.kind == kind::DATA {
            // The encodings of the levels.
            bytes.extend([int(1, 3), int(1, 3)].concat());
        }
        bytes.extend([0, 0]);
        bytes.extend(&self.content);
        bytes
    }
}

fn metadata(leaf: &str, compression: Compression, stored: usize, plain: i64, values: i64) -> ParquetMetaData {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {leaf} }}")).unwrap());
    let schema = Arc::new(SchemaDescriptor::new(schema));
    let chunk = ColumnChunkMetaData::builder(schema.column(0))
        .set_compression(compression)
        .set_data_page_offset(4)
        .set_total_compressed_size(i64::try_from(stored).unwrap())
        .set_total_uncompressed_size(plain)
        .set_num_values(values)
        .build()
        .unwrap();
    let row_group = RowGroupMetaData::builder(Arc::clone(&schema)).set_num_rows(ROWS).add_column_metadata(chunk);
    let file = FileMetaData::new(1, ROWS, None, None, schema, None);
    ParquetMetaData::new(file, vec![row_group.build().unwrap()])
}

fn judge_as(leaf: &str, compression: Compression, plain: i64, values: i64, pages: &[TestPage]) -> Result<(), String> {
    let column: Vec<u8> = pages.iter().flat_map(TestPage::bytes).collect();
    let metadata = metadata(leaf, compression, column.len(), plain, values);
    let object = Buffer::from([b"PAR1", &column[..]].concat());
    check_pages(&object, &metadata, 0, &[0]).map_err(|problem| problem.to_string())
}

fn judge(compression: Compression, pages: &[TestPage]) -> Result<(), String> {
    judge_as("required binary a (UTF8);", compression, 200_000, ROWS, pages)
}

fn refused(result: Result<(), String>, text: &str) {
    assert_eq!(result, Err(text.to_owned()));
}

#[test]
fn a_page_may_not_claim_gigabytes() {
    let huge = |compression, plain_bytes, stored: usize| {
        judge(compression, &[TestPage { plain_bytes, ..TestPage::data(1, 0, vec![0; stored]) }])
    };
    let zstd = Compression::ZSTD(parquet::basic::ZstdLevel::default());
    refused(huge(zstd, i32::MAX, 1_000), "column `a`, page 0: it claims to grow more than its compression can");
    let larger = "column `a`, page 0: it claims to be larger uncompressed than the footer says of the whole column";
    refused(huge(zstd, 1 << 29, 100_000), larger);
    refused(huge(Compression::SNAPPY, 300_000, 100_000), larger);
    refused(huge(Compression::SNAPPY, -1, 10), "column `a`, page 0: its size is negative");
    // Uncompressed pages are taken as they lie there.
    assert_eq!(huge(Compression::UNCOMPRESSED, i32::MAX, 10), Ok(()));
    assert_eq!(huge(Compression::SNAPPY, 200_000, 100_000), Ok(()));
}

/// A footer without the uncompressed size: what codec and values can yield is the bound.
#[test]
fn a_page_of_a_footer_without_sizes_is_bounded_by_its_codec_and_its_values() {
    let page = |leaf: &str, compression, plain_bytes, stored: usize| {
        let page = TestPage { plain_bytes, ..TestPage::data(1, 0, vec![0; stored]) };
        judge_as(leaf, compression, 0, ROWS, &[page])
    };
    let text = "required binary a (UTF8);";
    let zstd = Compression::ZSTD(parquet::basic::ZstdLevel::default());
    let brotli = Compression::BROTLI(parquet::basic::BrotliLevel::default());
    assert_eq!(page(text, Compression::SNAPPY, 2_200_000, 100_000), Ok(()));
    assert_eq!(page(text, zstd, 30_000_000, 1_000), Ok(()));
    let grows = "column `a`, page 0: it claims to grow more than its compression can";
    refused(page(text, Compression::SNAPPY, 2_300_000, 100_000), grows);
    refused(page(text, Compression::LZ4_RAW, i32::MAX, 1_000), grows);
    refused(page(text, zstd, i32::MAX, 1_000), grows);
    let values = "column `a`, page 0: it claims to be larger uncompressed than its values can be";
    refused(page(text, brotli, i32::MAX, 1_000), values);
    refused(page(text, zstd, i32::MAX, 1_000_000), values);
    // A hundred numbers take a hundred times eight bytes, however well they are compressed.
    let numbers = |plain_bytes| page("required double a;", zstd, plain_bytes, 1_000);
    assert_eq!(numbers(65_536), Ok(()));
    refused(numbers(80_000), values);
}

#[test]
fn what_pages_claim_is_added_up_as_far_as_it_can_be_read() {
    let pages =
        [TestPage { plain_bytes: 70_000, ..TestPage::data(1, 0, vec![0; 9]) }, TestPage::data(1, 0, vec![0; 30])];
    let column: Vec<u8> = pages.iter().flat_map(TestPage::bytes).collect();
    let claimed = |column: &[u8]| {
        let metadata = metadata("required binary a (UTF8);", Compression::SNAPPY, column.len(), 0, ROWS);
        claimed_bytes(&Buffer::from([b"PAR1", column].concat()), &metadata, 0, &[0])
    };
    assert_eq!(claimed(&column), Bytes(70_030));
    assert_eq!(claimed(&[&column[..], &[0xFF; 40]].concat()), Bytes(70_030));
    assert_eq!(claimed(&[]), Bytes(0));
}

#[test]
fn values_are_bounded_by_the_footer_and_by_bytes() {
    let pages = |second| [TestPage::data(60, 0, vec![0; 9]), TestPage::data(second, 0, vec![0; 9])];
    assert_eq!(judge(Compression::UNCOMPRESSED, &pages(40)), Ok(()));
    refused(
        judge(Compression::UNCOMPRESSED, &pages(41)),
        "column `a`, page 1: the pages claim more values than the footer",
    );
    let dictionary = |value_count| TestPage { kind: kind::DICTIONARY, ..TestPage::data(value_count, 2, vec![0; 50]) };
    assert_eq!(judge(Compression::UNCOMPRESSED, &[dictionary(50)]), Ok(()));
    let result = judge(Compression::UNCOMPRESSED, &[dictionary(i32::MAX)]);
    refused(result, "column `a`, page 0: its dictionary claims more values than bytes");
    // The footer's own number is bounded by the rows.
    let text = "column `a`, page 0: the footer claims more values than the rows can have";
    let flat = |values| judge_as("required binary a (UTF8);", Compression::UNCOMPRESSED, 9, values, &[]);
    assert_eq!(flat(ROWS), Ok(()));
    refused(flat(ROWS + 1), text);
    let repeated = |values| judge_as("repeated binary a (UTF8);", Compression::UNCOMPRESSED, 9, values, &[]);
    assert_eq!(repeated(ROWS * 1_024), Ok(()));
    refused(repeated(i64::MAX), text);
    let fixed = |bytes| format!("required fixed_len_byte_array({bytes}) a;");
    assert_eq!(judge_as(&fixed(16), Compression::UNCOMPRESSED, 9, ROWS, &[]), Ok(()));
    let result = judge_as(&fixed(i32::MAX), Compression::UNCOMPRESSED, 9, ROWS, &[]);
    refused(result, "column `a`, page 0: its values have a length that no number has");
}

/// Delta-encoded lengths: blocks of 128 in four parts, this many of them, all alike.
fn lengths(claimed: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, 0x01, 4];
    bytes.extend(claimed);
    bytes.extend([0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn delta_lengths_cannot_be_more_than_values() {
    let (of_lengths, of_prefixes) = (6, 7);
    let page = |encoding, content| judge(Compression::UNCOMPRESSED, &[TestPage::data(20, encoding, content)]);
    let claims_too_many = "column `a`, page 0: it claims more lengths than values";
    assert_eq!(page(of_lengths, lengths(&[20])), Ok(()));
    // A terabyte of lengths in a few bytes.
    refused(page(of_lengths, lengths(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x40])), claims_too_many);
    refused(page(of_prefixes, lengths(&[21])), claims_too_many);
    let both = |second| [lengths(&[20]), lengths(second)].concat();
    assert_eq!(page(of_prefixes, both(&[20])), Ok(()));
    refused(page(of_prefixes, both(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x40])), claims_too_many);
    refused(page(of_prefixes, lengths(&[20])), "column `a`, page 0: it ends early");
}

#[test]
fn a_checksum_is_held_against_the_bytes() {
    let mut found = Crc::new();
    found.update(b"content");
    let page = |checksum| TestPage { checksum: Some(checksum), ..TestPage::data(1, 0, b"content".to_vec()) };
    assert_eq!(judge(Compression::UNCOMPRESSED, &[page(found.sum())]), Ok(()));
    let result = judge(Compression::UNCOMPRESSED, &[page(found.sum()), page(found.sum() ^ 1)]);
    refused(result, "column `a`, page 1: its checksum is another one");
}

#[test]
fn a_header_is_what_the_library_takes_it_for() {
    let sound = TestPage::data(1, 0, vec![0; 8]).bytes();
    let judge = |column: &[u8]| {
        let metadata = metadata("required binary a (UTF8);", Compression::SNAPPY, column.len(), 8, ROWS);
        let object = Buffer::from([b"PAR1", column].concat());
        check_pages(&object, &metadata, 0, &[0]).map_err(|problem| problem.reason)
    };
    assert_eq!(judge(&sound), Ok(()));
    for (position, byte, text) in [
        (0, 1 << 4 | wire::I64, "its header has a field of another type"),
        (1, 40, "it is of no known kind"),
        (1, 4, "it is of no known kind"),
        (5, 20, "it claims more bytes than its column has"),
        (6, 1 << 4 | wire::STRUCT, "its header has a field of another type"),
        (10, 90, "its encoding is unknown"),
    ] {
        let mut column = sound.clone();
        column[position] = byte;
        assert_eq!(judge(&column), Err(text.to_owned()), "{position}");
    }
    assert_eq!(judge(&sound[..7]), Err(ENDS_EARLY.to_owned()));
}
