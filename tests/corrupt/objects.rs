//! Changed bytes and cut ends of Parquet objects.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{RecordBatch, StringArray};
use gristmill::schema::source::ReportType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};

use crate::fuzzing::grind_object::{Ground, Object, Stage, note_panics};
use crate::usage::{Column, Random, Usage, label_columns, parquet_with, pod_columns, volume_columns};
use crate::{allocated_bytes, setting};

/// Enough for a continuous integration; the soak takes more.
const OBJECTS: u64 = 2_500;
/// A case takes milliseconds.
const LONGEST_CASE: Duration = Duration::from_secs(20);
/// Memory that a case may ask for, one piece after the other, beyond what the valid object asks for.
const MOST_ALLOCATED_BYTES: u64 = 48 << 20;

/// Columns of the four reports.
pub fn reports(seed: u64) -> [(ReportType, Vec<Column>); 4] {
    let usage = Usage::random(&mut Random(seed), 120, 2, true);
    [
        (ReportType::PodUsage, pod_columns(&usage.pods)),
        (ReportType::StorageUsage, volume_columns(&usage.volumes)),
        (ReportType::NodeLabels, label_columns("node", "node_labels", &usage.node_labels)),
        (ReportType::NamespaceLabels, label_columns("namespace", "namespace_labels", &usage.namespace_labels)),
    ]
}

/// Ways of writing that send the decoder down different paths.
pub fn ways() -> Vec<(&'static str, WriterPropertiesBuilder)> {
    let small = || {
        WriterProperties::builder()
            .set_max_row_group_row_count(Some(50))
            .set_data_page_row_count_limit(20)
            .set_write_batch_size(20)
    };
    let plain = small().set_dictionary_enabled(false);
    let second = small().set_writer_version(WriterVersion::PARQUET_2_0);
    let mut deltas = plain.clone().set_encoding(Encoding::PLAIN);
    for text in ["namespace", "node", "pod", "persistentvolume"] {
        deltas = deltas.set_column_encoding(text.into(), Encoding::DELTA_BYTE_ARRAY);
    }
    for text in ["pod_labels", "node_labels", "namespace_labels", "persistentvolume_labels", "storageclass"] {
        deltas = deltas.set_column_encoding(text.into(), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    }
    for number in ["pod_usage_cpu_core_seconds", "volume_request_storage_byte_seconds"] {
        deltas = deltas.set_column_encoding(number.into(), Encoding::BYTE_STREAM_SPLIT);
    }
    let deltas = deltas.set_column_encoding("interval_start".into(), Encoding::DELTA_BINARY_PACKED);
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap());
    vec![
        ("dictionaries, snappy", small().set_compression(Compression::SNAPPY)),
        ("dictionaries, uncompressed", small().set_compression(Compression::UNCOMPRESSED)),
        ("plain, uncompressed", plain.clone().set_compression(Compression::UNCOMPRESSED)),
        ("plain, gzip", plain.clone().set_compression(Compression::GZIP(GzipLevel::default()))),
        ("plain, lz4", plain.clone().set_compression(Compression::LZ4_RAW)),
        ("dictionaries, brotli", small().set_compression(Compression::BROTLI(BrotliLevel::default()))),
        ("version 2, snappy", second.clone().set_compression(Compression::SNAPPY)),
        (
            "version 2, zstd, no statistics",
            second.set_compression(zstd).set_statistics_enabled(EnabledStatistics::None),
        ),
        ("deltas, uncompressed", deltas.clone().set_compression(Compression::UNCOMPRESSED)),
        ("deltas, zstd", deltas.clone().set_compression(zstd)),
        (
            "deltas, version 2, snappy",
            deltas.set_compression(Compression::SNAPPY).set_writer_version(WriterVersion::PARQUET_2_0),
        ),
    ]
}

/// As `generate` and `convert` write.
fn as_generated(columns: Vec<Column>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let options = gristmill::objects::writer_options("corrupt", 100_000);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// Objects that other writers wrote: those of the golden cases, maps among them.
fn golden() -> Vec<Object> {
    let mut objects = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".parquet") && !name.contains("/daily/") {
                let report =
                    ReportType::ALL.into_iter().find(|report| name.contains(&format!("/{}/", report.folder())));
                // A delivery also holds reports that are not read.
                let Some(report) = report else { continue };
                objects.push(Object::new(report, name.rsplit('/').next().unwrap(), std::fs::read(&path).unwrap()));
            }
        }
    }
    objects.sort_by(|a, b| (&a.key, &a.bytes).cmp(&(&b.key, &b.bytes)));
    objects.dedup_by(|a, b| a.bytes == b.bytes);
    objects.retain(|object| object.grind().row_count > 0);
    objects
}

fn objects(seed: u64) -> Vec<(&'static str, Vec<Object>)> {
    let mut groups: Vec<(&'static str, Vec<Object>)> = Vec::new();
    let of = |way: &str, report: ReportType, bytes| Object::new(report, &format!("{}, {way}", report.folder()), bytes);
    for (way, properties) in ways() {
        let written = reports(seed).map(|(report, columns)| of(way, report, parquet_with(columns, properties.clone())));
        groups.push((way, written.into()));
    }
    groups
        .push(("as generate", reports(seed).map(|(report, columns)| of("own", report, as_generated(columns))).into()));
    groups.push(("other writers", golden()));
    groups
}

/// One changed byte, or a cut end.
fn mutation(random: &mut Random, valid: &Object) -> (Object, bool) {
    let mut bytes = valid.bytes.to_vec();
    let footer_start = valid.footer_start();
    let place = random.below(10);
    if place == 0 {
        bytes.truncate(random.below(bytes.len()));
        return (valid.with(bytes), true);
    }
    let is_footer = place < 4;
    let position =
        if is_footer { footer_start + random.below(bytes.len() - footer_start) } else { random.below(footer_start) };
    let old = bytes[position];
    bytes[position] = match random.below(6) {
        0 => 0x00,
        1 => 0xFF,
        2 => 0x7F,
        3 => old.wrapping_add(1),
        4 => old ^ (1 << random.below(8)),
        _ => random.next() as u8,
    };
    if bytes[position] == old {
        bytes[position] = !old;
    }
    (valid.with(bytes), is_footer)
}

/// Grinds an object and says how many bytes were asked for meanwhile.
fn measured(object: &Object) -> (Ground, u64) {
    let before = allocated_bytes();
    let ground = object.grind();
    (ground, allocated_bytes() - before)
}

/// What one group of objects came to.
type Counts = BTreeMap<Stage, u64>;

fn grind_group(
    random: &mut Random,
    objects: &[Object],
    case_count: u64,
    progress: &mpsc::SyncSender<u64>,
) -> (Counts, u64) {
    let (mut counts, mut rows) = (Counts::new(), 0);
    let usual: Vec<(u64, u64)> =
        objects.iter().map(measured).map(|(ground, bytes)| (ground.row_count, bytes)).collect();
    for case in 0..case_count {
        let state = random.0;
        progress.send(state).unwrap();
        let number = case as usize % objects.len();
        let (valid, (valid_rows, valid_allocated)) = (&objects[number], usual[number]);
        let (mutated, touches_footer) = mutation(random, valid);
        let (ground, allocated) = measured(&mutated);
        assert!(
            allocated < valid_allocated + MOST_ALLOCATED_BYTES,
            "{}, random state {state}: {allocated} bytes were asked for: {ground:?}",
            valid.key
        );
        if ground.stage == Stage::Taken && !touches_footer {
            assert_eq!(ground.row_count, valid_rows, "{}, random state {state}", valid.key);
        }
        rows += ground.row_count;
        *counts.entry(ground.stage).or_default() += 1;
    }
    (counts, rows)
}

#[test]
fn corrupt_objects_give_all_rows_or_an_error() {
    let (case_count, seed) = (setting("SOAK_OBJECTS", OBJECTS), setting("SOAK_SEED", 4));
    note_panics();
    let (progress, watched) = mpsc::sync_channel(1);
    let result = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let progress = progress;
            let groups = objects(seed);
            for (_, objects) in &groups {
                for object in objects {
                    let ground = object.grind();
                    assert_eq!(ground.stage, Stage::Taken, "{}: {ground:?}", object.key);
                }
            }
            let share = case_count.div_ceil(groups.len() as u64);
            for (number, (name, objects)) in groups.iter().enumerate() {
                let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
                let (counts, rows) = grind_group(&mut random, objects, share, &progress);
                result.lock().unwrap().push((*name, objects.len(), counts, rows));
            }
        });
        let mut last = 0;
        loop {
            match watched.recv_timeout(LONGEST_CASE) {
                Ok(state) => last = state,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // A thread cannot be stopped from outside; the process can.
                    eprintln!("a corrupt object takes more than {LONGEST_CASE:?}; random state {last}");
                    std::process::abort();
                }
            }
        }
        if let Err(panic) = work.join() {
            std::panic::resume_unwind(panic);
        }
    });
    print_table(&result.into_inner().unwrap());
}

fn print_table(groups: &[(&str, usize, Counts, u64)]) {
    let stages =
        [Stage::Footer, Stage::Plan, Stage::Page, Stage::Rows, Stage::LibraryPanic, Stage::Finish, Stage::Taken];
    println!(
        "\n| objects | kinds | changed | {} | rows decoded |",
        stages.map(|stage| format!("{stage:?}")).join(" | ")
    );
    println!("|---|---|---|{}---|", "---|".repeat(stages.len()));
    let mut total = Counts::new();
    let mut total_rows = 0;
    for (name, kinds, counts, rows) in groups {
        counts.iter().for_each(|(stage, count)| *total.entry(*stage).or_default() += count);
        total_rows += rows;
        print_row(name, *kinds, counts, *rows, &stages);
    }
    print_row("all", groups.iter().map(|group| group.1).sum(), &total, total_rows, &stages);
    let refused: u64 = total.iter().filter(|(stage, _)| **stage != Stage::Taken).map(|(_, count)| count).sum();
    assert!(refused > 0 && total.contains_key(&Stage::Taken), "both happen: {total:?}");
}

fn print_row(name: &str, kinds: usize, counts: &Counts, rows: u64, stages: &[Stage]) {
    let cells: Vec<String> = stages.iter().map(|stage| counts.get(stage).copied().unwrap_or(0).to_string()).collect();
    println!("| {name} | {kinds} | {} | {} | {rows} |", counts.values().sum::<u64>(), cells.join(" | "));
}

/// Written by pyarrow 26 with `write_page_checksum=True`, uncompressed, labels in plain pages.
const WITH_CHECKSUMS: &[u8] = include_bytes!("checksums.parquet");

#[test]
fn a_changed_value_is_seen_where_pages_have_checksums_and_only_there() {
    let with = Object::new(ReportType::PodUsage, "with checksums", WITH_CHECKSUMS.to_vec());
    assert_eq!(with.grind().stage, Stage::Taken);
    let [(report, mut columns), ..] = reports(1);
    let labels = columns.iter_mut().find(|(name, _)| *name == "pod_labels").unwrap();
    labels.1 = Arc::new(StringArray::from(vec!["{\"app\": \"shop\"}"; labels.1.len()]));
    let plain = WriterProperties::builder().set_dictionary_enabled(false).set_compression(Compression::UNCOMPRESSED);
    let without = Object::new(report, "without checksums", parquet_with(columns, plain));
    for (object, seen) in [(with, true), (without, false)] {
        let mut bytes = object.bytes.to_vec();
        // The first ones are statistics in the header of the page.
        let mut values = bytes.windows(4).enumerate().filter(|(_, window)| window == b"shop");
        let (value, _) = values.nth(9).unwrap();
        bytes[value + 3] = b't';
        let ground = object.with(bytes).grind();
        assert_eq!(ground.stage, if seen { Stage::Page } else { Stage::Taken }, "{}: {ground:?}", object.key);
        if seen {
            let place =
                "object `with checksums`, row group 0: column `pod_labels`, page 0: its checksum is another one";
            assert_eq!(ground.message.as_deref(), Some(place));
        }
    }
}
