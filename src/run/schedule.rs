//! Which chunk may start, which day is complete, which day is given up: the pipeline's bookkeeping, without any waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::shards::Share;
use super::turns::in_turns;
use crate::aggregate::{Account, ChunkCounts, CompiledScan, DayState, GroupCounts, LabelSettings};
use crate::config::OnBadDay;
use crate::error::{ErrorKind, Failure};
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
    /// How the labels of a day are read.
    pub labels: LabelSettings,
    /// The days to begin with, where several pods share them.
    pub share: Option<Share>,
    /// What a day needs before it is opened.
    pub gate: Gate,
    /// Whether complete days still wait for something before they are closed. Meanwhile no more than one is opened, unless they are
    /// small, since all of them would be held; workers have what the days wait for to do.
    pub closing_waits: bool,
}

/// What a day needs before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    Open,
    /// A claim.
    Claims {
        /// Days without input as well: they lose their rows.
        empty_days: bool,
    },
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
    /// Days that were given up or left out: their rows are passed over.
    pub given_up: Vec<UsageDay>,
}

/// A group and its place in the tables, its row to come, and a label set of its own; texts are counted apart.
const MOST_BYTES_PER_ROW: u64 = 1_000;
/// Before a day is complete, days are opened side by side only if they take less than this in all, each with the most bytes a row:
/// so the first of large days is read alone, and says how much room the others need.
const GUESSED_AT_MOST: Bytes = Bytes(512 << 20);
/// Days that take less than this together, and less than a quarter of what state may take, are opened however many they are: a month of
/// small days would otherwise wait for the storage once for every few of them.
const SMALL_TOGETHER: Bytes = Bytes(64 << 20);

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
    /// Days that are claimed.
    admitted: BTreeSet<UsageDay>,
    /// Days that others hold or have written.
    left: BTreeSet<UsageDay>,
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
    /// Days that others hold or have written since it was decided to write them.
    pub left_days: BTreeSet<UsageDay>,
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
        let share = rules.share;
        let is_ours = |day| share.is_none_or(|share| share.has(day));
        let queue = in_turns(plan, &scans, rules.worker_count, is_ours).into();
        let mut schedule = Self {
            plan,
            rules,
            queue,
            scans,
            empty_days,
            open: BTreeMap::new(),
            complete: Vec::new(),
            closing_count: 0,
            failed,
            abandoned: BTreeSet::new(),
            admitted: BTreeSet::new(),
            left: BTreeSet::new(),
            stopped_by: None,
            largest_day: Bytes(0),
            group_counts: None,
        };
        let any_is_bad = schedule.failed.values().any(|failure| failure.kind.is_of_one_day());
        if any_is_bad && schedule.rules.on_bad_day == OnBadDay::Stop {
            schedule.stop_beginning();
        }
        schedule
    }

    /// The next chunk to fetch, if its days may be open now; opens them.
    pub fn next_chunk(&mut self) -> Option<usize> {
        let given_up = |chunk: &usize| self.plan.chunks[*chunk].days.iter().all(|day| self.is_given_up(*day));
        let passed_over = self.queue.iter().take_while(|chunk| given_up(chunk)).count();
        self.queue.drain(..passed_over);
        let position = self.next_position()?;
        let chunk = self.queue.remove(position)?;
        for day in self.wanted(chunk) {
            if !self.open.contains_key(&day) {
                self.open_day(day);
            }
            if let Some(open) = self.open.get_mut(&day) {
                open.chunks_not_begun -= 1;
            }
        }
        Some(chunk)
    }

    /// The day to claim next: one that would be opened now if it were claimed.
    pub fn next_claim(&self) -> Option<UsageDay> {
        let Gate::Claims { empty_days } = self.rules.gate else { return None };
        if self.is_idle() {
            return self.empty_days.front().copied().filter(|_| empty_days);
        }
        let chunk = *self.queue.iter().find(|chunk| !self.wanted(**chunk).is_empty())?;
        let new_days = self.new_days(chunk);
        let day = new_days.iter().copied().find(|day| !self.admitted.contains(day))?;
        let has_to_wait = self.is_full(&new_days) && (self.position_for_open_days().is_some() || self.some_day_ends());
        (!has_to_wait).then_some(day)
    }

    /// Books the answer to a claim. A day that is not ours is passed over, and is no failure.
    pub fn claimed(&mut self, day: UsageDay, answer: Result<bool, Failure>) {
        match answer {
            Ok(true) => {
                self.admitted.insert(day);
            }
            Ok(false) => self.leave(day),
            Err(failure) => self.stop(failure),
        }
    }

    /// Place of the next chunk in the queue: the first one, unless a new day has to wait for others or for its claim; then the first
    /// one for open days only.
    fn next_position(&self) -> Option<usize> {
        let new_days = self.new_days(*self.queue.front()?);
        let are_admitted = self.rules.gate == Gate::Open || new_days.iter().all(|day| self.admitted.contains(day));
        if new_days.is_empty() || (are_admitted && !self.is_full(&new_days)) {
            return Some(0);
        }
        // No open day can end without a new one.
        let cannot_wait = || are_admitted && !self.some_day_ends();
        self.position_for_open_days().or_else(|| cannot_wait().then_some(0))
    }

    /// Place of the first chunk for open days only that overtakes no chunk of the same day, since it may wait for that one's rows.
    fn position_for_open_days(&self) -> Option<usize> {
        let mut overtaken: BTreeSet<UsageDay> = BTreeSet::new();
        let has_more_to_begin = self.open.values().any(|open| open.chunks_not_begun > 0);
        for (position, chunk) in self.queue.iter().enumerate().take_while(|_| has_more_to_begin) {
            let wanted = self.wanted(*chunk);
            if wanted.is_empty() {
                continue;
            }
            if wanted.iter().all(|day| self.open.contains_key(day) && !overtaken.contains(day)) {
                return Some(position);
            }
            overtaken.extend(wanted);
            // Days take turns with few others: what comes after those is of days that are not open either.
            if overtaken.len() > 2 * self.rules.worker_count {
                break;
            }
        }
        None
    }

    /// Days of a chunk that are not open yet.
    fn new_days(&self, chunk: usize) -> Vec<UsageDay> {
        self.wanted(chunk).into_iter().filter(|day| !self.open.contains_key(day)).collect()
    }

    /// Days that a chunk still has to go to.
    fn wanted(&self, chunk: usize) -> Vec<UsageDay> {
        self.plan.chunks[chunk].days.iter().copied().filter(|day| !self.is_given_up(*day)).collect()
    }

    /// The days of a chunk whose bytes are there; `None` while a scan that it waits for is not complete.
    pub fn ready(&self, chunk: usize) -> Option<ChunkDays> {
        let plan = &self.plan.chunks[chunk];
        let after = self.scans[plan.scan].after;
        let waited_for = self.scans.iter().position(|scan| Some(scan.name) == after);
        let mut days = ChunkDays { open: Vec::new(), given_up: plan.passed_over.clone() };
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
            // Another object by now: its days are planned again once the others are done.
            Err((failure, _)) if failure.kind == ErrorKind::ObjectChanged => {
                for day in &plan.days {
                    self.open.remove(day);
                    let failure = Failure::new(failure.kind, failure.message_with_causes());
                    self.failed.entry(*day).or_insert(failure);
                }
            }
            Err((failure, _)) => self.stop(failure),
        }
    }

    /// Days whose rows are all in, and, once no chunk is left, days that have none.
    pub fn take_complete_days(&mut self) -> Vec<CompleteDay> {
        let may_begin =
            |day: &UsageDay| self.rules.gate != Gate::Claims { empty_days: true } || self.admitted.contains(day);
        if self.is_idle()
            && self.empty_days.front().is_some_and(may_begin)
            && let Some(day) = self.empty_days.pop_front()
        {
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
            Err(failure) if failure.kind == ErrorKind::HeldByOthers => {
                self.leave(day);
                None
            }
            Err(failure) => {
                self.stop(failure);
                None
            }
        }
    }

    /// What complete days waited for is there.
    pub fn closing_begins(&mut self) {
        self.rules.closing_waits = false;
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
        End { failed_days: self.failed, left_days: self.left, stopped_by: self.stopped_by, peak_state_bytes }
    }

    /// Whether nothing is under way and nothing is left to begin but days without rows.
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.open.is_empty() && self.closing_count == 0 && self.complete.is_empty()
    }

    /// Whether some day leaves without anything being begun.
    fn some_day_ends(&self) -> bool {
        self.closing_count > 0 || !self.complete.is_empty() || self.open.values().any(|open| open.chunks_not_begun == 0)
    }

    /// Too many days, or too much state for these as well: new days have to wait, as long as some open day ends without them.
    fn is_full(&self, new_days: &[UsageDay]) -> bool {
        let in_flight = self.open.len() + self.closing_count + self.complete.len();
        let (book, expected) = (&self.rules.book, self.expected_bytes(new_days));
        // A pod that claimed many days at once would leave none to faster ones.
        let may_be_many = self.rules.gate == Gate::Open;
        let are_small = expected <= SMALL_TOGETHER.min(Bytes(book.limit().0 / 4));
        let are_too_many = in_flight >= self.rules.open_days && !(may_be_many && are_small);
        let would_be_held = self.rules.closing_waits && in_flight > 0 && !are_small;
        are_too_many || would_be_held || expected > self.limit() || book.is_tight()
    }

    /// What state may take; before a day is complete, when nobody knows how large days become, no more than a guess may.
    fn limit(&self) -> Bytes {
        let limit = self.rules.book.limit();
        if self.largest_day > Bytes(0) { limit } else { limit.min(GUESSED_AT_MOST) }
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
        self.failed.contains_key(&day) || self.abandoned.contains(&day) || self.left.contains(&day)
    }

    /// Leaves a day to others.
    fn leave(&mut self, day: UsageDay) {
        self.left.insert(day);
        self.empty_days.retain(|empty| *empty != day);
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
        let left = &self.left;
        let is_known = |day: &UsageDay| {
            open.contains_key(day) || failed.contains_key(day) || abandoned.contains(day) || left.contains(day)
        };
        self.queue.retain(|chunk| plan.chunks[*chunk].days.iter().all(is_known));
        // An open day that lost a chunk shared with an unopened one cannot be completed any more.
        let mut queued: BTreeMap<UsageDay, usize> = BTreeMap::new();
        for chunk in &self.queue {
            plan.chunks[*chunk].days.iter().for_each(|day| *queued.entry(*day).or_default() += 1);
        }
        let is_lost = |day: &UsageDay, open: &OpenDay| open.chunks_not_begun != queued.get(day).copied().unwrap_or(0);
        let lost = self.open.iter().filter(|(day, open)| is_lost(day, open)).map(|(day, _)| *day);
        self.abandoned.extend(lost.collect::<Vec<_>>());
        let abandoned = &self.abandoned;
        self.open.retain(|day, _| !abandoned.contains(day));
    }
}

#[cfg(test)]
mod tests;
