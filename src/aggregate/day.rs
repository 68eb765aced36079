//! State of one open day: what all workers share, and the partial results of those that add to it at the same time.

use hashbrown::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::capacity::CapacityPartial;
use super::compile::{CompiledKernel, CompiledScan, IdSource};
use super::grouped::GroupedPartial;
use super::label_sets::LabelSetsPartial;
use super::members::MembersPartial;
use super::memory::Account;
use super::names::NameStore;
use super::odd_numbers::OddNumbers;
use super::texts::KnownTexts;
use crate::labels::{EnabledKeys, LabelRules, LabelStore};
use crate::rollups::tables::NameTable;
use crate::time::UsageDay;

/// Partial result of one kernel and lane.
#[derive(Debug)]
pub enum KernelPartial {
    /// Of a grouped kernel.
    Grouped(Box<GroupedPartial>),
    /// Of a capacity kernel.
    Capacity(CapacityPartial),
    /// Of a members kernel.
    Members(MembersPartial),
    /// Of a label-set kernel.
    LabelSets(LabelSetsPartial),
}

/// How one label column was read on one day.
#[derive(Debug, Clone, Default)]
pub struct LabelColumnStats {
    /// Rows that were maps or lists of entries.
    pub map_rows: u64,
    /// Rows that were structs.
    pub struct_rows: u64,
    /// Rows with text.
    pub text_rows: u64,
    /// Rows without a value.
    pub null_rows: u64,
    /// Malformed rows taken as `{}`.
    pub malformed_rows: u64,
    /// Hashes of the distinct JSON texts; only counted.
    pub json_texts: HashSet<u64>,
    /// Hashes of the distinct texts in the operator's raw form; only counted.
    pub operator_texts: HashSet<u64>,
}

impl LabelColumnStats {
    /// Adds another part of the same column and day.
    pub fn add(&mut self, other: &LabelColumnStats) {
        self.map_rows += other.map_rows;
        self.struct_rows += other.struct_rows;
        self.text_rows += other.text_rows;
        self.null_rows += other.null_rows;
        self.malformed_rows += other.malformed_rows;
        self.json_texts.extend(&other.json_texts);
        self.operator_texts.extend(&other.operator_texts);
    }

    /// Bytes of the hashes by which texts are counted.
    pub(super) fn hash_bytes(&self) -> usize {
        self.json_texts.allocation_size() + self.operator_texts.allocation_size()
    }
}

/// How many groups a lane may have, per scan and kernel: a guess by which room is made, no bound.
#[derive(Debug, Clone, Default)]
pub struct GroupCounts(Vec<Vec<usize>>);

impl GroupCounts {
    /// Before any day is complete: raw reports have a row per pod and hour.
    pub fn of_rows(scans: &[CompiledScan], rows_of_scans: &[u64]) -> Self {
        let groups =
            |rows: &u64| usize::try_from(rows / HOURS_PER_DAY).map_or(MOST_GUESSED, |rows| rows.min(MOST_GUESSED));
        let of_scan = |(scan, rows): (&CompiledScan, &u64)| vec![groups(rows); scan.kernels.len()];
        Self(scans.iter().zip(rows_of_scans).map(of_scan).collect())
    }
}

const HOURS_PER_DAY: u64 = 24;
/// A finished row before it becomes columns, its place in the order, and what sorting it takes.
const BYTES_PER_ROW: usize = 128;
/// Without a day to go by, room is made for no more: a wrong guess must not cost memory.
const MOST_GUESSED: usize = 1 << 17;

/// How the labels of a day are read.
#[derive(Clone)]
pub struct LabelSettings {
    /// Keys that are kept.
    pub keys: Arc<EnabledKeys>,
    /// What is a label, and what is refused.
    pub rules: LabelRules,
    /// Bytes for remembering texts.
    pub cache_bytes: usize,
}

/// One open day.
pub struct DayState {
    /// The day.
    pub day: UsageDay,
    /// Label sets of the day.
    pub labels: LabelStore,
    rules: LabelRules,
    scans: Arc<Vec<CompiledScan>>,
    names: Vec<(&'static str, NameStore)>,
    lanes: Vec<LaneState>,
    /// Held by a worker that looks for a free lane.
    looking: Mutex<()>,
    /// Bytes of texts that a lane may remember of a column.
    pub(super) text_bytes: usize,
    /// The pairs of ids that the one scan with a members kernel looks for.
    pairs: OnceLock<HashSet<(u32, u32)>>,
    stats: Mutex<Vec<(&'static str, LabelColumnStats)>>,
    odd_numbers: Mutex<OddNumbers>,
    /// The day's place in the books of memory.
    pub(super) account: Account,
}

/// Partial results that one chunk at a time is added to.
struct LaneState {
    is_taken: AtomicBool,
    /// Whether chunks of a scan were added, per scan.
    is_used: Vec<AtomicBool>,
    /// Per scan and kernel.
    partials: Mutex<Vec<Vec<KernelPartial>>>,
    /// Per scan and id column, kept from chunk to chunk.
    texts: Mutex<Vec<Vec<KnownTexts>>>,
    /// Bytes of both, and of what is remembered of the chunk under way, after its last batch.
    bytes: AtomicUsize,
}

/// The right to add to one lane of a day, until it is dropped.
pub struct Lane<'a> {
    state: &'a LaneState,
}

impl Lane<'_> {
    /// The partial results, per scan and kernel.
    pub(super) fn partials(&self) -> MutexGuard<'_, Vec<Vec<KernelPartial>>> {
        self.state.partials()
    }

    /// The texts of a scan's columns that the lane knows; none at first.
    pub(super) fn take_texts(&self, scan: usize) -> Vec<KnownTexts> {
        self.state.texts().get_mut(scan).map(std::mem::take).unwrap_or_default()
    }

    /// Keeps them for the next chunk.
    pub(super) fn keep_texts(&self, scan: usize, known: Vec<KnownTexts>) {
        let mut texts = self.state.texts();
        if texts.len() <= scan {
            texts.resize_with(scan + 1, Vec::new);
        }
        texts[scan] = known;
    }

    /// Notes how much the lane holds: its partial results, its texts, and what is remembered until the chunk ends.
    pub(super) fn note_bytes(&self, of_chunk: usize) {
        let of_partials: usize = self.partials().iter().flatten().map(KernelPartial::state_bytes).sum();
        let of_texts: usize = self.state.texts().iter().flatten().map(KnownTexts::state_bytes).sum();
        self.state.bytes.store(of_partials + of_texts + of_chunk, Ordering::Relaxed);
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.note_bytes(0);
        self.state.is_taken.store(false, Ordering::Release);
    }
}

impl LaneState {
    fn texts(&self) -> MutexGuard<'_, Vec<Vec<KnownTexts>>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partials(&self) -> MutexGuard<'_, Vec<Vec<KernelPartial>>> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DayState {
    /// An empty day. At most `worker_count` chunks may be added to it at the same time.
    pub fn new(
        day: UsageDay,
        scans: Arc<Vec<CompiledScan>>,
        worker_count: usize,
        labels: LabelSettings,
        expected: &GroupCounts,
        account: Account,
    ) -> Self {
        let mut names: Vec<(&'static str, NameStore)> = Vec::new();
        for id in scans.iter().flat_map(|scan| &scan.ids) {
            let has_names = matches!(id.source, IdSource::Names | IdSource::KnownNames);
            if has_names && !names.iter().any(|(name, _)| *name == id.name) {
                names.push((id.name, NameStore::new()));
            }
        }
        let lane = || LaneState {
            is_taken: AtomicBool::new(false),
            is_used: scans.iter().map(|_| AtomicBool::new(false)).collect(),
            partials: Mutex::new(empty_partials(&scans, expected)),
            texts: Mutex::new(Vec::new()),
            bytes: AtomicUsize::new(0),
        };
        let lanes = (0..worker_count).map(|_| lane()).collect();
        Self {
            day,
            labels: LabelStore::new(labels.keys, labels.rules, labels.cache_bytes),
            rules: labels.rules,
            scans,
            names,
            lanes,
            looking: Mutex::new(()),
            text_bytes: labels.cache_bytes / worker_count.max(1),
            pairs: OnceLock::new(),
            stats: Mutex::new(Vec::new()),
            odd_numbers: Mutex::default(),
            account,
        }
    }

    /// The scans that fill the day.
    pub fn scans(&self) -> &[CompiledScan] {
        &self.scans
    }

    /// Names of a column.
    pub fn names(&self, column: &str) -> &NameStore {
        let found = self.names.iter().find(|(name, _)| *name == column);
        &found.expect("a day has a store for every id column").1
    }

    /// How label texts are read.
    pub(super) fn label_rules(&self) -> LabelRules {
        self.rules
    }

    /// All names of the day.
    pub fn name_tables(&self) -> Vec<(&'static str, NameTable)> {
        self.names.iter().map(|(name, store)| (*name, store.table())).collect()
    }

    /// A lane of its own for a chunk of a scan: a free one that the scan has been added to, else the first that is free, so that a day
    /// which gets one chunk at a time has one table.
    pub(super) fn lane(&self, scan: usize) -> Lane<'_> {
        // One worker at a time looks: a lane could be left behind its back and taken before it.
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = |lane: &&LaneState| !lane.is_taken.load(Ordering::Acquire);
        let free = || self.lanes.iter().filter(is_free);
        let state = free().find(|lane| lane.is_used[scan].load(Ordering::Relaxed)).or_else(|| free().next());
        let state = state.expect("a worker adds one chunk at a time, and each has a lane");
        state.is_taken.store(true, Ordering::Relaxed);
        state.is_used[scan].store(true, Ordering::Relaxed);
        Lane { state }
    }

    /// Whether a scan has more than one table already.
    pub fn is_split(&self, scan: usize) -> bool {
        self.lanes.iter().filter(|lane| lane.is_used[scan].load(Ordering::Relaxed)).count() > 1
    }

    /// Takes the partial results of all lanes out of the day: per scan, per kernel, per lane.
    pub fn take_partials(&self) -> Vec<Vec<Vec<KernelPartial>>> {
        let mut taken: Vec<Vec<Vec<KernelPartial>>> =
            self.scans.iter().map(|scan| scan.kernels.iter().map(|_| Vec::new()).collect()).collect();
        for lane in &self.lanes {
            // No further row asks for them.
            lane.texts().clear();
            let partials =
                std::mem::replace(&mut *lane.partials(), empty_partials(&self.scans, &GroupCounts::default()));
            for (scan, kernels) in partials.into_iter().enumerate() {
                for (kernel, partial) in kernels.into_iter().enumerate() {
                    taken[scan][kernel].push(partial);
                }
            }
        }
        taken
    }

    /// The pairs that a scan's members kernel looks for, collected on first use from the scan that it waited for. Null never
    /// matches anything, and is not among them.
    pub(super) fn pairs(&self, scan: &CompiledScan) -> &HashSet<(u32, u32)> {
        self.pairs.get_or_init(|| self.find_pairs(scan).unwrap_or_default())
    }

    fn find_pairs(&self, scan: &CompiledScan) -> Option<HashSet<(u32, u32)>> {
        let of_scan = self.scans.iter().position(|other| Some(other.name) == scan.after)?;
        let wanted = scan.kernels.iter().find_map(|kernel| match kernel {
            CompiledKernel::Members { pair, .. } => Some(pair.map(|id| scan.ids[id].name)),
            _ => None,
        })?;
        let CompiledKernel::Grouped { keys, .. } = self.scans[of_scan].kernels.first()? else { return None };
        let position = |name: &str| keys.iter().position(|key| self.scans[of_scan].ids[*key].name == name);
        let (first, second) = (position(wanted[0])?, position(wanted[1])?);
        let mut pairs = HashSet::new();
        for lane in &self.lanes {
            if let KernelPartial::Grouped(partial) = &lane.partials()[of_scan][0] {
                pairs.extend(partial.keys().map(|keys| (keys[first], keys[second])));
            }
        }
        pairs.retain(|(first, second)| *first != 0 && *second != 0);
        Some(pairs)
    }

    /// Adds what a chunk says about its label columns.
    pub(super) fn add_stats(&self, stats: Vec<(&'static str, LabelColumnStats)>) {
        let mut known = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, part) in stats {
            match known.iter_mut().find(|(known, _)| *known == name) {
                Some((_, total)) => total.add(&part),
                None => known.push((name, part)),
            }
        }
    }

    /// How the label columns of the day were read, taken out: the hashes by which texts are counted are as many as the texts.
    pub fn take_label_stats(&self) -> Vec<(&'static str, LabelColumnStats)> {
        std::mem::take(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Numbers of which no result can be made.
    pub(super) fn odd_numbers(&self) -> MutexGuard<'_, OddNumbers> {
        self.odd_numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, taken out.
    pub fn take_odd_numbers(&self) -> OddNumbers {
        std::mem::take(&mut self.odd_numbers())
    }

    /// How many groups the lanes have, as a guess for the next day.
    pub fn group_counts(&self) -> GroupCounts {
        let mut counts = GroupCounts::default();
        for lane in &self.lanes {
            let partials = lane.partials();
            counts.0.resize(partials.len(), Vec::new());
            for (counts, partials) in counts.0.iter_mut().zip(partials.iter()) {
                counts.resize(partials.len(), 0);
                for (count, partial) in counts.iter_mut().zip(partials) {
                    *count = (*count).max(partial.group_count());
                }
            }
        }
        counts
    }

    /// Approximate size of the day's state in bytes, as of the last batches, the texts of the rows that it will become
    /// included. Waits for no worker.
    pub fn state_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(|(_, store)| store.state_bytes()).sum();
        let partials: usize = self.lanes.iter().map(|lane| lane.bytes.load(Ordering::Relaxed)).sum();
        let labels = self.labels.state_bytes() + self.labels.json_bytes() + self.counted_texts().1;
        names + partials + labels + self.pairs.get().map_or(0, |pairs| pairs.len() * 16)
    }

    /// Label columns with their distinct texts so far, and the bytes that counting them takes.
    pub(super) fn counted_texts(&self) -> (Vec<(&'static str, usize)>, usize) {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = stats.iter().map(|(column, stats)| (*column, stats.json_texts.len() + stats.operator_texts.len()));
        (counts.collect(), stats.iter().map(|(_, stats)| stats.hash_bytes()).sum())
    }

    /// Names per column: how many, and their bytes.
    pub(super) fn name_sizes(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        self.names.iter().map(|(column, store)| (*column, store.len(), store.state_bytes()))
    }

    /// Groups of all lanes; one that several of them have counts as often.
    pub(super) fn group_count(&self) -> usize {
        let of_lane =
            |lane: &LaneState| lane.partials().iter().flatten().map(KernelPartial::group_count).sum::<usize>();
        self.lanes.iter().map(of_lane).sum()
    }
}

impl KernelPartial {
    /// Whether a number that was added since the last time is odd.
    pub(super) fn take_odd(&mut self) -> bool {
        match self {
            KernelPartial::Grouped(partial) => partial.take_odd(),
            KernelPartial::Capacity(partial) => partial.take_odd(),
            KernelPartial::Members(_) | KernelPartial::LabelSets(_) => false,
        }
    }

    /// Number of groups where rows are grouped.
    pub fn group_count(&self) -> usize {
        match self {
            KernelPartial::Grouped(partial) => partial.len(),
            _ => 0,
        }
    }

    /// Groups count with the rows that they will become.
    fn state_bytes(&self) -> usize {
        match self {
            KernelPartial::Grouped(partial) => partial.state_bytes() + partial.len() * BYTES_PER_ROW,
            KernelPartial::Capacity(partial) => partial.state_bytes(),
            KernelPartial::Members(partial) => partial.state_bytes(),
            KernelPartial::LabelSets(partial) => partial.state_bytes(),
        }
    }
}

fn empty_partials(scans: &[CompiledScan], expected: &GroupCounts) -> Vec<Vec<KernelPartial>> {
    let count = |scan: usize, kernel: usize| expected.0.get(scan).and_then(|counts| counts.get(kernel)).copied();
    let empty = |kernel: &CompiledKernel, expected: usize| match kernel {
        CompiledKernel::Grouped { keys, sums, maxima, text_maxima, .. } => {
            let partial = GroupedPartial::new(keys.len(), sums.len(), maxima.len(), text_maxima.len());
            // Days differ a little.
            KernelPartial::Grouped(Box::new(partial.expecting(expected + expected / 16)))
        }
        CompiledKernel::Capacity { measures, .. } => KernelPartial::Capacity(CapacityPartial::new(measures.len())),
        CompiledKernel::Members { greatest_attribute, .. } => {
            KernelPartial::Members(MembersPartial::new(*greatest_attribute))
        }
        CompiledKernel::LabelSets { keep, .. } => KernelPartial::LabelSets(LabelSetsPartial::new(*keep)),
    };
    let of_scan = |(scan, compiled): (usize, &CompiledScan)| {
        let kernels = compiled.kernels.iter().enumerate();
        kernels.map(|(at, kernel)| empty(kernel, count(scan, at).unwrap_or(0))).collect()
    };
    scans.iter().enumerate().map(of_scan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::EnabledKeys;
    use crate::rollups::ocp_daily_summary;
    use crate::rollups::semantics::Semantics;
    use crate::runtime::memory_book::MemoryBook;

    fn day(worker_count: usize) -> DayState {
        let scans = ocp_daily_summary::scans(Semantics::Balanced, |_| true);
        let scans = Arc::new(scans.iter().map(CompiledScan::new).collect::<Vec<_>>());
        let keys = Arc::new(EnabledKeys::new(Vec::new()));
        let labels = LabelSettings { keys, rules: Semantics::Balanced.label_rules(false), cache_bytes: 0 };
        let account = Account::new(&MemoryBook::unlimited(), 0);
        DayState::new(UsageDay(1), scans, worker_count, labels, &GroupCounts::default(), account)
    }

    #[test]
    fn a_scan_keeps_to_its_table_as_long_as_its_chunks_come_one_at_a_time() {
        let day = day(2);
        let of_others = day.lane(1);
        drop((day.lane(0), of_others));
        drop((day.lane(0), day.lane(1)));
        assert!(!day.is_split(0) && !day.is_split(1), "each has gone back to its own");
        let _one = day.lane(0);
        let _other = day.lane(0);
        assert!(day.is_split(0) && !day.is_split(1));
    }

    #[test]
    fn as_many_workers_as_lanes_always_find_one_of_their_own() {
        for _ in 0..200 {
            let day = day(3);
            std::thread::scope(|scope| {
                for worker in 0..3 {
                    let day = &day;
                    scope.spawn(move || (0..100).for_each(|turn| drop(day.lane((worker + turn) % 2))));
                }
            });
        }
    }
}
