//! Row groups of a file written here, read back through fetched ranges.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use chrono::DateTime;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::config::{Location, Storage};
use crate::discover::ObjectInfo;
use crate::footers::{column_range, read_footers};
use crate::runtime::memory_budget::MemoryBudget;
use crate::schema::source::{ReportType, SourceTable, Variant};
use crate::time::BillingMonth;

const COLUMN_COUNT: u32 = 6;
const ROWS_PER_GROUP: u32 = 50_000;

/// Two row groups of six columns of about 400 KB each.
fn batch() -> RecordBatch {
    let columns = (0..COLUMN_COUNT).map(|column| {
        let values = (0..2 * ROWS_PER_GROUP).map(|row| f64::from(row) + f64::from(column) * 0.1);
        (format!("c{column}"), Arc::new(Float64Array::from_iter_values(values)) as ArrayRef)
    });
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn store_and_footer(folder: &std::path::Path) -> (Store, Footer) {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP as usize))
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch().schema(), Some(properties)).unwrap();
    writer.write(&batch()).unwrap();
    let file = writer.into_inner().unwrap();
    std::fs::write(folder.join("k"), &file).unwrap();
    let object = Arc::new(ObjectInfo {
        key: "k".to_owned(),
        table: SourceTable { report: ReportType::PodUsage, variant: Variant::Raw },
        month: BillingMonth { year: 2025, month: 10 },
        size: Bytes(file.len() as u64),
        etag: None,
        last_modified: DateTime::UNIX_EPOCH,
        manifest: None,
    });
    let storage = Storage {
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
    };
    let store = Store::new(&storage).unwrap();
    let footer = read_footers(&store, vec![object]).await.remove(0).1.unwrap();
    (store, footer)
}

fn ranges_of(footer: &Footer, row_group: usize, columns: &[usize]) -> Vec<Range<u64>> {
    let metadata = footer.metadata();
    let chunk = |column: &usize| metadata.row_group(row_group).column(*column).clone();
    columns.iter().map(|column| column_range(&chunk(column), footer.object.size).unwrap()).collect()
}

fn decode(footer: &Footer, chunk: ChunkBytes, row_group: usize, columns: &[usize]) -> RecordBatch {
    let metadata = ArrowReaderMetadata::try_new(footer.metadata(), ArrowReaderOptions::new()).unwrap();
    let mask = ProjectionMask::leaves(footer.metadata().file_metadata().schema_descr(), columns.iter().copied());
    let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunk, metadata)
        .with_row_groups(vec![row_group])
        .with_projection(mask)
        .with_batch_size(ROWS_PER_GROUP as usize)
        .build()
        .unwrap();
    reader.next().unwrap().unwrap()
}

#[tokio::test]
async fn fetched_columns_decode_to_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, footer) = store_and_footer(folder.path()).await;
    let budget = MemoryBudget::new(Bytes(64 << 20));
    let before = store.counters();
    let columns = [4, 0, 1];
    let permit = budget.acquire(Bytes(8 << 20)).await;
    let chunk = fetch_row_group(&store, &footer, 1, &ranges_of(&footer, 1, &columns), permit).await.unwrap();
    assert_eq!(store.counters().requests - before.requests, 2, "columns 0 and 1 are neighbours, 4 is far away");
    assert_eq!(chunk.held_bytes(), fetched_bytes(footer.object.size, &ranges_of(&footer, 1, &columns)));
    assert_eq!(store.counters().bytes_read.0 - before.bytes_read.0, chunk.held_bytes().0);
    let batch_read = decode(&footer, chunk.clone(), 1, &columns);
    let expected = batch().slice(ROWS_PER_GROUP as usize, ROWS_PER_GROUP as usize).project(&[0, 1, 4]).unwrap();
    assert_eq!(batch_read.columns(), expected.columns());
    assert_eq!(budget.in_flight(), Bytes(8 << 20));
    drop(chunk);
    assert_eq!(budget.in_flight(), Bytes(0));
}

#[tokio::test]
async fn a_column_that_was_not_fetched_is_an_error_of_the_decoder() {
    let folder = tempfile::tempdir().unwrap();
    let (store, footer) = store_and_footer(folder.path()).await;
    let permit = MemoryBudget::new(Bytes(1 << 20)).acquire(Bytes(1)).await;
    let chunk = fetch_row_group(&store, &footer, 0, &ranges_of(&footer, 0, &[0]), permit).await.unwrap();
    let metadata = ArrowReaderMetadata::try_new(footer.metadata(), ArrowReaderOptions::new()).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(chunk, metadata)
        .with_row_groups(vec![0])
        .with_projection(ProjectionMask::leaves(footer.metadata().file_metadata().schema_descr(), [5]))
        .build();
    let error = reader.and_then(|mut reader| reader.next().unwrap().map_err(Into::into)).unwrap_err();
    assert!(error.to_string().contains("was not fetched"), "{error}");
}
