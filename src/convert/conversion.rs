//! Converted blocks in their order → objects per report and day, cut at a number of rows, encoded and written.
//!
//! What waits is bounded: if the rows of unfinished objects grow beyond a limit, the day that has waited longest is
//! written with what it has. Where objects are cut depends on the rows alone, never on how fast threads are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use tokio::task::JoinSet;

use super::ConvertOptions;
use super::block::{Counts, Parsed, Part};
use super::error::ConvertError;
use super::header::{ColumnSource, Shape};
use super::input::{Inventory, ReportFile};
use super::objects::{ObjectRows, Slice, encode};
use super::output::{Output, Target};
use super::report::{ConvertReport, ConvertedFile, ConvertedObject};
use crate::error::{ErrorKind, Failure};
use crate::objects::{Owner, Position};
use crate::runtime::cpu_pool::CpuPool;
use crate::schema::source::Variant;
use crate::time::UsageDay;

/// Bytes of rows that wait for their object to be full. A full object of pods has 30 MB, with long labels up to 100.
const MOST_WAITING_BYTES: usize = 128 << 20;
/// Copies of objects that are encoded or written at once, per worker: one in work, one ready.
const TASKS_PER_WORKER: usize = 2;

/// A conversion under way.
pub(super) struct Conversion {
    org_id: String,
    source: uuid::Uuid,
    rows_per_file: usize,
    inventory: Arc<Inventory>,
    manifest_id: String,
    pool: CpuPool,
    output: Output,
    /// The file whose blocks come now.
    open: Option<OpenFile>,
    files: Vec<ConvertedFile>,
    objects: Vec<ConvertedObject>,
    tasks: JoinSet<Result<ConvertedObject, Failure>>,
}

/// A file whose end has not come yet.
struct OpenFile {
    file: Arc<ReportFile>,
    counts: Counts,
    days: BTreeMap<UsageDay, OpenDay>,
    waiting_bytes: usize,
    /// Counts up with each piece of rows.
    clock: u64,
}

/// The rows of an object that is not full.
#[derive(Default)]
struct OpenDay {
    slices: Vec<Slice>,
    row_count: usize,
    bytes: usize,
    /// When rows came last.
    last_touched: u64,
    /// Objects that were written of this file and day.
    written: u64,
}

impl Conversion {
    pub(super) fn new(
        options: &ConvertOptions,
        inventory: Arc<Inventory>,
        manifest_id: String,
        pool: CpuPool,
        output: Output,
    ) -> Self {
        Self {
            org_id: options.org_id.clone(),
            source: options.source,
            rows_per_file: usize::try_from(options.rows_per_file).unwrap_or(usize::MAX),
            files: Vec::with_capacity(inventory.report_count()),
            inventory,
            manifest_id,
            pool,
            output,
            open: None,
            objects: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Takes the next block of a file.
    pub(super) async fn take(&mut self, file: &Arc<ReportFile>, parsed: Parsed) -> Result<(), Failure> {
        let open = self.open_file(file);
        open.counts.add(parsed.counts);
        for (day, part) in parsed.parts {
            self.append(day, Arc::new(part)).await?;
        }
        while let Some(day) = self.open.as_ref().and_then(OpenFile::day_to_give_up) {
            self.write_day(day).await?;
        }
        Ok(())
    }

    /// Writes what is left of a file.
    pub(super) async fn end_file(&mut self, file: &Arc<ReportFile>) -> Result<(), Failure> {
        let days: Vec<UsageDay> = self.open_file(file).days.keys().copied().collect();
        for day in days {
            self.write_day(day).await?;
        }
        if let Some(OpenFile { file, counts, .. }) = self.open.take() {
            self.files.push(ConvertedFile { name: file.name.clone(), report: file.shape.report.folder(), counts });
        }
        Ok(())
    }

    /// Waits for all objects and makes them visible.
    pub(super) async fn finish(mut self) -> Result<ConvertReport, Failure> {
        while !self.tasks.is_empty() {
            self.await_task().await?;
        }
        let stale = self.output.publish().await?;
        self.files.sort_by(|left, right| left.name.cmp(&right.name));
        self.objects.sort();
        let mut total = Counts::default();
        self.files.iter().for_each(|file| total.add(file.counts));
        Ok(ConvertReport {
            manifest_id: self.manifest_id,
            cluster_id: self.inventory.delivery.as_ref().and_then(|delivery| delivery.cluster_id.clone()),
            files: self.files,
            total,
            objects: self.objects,
            ignored: self.inventory.ignored.clone(),
            stale,
        })
    }

    fn open_file(&mut self, file: &Arc<ReportFile>) -> &mut OpenFile {
        self.open.get_or_insert_with(|| OpenFile {
            file: Arc::clone(file),
            counts: Counts::default(),
            days: BTreeMap::new(),
            waiting_bytes: 0,
            clock: 0,
        })
    }

    /// Adds rows to their day, which is written whenever an object is full.
    async fn append(&mut self, day: UsageDay, part: Arc<Part>) -> Result<(), Failure> {
        let mut taken = 0;
        while taken < part.row_count {
            let Some(open) = &mut self.open else { return Ok(()) };
            let open_day = open.days.entry(day).or_default();
            let row_count = (self.rows_per_file - open_day.row_count).min(part.row_count - taken);
            let bytes = part.size * row_count / part.row_count;
            open_day.slices.push(Slice { part: Arc::clone(&part), rows: taken..taken + row_count });
            open_day.row_count += row_count;
            open_day.bytes += bytes;
            open.clock += 1;
            open_day.last_touched = open.clock;
            open.waiting_bytes += bytes;
            taken += row_count;
            if open_day.row_count == self.rows_per_file {
                self.write_day(day).await?;
            }
        }
        Ok(())
    }

    /// Starts encoding and writing the rows that wait for a day.
    async fn write_day(&mut self, day: UsageDay) -> Result<(), Failure> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(open_day) = open.days.get_mut(&day).filter(|open_day| open_day.row_count > 0) else { return Ok(()) };
        open.waiting_bytes -= open_day.bytes;
        let index = open_day.written;
        let slices = std::mem::take(&mut open_day.slices);
        *open_day = OpenDay { written: index + 1, ..OpenDay::default() };
        let (shape, counter) = (Arc::clone(&open.file.shape), open.file.counter);

        let hours = self.inventory.delivery.as_ref().and_then(|delivery| delivery.hours_of(day));
        let hours = hours.unwrap_or_else(|| distinct_intervals(&shape, &slices));
        let metadata = vec![
            ("manifestid", self.manifest_id.clone()),
            ("reportdatestart", day.to_string()),
            ("reportnumhours", hours.to_string()),
        ];
        let owner = Owner { org_id: &self.org_id, source: self.source };
        let position = Position { report: shape.report.folder(), day, manifest_id: &self.manifest_id, counter, index };
        let keys = [Variant::Raw, Variant::Daily].map(|variant| (variant, owner.object_key(position, variant)));
        let rows = Arc::new(ObjectRows { shape, day, slices, metadata });
        for (variant, key) in keys {
            self.output.announce(&key).await?;
            while self.tasks.len() >= TASKS_PER_WORKER * self.pool.worker_count() {
                self.await_task().await?;
            }
            let work = write_object(self.pool.clone(), self.output.target(), Arc::clone(&rows), variant, key);
            self.tasks.spawn(work);
        }
        Ok(())
    }

    async fn await_task(&mut self) -> Result<(), Failure> {
        if let Some(ended) = self.tasks.join_next().await {
            self.objects.push(ended.map_err(|_| ConvertError::WorkerLost { what: "writing an object" })??);
        }
        Ok(())
    }
}

impl OpenFile {
    /// The day that has waited longest, if too much waits.
    fn day_to_give_up(&self) -> Option<UsageDay> {
        if self.waiting_bytes <= MOST_WAITING_BYTES {
            return None;
        }
        let waiting = self.days.iter().filter(|(_, open_day)| open_day.row_count > 0);
        waiting.min_by_key(|(_, open_day)| open_day.last_touched).map(|(day, _)| *day)
    }
}

async fn write_object(
    pool: CpuPool,
    target: Target,
    rows: Arc<ObjectRows>,
    variant: Variant,
    key: String,
) -> Result<ConvertedObject, Failure> {
    let (object, of_worker) = (key.clone(), Arc::clone(&rows));
    let encoding = pool.run(
        || format!("object `{key}`"),
        ErrorKind::Bug,
        move |_| Ok(encode(&of_worker, variant).map_err(|source| ConvertError::Encode { key: object, source })?),
    );
    let (row_count, bytes) = encoding.await?;
    let size = bytes.len() as u64;
    target.put(&key, bytes, &rows.metadata).await?;
    Ok(ConvertedObject { key, row_count, bytes: size })
}

/// How many different hours the rows have: what a delivery covers that does not say so itself.
fn distinct_intervals(shape: &Shape, slices: &[Slice]) -> u64 {
    let column = shape.columns.iter().position(|column| column.source == ColumnSource::Time(shape.interval_start));
    let column = column.expect("each report has the start of the interval");
    let mut intervals = BTreeSet::new();
    for slice in slices {
        let starts = slice.part.columns[column].as_primitive::<TimestampMillisecondType>().values();
        let mut last = None;
        for start in &starts[slice.rows.clone()] {
            if last != Some(*start) {
                intervals.insert(*start);
                last = Some(*start);
            }
        }
    }
    intervals.len() as u64
}
