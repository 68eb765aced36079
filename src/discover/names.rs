//! File name → day and delivery, for names in the reference's form `{report}.{YYYY-MM-DD}.{manifest_id}.{counter}….parquet`.

use chrono::NaiveDate;

use crate::schema::source::ReportType;
use crate::time::UsageDay;

/// Length of `YYYY-MM-DD`.
const DATE_BYTES: usize = 10;

/// What the name of a split file tells (contract, section 1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestName {
    /// The day the file was split for.
    pub day: UsageDay,
    /// The delivery it came with.
    pub manifest_id: String,
}

impl ManifestName {
    /// Reads the last segment of a key; `None` for any other form of name.
    pub fn of_key(key: &str, report: ReportType) -> Option<Self> {
        let file = key.rsplit('/').next()?;
        let rest = file.strip_prefix(report.folder())?.strip_prefix('.')?;
        let date = rest.get(..DATE_BYTES)?;
        let has_dashes = date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-';
        if !has_dashes {
            return None;
        }
        let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
        let (manifest_id, counter) = rest.get(DATE_BYTES..)?.strip_prefix('.')?.split_once('.')?;
        let is_split_file = !manifest_id.is_empty() && counter.starts_with(|first: char| first.is_ascii_digit());
        is_split_file.then(|| Self { day: UsageDay::from_date(date), manifest_id: manifest_id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(file: &str) -> Option<(String, String)> {
        let name = ManifestName::of_key(&format!("data/x/{file}"), ReportType::PodUsage)?;
        Some((name.day.to_string(), name.manifest_id))
    }

    #[test]
    fn names_of_split_files_are_read() {
        let expected = Some(("2025-10-01".to_owned(), "28".to_owned()));
        assert_eq!(name("pod_usage.2025-10-01.28.0_0.parquet"), expected);
        assert_eq!(name("pod_usage.2025-10-01.28.12_daily_3.parquet"), expected);
        let uuid = name("pod_usage.2025-10-01.1b4e28ba-2fa1-11d2-883f-0016d3cca427.0_0.parquet");
        assert_eq!(uuid.unwrap().1, "1b4e28ba-2fa1-11d2-883f-0016d3cca427");
    }

    #[test]
    fn other_names_say_nothing() {
        for file in [
            "part-0.parquet",
            "node_labels.2025-10-01.28.0_0.parquet",
            "pod_usage.2025-13-01.28.0_0.parquet",
            "pod_usage.2025-1-1.28.0_0.parquet",
            "pod_usage.2025-10-01.28.parquet",
            "pod_usage.2025-10-01..0_0.parquet",
            "pod_usage.2025-10-0ä.1.0_0.parquet",
            "pod_usage.",
        ] {
            assert_eq!(name(file), None, "{file}");
        }
    }
}
