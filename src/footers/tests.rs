//! Footers of files written here, whole and damaged.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{ArrayRef, Date32Array, Float64Array, PrimitiveArray, RecordBatch, StringArray};
use chrono::DateTime;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::*;
use crate::config::{Location, Storage};
use crate::schema::source::{ReportType, SourceTable, Variant};
use crate::time::{BillingMonth, UsageDay};

const HOUR_MILLIS: i64 = 3_600_000;
/// 2025-10-01 in days since 1970.
const OCTOBER: i32 = 20_362;

fn times<T: ArrowPrimitiveType<Native = i64>>(per_milli: i64, hours: &[Option<i64>]) -> PrimitiveArray<T> {
    let start = i64::from(OCTOBER) * 24;
    hours.iter().map(|hour| hour.map(|hour| (start + hour) * HOUR_MILLIS * per_milli)).collect()
}

fn file(time: ArrayRef, properties: WriterProperties) -> Vec<u8> {
    let row_count = time.len();
    let usage = Float64Array::from_iter_values((0..row_count).map(|_| 1.0));
    let names = StringArray::from_iter_values((0..row_count).map(|index| format!("pod-{index}")));
    let columns: [(&str, ArrayRef); 3] =
        [("pod", Arc::new(names)), ("interval_start", time), ("usage", Arc::new(usage))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    // In slices: the writer calls itself once per row group inside one batch.
    for start in (0..row_count).step_by(20) {
        writer.write(&batch.slice(start, (row_count - start).min(20))).unwrap();
    }
    writer.into_inner().unwrap()
}

fn object(key: &str, size: usize) -> Arc<ObjectInfo> {
    Arc::new(ObjectInfo {
        key: key.to_owned(),
        table: SourceTable { report: ReportType::PodUsage, variant: Variant::Raw },
        month: BillingMonth { year: 2025, month: 10 },
        size: Bytes(size as u64),
        etag: None,
        last_modified: DateTime::UNIX_EPOCH,
        manifest: None,
    })
}

fn footer_of(file: &[u8]) -> &[u8] {
    let length = u32::from_le_bytes(*file[..file.len() - 4].last_chunk().unwrap()) as usize;
    &file[file.len() - 8 - length..file.len() - 8]
}

fn spans(file: &[u8]) -> Vec<DaySpan> {
    let (_, row_groups) = describe(&object("k", file.len()), footer_of(file)).unwrap();
    row_groups.iter().map(|row_group| row_group.days).collect()
}

fn known(first: i32, last: i32) -> DaySpan {
    DaySpan::Known(UsageDay(OCTOBER + first), UsageDay(OCTOBER + last))
}

#[test]
fn every_unit_of_time_gives_the_same_days() {
    let hours = [Some(5), Some(47), None, Some(30)];
    let plain = WriterProperties::default;
    let utc = |array: PrimitiveArray<TimestampMicrosecondType>| array.with_timezone("UTC");
    assert_eq!(spans(&file(Arc::new(times::<TimestampMillisecondType>(1, &hours)), plain())), [known(0, 1)]);
    assert_eq!(spans(&file(Arc::new(utc(times(1_000, &hours))), plain())), [known(0, 1)]);
    assert_eq!(spans(&file(Arc::new(times::<TimestampNanosecondType>(1_000_000, &hours)), plain())), [known(0, 1)]);
    let dates = Date32Array::from(vec![OCTOBER + 3, OCTOBER + 7]);
    assert_eq!(spans(&file(Arc::new(dates), plain())), [known(3, 7)]);
}

#[test]
fn each_row_group_has_its_own_days() {
    let hours: Vec<_> = (0..72).map(Some).collect();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(24)).build();
    let file = file(Arc::new(times::<TimestampMillisecondType>(1, &hours)), properties);
    assert_eq!(spans(&file), [known(0, 0), known(1, 1), known(2, 2)]);
}

#[test]
fn days_are_unknown_without_usable_statistics() {
    let without = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    let hours = times::<TimestampMillisecondType>(1, &[Some(1)]);
    assert_eq!(spans(&file(Arc::new(hours), without)), [DaySpan::Unknown]);
    let nulls = times::<TimestampMillisecondType>(1, &[None, None]);
    assert_eq!(spans(&file(Arc::new(nulls), WriterProperties::default())), [DaySpan::Unknown]);
    let texts = StringArray::from(vec!["2025-10-01 00:00:00"]);
    assert_eq!(spans(&file(Arc::new(texts), WriterProperties::default())), [DaySpan::Unknown]);
    let numbers = arrow_array::Int64Array::from(vec![1_759_276_800_000]);
    assert_eq!(spans(&file(Arc::new(numbers), WriterProperties::default())), [DaySpan::Unknown]);
}

#[test]
fn columns_outside_the_object_are_refused() {
    let file = file(Arc::new(times::<TimestampMillisecondType>(1, &[Some(1)])), WriterProperties::default());
    let error = describe(&object("k", 20), footer_of(&file)).unwrap_err();
    assert!(matches!(error, FooterError::ColumnOutside { row_group: 0, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::ObjectUnreadable);
}

/// Damages a footer in thousands of ways. Neither the guard nor the library may panic, and the guard must not refuse what
/// is sound.
#[test]
fn damaged_footers_are_errors_or_footers_but_never_panics() {
    let hours: Vec<_> = (0..48).map(Some).collect();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(24)).build();
    let file = file(Arc::new(times::<TimestampMillisecondType>(1, &hours)), properties);
    let (object, sound) = (object("k", file.len()), footer_of(&file));
    assert_eq!(guard::check(sound), Ok(()));
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut refused = 0;
    for round in 0..20_000 {
        let mut damaged = sound.to_vec();
        for _ in 0..=round % 4 {
            let position = random(damaged.len());
            damaged[position] = [0x00, 0xFF, 0x7F, 0x80, random(256).to_le_bytes()[0]][random(5)];
        }
        if round % 5 == 0 {
            damaged.truncate(random(damaged.len()));
        }
        let outcome = std::panic::catch_unwind(|| describe(&object, &damaged).is_err());
        refused += usize::from(outcome.unwrap_or_else(|_| panic!("round {round} panics: {damaged:02x?}")));
    }
    assert!(refused > 5_000, "only {refused} were refused");
}

fn store_over(folder: &std::path::Path) -> Store {
    Store::new(&Storage {
        location: Location::Folder(folder.to_path_buf()),
        endpoint: None,
        region: "us-east-1".to_owned(),
        access_key: None,
        secret_key: None,
        allow_http: false,
        path_style: true,
        ca_file: None,
        compare_objects_by: crate::config::CompareObjectsBy::Etag,
        concurrent_requests: 4,
        connect_timeout_seconds: 5,
        request_timeout_seconds: 30,
        retries: 0,
        retry_seconds: 60,
    })
    .unwrap()
}

#[tokio::test]
async fn one_bad_object_does_not_hide_the_others() {
    let good = file(Arc::new(times::<TimestampMillisecondType>(1, &[Some(1)])), WriterProperties::default());
    let mut encrypted = good.clone();
    encrypted.splice(good.len() - 4.., *b"PARE");
    let mut long_footer = good.clone();
    long_footer.splice(good.len() - 8..good.len() - 4, 0x7FFF_FFFF_u32.to_le_bytes());
    let mut corrupt = good.clone();
    let footer_start = good.len() - 8 - footer_of(&good).len();
    corrupt[footer_start..good.len() - 8].fill(0xAA);
    let files: [(&str, &[u8]); 7] = [
        ("empty", &[]),
        ("good", &good),
        ("short", b"PAR1"),
        ("truncated", &good[..good.len() - 3]),
        ("encrypted", &encrypted),
        ("long", &long_footer),
        ("corrupt", &corrupt),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut objects = Vec::new();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
        objects.push(object(name, content.len()));
    }
    let results = read_footers(&store_over(folder.path()), objects).await;
    let outcome: Vec<(&str, String)> = results
        .iter()
        .map(|(object, result)| {
            (object.key.as_str(), result.as_ref().map_or_else(|e| e.to_string(), |_| "ok".to_owned()))
        })
        .collect();
    let expected = [
        ("empty", "zero bytes"),
        ("good", "ok"),
        ("short", "does not end like a Parquet file"),
        ("truncated", "does not end like a Parquet file"),
        ("encrypted", "encrypted footer"),
        ("long", "claims a footer of 2.00 GiB"),
        ("corrupt", "the footer is corrupt"),
    ];
    for ((key, text), (expected_key, part)) in outcome.iter().zip(expected) {
        assert_eq!(*key, expected_key);
        assert!(text.contains(part), "{key}: {text}");
    }
    assert_eq!(results.len(), expected.len());
    let kept = results[1].1.as_ref().unwrap().whole.as_ref().unwrap();
    assert_eq!(kept[..], good[..], "a small object is kept whole");
}

#[test]
fn a_footer_of_few_row_groups_is_kept_as_it_is_stored() {
    let hours: Vec<_> = (0..120).map(Some).collect();
    for (rows_per_group, row_group_count) in [(120, 1), (30, 4), (24, 5)] {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
        let file = file(Arc::new(times::<TimestampMillisecondType>(1, &hours)), properties);
        let whole = Buffer::from(file.clone());
        let mut footer = super::footer_of(&object("k", file.len()), &whole).unwrap();
        let (metadata, row_groups) = describe(&object("k", file.len()), footer_of(&file)).unwrap();
        assert_eq!(row_groups.len(), row_group_count);
        assert_eq!((&footer.row_groups, footer.metadata()), (&row_groups, Arc::new(metadata)));
        footer.whole = None;
        let is_encoded = footer.held_bytes() == Bytes(footer_of(&file).len() as u64);
        assert_eq!(is_encoded, row_group_count <= DECODED_EACH_TIME);
    }
}

#[tokio::test]
async fn a_footer_longer_than_the_first_read_is_joined() {
    let row_count = 20_000;
    let hours: Vec<_> = (0..row_count).map(|row| Some(row % 24)).collect();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(20))
        .set_compression(Compression::UNCOMPRESSED)
        .build();
    let file = file(Arc::new(times::<TimestampMillisecondType>(1, &hours)), properties);
    assert!(footer_of(&file).len() as u64 > FIRST_READ_BYTES);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long"), &file).unwrap();
    let store = store_over(folder.path());
    let results = read_footers(&store, vec![object("long", file.len())]).await;
    let footer = results[0].1.as_ref().unwrap();
    assert_eq!(footer.row_groups.len(), 1_000);
    assert_eq!(footer.row_groups.iter().map(|row_group| row_group.row_count).sum::<u64>(), 20_000);
    assert!(footer.whole.is_none());
    assert!(footer.held_bytes().0 > 100_000, "{}", footer.held_bytes());
    assert_eq!(store.counters().requests, 2);
    assert_eq!(store.counters().bytes_read.0, (footer_of(&file).len() + TAIL_BYTES) as u64);
}
