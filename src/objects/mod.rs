//! Report, day and delivery → the key of an object, and the physical form of its Parquet (contract, sections 1.1, 1.3, 1.5).
//!
//! What writes reports shares it; readers choose objects by folder alone (`discover`).

mod label_json;

use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use uuid::Uuid;

use crate::schema::source::Variant;
use crate::time::UsageDay;

pub use label_json::append_label;

/// The reference cuts reports into objects of this many rows.
pub const DEFAULT_ROWS_PER_FILE: u32 = 200_000;
/// Bytes at which a dictionary is given up, and of a data page; pyarrow's default for both.
const PAGE_BYTES: usize = 1 << 20;

/// Whose reports are written.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Organisation; a leading `acct` is removed.
    pub org_id: &'a str,
    /// The `source=` folder.
    pub source: Uuid,
}

/// Where an object stands in its delivery.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// Folder of the report, for instance `pod_usage`.
    pub report: &'a str,
    /// Day of its rows; its month is the folder.
    pub day: UsageDay,
    /// The delivery.
    pub manifest_id: &'a str,
    /// Which file of the delivery.
    pub counter: u64,
    /// Which piece of that file.
    pub index: u64,
}

impl<'a> Owner<'a> {
    /// The segment of the organisation in keys.
    pub fn org_segment(self) -> &'a str {
        self.org_id.strip_prefix("acct").unwrap_or(self.org_id)
    }

    /// Whether the organisation makes a single folder name.
    pub fn has_usable_segment(self) -> bool {
        let segment = self.org_segment();
        !segment.is_empty() && !segment.contains(['/', '\\']) && !segment.starts_with('.')
    }

    /// The folder of a report's month, with a slash at its end.
    pub fn folder(self, report: &str, variant: Variant, day: UsageDay) -> String {
        let month = day.month();
        let root = match variant {
            Variant::Raw => "data/parquet",
            Variant::Daily => "data/parquet/daily",
        };
        format!(
            "{root}/{org}/OCP/{report}/source={source}/year={year:04}/month={month:02}/",
            org = self.org_segment(),
            source = self.source,
            year = month.year,
            month = month.month,
        )
    }

    /// The key of an object.
    pub fn object_key(self, position: Position<'_>, variant: Variant) -> String {
        let Position { report, day, manifest_id, counter, index } = position;
        let suffix = match variant {
            Variant::Raw => "",
            Variant::Daily => "_daily",
        };
        format!("{}{report}.{day}.{manifest_id}.{counter}{suffix}_{index}.parquet", self.folder(report, variant, day))
    }
}

/// One row group of at most `rows_per_file` rows, SNAPPY, dictionaries on every column, statistics per column chunk.
pub fn writer_options(created_by: &str, rows_per_file: usize) -> ArrowWriterOptions {
    let properties = WriterProperties::builder()
        .set_created_by(created_by.to_owned())
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(true)
        .set_dictionary_page_size_limit(PAGE_BYTES)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(rows_per_file)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(rows_per_file))
        .build();
    // Without the embedded Arrow schema a reader sees what the Parquet types say, as with any other writer.
    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_the_layout_of_the_reference() {
        let owner = Owner { org_id: "acct10001", source: Uuid::from_u128(0xAB) };
        let position = Position { report: "pod_usage", day: UsageDay(20_362), manifest_id: "28", counter: 1, index: 2 };
        assert_eq!(
            owner.object_key(position, Variant::Raw),
            "data/parquet/10001/OCP/pod_usage/source=00000000-0000-0000-0000-0000000000ab/year=2025/month=10/\
             pod_usage.2025-10-01.28.1_2.parquet"
        );
        assert_eq!(
            owner.object_key(position, Variant::Daily),
            "data/parquet/daily/10001/OCP/pod_usage/source=00000000-0000-0000-0000-0000000000ab/year=2025/month=10/\
             pod_usage.2025-10-01.28.1_daily_2.parquet"
        );
    }

    #[test]
    fn an_organisation_is_a_single_folder_name() {
        for (org_id, usable) in [("org1", true), ("acct1", true), ("acct", false), ("a/b", false), ("..", false)] {
            assert_eq!(Owner { org_id, source: Uuid::nil() }.has_usable_segment(), usable, "{org_id}");
        }
    }
}
