//! Which chunk may start, which day is complete, which day is given up: the pipeline's bookkeeping, without any waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::aggregate::{Account, ChunkCounts, CompiledScan, DayState, GroupCounts, LabelSettings};
use crate::config::OnBadDay;
use crate::error::Failure;
use crate::plan::{ChunkPlan, Plan};
use crate::runtime::memory_book::MemoryBook;
use crate::time::UsageDay;
use crate::units::Bytes;

/// What bounds the days in flight and how a day begins.
#[derive(Clone)]
pub struct DayRules {
    /// Days that may be open at once, those being written included.
    pub open_days: usize,
    /// The books of memory, in which open days stand.
    pub book: MemoryBook,
    /// What happens to other days when one fails.
    pub on_bad_day: OnBadDay,
    /// Workers that add to a day.
    pub worker_count: usize,
    /// How each day reads labels.
    pub labels: LabelSettings,
}

/// A day whose rows are all in.
pub struct CompleteDay {
    /// State of the day.
    pub state: Arc<DayState>,
    /// Rows that were read for it.
    pub input_row_count: u64,
}

/// The days that a chunk goes to, at the moment it starts.
pub struct ChunkDays {
    /// Open days, in order.
    pub open: Vec<Arc<DayState>>,
    /// Days that were given up: their rows are passed over.
    pub given_up: Vec<UsageDay>,
}

/// A group and its place in the tables, its row to come, and a label set of its own; texts are counted apart.
const MOST_BYTES_PER_ROW: u64 = 1_000;

struct OpenDay {
    state: Arc<DayState>,
    chunks_left: usize,
    chunks_not_begun: usize,
    /// Per scan: its chunks that are not in yet.
    chunks_of_scan: Vec<usize>,
    input_row_count: u64,
}

/// The books of one run over one plan.
pub struct Schedule<'a> {
    plan: &'a Plan,
    scans: Arc<Vec<CompiledScan>>,
    rules: DayRules,
    queue: VecDeque<usize>,
    empty_days: VecDeque<UsageDay>,
    open: BTreeMap<UsageDay, OpenDay>,
    complete: Vec<CompleteDay>,
    closing_count: usize,
    failed: BTreeMap<UsageDay, Failure>,
    /// Open days that lost a chunk when the run was told to begin no further day.
    abandoned: BTreeSet<UsageDay>,
    stopped_by: Option<Failure>,
    /// Of complete days.
    largest_day: Bytes,
    /// Groups of the last complete day.
    group_counts: Option<GroupCounts>,
}

/// How the days of a schedule ended, apart from those that were closed.
#[derive(Default)]
pub struct End {
    /// Days that failed on their own.
    pub failed_days: BTreeMap<UsageDay, Failure>,
    /// Why the whole run ended early.
    pub stopped_by: Option<Failure>,
    /// The most bytes that open days held.
    pub peak_state_bytes: Bytes,
}

impl<'a> Schedule<'a> {
    /// Opens the books. Days with an unusable object are given up from the start.
    pub fn new(plan: &'a Plan, scans: Arc<Vec<CompiledScan>>, rules: DayRules) -> Self {
        let mut failed = BTreeMap::new();
        for bad in &plan.bad_objects {
            for day in &bad.days {
                failed.entry(*day).or_insert_with(|| Failure::new(bad.failure.kind, bad.failure.message.clone()));
            }
        }
        let is_empty = |day: &&crate::plan::DayPlan| day.chunk_count == 0 && !failed.contains_key(&day.day);
        let empty_days = plan.days.iter().filter(is_empty).map(|day| day.day).collect();
        let mut schedule = Self {
            plan,
            scans,
            rules,
            queue: (0..plan.chunks.len()).collect(),
            empty_days,
            open: BTreeMap::new(),
            complete: Vec::new(),
            closing_count: 0,
            failed,
            abandoned: BTreeSet::new(),
            stopped_by: None,
            largest_day: Bytes(0),
            group_counts: None,
        };
        if !schedule.failed.is_empty() && schedule.rules.on_bad_day == OnBadDay::Stop {
            schedule.stop_beginning();
        }
        schedule
    }

    /// The next chunk to fetch, if its days may be open now; opens them.
    pub fn next_chunk(&mut self) -> Option<usize> {
        while let Some(chunk) = self.queue.front().copied() {
            let days = &self.plan.chunks[chunk].days;
            let wanted: Vec<UsageDay> = days.iter().copied().filter(|day| !self.is_given_up(*day)).collect();
            if wanted.is_empty() {
                self.queue.pop_front();
                continue;
            }
            let new_days: Vec<UsageDay> = wanted.iter().copied().filter(|day| !self.open.contains_key(day)).collect();
            if !new_days.is_empty() && self.must_wait(&new_days) {
                return None;
            }
            self.queue.pop_front();
            new_days.into_iter().for_each(|day| self.open_day(day));
            for day in wanted {
                if let Some(open) = self.open.get_mut(&day) {
                    open.chunks_not_begun -= 1;
                }
            }
            return Some(chunk);
        }
        None
    }

    /// The days of a chunk whose bytes are there; `None` while a scan that it waits for is not complete.
    pub fn ready(&self, chunk: usize) -> Option<ChunkDays> {
        let plan = &self.plan.chunks[chunk];
        let after = self.scans[plan.scan].after;
        let waited_for = self.scans.iter().position(|scan| Some(scan.name) == after);
        let mut days = ChunkDays { open: Vec::new(), given_up: Vec::new() };
        for day in &plan.days {
            match self.open.get(day) {
                Some(open) if waited_for.is_some_and(|scan| open.chunks_of_scan[scan] > 0) => return None,
                Some(open) => days.open.push(Arc::clone(&open.state)),
                None => days.given_up.push(*day),
            }
        }
        Some(days)
    }

    /// Books a chunk that is in, or that failed.
    ///
    /// A failure may concern one more day than the chunk was planned for: that of a row which contradicts the statistics.
    pub fn chunk_done(&mut self, chunk: usize, counts: Result<ChunkCounts, (Failure, Option<UsageDay>)>) {
        let plan = &self.plan.chunks[chunk];
        match counts {
            Ok(counts) => {
                for day in &plan.days {
                    let rows = counts.rows_of_days.iter().find(|(counted, _)| counted == day);
                    self.chunk_in(*day, plan.scan, rows.map_or(0, |(_, rows)| *rows));
                }
            }
            Err((failure, other_day)) if failure.kind.is_of_one_day() => {
                for day in plan.days.iter().copied().chain(other_day) {
                    self.fail(day, Failure::new(failure.kind, failure.message_with_causes()));
                }
            }
            Err((failure, _)) => self.stop(failure),
        }
    }

    /// Days whose rows are all in, and, once no chunk is left, days that have none.
    pub fn take_complete_days(&mut self) -> Vec<CompleteDay> {
        let is_idle =
            self.queue.is_empty() && self.open.is_empty() && self.closing_count == 0 && self.complete.is_empty();
        if is_idle && let Some(day) = self.empty_days.pop_front() {
            self.open_day(day);
            let empty = self.open.remove(&day).map(|open| CompleteDay { state: open.state, input_row_count: 0 });
            self.complete.extend(empty);
        }
        self.closing_count += self.complete.len();
        std::mem::take(&mut self.complete)
    }

    /// Books a day that was closed.
    pub fn day_closed<T>(&mut self, day: UsageDay, result: Result<T, Failure>) -> Option<T> {
        self.closing_count -= 1;
        match result {
            Ok(value) => Some(value),
            Err(failure) if failure.kind.is_of_one_day() => {
                self.fail(day, failure);
                None
            }
            Err(failure) => {
                self.stop(failure);
                None
            }
        }
    }

    /// Ends the run: nothing new is begun, days that are being closed may end.
    pub fn stop(&mut self, failure: Failure) {
        self.queue.clear();
        self.empty_days.clear();
        self.open.clear();
        // The first failure is the cause; later ones may follow from it.
        self.stopped_by.get_or_insert(failure);
    }

    /// Closes the books.
    pub fn end(self) -> End {
        let peak_state_bytes = self.rules.book.peak();
        End { failed_days: self.failed, stopped_by: self.stopped_by, peak_state_bytes }
    }

    /// Too many days, or too much state for one more: a new day has to wait, as long as some open day ends without it.
    fn must_wait(&self, new_days: &[UsageDay]) -> bool {
        let ends_by_itself = self.closing_count > 0
            || !self.complete.is_empty()
            || self.open.values().any(|open| open.chunks_not_begun == 0);
        if !ends_by_itself {
            return false;
        }
        let in_flight = self.open.len() + self.closing_count + self.complete.len();
        let book = &self.rules.book;
        in_flight >= self.rules.open_days || self.expected_bytes(new_days) > book.limit() || book.is_tight()
    }

    /// What the books would show if the new days were opened and they and the open ones grew to their ends.
    fn expected_bytes(&self, new_days: &[UsageDay]) -> Bytes {
        let growth = |(day, open): (&UsageDay, &OpenDay)| {
            let expected = open.state.expected_bytes().unwrap_or(Bytes(u64::MAX));
            self.at_most(*day, expected) - open.state.held_bytes()
        };
        let of_open: Bytes = self.open.iter().map(growth).sum();
        let of_new: Bytes = new_days.iter().map(|day| self.at_most(*day, Bytes(u64::MAX))).sum();
        self.rules.book.total() + of_open + of_new
    }

    /// A day hardly becomes larger than the largest one so far; before there is one, not larger than if each of its rows were
    /// a group of its own and kept all its texts.
    fn at_most(&self, day: UsageDay, expected: Bytes) -> Bytes {
        if self.largest_day > Bytes(0) {
            return expected.min(self.largest_day);
        }
        let chunks = self.plan.chunks.iter().filter(|chunk| chunk.days.contains(&day));
        let of_chunk = |chunk: &ChunkPlan| {
            let bytes = chunk.row_count.saturating_mul(MOST_BYTES_PER_ROW).saturating_add(chunk.decoded_bytes.0);
            Bytes(bytes / chunk.days.len() as u64)
        };
        expected.min(chunks.map(of_chunk).sum())
    }

    fn is_given_up(&self, day: UsageDay) -> bool {
        self.failed.contains_key(&day) || self.abandoned.contains(&day)
    }

    fn open_day(&mut self, day: UsageDay) {
        let chunks = || self.plan.chunks.iter().filter(|chunk| chunk.days.contains(&day));
        let count = |scan: usize| chunks().filter(|chunk| chunk.scan == scan).count();
        let chunks_of_scan: Vec<usize> = (0..self.scans.len()).map(count).collect();
        let rows = |scan: usize| {
            chunks().filter(|chunk| chunk.scan == scan).map(|chunk| chunk.row_count / chunk.days.len() as u64).sum()
        };
        let rows_of_scans: Vec<u64> = (0..self.scans.len()).map(rows).collect();
        let expected = self.group_counts.clone();
        let expected = expected.unwrap_or_else(|| GroupCounts::of_rows(&self.scans, &rows_of_scans));
        let rules = &self.rules;
        let state = Arc::new(DayState::new(
            day,
            Arc::clone(&self.scans),
            rules.worker_count,
            rules.labels.clone(),
            &expected,
            Account::new(&rules.book, rows_of_scans.iter().sum()),
        ));
        let chunks_left = chunks_of_scan.iter().sum();
        let open = OpenDay { state, chunks_left, chunks_not_begun: chunks_left, chunks_of_scan, input_row_count: 0 };
        self.open.insert(day, open);
    }

    fn chunk_in(&mut self, day: UsageDay, scan: usize, row_count: u64) {
        let Some(open) = self.open.get_mut(&day) else { return };
        open.input_row_count += row_count;
        open.chunks_left -= 1;
        open.chunks_of_scan[scan] -= 1;
        if open.chunks_left == 0
            && let Some(open) = self.open.remove(&day)
        {
            self.group_counts = Some(open.state.group_counts());
            open.state.leave();
            self.largest_day = self.largest_day.max(open.state.held_bytes());
            self.complete.push(CompleteDay { state: open.state, input_row_count: open.input_row_count });
        }
    }

    fn fail(&mut self, day: UsageDay, failure: Failure) {
        self.open.remove(&day);
        self.failed.entry(day).or_insert(failure);
        if self.rules.on_bad_day == OnBadDay::Stop {
            self.stop_beginning();
        }
    }

    /// Days that are open may end, no further one is begun.
    fn stop_beginning(&mut self) {
        self.empty_days.clear();
        let (plan, open) = (self.plan, &self.open);
        let (failed, abandoned) = (&self.failed, &self.abandoned);
        let is_known = |day: &UsageDay| open.contains_key(day) || failed.contains_key(day) || abandoned.contains(day);
        self.queue.retain(|chunk| plan.chunks[*chunk].days.iter().all(is_known));
        // An open day that lost a chunk shared with an unopened one cannot be completed any more.
        let mut left: BTreeMap<UsageDay, usize> = BTreeMap::new();
        for chunk in &self.queue {
            plan.chunks[*chunk].days.iter().for_each(|day| *left.entry(*day).or_default() += 1);
        }
        let is_lost = |day: &UsageDay, open: &OpenDay| open.chunks_not_begun != left.get(day).copied().unwrap_or(0);
        let lost = self.open.iter().filter(|(day, open)| is_lost(day, open)).map(|(day, _)| *day);
        self.abandoned.extend(lost.collect::<Vec<_>>());
        let abandoned = &self.abandoned;
        self.open.retain(|day, _| !abandoned.contains(day));
    }
}
