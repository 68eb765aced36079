//! Laws of the generator, on small sets: same arguments, same bytes; counts add up; physical form of the reference.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, PageType};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;

fn options(rows: u64, days: u32, out: &Path) -> GenerateOptions {
    GenerateOptions { daily: true, ..GenerateOptions::new(rows, days, out) }
}

/// Path below `folder` → bytes, for all files.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn batches(folder: &Path, object: &GeneratedObject) -> Vec<RecordBatch> {
    let file = File::open(folder.join(&object.key)).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap).collect()
}

fn sum(batches: &[RecordBatch], column: &str) -> f64 {
    let values = batches.iter().map(|batch| batch.column_by_name(column).unwrap().as_primitive::<Float64Type>());
    values.flat_map(|array| array.values().to_vec()).sum()
}

#[test]
fn same_arguments_give_the_same_bytes_on_any_number_of_threads() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    generate(&GenerateOptions { workers: 1, ..options(5_000, 3, one.path()) }).unwrap();
    generate(&GenerateOptions { workers: 4, ..options(5_000, 3, two.path()) }).unwrap();
    let (one, two) = (contents(one.path()), contents(two.path()));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    assert!(one == two, "some file differs");

    let three = tempfile::tempdir().unwrap();
    generate(&GenerateOptions { seed: 2, ..options(5_000, 3, three.path()) }).unwrap();
    assert!(one != contents(three.path()), "another seed gives another cluster");
}

#[test]
fn keys_follow_the_layout_and_nothing_temporary_stays() {
    let folder = tempfile::tempdir().unwrap();
    // The last two days of October and the first of November.
    let start = UsageDay(20_391);
    let report =
        generate(&GenerateOptions { start, org_id: "acct77".to_owned(), ..options(720, 3, folder.path()) }).unwrap();
    let files: Vec<String> = contents(folder.path()).keys().map(|path| path.to_string_lossy().into_owned()).collect();
    let mut expected: Vec<String> = report.objects.iter().map(|object| object.key.clone()).collect();
    expected.push("manifest.json".to_owned());
    expected.sort();
    assert_eq!(files, expected);
    let source = "source=672157e0-0000-4000-8000-000000000001";
    for key in [
        format!("data/parquet/77/OCP/pod_usage/{source}/year=2025/month=10/pod_usage.2025-10-30.1.0_0.parquet"),
        format!("data/parquet/77/OCP/node_labels/{source}/year=2025/month=11/node_labels.2025-11-01.3.0_0.parquet"),
        format!(
            "data/parquet/daily/77/OCP/storage_usage/{source}/year=2025/month=10/storage_usage.2025-10-31.2.0_daily_0.parquet"
        ),
    ] {
        assert!(files.contains(&key), "{key} is missing among {files:#?}");
    }
}

#[test]
fn rows_add_up_exactly_however_they_are_cut() {
    for (rows, days, rows_per_file) in [(1, 1, 7), (1_000, 1, 100), (9_999, 2, 1_000), (10_001, 2, 200_000)] {
        let folder = tempfile::tempdir().unwrap();
        let report = generate(&GenerateOptions { rows_per_file, ..options(rows, days, folder.path()) }).unwrap();
        let pods = SourceTable { report: ReportType::PodUsage, variant: Variant::Raw };
        assert_eq!(report.row_count(pods), rows);
        let nodes = SourceTable { report: ReportType::NodeLabels, variant: Variant::Raw };
        assert_eq!(report.row_count(nodes), report.node_count as u64 * 24 * u64::from(days));
        for object in &report.objects {
            assert!(object.row_count <= u64::from(rows_per_file), "{}", object.key);
            let stored: usize = batches(folder.path(), object).iter().map(RecordBatch::num_rows).sum();
            assert_eq!(stored as u64, object.row_count, "{}", object.key);
        }
    }
}

#[test]
fn cutting_into_files_does_not_change_the_rows() {
    let (coarse, fine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let read = |folder: &Path, rows_per_file| {
        let report = generate(&GenerateOptions { rows_per_file, ..options(4_000, 1, folder) }).unwrap();
        let raw = report
            .objects
            .into_iter()
            .filter(|object| object.table == SourceTable { report: ReportType::PodUsage, variant: Variant::Raw });
        let batches = raw.flat_map(|object| batches(folder, &object));
        let texts = batches.flat_map(|batch| {
            let pods = batch.column_by_name("pod").unwrap().as_string::<i32>().clone();
            let usage = batch.column_by_name("pod_usage_cpu_core_seconds").unwrap().clone();
            let usage = usage.as_primitive::<Float64Type>().clone();
            (0..batch.num_rows()).map(move |row| format!("{} {}", pods.value(row), usage.value(row)))
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(read(coarse.path(), 200_000), read(fine.path(), 333));
}

#[test]
fn files_have_the_physical_form_of_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let report = generate(&options(20_000, 1, folder.path())).unwrap();
    for object in &report.objects {
        let reader = SerializedFileReader::new(File::open(folder.path().join(&object.key)).unwrap()).unwrap();
        let metadata = reader.metadata();
        assert_eq!(metadata.num_row_groups(), 1, "{}", object.key);
        for column in metadata.row_group(0).columns() {
            let path = column.column_path().string();
            assert_eq!(column.compression(), Compression::SNAPPY, "{path}");
            assert!(column.dictionary_page_offset().is_some(), "{path} has a dictionary");
            assert!(column.statistics().is_some(), "{path} has statistics");
            assert_eq!(column.column_descr().max_def_level(), 1, "{path} is optional");
        }
    }
    let batch = &batches(folder.path(), &report.objects[0])[0];
    let data_type = |name: &str| batch.column_by_name(name).unwrap().data_type().clone();
    assert_eq!(data_type("interval_start"), DataType::Timestamp(TimeUnit::Millisecond, None));
    assert_eq!(data_type("pod_labels"), DataType::Utf8);
    assert_eq!(data_type("pod_usage_cpu_core_seconds"), DataType::Float64);
    assert_eq!(batch.num_columns(), 22);
}

#[test]
fn labels_overflow_the_dictionary_page_only_if_pods_have_their_own() {
    let data_page_encodings = |unique_labels| {
        let folder = tempfile::tempdir().unwrap();
        // 10,000 pods in one hour: 1.3 MB of texts if every second one has its own.
        let options =
            GenerateOptions { unique_labels, storage: false, ..GenerateOptions::new(240_000, 1, folder.path()) };
        let report = generate(&options).unwrap();
        let file = File::open(folder.path().join(&report.objects[0].key)).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let columns = reader.metadata().row_group(0).columns();
        let labels = columns.iter().position(|column| column.column_path().string() == "pod_labels").unwrap();
        let pages = reader.get_row_group(0).unwrap().get_column_page_reader(labels).unwrap();
        let data_pages = pages.map(Result::unwrap).filter(|page| page.page_type() != PageType::DICTIONARY_PAGE);
        data_pages.map(|page| page.encoding()).collect::<Vec<_>>()
    };
    let shared = data_page_encodings(false);
    assert!(shared.iter().all(|encoding| *encoding == Encoding::RLE_DICTIONARY), "{shared:?}");
    assert!(data_page_encodings(true).contains(&Encoding::PLAIN));
}

#[test]
fn maps_hold_what_the_texts_hold() {
    let (json, map) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text_report = generate(&options(500, 1, json.path())).unwrap();
    let map_report = generate(&GenerateOptions { labels: LabelStyle::Map, ..options(500, 1, map.path()) }).unwrap();
    for (with_text, with_map) in text_report.objects.iter().zip(&map_report.objects) {
        assert_eq!((&with_text.key, with_text.row_count), (&with_map.key, with_map.row_count));
    }
    let texts = &batches(json.path(), &text_report.objects[0])[0];
    let maps = &batches(map.path(), &map_report.objects[0])[0];
    let (texts, maps) = (texts.column_by_name("pod_labels").unwrap(), maps.column_by_name("pod_labels").unwrap());
    for row in 0..texts.len() {
        let text: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(texts.as_string::<i32>().value(row)).unwrap();
        let entries = maps.as_map().value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
        let pairs: Vec<(&str, &str)> = (0..keys.len()).map(|entry| (keys.value(entry), values.value(entry))).collect();
        let expected: Vec<(&str, &str)> =
            text.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect();
        assert_eq!(pairs, expected);
    }
}

#[test]
fn daily_objects_keep_the_totals_and_effective_usage_is_the_greater_one() {
    let folder = tempfile::tempdir().unwrap();
    let report = generate(&GenerateOptions { rows_per_file: 1_000, ..options(5_000, 1, folder.path()) }).unwrap();
    let of = |variant| {
        let table = SourceTable { report: ReportType::PodUsage, variant };
        let objects = report.objects.iter().filter(move |object| object.table == table);
        objects.flat_map(|object| batches(folder.path(), object)).collect::<Vec<_>>()
    };
    let (raw, daily) = (of(Variant::Raw), of(Variant::Daily));
    for column in ["pod_usage_cpu_core_seconds", "pod_effective_usage_memory_byte_seconds"] {
        let (hours, days) = (sum(&raw, column), sum(&daily, column));
        assert!((hours - days).abs() <= 1e-9 * hours, "{column}: {hours} and {days}");
    }
    assert!(daily[0].column_by_name("interval_end").is_none());
    let (mut above, mut below) = (0, 0);
    for batch in &raw {
        let numbers = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Float64Type>().clone();
        let usage = numbers("pod_usage_cpu_core_seconds");
        let request = numbers("pod_request_cpu_core_seconds");
        let effective = numbers("pod_effective_usage_cpu_core_seconds");
        for row in 0..batch.num_rows() {
            assert!(effective.value(row) == usage.value(row).max(request.value(row)));
            if usage.value(row) > request.value(row) { above += 1 } else { below += 1 }
        }
    }
    assert!(above > 0 && below > above, "usage above the request {above} times, not above {below} times");
}

#[test]
fn the_manifest_names_arguments_and_every_object_with_its_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let report = generate(&options(300, 2, folder.path())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(&report.manifest).unwrap()).unwrap();
    assert_eq!(manifest["arguments"]["rows"], 300);
    assert_eq!(manifest["cluster_id"], "synthetic-cluster");
    assert_eq!(
        (manifest["start_date"].as_str(), manifest["end_date"].as_str()),
        (Some("2025-10-01"), Some("2025-10-02"))
    );
    let listed = manifest["objects"].as_array().unwrap();
    assert_eq!(listed.len(), report.objects.len());
    for object in listed {
        let bytes = fs::read(folder.path().join(object["key"].as_str().unwrap())).unwrap();
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(object["sha256"], sha256);
        assert_eq!(object["bytes"], bytes.len());
    }
}

#[test]
fn bad_arguments_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let good = options(10, 1, &out);
    for bad in [
        GenerateOptions { rows: 0, ..good.clone() },
        GenerateOptions { days: 0, ..good.clone() },
        GenerateOptions { days: 100_000, ..good.clone() },
        GenerateOptions { rows_per_file: 0, ..good.clone() },
        GenerateOptions { start: UsageDay(-1), ..good.clone() },
        GenerateOptions { start: UsageDay(i32::MAX), ..good.clone() },
        GenerateOptions { org_id: "a/b".to_owned(), ..good.clone() },
        GenerateOptions { org_id: "acct".to_owned(), ..good.clone() },
    ] {
        let error = generate(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(!out.exists());
    }
    generate(&good).unwrap();
    let error = generate(&good).unwrap_err();
    assert!(matches!(error, GenerateError::OutputNotEmpty { .. }), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = generate(&options(10, 1, &file.join("below"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileUnwritable);
    assert!(error.to_string().contains("below/data/parquet"), "{error}");
}
