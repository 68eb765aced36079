//! Bad objects, columns and labels: a message that says where and what to do, and no day half-written.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, TimestampMillisecondType};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float32Array, Int32Array, Int64Array, LargeStringArray,
    NullArray, StringArray, StringViewArray, TimestampMicrosecondArray,
};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{Ended, Invocation};
use crate::bucket::files_below;
use crate::delivery::{
    Delivery, ROWS_PER_DAY, into_csv, into_postgres, milliseconds, pod_key, pod_object, pod_rows, settings,
};
use crate::usage::{Column, parquet, parquet_with, pod_columns};
use crate::{database, rerun};

const DAYS: [&str; 3] = ["2025-10-01", "2025-10-02", "2025-10-03"];
const BAD_DAY: &str = DAYS[1];

/// A folder with reports and one with files, both with a first delivery of one core per pod.
struct Bed {
    input: TempDir,
    output: TempDir,
    days: Vec<&'static str>,
}

impl Bed {
    async fn new(days: &[&'static str]) -> Self {
        let bed =
            Self { input: tempfile::tempdir().unwrap(), output: tempfile::tempdir().unwrap(), days: days.to_vec() };
        bed.run(&Delivery::of(days, 1.0), &bed.settings()).await.expect(0, &[]);
        bed
    }

    fn settings(&self) -> Value {
        let (first, last) = (self.days[0], self.days[self.days.len() - 1]);
        into_csv(settings(self.input.path(), first, last), self.output.path())
    }

    async fn run(&self, delivery: &Delivery, settings: &Value) -> Ended {
        delivery.write(self.input.path());
        Invocation::with("run", settings).run().await
    }

    /// Every file of the target, with its name.
    fn files(&self) -> Vec<(String, String)> {
        let mut files = files_below(self.output.path());
        files.sort();
        files.into_iter().map(|(name, content)| (name, String::from_utf8(content).unwrap())).collect()
    }

    fn file(&self, day: &str) -> String {
        std::fs::read_to_string(self.path(day)).unwrap()
    }

    fn path(&self, day: &str) -> PathBuf {
        self.output.path().join(format!("{day}.csv"))
    }
}

/// The second delivery, of two cores per pod, whose second day is bad: the message has all parts, day two stays as it
/// was, the others are new, and nothing else lies about.
async fn only_the_bad_day_fails(bad: Vec<u8>, parts: &[&str]) -> Ended {
    let bed = Bed::new(&DAYS).await;
    let before = bed.files();
    let delivery = Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), bad);
    let ended = bed.run(&delivery, &bed.settings()).await;
    ended.expect(65, parts).expect(65, &[BAD_DAY, "1 of 3 days failed"]);
    let error = ended.day(BAD_DAY)["error"].as_str().expect("the report says why");
    for part in parts {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert!(error.contains(&pod_key(BAD_DAY)), "the object is named: {error}");
    assert_eq!(ended.day(BAD_DAY)["status"], "failed");
    assert_eq!(ended.report["exit_code"], 65);
    let after = bed.files();
    assert_eq!(after.len(), DAYS.len(), "one file per day and no other: {after:?}");
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(old.0, new.0);
        assert_eq!(old.1 == new.1, old.0.contains(BAD_DAY), "{}: the bad day stays, the others are new", old.0);
    }
    // Mended and run again, all is well.
    bed.run(&Delivery::of(&DAYS, 2.0), &bed.settings()).await.expect(0, &[]);
    assert_ne!(bed.file(BAD_DAY), before[1].1);
    ended
}

/// The pod object of the bad day with its columns changed.
fn object_with(change: impl FnOnce(&mut Vec<Column>)) -> Vec<u8> {
    let mut columns = pod_columns(&pod_rows(BAD_DAY, 2.0));
    change(&mut columns);
    parquet(columns, ROWS_PER_DAY)
}

fn replace(columns: &mut [Column], name: &str, values: ArrayRef) {
    let column = columns.iter_mut().find(|(column, _)| *column == name).expect("a known column");
    column.1 = values;
}

const DELIVER_AGAIN: &str = "deliver the object again";
const EXPORT_AGAIN: &str = "export the report again";

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_object() {
    let whole = pod_object(BAD_DAY, 2.0);
    only_the_bad_day_fails(whole[..whole.len() / 2].to_vec(), &["truncated", DELIVER_AGAIN]).await;
    only_the_bad_day_fails(whole[..whole.len() - 1].to_vec(), &["truncated", DELIVER_AGAIN]).await;
    // The end is there, the beginning is not.
    only_the_bad_day_fails(whole[whole.len() / 2..].to_vec(), &["object", DELIVER_AGAIN]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_byte_object() {
    only_the_bad_day_fails(Vec::new(), &["zero bytes", DELIVER_AGAIN]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage() {
    let mut random = crate::usage::Random(3);
    let bytes: Vec<u8> = (0..20_000).map(|_| random.next() as u8).collect();
    only_the_bad_day_fails(bytes.clone(), &["does not end like a Parquet file", DELIVER_AGAIN]).await;
    only_the_bad_day_fails(b"PAR1".to_vec(), &["does not end like a Parquet file", DELIVER_AGAIN]).await;
    // Garbage that ends like Parquet.
    let disguised = [&bytes[..], &500_u32.to_le_bytes(), b"PAR1"].concat();
    only_the_bad_day_fails(disguised, &["footer", DELIVER_AGAIN]).await;
    let too_long = [&bytes[..], &u32::MAX.to_le_bytes(), b"PAR1"].concat();
    only_the_bad_day_fails(too_long, &["claims a footer", DELIVER_AGAIN]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_column_is_missing() {
    for column in ["interval_start", "namespace", "node"] {
        let bad = object_with(|columns| columns.retain(|(name, _)| *name != column));
        only_the_bad_day_fails(bad, &[&format!("required column `{column}` is missing"), EXPORT_AGAIN]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_an_unusable_type() {
    let integers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS_PER_DAY as i64));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; ROWS_PER_DAY]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1.5"; ROWS_PER_DAY]));
    for (column, values, found) in [
        ("interval_start", integers.clone(), "is Int64, expected a timestamp"),
        ("namespace", integers.clone(), "is Int64, expected a string"),
        ("pod_labels", integers, "is Int64, expected a string, MAP"),
        ("pod_usage_cpu_core_seconds", texts, "is Utf8, expected a number"),
        ("node_capacity_cpu_cores", flags, "is Boolean, expected a number"),
    ] {
        let bad = object_with(|columns| replace(columns, column, values));
        only_the_bad_day_fails(bad, &[&format!("column `{column}` {found}"), EXPORT_AGAIN]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_physical_types_and_null_typed_columns_are_no_error() {
    let bed = Bed::new(&DAYS).await;
    // Whole numbers everywhere, so that they survive as floats and integers.
    let usual = Delivery::of(&DAYS, 2.0)
        .with(pod_key(BAD_DAY), object_with(|columns| null_out(columns, "pod_limit_cpu_core_seconds")));
    bed.run(&usual, &bed.settings()).await.expect(0, &[]);
    let expected = bed.files();
    let unusual = object_with(|columns| {
        for (name, values) in columns.iter_mut() {
            *values = other_type(name, values);
        }
    });
    let ended = bed.run(&Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), unusual), &bed.settings()).await;
    ended.expect(0, &[]);
    assert_eq!(bed.files(), expected);
    assert_eq!(ended.report["days"][1]["rows_in"], ROWS_PER_DAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_rows_needs_no_usable_columns() {
    let bed = Bed::new(&DAYS).await;
    let before = bed.files();
    let key = pod_key(BAD_DAY).replace(".0_0.", ".1_0.");
    let empty: ArrayRef = Arc::new(Int64Array::from_iter_values([]));
    for columns in [vec![("interval_start", empty.clone())], vec![("something_else", empty)]] {
        let delivery = Delivery::of(&DAYS, 1.0).with(key.clone(), parquet(columns, ROWS_PER_DAY));
        bed.run(&delivery, &bed.settings()).await.expect(0, &[]);
        assert_eq!(bed.files(), before);
    }
}

/// A column of its usual type without any value.
fn null_out(columns: &mut [Column], name: &str) {
    let column = columns.iter_mut().find(|(column, _)| *column == name).expect("a known column");
    column.1 = arrow_array::new_null_array(column.1.data_type(), column.1.len());
}

/// The same values in a type that nobody usually writes.
fn other_type(name: &str, values: &ArrayRef) -> ArrayRef {
    let texts = || values.as_string::<i32>();
    let numbers = || values.as_primitive::<Float64Type>();
    match name {
        "pod_limit_cpu_core_seconds" => Arc::new(NullArray::new(values.len())),
        "interval_start" => {
            let times = values.as_primitive::<TimestampMillisecondType>();
            let times = times.iter().map(|time| time.map(|time| time * 1_000)).collect::<TimestampMicrosecondArray>();
            Arc::new(times.with_timezone("UTC"))
        }
        "namespace" => Arc::new(texts().iter().collect::<LargeStringArray>()),
        "node" => Arc::new(texts().iter().collect::<DictionaryArray<Int32Type>>()),
        "pod" => Arc::new(texts().iter().collect::<StringViewArray>()),
        "pod_labels" => Arc::new(texts().iter().map(|text| text.map(str::as_bytes)).collect::<BinaryArray>()),
        "pod_usage_cpu_core_seconds" => Arc::new(numbers().iter().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        "node_capacity_cpu_cores" => Arc::new(numbers().iter().map(|n| n.map(|n| n as i64)).collect::<Int64Array>()),
        "node_capacity_memory_bytes" => {
            Arc::new(numbers().iter().map(|n| n.map(|n| n as f32)).collect::<Float32Array>())
        }
        _ => Arc::clone(values),
    }
}

/// Two rows of the bad day whose label column carries another annotation than the usual one, or none.
fn annotated_labels(annotation: &str, labels: &[u8], has_dictionary: bool) -> Vec<u8> {
    let schema = format!(
        "message rows {{ required int64 interval_start (TIMESTAMP(MILLIS,true)); required binary namespace (UTF8); \
         required binary node (UTF8); required binary pod_labels {annotation}; }}"
    );
    let schema = parquet::schema::parser::parse_message_type(&schema).unwrap();
    let properties = WriterProperties::builder().set_dictionary_enabled(has_dictionary).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    let mut row_group = writer.next_row_group().unwrap();
    let mut texts = [b"namespace-a", &b"node-a"[..], labels].into_iter();
    while let Some(mut column) = row_group.next_column().unwrap() {
        match column.untyped() {
            ColumnWriter::Int64ColumnWriter(times) => {
                times.write_batch(&[milliseconds(BAD_DAY); 2], None, None).unwrap();
            }
            ColumnWriter::ByteArrayColumnWriter(values) => {
                let text = ByteArray::from(texts.next().unwrap().to_vec());
                values.write_batch(&[text.clone(), text], None, None).unwrap();
            }
            _ => panic!("the schema has no other columns"),
        }
        column.close().unwrap();
    }
    row_group.close().unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_any_annotation_are_read_as_json_and_checked_to_be_text() {
    for annotation in ["", "(UTF8)", "(JSON)", "(ENUM)"] {
        for has_dictionary in [false, true] {
            let bed = Bed::new(&DAYS).await;
            let good = annotated_labels(annotation, "{\"app\": \"gr\u{fc}n\"}".as_bytes(), has_dictionary);
            bed.run(&Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), good), &bed.settings()).await.expect(0, &[]);
            let written = bed.file(BAD_DAY);
            assert!(written.contains("gr\u{fc}n"), "{annotation}, dictionary {has_dictionary}: {written}");
            let bad = annotated_labels(annotation, b"{\"app\": \"\xff\"}", has_dictionary);
            only_the_bad_day_fails(bad, &["row group 0"]).await;
        }
    }
}

/// Row 10 of row group 1 has a label text that is no JSON object.
fn object_with_malformed_label(has_dictionary: bool, text: &str) -> Vec<u8> {
    let mut rows = pod_rows(BAD_DAY, 2.0);
    rows[30].labels = Some(text.to_owned());
    let properties =
        WriterProperties::builder().set_max_row_group_row_count(Some(20)).set_dictionary_enabled(has_dictionary);
    parquet_with(pod_columns(&rows), properties)
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_label_json_names_its_row_and_never_its_text() {
    for has_dictionary in [false, true] {
        for text in ["{\"app\": \"confidential\"", "confidential", "[\"confidential\"]"] {
            let bad = object_with_malformed_label(has_dictionary, text);
            let place = format!("object `{}`, row group 1, row 10: column `pod_labels` is not", pod_key(BAD_DAY));
            let ended = only_the_bad_day_fails(bad, &[&place, "mend the label text at its source"]).await;
            assert!(!ended.all_text().contains("confidential"), "{ended:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_labels_can_be_taken_as_empty_and_are_counted() {
    let bed = Bed::new(&DAYS).await;
    for has_dictionary in [false, true] {
        let mut settings = bed.settings();
        settings["labels"] = json!({"on_malformed": "empty"});
        let bad = object_with_malformed_label(has_dictionary, "{\"app\":");
        let ended = bed.run(&Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), bad), &settings).await;
        ended.expect(0, &["1 malformed rows taken as {}"]);
        assert_eq!(ended.report["label_columns"]["pod_labels"]["malformed_rows"], 1, "{ended:#?}");
        assert!(bed.file(BAD_DAY).contains("{}"), "{}", bed.file(BAD_DAY));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_that_lie_about_the_days_of_a_row_group() {
    // Two objects that differ in the values of one time only; the one's footer with the other's pages.
    let write = |rows: &[crate::usage::PodRow]| {
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled("interval_start".into(), false);
        parquet_with(pod_columns(rows), properties)
    };
    let mut rows = pod_rows(BAD_DAY, 2.0);
    let honest = write(&rows);
    rows[17].milliseconds += 86_400_000;
    let late = write(&rows);
    assert_eq!(honest.len(), late.len());
    let footer_bytes = u32::from_le_bytes(honest[honest.len() - 8..][..4].try_into().unwrap()) as usize + 8;
    let (pages, footer) = (late.len() - footer_bytes, honest.len() - footer_bytes);
    let liar = [&late[..pages], &honest[footer..]].concat();
    let place = format!("object `{}`, row group 0, row 17: interval_start lies on 2025-10-03", pod_key(BAD_DAY));
    let bed = Bed::new(&DAYS).await;
    let before = bed.files();
    let ended = bed.run(&Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), liar), &bed.settings()).await;
    let other_day = "2025-10-03 lacks rows as well";
    ended
        .expect(65, &[&place, "outside of the row group's statistics", other_day, DELIVER_AGAIN, "2 of 3 days failed"]);
    // The day that the row belongs to has failed too, whether or not it was written before the row was met.
    let statuses = DAYS.map(|day| ended.day(day)["status"].clone());
    assert_eq!(statuses, ["written", "failed", "failed"]);
    let (old, new) = (&before[1], &bed.files()[1]);
    assert_eq!(old, new, "the day of the statistics keeps its file");
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_begins_no_further_day() {
    let days: Vec<String> = (1..=20).map(|day| format!("2025-10-{day:02}")).collect();
    let days: Vec<&'static str> = days.into_iter().map(|day| &*day.leak()).collect();
    let bed = Bed::new(&days).await;
    let before = bed.files();
    let mut settings = bed.settings();
    settings["on_bad_day"] = json!("stop");
    settings["performance"] = json!({"max_workers": 1});

    // Known from the footers: nothing is begun at all.
    let delivery = || Delivery::of(&days, 2.0);
    let ended = bed.run(&delivery().with(pod_key(days[3]), b"nothing".to_vec()), &settings).await;
    ended.expect(65, &["does not end like a Parquet file", &pod_key(days[3])]);
    assert_eq!(bed.files(), before);
    assert_eq!(ended.day(days[0])["status"], "skipped");

    // Found while reading: days that were begun may end, the last one is not begun.
    let mut rows = pod_rows(days[0], 2.0);
    rows[5].labels = Some("no JSON".to_owned());
    let bad = parquet(pod_columns(&rows), ROWS_PER_DAY);
    let ended = bed.run(&delivery().with(pod_key(days[0]), bad), &settings).await;
    ended.expect(65, &["row group 0, row 5"]);
    assert_eq!(ended.day(days[0])["status"], "failed");
    assert_eq!(ended.day(days[19])["status"], "skipped");
    for ((name, old), (_, new)) in before.iter().zip(bed.files()) {
        let status = &ended.day(&name[..10])["status"];
        assert_eq!(*old != new, status == "written", "{name} is {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn derived_roles_come_from_the_days_that_can_be_read() {
    let bed = Bed::new(&DAYS).await;
    let before = bed.files();
    let mut settings = bed.settings();
    settings["reference"]["node_roles"] = json!("derive");
    let ended = bed.run(&Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), Vec::new()), &settings).await;
    let said = format!("node roles are derived without {BAD_DAY}, of which an object cannot be used");
    ended.expect(65, &[&said, &pod_key(BAD_DAY), "zero bytes"]);
    for ((name, old), (_, new)) in before.iter().zip(bed.files()) {
        assert_eq!(*old == new, name.starts_with(BAD_DAY), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_day_keeps_its_rows_and_its_ledger_entry_in_postgresql() {
    let postgres = database::database().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = into_postgres(settings(folder.path(), DAYS[0], DAYS[2]), &postgres);
    Invocation::with("init-db", &settings).run().await.expect(0, &[]);
    Delivery::of(&DAYS, 1.0).write(folder.path());
    Invocation::with("run", &settings).run().await.expect(0, &[]);
    let client = database::client(&postgres).await;
    let before = rerun::snapshot(&client).await;

    let bad = object_with_malformed_label(true, "no JSON");
    Delivery::of(&DAYS, 2.0).with(pod_key(BAD_DAY), bad).write(folder.path());
    // Roles from the table: the bad row stands in nobody's way but its own day's.
    let mut settings = settings;
    settings["reference"] = json!({"from": "postgres"});
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(65, &["row group 1, row 10", "1 of 3 days failed"]);
    let after = rerun::snapshot(&client).await;
    for day in DAYS {
        let is_bad = day == BAD_DAY;
        assert_eq!(before.rows_of(day) == after.rows_of(day), is_bad, "{day}");
        assert_eq!(before.ledger_of(day) == after.ledger_of(day), is_bad, "{day}");
        assert!(!after.rows_of(day).is_empty());
    }
}
