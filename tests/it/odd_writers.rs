//! Objects as other writers make them: names in other letter case, labels in other forms, footers that leave things out. Each gives
//! the rows of the usual object, or a message that says what is not understood.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, MapFieldNames, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::statistics::Statistics;
use serde_json::Value;
use tempfile::TempDir;

use crate::binary::{Ended, Invocation};
use crate::delivery::{Delivery, into_csv, key, milliseconds, pod_key, pod_object, pod_rows, settings};
use crate::footer_change::with_chunks;
use crate::usage::{Column, LabelRow, PodRow, label_columns, parquet_with, pod_columns};

const DAY: &str = "2025-10-01";
const NEXT_DAY: &str = "2025-10-02";

/// A folder for objects and one for files.
struct Bed {
    input: TempDir,
    output: TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { input: tempfile::tempdir().unwrap(), output: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> Value {
        let mut settings = into_csv(settings(self.input.path(), DAY, NEXT_DAY), self.output.path());
        settings["reference"]["enabled_tag_keys"] = ["app", "zone"].into();
        settings
    }

    async fn command(&self, command: &str, delivery: &Delivery) -> Ended {
        delivery.write(self.input.path());
        Invocation::with(command, &self.settings()).run().await
    }

    /// Runs and gives the rows of the first day.
    async fn rows(&self, delivery: &Delivery) -> String {
        self.command("run", delivery).await.expect(0, &[]);
        std::fs::read_to_string(self.file()).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.output.path().join(format!("{DAY}.csv"))
    }
}

/// All reports of the day but volumes, each changed.
fn reports(change: impl Fn(Vec<Column>) -> Vec<u8>) -> Delivery {
    let labels = |name: &str| {
        let row = |number: i64, name: String| LabelRow {
            milliseconds: milliseconds(DAY) + number * 3_600_000,
            name: Some(name),
            labels: Some(r#"{"zone": "z", "other": "o"}"#.to_owned()),
        };
        vec![row(0, format!("{name}-a")), row(1, format!("{name}-b"))]
    };
    Delivery::default()
        .with(pod_key(DAY), change(pod_columns(&pod_rows(DAY, 1.0))))
        .with(key("node_labels", DAY), change(label_columns("node", "node_labels", &labels("node"))))
        .with(
            key("namespace_labels", DAY),
            change(label_columns("namespace", "namespace_labels", &labels("namespace"))),
        )
}

/// Names may be others than those of the contract.
fn object(columns: Vec<(String, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)));
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn renamed(columns: Vec<Column>, name: impl Fn(&str) -> String) -> Vec<(String, ArrayRef)> {
    columns.into_iter().map(|(old, array)| (name(old), array)).collect()
}

fn title_case(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(word).collect::<Vec<_>>().join("_")
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_found_in_any_letter_case() {
    let bed = Bed::new();
    let as_they_are = |columns| object(renamed(columns, str::to_owned), WriterProperties::default());
    let expected = bed.rows(&reports(as_they_are)).await;
    assert!(expected.contains(r#"""zone"":""z"""#), "labels are joined: {expected}");
    for case in [str::to_uppercase as fn(&str) -> String, title_case] {
        let written = reports(|columns| object(renamed(columns, case), WriterProperties::default()));
        assert_eq!(bed.rows(&written).await, expected);
        // Statistics of the time are found as well: the other day's object is not read for this one.
        let pods = object(renamed(pod_columns(&pod_rows(NEXT_DAY, 1.0)), case), WriterProperties::default());
        let plan = bed.command("plan", &written.with(pod_key(NEXT_DAY), pods)).await;
        plan.expect(0, &[]);
        let objects = |day: usize| plan.report["windows"][0]["days"][day]["objects"].clone();
        assert_eq!((objects(0), objects(1)), (3.into(), 1.into()), "{:#}", plan.report);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_very_name_goes_before_others_and_of_several_others_none_is_guessed() {
    let bed = Bed::new();
    let usage = "pod_usage_cpu_core_seconds";
    let nines: ArrayRef = Arc::new(Float64Array::from(vec![9e9; pod_rows(DAY, 1.0).len()]));
    let with = |names: [&str; 2], is_kept: bool| {
        let mut columns = renamed(pod_columns(&pod_rows(DAY, 1.0)), str::to_owned);
        columns.retain(|(name, _)| is_kept || name != usage);
        let others = names.iter().filter(|name| **name != usage);
        others.for_each(|name| columns.insert(0, ((*name).to_owned(), Arc::clone(&nines))));
        Delivery::default().with(pod_key(DAY), object(columns, WriterProperties::default()))
    };
    let expected = bed.rows(&Delivery::of(&[DAY], 1.0)).await;
    let both = with([usage, "Pod_Usage_CPU_Core_Seconds"], true);
    let ended = bed.command("run", &both).await;
    ended.expect(0, &[&format!("column `{usage}` is there in several letter cases in 1 of 1 objects")]);
    assert_eq!(std::fs::read_to_string(bed.file()).unwrap(), expected);
    let names = ["POD_USAGE_CPU_CORE_SECONDS", "Pod_Usage_CPU_Core_Seconds"];
    let ended = bed.command("run", &with(names, false)).await;
    ended.expect(65, &[names[0], names[1], &format!("may all be column `{usage}`"), &pod_key(DAY)]);
    assert_eq!(std::fs::read_to_string(bed.file()).unwrap(), expected, "the day keeps its rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn measures_that_objects_lack_are_told_once_by_every_command() {
    let bed = Bed::new();
    let limit = ["pod_limit_cpu_core_seconds", "pod_limit_memory_byte_seconds"];
    let effective = "pod_effective_usage_cpu_core_seconds";
    let mut delivery = Delivery::of(&[DAY, NEXT_DAY], 1.0);
    let keys: Vec<String> = (0..5).map(|number| pod_key(DAY).replace("1.0_0", &format!("1.{number}_0"))).collect();
    for key in &keys {
        let mut columns = pod_columns(&pod_rows(DAY, 1.0));
        columns.retain(|(name, _)| !limit.contains(name) && *name != effective);
        delivery = delivery.with(key.clone(), parquet_with(columns, WriterProperties::builder()));
    }
    let of_limits = format!(
        "pod_usage (raw): measure columns `{}`, `{}` are missing in 5 of 6 objects (`{}`, `{}`, `{}` and 2 more); they read \
         as null there",
        limit[0], limit[1], keys[0], keys[1], keys[2]
    );
    let of_effective = format!("measure column `{effective}` is missing in 5 of 6 objects");
    for command in ["check", "plan", "run"] {
        let ended = bed.command(command, &delivery).await;
        ended.expect(0, &[&of_limits, &of_effective, "the greater of `pod_usage_cpu_core_seconds` and"]);
        assert_eq!(ended.stdout.matches("5 of 6 objects").count() % 2, 0, "{}", ended.stdout);
    }
    // A measure without values is there, and so is one that nobody asks for.
    let mut columns = pod_columns(&pod_rows(DAY, 1.0));
    columns.iter_mut().filter(|(name, _)| limit.contains(name)).for_each(|(_, values)| {
        *values = arrow_array::new_null_array(&DataType::Int64, values.len());
    });
    let whole = Delivery::default().with(pod_key(DAY), parquet_with(columns, WriterProperties::builder()));
    let ended = bed.command("run", &whole).await;
    ended.expect(0, &[]);
    assert!(!ended.stdout.contains("is missing") && !ended.stdout.contains("are missing"), "{}", ended.stdout);
}

/// Labels of the pods as (key, value), in the form that a builder makes of them.
fn with_labels(make: impl Fn(&[Vec<[String; 2]>]) -> ArrayRef, properties: WriterProperties) -> Delivery {
    let columns = pod_columns(&pod_rows(DAY, 1.0)).into_iter().map(|(name, array)| {
        if name != "pod_labels" {
            return (name.to_owned(), array);
        }
        let pairs = |text: Option<&str>| {
            let object: BTreeMap<String, String> = serde_json::from_str(text.unwrap()).unwrap();
            object.into_iter().map(|(key, value)| [key, value]).collect()
        };
        (name.to_owned(), make(&array.as_string::<i32>().iter().map(pairs).collect::<Vec<_>>()))
    });
    Delivery::default().with(pod_key(DAY), object(columns.collect(), properties))
}

/// A list of structs: each field has a name and the part of the pair that it holds.
fn list(rows: &[Vec<[String; 2]>], fields: &[(&str, usize)]) -> ArrayRef {
    let types: Vec<Field> = fields.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect();
    let builders = fields.iter().map(|_| Box::new(StringBuilder::new()) as Box<_>).collect();
    let mut list = ListBuilder::new(StructBuilder::new(types, builders));
    for row in rows {
        for pair in row {
            for (position, (_, part)) in fields.iter().enumerate() {
                list.values().field_builder::<StringBuilder>(position).unwrap().append_value(&pair[*part]);
            }
            list.values().append(true);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

fn map(rows: &[Vec<[String; 2]>], [first, second]: [&str; 2]) -> ArrayRef {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: first.to_owned(), value: second.to_owned() };
    let mut map = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for [key, value] in row {
            map.keys().append_value(key);
            map.values().append_value(value);
        }
        map.append(true).unwrap();
    }
    Arc::new(map.finish())
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_a_list_are_read_by_the_names_of_their_fields() {
    let bed = Bed::new();
    let expected = bed.rows(&Delivery::of(&[DAY], 1.0)).await;
    assert!(expected.contains("app"), "{expected}");
    for fields in [
        [("key", 0), ("value", 1)],
        [("value", 1), ("key", 0)],
        [("Value", 1), ("Key", 0)],
        [("KEY", 0), ("VALUE", 1)],
        [("vaLue", 1), ("kEy", 0)],
    ] {
        let delivery = with_labels(|rows| list(rows, &fields), WriterProperties::default());
        assert_eq!(bed.rows(&delivery).await, expected, "{fields:?}");
    }
    // The format itself says that the key of a map comes first.
    for names in [["key", "value"], ["keys", "values"], ["k", "v"], ["a", "b"]] {
        let delivery = with_labels(|rows| map(rows, names), WriterProperties::default());
        assert_eq!(bed.rows(&delivery).await, expected, "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_whose_fields_tell_nothing_are_refused() {
    let bed = Bed::new();
    let expected = bed.rows(&Delivery::of(&[DAY], 1.0)).await;
    let numbers = |rows: &[Vec<[String; 2]>]| -> ArrayRef {
        let mut map = MapBuilder::new(None, StringBuilder::new(), arrow_array::builder::Int64Builder::new());
        for row in rows {
            row.iter().for_each(|[key, _]| map.keys().append_value(key));
            row.iter().for_each(|_| map.values().append_value(1));
            map.append(true).unwrap();
        }
        Arc::new(map.finish())
    };
    type Make<'a> = (&'a str, &'a dyn Fn(&[Vec<[String; 2]>]) -> ArrayRef);
    let makers: [Make<'_>; 8] = [
        ("first", &|rows| list(rows, &[("first", 0), ("second", 1)])),
        ("name", &|rows| list(rows, &[("name", 0), ("value", 1)])),
        ("keys", &|rows| list(rows, &[("keys", 0), ("values", 1)])),
        ("key", &|rows| list(rows, &[("key", 0), ("Key", 1)])),
        ("extra", &|rows| list(rows, &[("key", 0), ("value", 1), ("extra", 1)])),
        ("key", &|rows| list(rows, &[("key", 0)])),
        ("Value", &|rows| map(rows, ["Value", "Key"])),
        ("Int64", &numbers),
    ];
    for (found, make) in makers {
        let without = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
        for properties in [WriterProperties::default(), without] {
            let ended = bed.command("run", &with_labels(make, properties)).await;
            ended.expect(65, &["column `pod_labels`", found, &pod_key(DAY), "export the report again"]);
            assert_eq!(std::fs::read_to_string(bed.file()).unwrap(), expected, "the day keeps its rows");
        }
    }
    let nested: ArrayRef = {
        let mut list = ListBuilder::new(arrow_array::builder::Int64Builder::new());
        pod_rows(DAY, 1.0).iter().for_each(|_| list.append_value([Some(1), None, None, None]));
        Arc::new(list.finish())
    };
    let ended = bed.command("run", &with_labels(|_| Arc::clone(&nested), WriterProperties::default())).await;
    ended.expect(65, &["column `pod_labels` is List(Int64"]);
}

/// So many pods that pages are far larger than what a footer may forget.
fn many_pods() -> Vec<PodRow> {
    let mut rows = Vec::new();
    for row in pod_rows(DAY, 1.0) {
        for number in 0..150 {
            let pod = row.pod.as_ref().map(|pod| format!("{pod}-{number}"));
            let labels = format!(r#"{{"app": "{}", "other": "{}"}}"#, number % 3, "x".repeat(40));
            rows.push(PodRow { pod, labels: Some(labels), ..row.clone() });
        }
    }
    rows
}

fn changed(chunk: ColumnChunkMetaData, size: Option<i64>, dictionary: Option<i64>) -> ColumnChunkMetaData {
    let size = size.unwrap_or_else(|| chunk.compressed_size());
    let dictionary = chunk.dictionary_page_offset().or(dictionary);
    let builder = chunk.into_builder().set_total_uncompressed_size(size).set_dictionary_page_offset(dictionary);
    builder.build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn footers_that_leave_out_sizes_and_dictionaries_are_read() {
    let bed = Bed::new();
    let of = |object| Delivery::default().with(pod_key(DAY), object);
    let codecs = [
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::try_new(3).unwrap()),
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
        Compression::UNCOMPRESSED,
    ];
    let rows = many_pods();
    let mut expected = None;
    for (number, codec) in codecs.into_iter().enumerate() {
        let version = if number % 2 == 0 { WriterVersion::PARQUET_1_0 } else { WriterVersion::PARQUET_2_0 };
        for has_dictionary in [false, true] {
            let properties = WriterProperties::builder()
                .set_compression(codec)
                .set_writer_version(version)
                .set_dictionary_enabled(has_dictionary);
            let sound = parquet_with(pod_columns(&rows), properties);
            let expected = match &expected {
                Some(expected) => expected,
                None => expected.insert(bed.rows(&of(sound.clone())).await),
            };
            for (size, dictionary) in [(Some(0), Some(0)), (None, None), (Some(0), Some(1 << 40))] {
                let object = with_chunks(&sound, |chunk| changed(chunk, size, dictionary));
                assert_eq!(bed.rows(&of(object)).await, *expected, "{codec}, {has_dictionary}, {size:?}");
            }
        }
    }
}

/// What a chunk takes is what its pages say, even if its footer says nothing and the guess was too small.
#[tokio::test(flavor = "multi_thread")]
async fn permits_stand_for_the_real_size_of_chunks_whose_footer_says_nothing() {
    let bed = Bed::new();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap()))
        .set_dictionary_enabled(false);
    let sound = parquet_with(pod_columns(&many_pods()), properties);
    let mut peaks = Vec::new();
    for object in [sound.clone(), with_chunks(&sound, |chunk| changed(chunk, Some(0), None))] {
        let ended = bed.command("run", &Delivery::default().with(pod_key(DAY), object)).await;
        ended.expect(0, &[]);
        peaks.push(ended.report["peak_chunk_bytes"].as_u64().unwrap());
    }
    assert!(peaks[0] > 1 << 20, "{peaks:?}");
    assert!(peaks[1] >= peaks[0] / 10 * 9, "not less than where the footer says it: {peaks:?}");
}

/// Statistics of the time in whatever form: those that can be believed keep the object from being read for other days, and none
/// takes rows away.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_older_and_careless_writers_lose_no_rows() {
    let bed = Bed::new();
    let expected = bed.rows(&Delivery::of(&[DAY], 1.0)).await;
    let (first, last) = (milliseconds(DAY), milliseconds(DAY) + 23 * 3_600_000);
    let at_ends = |least, greatest, is_old| Some(Statistics::int64(least, greatest, None, Some(0), is_old));
    for (statistics, is_believed) in [
        (at_ends(Some(first), Some(last), true), true),
        (at_ends(Some(first), Some(last), false), true),
        (at_ends(Some(last), Some(first), false), false),
        (at_ends(Some(first), None, false), false),
        (at_ends(None, Some(last), true), false),
        (at_ends(None, None, false), false),
        (None, false),
    ] {
        let object = with_chunks(&pod_object(DAY, 1.0), |chunk| {
            if chunk.column_path().string() != "interval_start" {
                return chunk;
            }
            let builder = chunk.into_builder().clear_statistics();
            match &statistics {
                Some(statistics) => builder.set_statistics(statistics.clone()).build().unwrap(),
                None => builder.build().unwrap(),
            }
        });
        let delivery = Delivery::default().with(pod_key(NEXT_DAY), object);
        assert_eq!(bed.rows(&delivery).await, expected, "{statistics:?}");
        let plan = bed.command("plan", &delivery).await;
        let objects = &plan.report["windows"][0]["days"][1]["objects"];
        assert_eq!(*objects == 0, is_believed, "{statistics:?}: {objects}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_rows_is_passed_over_whatever_its_columns_are_called() {
    let bed = Bed::new();
    let expected = bed.rows(&Delivery::of(&[DAY], 1.0)).await;
    let empty: ArrayRef = Arc::new(Int64Array::from_iter_values([]));
    let nothing = object(vec![("INTERVAL_START".to_owned(), empty)], WriterProperties::default());
    let delivery = Delivery::default().with(pod_key(DAY), pod_object(DAY, 1.0)).with(pod_key(NEXT_DAY), nothing);
    assert_eq!(bed.rows(&delivery).await, expected);
}
