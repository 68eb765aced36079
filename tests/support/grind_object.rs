//! One object in memory → its rows through footer, plan, decoding and aggregation, as a run takes them, without a store.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use gristmill::aggregate::{Account, Chunk, CompiledScan, DayState, GroupCounts, LabelSettings, ingest};
use gristmill::decode::{BATCH_ROWS, Batches, DecodeError, RowGroup};
use gristmill::discover::ObjectInfo;
use gristmill::footers::{DaySpan, footer_of};
use gristmill::labels::EnabledKeys;
use gristmill::merge::merge;
use gristmill::plan::{ChunkPlan, plan};
use gristmill::rollups::declaration::Scan;
use gristmill::rollups::facts::ReferenceData;
use gristmill::rollups::ocp_daily_summary;
use gristmill::rollups::semantics::Semantics;
use gristmill::runtime::memory_book::MemoryBook;
use gristmill::schema::source::{ReportType, SourceTable, Variant};
use gristmill::time::{UsageDay, Window};

const SEMANTICS: Semantics = Semantics::Balanced;

/// An object and the days that a run would look for in it.
#[derive(Clone)]
pub struct Object {
    /// Which report it is of.
    pub report: ReportType,
    /// Name in messages.
    pub key: String,
    /// What is in it.
    pub bytes: Bytes,
    /// The days.
    pub window: Window,
}

/// How far an object came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The footer was refused.
    Footer,
    /// The plan has no use for it.
    Plan,
    /// A page was refused before the Parquet library saw it.
    Page,
    /// The Parquet library refused a page, or a row was refused.
    Rows,
    /// The Parquet library panicked, which a run turns into an error.
    LibraryPanic,
    /// The finished rows could not be computed: a value that no decimal holds.
    Finish,
    /// All rows were taken.
    Taken,
}

/// What became of an object.
#[derive(Debug)]
pub struct Ground {
    /// Where it ended.
    pub stage: Stage,
    /// Rows that were decoded, over all chunks.
    pub row_count: u64,
    /// What is said about it.
    pub message: Option<String>,
}

thread_local! {
    static PANIC_PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Parts of the paths of code that is not ours, where a corrupt page may cause a panic.
const LIBRARIES: [&str; 4] = ["/parquet-", "/arrow-", "/bytes-", "/rustc/"];

fn is_of_library(place: &str) -> bool {
    LIBRARIES.iter().any(|part| place.contains(part))
}

/// Notes where a panic of a library happens instead of printing it. Once per process.
pub fn note_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        if is_of_library(&place) {
            PANIC_PLACE.set(Some(place));
        } else {
            usual(panic);
        }
    }));
}

/// Runs what a run computes where a panic becomes an error; a panic of our own code is none that may happen.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let place = PANIC_PLACE.take().unwrap_or_default();
        assert!(!place.is_empty(), "a panic of our own");
        place
    })
}

impl Object {
    /// An object with the window that its own times ask for: their first month.
    pub fn new(report: ReportType, key: &str, bytes: Vec<u8>) -> Self {
        let fallback = UsageDay(20_362);
        let window = Window { start: fallback, end: fallback };
        let mut object = Self { report, key: key.to_owned(), bytes: bytes.into(), window };
        let footer = footer_of(&object.info(), &object.bytes).expect("a valid object");
        let spans = footer.row_groups.iter().filter_map(|span| match span.days {
            DaySpan::Known(first, last) => Some((first, last)),
            DaySpan::Unknown => None,
        });
        if let Some((first, last)) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
            object.window = Window { start: first, end: last.min(first.month().last_day()) };
        }
        object
    }

    /// Any bytes, as an object of some report and month.
    pub fn of_bytes(report: ReportType, bytes: &[u8]) -> Self {
        let window = Window { start: UsageDay(20_362), end: UsageDay(20_364) };
        Self { report, key: "object".to_owned(), bytes: Bytes::copy_from_slice(bytes), window }
    }

    /// The same with other bytes.
    pub fn with(&self, bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), ..self.clone() }
    }

    /// Where the footer begins.
    pub fn footer_start(&self) -> usize {
        let length = self.bytes[self.bytes.len() - 8..][..4].try_into().expect("four bytes");
        self.bytes.len() - 8 - u32::from_le_bytes(length) as usize
    }

    fn info(&self) -> Arc<ObjectInfo> {
        Arc::new(ObjectInfo {
            key: self.key.clone(),
            table: SourceTable { report: self.report, variant: Variant::Raw },
            month: self.window.start.month(),
            size: gristmill::units::Bytes(self.bytes.len() as u64),
            etag: None,
            last_modified: DateTime::UNIX_EPOCH,
            manifest: None,
        })
    }

    /// Grinds it. Asserts what holds for any bytes: as many rows as the footer says or an error that names the place.
    pub fn grind(&self) -> Ground {
        let info = self.info();
        let end = |stage, row_count, message: String| Ground { stage, row_count, message: Some(message) };
        let footer = match guarded(|| footer_of(&info, &self.bytes)) {
            Ok(Ok(footer)) => footer,
            Ok(Err(error)) => {
                assert!(error.to_string().contains(&self.key), "{error}");
                return end(Stage::Footer, 0, error.to_string());
            }
            Err(panic) => return end(Stage::LibraryPanic, 0, panic),
        };
        let scans = ocp_daily_summary::scans(SEMANTICS, |_| true);
        let plan = plan(self.window, &scans, &[(info, Ok(footer))]);
        if let Some(bad) = plan.bad_objects.first() {
            assert!(bad.failure.message.contains(&self.key), "{:?}", bad.failure);
            return end(Stage::Plan, 0, bad.failure.message.clone());
        }
        let mut row_count = 0;
        let days = open_days(&scans, self.window);
        for chunk in &plan.chunks {
            match self.chunk(chunk, &days) {
                Ok(rows) => row_count += rows,
                Err((stage, message)) => return end(stage, row_count, message),
            }
        }
        match guarded(|| finish(days)) {
            Ok(Ok(())) => Ground { stage: Stage::Taken, row_count, message: None },
            Ok(Err(message)) => end(Stage::Finish, row_count, message),
            Err(panic) => end(Stage::LibraryPanic, row_count, panic),
        }
    }

    /// The rows of a chunk: counted on their own, then added to the days.
    fn chunk(&self, chunk: &ChunkPlan, days: &[Arc<DayState>]) -> Result<u64, (Stage, String)> {
        let counted = guarded(|| {
            let mut row_count = 0;
            for batch in self.batches(chunk, days)? {
                row_count += batch?.row_count as u64;
            }
            Ok::<_, DecodeError>(row_count)
        });
        let row_count = match counted {
            Ok(Ok(row_count)) => row_count,
            Ok(Err(error)) => return Err(self.named(chunk, &error)),
            Err(panic) => return Err((Stage::LibraryPanic, panic)),
        };
        assert_eq!(row_count, chunk.row_count, "{}: the footer's number of rows", self.key);
        let target = Chunk {
            object: &self.key,
            row_group: chunk.row_group,
            scan: chunk.scan,
            window: self.window,
            days: &days.iter().filter(|day| chunk.days.contains(&day.day)).cloned().collect::<Vec<_>>(),
            given_up: &[],
        };
        let counts = guarded(|| ingest(&target, self.batches(chunk, days)?))
            .map_err(|panic| (Stage::LibraryPanic, panic))?
            .map_err(|error| self.named(chunk, &error))?;
        assert_eq!(counts.row_count, row_count, "{}: as many rows the second time", self.key);
        Ok(row_count)
    }

    fn batches<'a>(&'a self, chunk: &'a ChunkPlan, days: &'a [Arc<DayState>]) -> Result<Batches<'a>, DecodeError> {
        let row_group = RowGroup {
            object: &self.key,
            metadata: chunk.footer.metadata(),
            row_group: chunk.row_group,
            projection: &chunk.projection,
            columns: &days[0].scans()[chunk.scan].columns,
            batch_rows: BATCH_ROWS,
        };
        Batches::open(self.bytes.clone(), row_group)
    }

    fn named(&self, chunk: &ChunkPlan, error: &dyn std::error::Error) -> (Stage, String) {
        let message = error.to_string();
        let place = format!("object `{}`, row group {}", self.key, chunk.row_group);
        assert!(message.starts_with(&place), "{message}");
        (if message.contains(", page ") { Stage::Page } else { Stage::Rows }, message)
    }
}

fn open_days(scans: &[Scan], window: Window) -> Vec<Arc<DayState>> {
    let compiled: Arc<Vec<CompiledScan>> = Arc::new(scans.iter().map(CompiledScan::new).collect());
    let keys = Arc::new(EnabledKeys::new(SEMANTICS.kept_keys(&["app".to_owned(), "env".to_owned()])));
    let open = |day| {
        let (scans, keys) = (Arc::clone(&compiled), Arc::clone(&keys));
        let labels = LabelSettings { keys, rules: SEMANTICS.label_rules(false), cache_bytes: 1 << 20 };
        let account = Account::new(&MemoryBook::unlimited(), 0);
        Arc::new(DayState::new(day, scans, 1, labels, &GroupCounts::default(), account))
    };
    window.days().map(open).collect()
}

fn finish(days: Vec<Arc<DayState>>) -> Result<(), String> {
    for day in days {
        let (tables, _) = merge(&day);
        let finish = ocp_daily_summary::finish(&tables, &ReferenceData::default(), SEMANTICS);
        finish.map_err(|error| error.to_string())?;
    }
    Ok(())
}
