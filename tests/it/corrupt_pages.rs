//! Bytes of valid objects turned over, many times: rows or an error that names the object, never a crash.

use std::path::Path;

use gristmill::config::Config;
use gristmill::run::{RunOptions, run};
use gristmill::telemetry::progress::Progress;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use serde_json::json;

use crate::case;
use crate::delivery::{Delivery, pod_key, pod_rows, settings};
use crate::usage::{Random, parquet_with, pod_columns};

const DAY: &str = "2025-10-01";
/// Objects per way of writing. All of them together take a few seconds.
const ATTEMPTS: usize = 120;

fn config(folder: &Path) -> Config {
    let mut settings = settings(folder, DAY, DAY);
    settings["target"] = json!({"kind": "none"});
    settings["performance"] = json!({"max_workers": 1, "memory_budget": "64MiB"});
    case::parse(&settings)
}

/// Ways of writing that send the decoder down different paths.
fn ways() -> Vec<(&'static str, WriterPropertiesBuilder)> {
    let small = || {
        WriterProperties::builder()
            .set_max_row_group_row_count(Some(30))
            .set_data_page_row_count_limit(8)
            .set_write_batch_size(8)
    };
    let plain = small().set_dictionary_enabled(false);
    vec![
        ("dictionary pages", small()),
        ("plain pages", plain.clone()),
        ("zstd", small().set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))),
        (
            "snappy, version 2",
            small().set_compression(Compression::SNAPPY).set_writer_version(WriterVersion::PARQUET_2_0),
        ),
        ("gzip", small().set_compression(Compression::GZIP(parquet::basic::GzipLevel::default()))),
        ("lz4", plain.clone().set_compression(Compression::LZ4_RAW)),
        (
            "deltas",
            plain
                .set_column_encoding("namespace".into(), Encoding::DELTA_BYTE_ARRAY)
                .set_column_encoding("pod_labels".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_column_encoding("interval_start".into(), Encoding::DELTA_BINARY_PACKED)
                .set_column_encoding("pod_usage_cpu_core_seconds".into(), Encoding::BYTE_STREAM_SPLIT),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn turned_bytes_never_crash() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut random = Random(11);
    for (way, properties) in ways() {
        let valid = parquet_with(pod_columns(&pod_rows(DAY, 1.0)), properties);
        let footer_bytes = u32::from_le_bytes(valid[valid.len() - 8..][..4].try_into().unwrap()) as usize + 8;
        let (mut refused, mut accepted) = (0, 0);
        for attempt in 0..ATTEMPTS {
            let mut object = valid.clone();
            // Mostly the pages, sometimes the footer.
            let end = if attempt % 6 == 5 { object.len() } else { object.len() - footer_bytes };
            for _ in 0..=random.below(3) {
                let position = random.below(end);
                object[position] ^= 1 << random.below(8);
            }
            Delivery::default().with(pod_key(DAY), object).write(folder.path());
            let report = run(&config, &RunOptions::default(), &Progress::hidden()).await;
            match report.exit_code {
                0 => accepted += 1,
                65 => {
                    refused += 1;
                    let error = report.days[0].error.clone().unwrap_or_default();
                    // A turned number that cannot be stored is found at the day's end and names its column instead.
                    let names_its_place = error.contains(&pod_key(DAY)) || error.contains(" of namespace `");
                    assert!(names_its_place, "{way}, attempt {attempt}: {report:#?}");
                }
                other => panic!("{way}, attempt {attempt}: exit code {other}: {report:#?}"),
            }
        }
        assert!(refused > 0 && accepted > 0, "{way}: {refused} refused, {accepted} accepted");
    }
}
