//! The cluster operator's CSV reports → Parquet objects in the reference's key layout (contract, sections 1 and 2).
//!
//! `input` finds the reports and reads them block by block, `block` converts a block on the CPU pool, `conversion` puts
//! the blocks back in order and cuts the rows into objects, `objects` and `daily` encode them, `output` writes them. The
//! same input gives the same objects for any number of threads: blocks and objects are cut by position alone.

mod block;
mod blocks;
mod content;
mod conversion;
mod daily;
mod delivery;
mod error;
mod header;
mod hours;
mod input;
mod labels;
mod objects;
mod output;
mod partitions;
mod payload;
mod records;
mod report;
mod texts;
mod values;
mod waiting;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::{Location, Storage};
use crate::error::{ErrorKind, Failure};
use crate::objects::{DEFAULT_ROWS_PER_FILE, Owner};
use crate::runtime::cpu_pool::CpuPool;
use crate::store::Store;
use crate::units::Bytes;
use block::{Parsed, parse_block};
use conversion::Conversion;
use hours::CoveredHours;
use input::{Inventory, Piece, ReportFile};
use labels::LabelCache;
use output::Output;
use waiting::blocking;

pub use block::Counts;
pub use content::Foreign;
pub use error::{ConvertError, RowProblem};
pub use report::{ConvertReport, ConvertedFile, ConvertedObject};

/// Manifest id of reports that come without a manifest.
const DEFAULT_MANIFEST_ID: &str = "1";
/// A full object of pods has some 50 MB before it is encoded, with long labels of its own for each pod twice that.
const DEFAULT_WAITING: Bytes = Bytes(96 << 20);
/// Blocks that wait for a worker.
const WAITING_BLOCKS: usize = 2;

/// After the wish to stop: how long a storage may take with the writes under way, and then with the removals. Both together are
/// below the half minute after which a pod is killed by default.
const LEAVING: Duration = Duration::from_secs(10);

/// What to convert.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// A folder of CSVs, one CSV, or a payload.
    pub input: PathBuf,
    /// Where the objects go.
    pub target: ConvertTarget,
    /// Key segment of the organisation; a leading `acct` is removed.
    pub org_id: String,
    /// The `source=` folder.
    pub source: Uuid,
    /// The cluster that a manifest must name, if it names one.
    pub cluster_id: Option<String>,
    /// Part of the objects' names; otherwise that of the manifest, or 1.
    pub manifest_id: Option<String>,
    /// Most rows of an object.
    pub rows_per_file: u32,
    /// Bytes of rows that wait for their objects to be full; beyond them the day that has waited longest is written.
    pub most_waiting: Bytes,
    /// Threads that compute.
    pub workers: usize,
    /// Whether objects of the same delivery and day give way.
    pub replace: bool,
}

/// Where objects go.
#[derive(Debug, Clone)]
pub enum ConvertTarget {
    /// A folder that will hold `data/`.
    Folder(PathBuf),
    /// The storage of a configuration.
    Storage(Box<Storage>),
}

impl ConvertOptions {
    /// Reports of a source into a folder.
    pub fn new(input: impl Into<PathBuf>, target: ConvertTarget, org_id: impl Into<String>, source: Uuid) -> Self {
        Self {
            input: input.into(),
            target,
            org_id: org_id.into(),
            source,
            cluster_id: None,
            manifest_id: None,
            rows_per_file: DEFAULT_ROWS_PER_FILE,
            most_waiting: DEFAULT_WAITING,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            replace: false,
        }
    }

    fn check(&self) -> Result<(), ConvertError> {
        let refuse = |argument, rule: &str| Err(ConvertError::Argument { argument, rule: rule.to_owned() });
        if !(Owner { org_id: &self.org_id, source: self.source }).has_usable_segment() {
            return refuse("org-id", "must be a single folder name");
        }
        if self.manifest_id.as_deref().is_some_and(|id| !delivery::is_usable_id(id)) {
            return refuse("manifest-id", "must consist of letters, digits, `-` and `_`");
        }
        if self.rows_per_file == 0 {
            return refuse("rows-per-file", "must be at least 1");
        }
        Ok(())
    }
}

/// Converts everything that an input holds. Into a folder all objects appear at the end; from a bucket those that were
/// written before something failed are removed.
pub async fn convert(options: &ConvertOptions) -> Result<ConvertReport, Failure> {
    convert_until(options, std::future::pending()).await
}

/// The same until `stop` ends, which is then the failure that is answered.
pub async fn convert_until(
    options: &ConvertOptions,
    stop: impl Future<Output = Failure>,
) -> Result<ConvertReport, Failure> {
    let mut stop = std::pin::pin!(stop);
    let (mut conversion, reports) = tokio::select! {
        prepared = prepare(options) => prepared?,
        failure = &mut stop => return Err(failure),
    };
    let outcome = tokio::select! {
        outcome = fill(&mut conversion, &reports) => outcome,
        failure = &mut stop => Err(failure),
    };
    match outcome {
        Ok(()) => conversion.finish().await,
        Err(failure) => {
            let patience = (failure.kind == ErrorKind::Interrupted).then_some(LEAVING);
            Err(conversion.undo(failure, patience).await)
        }
    }
}

/// Looks at the input and opens the output; nothing is written yet.
async fn prepare(options: &ConvertOptions) -> Result<(Conversion, Reports), Failure> {
    options.check()?;
    let path = options.input.clone();
    let inventory = Arc::new(blocking("reading", move || Inventory::of(&path)).await??);
    let delivery = inventory.delivery.as_ref();
    if let (Some(expected), Some(found)) = (&options.cluster_id, delivery.and_then(|found| found.cluster_id.as_ref()))
        && expected != found
    {
        let place = inventory.place.clone();
        return Err(ConvertError::WrongCluster { place, found: found.clone(), expected: expected.clone() }.into());
    }
    let manifest_id = options.manifest_id.clone().or_else(|| delivery.map(|delivery| delivery.id.clone()));
    let output = match &options.target {
        ConvertTarget::Folder(folder) => Output::folder(folder, options.replace),
        ConvertTarget::Storage(storage) => match &storage.location {
            Location::Folder(folder) => Output::folder(folder, options.replace),
            Location::S3 { .. } => Output::store(Store::new(storage)?, options.replace),
        },
    };
    let pool = CpuPool::new(options.workers)?;
    let manifest_id = manifest_id.unwrap_or_else(|| DEFAULT_MANIFEST_ID.to_owned());
    let conversion = Conversion::new(options, Arc::clone(&inventory), manifest_id, pool.clone(), output);
    let caches = Arc::new((0..pool.worker_count()).map(|_| Mutex::default()).collect());
    Ok((conversion, Reports { inventory, pool, caches }))
}

/// Converts all reports. What others see at once is written only after all of it was read once and found good.
async fn fill(conversion: &mut Conversion, reports: &Reports) -> Result<(), Failure> {
    if conversion.writes_visibly() {
        let mut hours = CoveredHours::default();
        let look = async |file: Arc<ReportFile>, parsed: Option<Parsed>| {
            match parsed {
                Some(parsed) => hours.add(&file, &parsed),
                None => hours.end_file(&file),
            }
            Ok(())
        };
        reports.each_block(look).await?;
        conversion.set_hours(hours);
    }
    let take = async |file: Arc<ReportFile>, parsed: Option<Parsed>| match parsed {
        Some(parsed) => conversion.take(&file, parsed).await,
        None => conversion.end_file(&file).await,
    };
    reports.each_block(take).await?;
    conversion.write_out().await
}

/// What is read, and what it is read with.
struct Reports {
    inventory: Arc<Inventory>,
    pool: CpuPool,
    caches: Arc<Vec<Mutex<LabelCache>>>,
}

impl Reports {
    /// Reads everything and hands out converted blocks in their order; `None` stands for the end of a file.
    async fn each_block(
        &self,
        mut visit: impl AsyncFnMut(Arc<ReportFile>, Option<Parsed>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::channel(WAITING_BLOCKS);
        let reader = Arc::clone(&self.inventory);
        // The receiver is gone if the conversion has failed meanwhile.
        let reading =
            tokio::task::spawn_blocking(move || reader.read(&mut |piece| sender.blocking_send(piece).is_ok()));
        let pieces =
            futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
        let mut parsed = std::pin::pin!(
            pieces
                .map(|piece| parse(self.pool.clone(), Arc::clone(&self.caches), piece))
                .buffered(self.pool.worker_count() + WAITING_BLOCKS)
        );
        while let Some(step) = parsed.next().await {
            let (file, parsed) = step?;
            visit(file, parsed).await?;
        }
        Ok(reading.await.map_err(|_| ConvertError::WorkerLost { what: "reading" })??)
    }
}

/// Converts a piece on the CPU pool; `None` stands for the end of its file.
async fn parse(
    pool: CpuPool,
    caches: Arc<Vec<Mutex<LabelCache>>>,
    piece: Piece,
) -> Result<(Arc<ReportFile>, Option<Parsed>), Failure> {
    let (file, block) = match piece {
        Piece::End(file) => return Ok((file, None)),
        Piece::Records(file, block) => (file, block),
    };
    let (of_worker, name) = (Arc::clone(&file), file.name.clone());
    let first_line = block.first_line;
    let what = move || format!("file `{name}`, records from line {first_line}");
    let parsed = pool.run(what, ErrorKind::Bug, move |worker| {
        // A cache holds whole entries, whatever happened to the thread that filled it.
        let mut cache = caches[worker].lock().unwrap_or_else(PoisonError::into_inner);
        Ok(parse_block(&of_worker.shape, &of_worker.name, block, &mut cache)?)
    });
    Ok((file, Some(parsed.await?)))
}
