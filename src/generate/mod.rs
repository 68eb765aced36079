//! Arguments → synthetic usage reports in the reference's key layout, and a manifest of them.
//!
//! Every number comes from (seed, place), never from what was drawn before: a file can be made without the others, on
//! any thread, and the same arguments give the same bytes. Memory: one file of encoded pages per worker.

mod cluster;
mod daily;
mod label_set;
mod manifest;
mod names;
mod output;
mod parquet_bytes;
mod random;
mod rows;
mod tables;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parquet::errors::ParquetError;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::ErrorKind;
use crate::objects::{DEFAULT_ROWS_PER_FILE, Owner, Position};
use crate::runtime::stopping::Stopping;
use crate::schema::source::{ReportType, SourceTable, Variant};
use crate::store::StoreError;
use crate::time::{UsageDay, Window};
use crate::units::Bytes;
use daily::DailyGroups;
use parquet_bytes::ParquetBytes;
use rows::{OwnLabels, Stretch, Usage};

pub use output::Output;

/// Days that one call may make: ten years.
const MOST_DAYS: u32 = 3_660;
/// Pod rows that one call may make: beyond it the manifest would no longer be a small file.
const MOST_ROWS: u64 = 100_000_000_000;

/// How label columns are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelStyle {
    /// JSON text, as the reference writes it.
    Json,
    /// Native `MAP<string, string>`.
    Map,
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Hourly pod rows in all.
    pub rows: u64,
    /// Days over which they are spread.
    pub days: u32,
    /// First day, 1970 or later.
    pub start: UsageDay,
    /// Other seeds give other clusters.
    pub seed: u64,
    /// How label columns are stored.
    pub labels: LabelStyle,
    /// Whether every second pod has a label text of its own, so that the dictionary page overflows.
    pub unique_labels: bool,
    /// Whether such a pod has another text each hour: a day of a million label sets, as no cluster has them.
    pub hourly_labels: bool,
    /// Whether volumes are reported.
    pub storage: bool,
    /// Whether the daily objects are written too.
    pub daily: bool,
    /// Key segment of the organisation; a leading `acct` is removed.
    pub org_id: String,
    /// The `source=` folder.
    pub source: Uuid,
    /// Named in the manifest.
    pub cluster_id: String,
    /// Where the objects and the manifest go.
    pub out: Output,
    /// Most rows of an object.
    pub rows_per_file: u32,
    /// Files that are made at the same time.
    pub workers: usize,
    /// Once it is told, no further object is begun.
    pub stopping: Stopping,
}

impl GenerateOptions {
    /// One cluster of October 2025 with everything but the daily objects, below a folder.
    pub fn new(rows: u64, days: u32, out: impl Into<PathBuf>) -> Self {
        Self {
            rows,
            days,
            start: UsageDay(20_362),
            seed: 1,
            labels: LabelStyle::Json,
            unique_labels: false,
            hourly_labels: false,
            storage: true,
            daily: false,
            org_id: "org1234567".to_owned(),
            source: Uuid::from_u128(0x6721_57e0_0000_4000_8000_0000_0000_0001),
            cluster_id: "synthetic-cluster".to_owned(),
            out: Output::Folder(out.into()),
            rows_per_file: DEFAULT_ROWS_PER_FILE,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            stopping: Stopping::default(),
        }
    }

    /// The last day.
    fn end(&self) -> UsageDay {
        UsageDay(self.start.0.saturating_add_unsigned(self.days.saturating_sub(1)))
    }

    fn check(&self) -> Result<(), GenerateError> {
        let refuse = |argument, rule: String| Err(GenerateError::Argument { argument, rule });
        if !(1..=MOST_ROWS).contains(&self.rows) {
            return refuse("rows", format!("must be between 1 and {MOST_ROWS}"));
        }
        if !(1..=MOST_DAYS).contains(&self.days) {
            return refuse("days", format!("must be between 1 and {MOST_DAYS}"));
        }
        if self.start < UsageDay(0) || self.end().month().year > 9_999 {
            return refuse("start-date", "the days must lie between 1970-01-01 and 9999-12-31".to_owned());
        }
        if !self.owner().has_usable_segment() {
            return refuse("org-id", "must be a single folder name".to_owned());
        }
        if self.rows_per_file == 0 {
            return refuse("rows-per-file", "must be at least 1".to_owned());
        }
        Ok(())
    }

    fn owner(&self) -> Owner<'_> {
        Owner { org_id: &self.org_id, source: self.source }
    }

    /// Key of the manifest. A folder is one data set; a bucket may hold those of several clusters.
    fn manifest_key(&self) -> String {
        match self.out {
            Output::Folder(_) => "manifest.json".to_owned(),
            Output::Store { .. } => format!("{}manifest.json", self.manifest_prefix()),
        }
    }

    fn manifest_prefix(&self) -> String {
        let (organisation, source) = (self.owner().org_segment(), self.source);
        format!("generated/{organisation}/source={source}/{}_{}/", self.start, self.end())
    }

    /// Prefixes in a bucket below which nothing may lie yet: what is there would be read with the new objects.
    fn prefixes(&self) -> Vec<String> {
        let mut prefixes = vec![self.manifest_prefix()];
        for window in Window::split_by_month(self.start, self.end()) {
            for report in ReportType::ALL {
                for variant in [Variant::Raw, Variant::Daily] {
                    prefixes.push(self.owner().folder(report.folder(), variant, window.start));
                }
            }
        }
        prefixes
    }
}

/// One object that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedObject {
    /// Path below the output, with slashes.
    pub key: String,
    /// Report and copy.
    pub table: SourceTable,
    /// The day of its rows.
    pub day: UsageDay,
    /// Number of rows.
    pub row_count: u64,
    /// Size of the file.
    pub size: Bytes,
    /// SHA-256 of its bytes in hexadecimal.
    pub sha256: String,
}

/// What was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateReport {
    /// Every object, in the order of report, day and position.
    pub objects: Vec<GeneratedObject>,
    /// Nodes of the cluster.
    pub node_count: usize,
    /// Namespaces of the cluster.
    pub namespace_count: usize,
    /// Where the manifest lies.
    pub manifest: String,
}

impl GenerateReport {
    /// Rows of one report over all its objects.
    pub fn row_count(&self, table: SourceTable) -> u64 {
        self.objects.iter().filter(|object| object.table == table).map(|object| object.row_count).sum()
    }

    /// Bytes of all objects.
    pub fn size(&self) -> Bytes {
        self.objects.iter().map(|object| object.size).sum()
    }
}

/// Why nothing, or not everything, was generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// An argument is out of its range.
    #[error("generate: argument `--{argument}` {rule}")]
    Argument {
        /// Its name on the command line.
        argument: &'static str,
        /// What holds for it.
        rule: String,
    },
    /// The output already holds data, which would mix with the new.
    #[error("generate: `{place}` already exists; remove it or choose another place with `--{argument}`")]
    OutputNotEmpty {
        /// What is in the way.
        place: String,
        /// The argument that leads elsewhere.
        argument: &'static str,
    },
    /// The bucket does not take an object, or cannot be listed.
    #[error(transparent)]
    Storage(Box<StoreError>),
    /// A file or folder cannot be written.
    #[error("generate: cannot write `{}`", path.display())]
    FileUnwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The Parquet library refuses rows that we made.
    #[error("generate: object `{key}` cannot be encoded")]
    Encode {
        /// The object.
        key: String,
        /// What the library says.
        #[source]
        source: ParquetError,
    },
    /// The manifest cannot be put into JSON.
    #[error("generate: the manifest cannot be encoded")]
    EncodeManifest(#[source] serde_json::Error),
    /// After something failed, what had been written to a bucket could not be removed.
    #[error("{source}; {left}; remove them before you generate again")]
    NotUndone {
        /// What failed first.
        #[source]
        source: Box<GenerateError>,
        /// Which objects are left, and why.
        left: Box<StoreError>,
    },
    /// The process was told to stop.
    #[error("generate: {reason}; there is no manifest yet, and a folder keeps the objects that were written")]
    Stopped {
        /// By which signal.
        reason: String,
    },
    /// A worker ended in a panic.
    #[error("generate: a worker ended early")]
    WorkerLost,
}

impl GenerateError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            GenerateError::Argument { .. } | GenerateError::OutputNotEmpty { .. } => ErrorKind::Usage,
            GenerateError::Stopped { .. } => ErrorKind::Interrupted,
            GenerateError::Storage(error) => error.kind(),
            GenerateError::NotUndone { source, .. } => source.kind(),
            GenerateError::FileUnwritable { .. } => ErrorKind::FileUnwritable,
            GenerateError::Encode { .. } | GenerateError::EncodeManifest(_) | GenerateError::WorkerLost => {
                ErrorKind::Bug
            }
        }
    }
}

crate::impl_failure!(GenerateError);

/// Writes the objects, none of which is ever seen half-written, and then the manifest.
///
/// Blocks; must not be called from a thread of the output's own runtime.
/// Errors: `Argument` and `OutputNotEmpty` before anything is written. After other errors a folder holds whole objects but
/// no manifest; from a bucket the objects are removed, and if they cannot be, `NotUndone` names them.
pub fn generate(options: &GenerateOptions) -> Result<GenerateReport, GenerateError> {
    options.check()?;
    let manifest_key = options.manifest_key();
    options.out.require_empty(&options.prefixes(), &manifest_key)?;
    let usage = Usage::new(options.seed, options.start, options.days, options.rows, OwnLabels::of(options));
    let files = files(options, &usage);
    let written = write_all(options, &usage, &files).and_then(|objects| {
        let text = manifest::manifest_text(options, options.end(), &objects).map_err(GenerateError::EncodeManifest)?;
        options.out.write(&manifest_key, text.into_bytes(), &[])?;
        Ok(objects)
    });
    // All keys: none of them was there before, and one that is not there counts as removed.
    let all_keys = || files.iter().flat_map(|file| keys_of(options, *file)).chain([manifest_key.clone()]).collect();
    let objects = written.map_err(|error| options.out.undo(error, all_keys))?;
    Ok(GenerateReport {
        objects,
        node_count: usage.node_count(),
        namespace_count: usage.namespace_count(),
        manifest: options.out.place(&manifest_key),
    })
}

/// The rows of one raw file, and which file of its report and day it is.
#[derive(Debug, Clone, Copy)]
struct RawFile {
    stretch: Stretch,
    index: u64,
}

/// All raw files in order; their number is bounded by rows, days and `rows_per_file`.
fn files(options: &GenerateOptions, usage: &Usage) -> Vec<RawFile> {
    let mut files = Vec::new();
    let rows_per_file = u64::from(options.rows_per_file);
    let reports = ReportType::ALL.into_iter().filter(|report| options.storage || *report != ReportType::StorageUsage);
    for report in reports {
        for day in (options.start.0..=options.end().0).map(UsageDay) {
            let rows_of_day = usage.rows_of_day(report, day);
            for index in 0..rows_of_day.div_ceil(rows_per_file) {
                let first_row = index * rows_per_file;
                let row_count = rows_per_file.min(rows_of_day - first_row);
                files.push(RawFile { stretch: Stretch { report, day, first_row, row_count }, index });
            }
        }
    }
    files
}

/// Writes the files on a few threads; plain ones, because each file is work of its own and nothing is shared.
fn write_all(
    options: &GenerateOptions,
    usage: &Usage,
    files: &[RawFile],
) -> Result<Vec<GeneratedObject>, GenerateError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut written = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(position) else { break };
            let objects = match options.stopping.told() {
                None => write_file(options, usage, *file),
                Some(failure) => Err(GenerateError::Stopped { reason: failure.message }),
            };
            failed.fetch_or(objects.is_err(), Ordering::Relaxed);
            written.push((position, objects?));
        }
        Ok(written)
    };
    let mut written = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers.clamp(1, files.len().max(1))).map(|_| scope.spawn(work)).collect();
        let mut outcome = Ok(());
        for worker in workers {
            match worker.join().unwrap_or(Err(GenerateError::WorkerLost)) {
                Ok(objects) => written.extend(objects),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    })?;
    written.sort_by_key(|(position, _)| *position);
    Ok(written.into_iter().flat_map(|(_, objects)| objects).collect())
}

/// Writes one raw object and, if asked for, the daily object that the reference makes of it.
fn write_file(options: &GenerateOptions, usage: &Usage, file: RawFile) -> Result<Vec<GeneratedObject>, GenerateError> {
    let Stretch { report, day, .. } = file.stretch;
    let raw_table = SourceTable { report, variant: Variant::Raw };
    let daily_table = SourceTable { report, variant: Variant::Daily };
    let [raw_key, daily_key] = keys_of(options, file);
    let open = |variant| {
        let rows_per_file = usize::try_from(options.rows_per_file).unwrap_or(usize::MAX);
        ParquetBytes::new(tables::columns(report, variant), options.labels, day.month(), rows_per_file)
    };
    let encode_raw = || {
        let mut groups = options.daily.then(|| DailyGroups::new(&tables::columns(report, Variant::Daily)));
        let mut bytes = open(Variant::Raw)?;
        usage.each_row(file.stretch, |row| {
            if let Some(groups) = &mut groups {
                groups.add(&row);
            }
            bytes.push(row)
        })?;
        Ok((bytes.finish()?, groups))
    };
    let encode_daily = |groups: DailyGroups| {
        let mut bytes = open(Variant::Daily)?;
        for row in groups.into_rows() {
            bytes.push(row)?;
        }
        bytes.finish()
    };

    let encode_error = |key: &str| {
        let key = key.to_owned();
        |source| GenerateError::Encode { key, source }
    };
    let (raw, groups) = encode_raw().map_err(encode_error(&raw_key))?;
    let mut objects = vec![write_object(options, raw_key, raw_table, day, raw)?];
    if let Some(groups) = groups {
        let daily = encode_daily(groups).map_err(encode_error(&daily_key))?;
        objects.push(write_object(options, daily_key, daily_table, day, daily)?);
    }
    Ok(objects)
}

fn write_object(
    options: &GenerateOptions,
    key: String,
    table: SourceTable,
    day: UsageDay,
    (row_count, bytes): (u64, Vec<u8>),
) -> Result<GeneratedObject, GenerateError> {
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let size = Bytes(bytes.len() as u64);
    // What the reference notes with an object: which delivery it belongs to, and how much of the day that covers.
    let metadata = [
        ("manifestid", manifest_id(options, day)),
        ("reportdatestart", day.to_string()),
        ("reportnumhours", rows::HOURS_PER_DAY.to_string()),
    ];
    options.out.write(&key, bytes, &metadata)?;
    Ok(GeneratedObject { key, table, day, row_count, size, sha256 })
}

fn manifest_id(options: &GenerateOptions, day: UsageDay) -> String {
    (1 + day.0 - options.start.0).to_string()
}

/// Keys of a raw file and of the daily file that may come with it.
fn keys_of(options: &GenerateOptions, file: RawFile) -> [String; 2] {
    let Stretch { report, day, .. } = file.stretch;
    [Variant::Raw, Variant::Daily].map(|variant| object_key(options, SourceTable { report, variant }, day, file.index))
}

/// One manifest per day, one payload per manifest, cut into objects of `rows_per_file` rows.
fn object_key(options: &GenerateOptions, table: SourceTable, day: UsageDay, index: u64) -> String {
    let manifest_id = manifest_id(options, day);
    let position = Position { report: table.report.folder(), day, manifest_id: &manifest_id, counter: 0, index };
    options.owner().object_key(position, table.variant)
}
