//! `manifest.json` of a payload → which files belong to it, its id, and how many hours of a day it covers.

use serde::Deserialize;

use super::block::DAY_MILLISECONDS;
use super::error::ConvertError;
use super::values;
use crate::time::UsageDay;

/// The name of the manifest beside the reports.
pub(super) const MANIFEST_NAME: &str = "manifest.json";
/// Bytes that a manifest may have; real ones have a few thousand.
pub(super) const MOST_MANIFEST_BYTES: u64 = 4 << 20;
/// Characters of a manifest id; it becomes part of file names.
const MOST_ID_CHARACTERS: usize = 100;
const HOUR_MILLISECONDS: i64 = 3_600_000;

/// What the manifest says.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Becomes part of the objects' names.
    pub(super) id: String,
    pub(super) cluster_id: Option<String>,
    /// Names of the reports, without folders.
    pub(super) files: Vec<String>,
    /// First and last millisecond.
    covered: Option<(i64, i64)>,
}

/// The fields that are needed; there are more.
#[derive(Debug, Deserialize)]
struct Manifest {
    uuid: String,
    cluster_id: Option<String>,
    files: Option<Vec<String>>,
    start: Option<String>,
    end: Option<String>,
}

impl Delivery {
    /// Reads the manifest of `place`.
    pub(super) fn parse(place: &str, text: &[u8]) -> Result<Self, ConvertError> {
        let unusable = |problem: String| ConvertError::ManifestUnusable { place: place.to_owned(), problem };
        let manifest: Manifest = serde_json::from_slice(text).map_err(|error| {
            // The library's own words may quote values.
            unusable(format!("is no manifest of the operator (line {}, column {})", error.line(), error.column()))
        })?;
        if !is_usable_id(&manifest.uuid) {
            return Err(unusable("has a uuid that cannot be part of a file name".to_owned()));
        }
        let files: Vec<String> =
            manifest.files.unwrap_or_default().iter().map(|path| base_name(path).to_owned()).collect();
        if files.is_empty() {
            return Err(unusable("names no files".to_owned()));
        }
        let covered = match (manifest.start.as_deref().map(values::time), manifest.end.as_deref().map(values::time)) {
            (Some(Some(start)), Some(Some(end))) if start < end => Some((start, end)),
            _ => None,
        };
        Ok(Self { id: manifest.uuid, cluster_id: manifest.cluster_id, files, covered })
    }

    /// Hours of a day that the delivery covers, rounded up; `None` if it does not say or covers none.
    pub(super) fn hours_of(&self, day: UsageDay) -> Option<u64> {
        let (start, end) = self.covered?;
        let midnight = i64::from(day.0) * DAY_MILLISECONDS;
        let covered = end.min(midnight + DAY_MILLISECONDS) - start.max(midnight);
        u64::try_from(covered.max(0))
            .ok()
            .map(|covered| covered.div_ceil(HOUR_MILLISECONDS.unsigned_abs()))
            .filter(|hours| *hours > 0)
    }
}

/// Whether an id can stand between two points of a file name.
pub(super) fn is_usable_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.len() <= MOST_ID_CHARACTERS && id.bytes().all(is_plain)
}

/// The last segment of a path.
pub(super) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Delivery, String> {
        Delivery::parse("`x`", text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn hours_are_those_that_the_delivery_covers() {
        let delivery = parse(
            r#"{"uuid": "u-1", "files": ["a/b.csv"], "version": "x",
                "start": "2025-10-30T18:30:00.000000+00:00", "end": "2025-11-01T00:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!(delivery.files, ["b.csv"]);
        let hours = |day| delivery.hours_of(UsageDay(day));
        assert_eq!((hours(20_390), hours(20_391), hours(20_392)), (None, Some(6), Some(24)));
        assert_eq!(hours(20_393), None);
        let silent = parse(r#"{"uuid": "u", "files": ["b"], "start": "0001-01-01T00:00:00Z", "end": null}"#).unwrap();
        assert_eq!(silent.hours_of(UsageDay(20_391)), None);
    }

    #[test]
    fn other_texts_are_no_manifest() {
        for (text, problem) in [
            ("", "is no manifest"),
            ("[]", "is no manifest"),
            (r#"{"files": ["a"]}"#, "is no manifest"),
            (r#"{"uuid": "../x", "files": ["a"]}"#, "file name"),
            (r#"{"uuid": "u", "files": null}"#, "names no files"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
