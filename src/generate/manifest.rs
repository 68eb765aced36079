//! What was generated → `manifest.json` beside the data: arguments, days, and rows and checksum of every object.
//!
//! It is written last: a folder with a manifest is complete.

use serde::Serialize;

use super::{GenerateOptions, LabelStyle};
use crate::time::UsageDay;

/// Layout of the manifest; raised when a field changes its meaning.
const FORMAT: u32 = 1;

/// The manifest as it is written.
#[derive(Debug, Serialize)]
pub(super) struct Manifest<'o> {
    format: u32,
    generator: &'static str,
    org_id: &'o str,
    source_uuid: String,
    cluster_id: &'o str,
    start_date: String,
    end_date: String,
    arguments: Arguments,
    row_count: u64,
    objects: Vec<ManifestObject<'o>>,
}

/// The arguments that decide the rows; where the files go is none of them.
#[derive(Debug, Serialize)]
struct Arguments {
    rows: u64,
    days: u32,
    seed: u64,
    labels: &'static str,
    unique_labels: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hourly_labels: bool,
    storage: bool,
    daily: bool,
    rows_per_file: u32,
}

/// One object.
#[derive(Debug, Serialize)]
struct ManifestObject<'o> {
    key: &'o str,
    report: &'static str,
    variant: String,
    day: String,
    row_count: u64,
    bytes: u64,
    sha256: &'o str,
}

/// The text of the manifest.
pub(super) fn manifest_text(
    options: &GenerateOptions,
    end: UsageDay,
    objects: &[super::GeneratedObject],
) -> Result<String, serde_json::Error> {
    let manifest = Manifest {
        format: FORMAT,
        generator: concat!("gristmill ", env!("CARGO_PKG_VERSION")),
        org_id: &options.org_id,
        source_uuid: options.source.to_string(),
        cluster_id: &options.cluster_id,
        start_date: options.start.to_string(),
        end_date: end.to_string(),
        arguments: Arguments {
            rows: options.rows,
            days: options.days,
            seed: options.seed,
            labels: match options.labels {
                LabelStyle::Json => "json",
                LabelStyle::Map => "map",
            },
            unique_labels: options.unique_labels,
            hourly_labels: options.hourly_labels,
            storage: options.storage,
            daily: options.daily,
            rows_per_file: options.rows_per_file,
        },
        row_count: objects.iter().map(|object| object.row_count).sum(),
        objects: objects
            .iter()
            .map(|object| ManifestObject {
                key: &object.key,
                report: object.table.report.folder(),
                variant: object.table.variant.to_string(),
                day: object.day.to_string(),
                row_count: object.row_count,
                bytes: object.size.0,
                sha256: &object.sha256,
            })
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&manifest)?;
    text.push('\n');
    Ok(text)
}
