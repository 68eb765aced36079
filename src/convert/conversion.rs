//! Converted blocks in their order → objects per report and day, cut at a number of rows, encoded and written.
//!
//! What waits is bounded: if the rows of unfinished objects grow beyond a limit, the day that has waited longest is
//! written with what it has. Where objects are cut depends on the rows alone, never on how fast threads are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::ConvertOptions;
use super::block::{Counts, Parsed, Part};
use super::error::ConvertError;
use super::hours::{CoveredHours, hours_of_rows};
use super::input::{Inventory, ReportFile};
use super::objects::{ObjectRows, Slice, encode};
use super::output::{Output, Target};
use super::report::{ConvertReport, ConvertedFile, ConvertedObject};
use super::waiting::within;
use crate::error::{ErrorKind, Failure};
use crate::objects::{Owner, Position};
use crate::runtime::cpu_pool::CpuPool;
use crate::schema::source::Variant;
use crate::time::UsageDay;
use crate::units::Bytes;

/// Copies of objects that are encoded or written at once, per worker: one in work, one ready.
const TASKS_PER_WORKER: usize = 2;

/// A conversion under way.
pub(super) struct Conversion {
    org_id: String,
    source: uuid::Uuid,
    rows_per_file: usize,
    most_waiting: Bytes,
    inventory: Arc<Inventory>,
    manifest_id: String,
    pool: CpuPool,
    output: Output,
    /// What the delivery covers, if its reports were all looked at before.
    hours: CoveredHours,
    /// How many files of a report had rows of a day so far.
    counters: BTreeMap<(&'static str, UsageDay), u64>,
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
    /// Which of the delivery's files of this report and day it is.
    counter: u64,
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
            most_waiting: options.most_waiting,
            files: Vec::with_capacity(inventory.report_count()),
            inventory,
            manifest_id,
            pool,
            output,
            hours: CoveredHours::default(),
            counters: BTreeMap::new(),
            open: None,
            objects: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Whether objects can be seen before the conversion is complete.
    pub(super) fn writes_visibly(&self) -> bool {
        self.output.is_store()
    }

    /// Takes what a look at all reports told.
    pub(super) fn set_hours(&mut self, hours: CoveredHours) {
        self.hours = hours;
    }

    /// Takes the next block of a file.
    pub(super) async fn take(&mut self, file: &Arc<ReportFile>, parsed: Parsed) -> Result<(), Failure> {
        let open = self.open_file(file);
        open.counts.add(parsed.counts);
        for (day, part) in parsed.parts {
            self.append(day, Arc::new(part)).await?;
        }
        let most_waiting = self.most_waiting;
        while let Some(day) = self.open.as_ref().and_then(|open| open.day_to_give_up(most_waiting)) {
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

    /// Waits for all objects.
    pub(super) async fn write_out(&mut self) -> Result<(), Failure> {
        while !self.tasks.is_empty() {
            self.await_task().await?;
        }
        Ok(())
    }

    /// Removes what was written; the failure that led here then also says what could not be undone, or not within
    /// `patience`.
    pub(super) async fn undo(mut self, failure: Failure, patience: Option<Duration>) -> Failure {
        // A request that is given up half-way may still be carried out, after its object was removed.
        let ended = within(patience, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.shutdown().await;
        self.output.undo(failure, patience, ended.is_some()).await
    }

    /// Makes all objects visible and removes those that they replace.
    pub(super) async fn finish(mut self) -> Result<ConvertReport, Failure> {
        let removed = self.output.publish().await?;
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
            empty: self.inventory.empty.clone(),
            ignored: self.inventory.ignored.clone(),
            removed,
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
            let report = open.file.shape.report.folder();
            let open_day = open.days.entry(day).or_insert_with(|| {
                let next = self.counters.entry((report, day)).or_default();
                *next += 1;
                OpenDay { counter: *next - 1, ..OpenDay::default() }
            });
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
        let counter = open_day.counter;
        *open_day = OpenDay { counter, written: index + 1, ..OpenDay::default() };
        let shape = Arc::clone(&open.file.shape);

        let hours = self.inventory.delivery.as_ref().and_then(|delivery| delivery.hours_of(day));
        let hours = hours.or_else(|| self.hours.of(&open.file, day)).unwrap_or_else(|| hours_of_rows(&shape, &slices));
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
    fn day_to_give_up(&self, most_waiting: Bytes) -> Option<UsageDay> {
        if self.waiting_bytes as u64 <= most_waiting.0 {
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
