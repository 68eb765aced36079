//! A plan → closed days: fetch, decode, aggregate and close, all bounded, one day leaving while later ones are decoded.
//!
//! The async side waits and keeps the books; every computation runs on the CPU pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::SetOnce;

use super::closing::DayFacts;
use super::pace::Pace;
use super::places::Places;
use super::schedule::{ChunkDays, CompleteDay, DayRules, End, Schedule};
use crate::aggregate::{Chunk, ChunkCounts, CompiledScan, IngestError, ingest};
use crate::decode::{Batches, RowGroup};
use crate::error::{ErrorKind, Failure};
use crate::fetch::{ChunkBytes, fetch_row_group, fetched_bytes};
use crate::footers::claimed_bytes;
use crate::plan::{ChunkPlan, OtherPeriods, Plan};
use crate::runtime::cpu_pool::CpuPool;
use crate::runtime::memory_budget::{MemoryBudget, Permit};
use crate::runtime::stopping::Stopping;
use crate::store::Store;
use crate::telemetry::metrics;
use crate::telemetry::progress::Progress;
use crate::time::UsageDay;
use crate::units::Bytes;

/// What the pipeline works with.
pub struct Pipeline<'a> {
    /// What the plan is run for; another pass may use the same pool at the same time.
    pub pass: &'static str,
    /// Where the bytes come from.
    pub store: &'a Store,
    /// Where computations run.
    pub pool: &'a CpuPool,
    /// Bytes of chunks in memory.
    pub budget: &'a MemoryBudget,
    /// Bounds of the days in flight.
    pub rules: DayRules,
    /// So many complete days show that the target is waited for.
    pub enough_days: usize,
    /// Rows per batch.
    pub batch_rows: usize,
    /// What the person sees.
    pub progress: &'a Progress,
    /// Once it is told, nothing new begins; days that are being closed may end.
    pub stopping: &'a Stopping,
    /// Whether its rows are those of the report and the metrics.
    pub is_counted: bool,
    /// Asks whether a day is ours, where days need a claim.
    pub claim: Option<&'a Claim<'a>>,
    /// What closing a day waits for, if it is not there from the beginning.
    pub facts: Option<&'a SetOnce<DayFacts>>,
}

/// Claims a day; answers whether it is ours now.
pub type Claim<'a> = dyn Fn(UsageDay) -> BoxFuture<'a, Result<bool, Failure>> + Send + Sync + 'a;

/// How the days of a plan ended.
pub struct Outcome<T> {
    /// Days that were closed, with what closing them gave.
    pub days: BTreeMap<UsageDay, T>,
    /// The others.
    pub end: End,
    /// Objects that turned out to hold rows of other periods alone.
    pub of_other_periods: OtherPeriods,
    /// Seconds that chunks waited for their bytes, summed over chunks.
    pub fetch_seconds: f64,
    /// Seconds that chunks were decoded and aggregated, summed over chunks.
    pub compute_seconds: f64,
}

/// Number of the chunk, seconds, bytes.
type Fetched = (usize, f64, Result<ChunkBytes, Failure>);
/// Number of the chunk, seconds, rows; or what failed and which day beside the chunk's own it concerns.
type Computed = (usize, f64, Result<ChunkCounts, (Failure, Option<UsageDay>)>);

impl Pipeline<'_> {
    /// Runs a plan. `close` turns a complete day into its result as soon as the day's last chunk is in.
    pub async fn run<'c, T, C>(&self, plan: &Plan, scans: Arc<Vec<CompiledScan>>, close: C) -> Outcome<T>
    where
        C: Fn(CompleteDay) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let mut schedule = Schedule::new(plan, Arc::clone(&scans), self.rules.clone());
        let mut days = BTreeMap::new();
        let (mut pace, mut places) = (Pace::default(), Places::default());
        let mut fetching = FuturesUnordered::new();
        let mut computing = FuturesUnordered::new();
        let mut closing = FuturesUnordered::new();
        // Chunks whose bytes are there while a scan that they look things up in is not complete for their days.
        let mut waiting: Vec<(usize, ChunkBytes)> = Vec::new();
        // One chunk at a time asks for memory, so that bytes are given in the order of the plan and never to a later
        // chunk that an earlier one would have to wait for.
        let mut permit = None;
        // One day at a time is claimed, when it would be opened next; days that are claimed already go on meanwhile.
        let mut claim = None;
        let mut is_stopped = false;
        let mut facts = self.facts;
        loop {
            if !is_stopped && let Some(failure) = self.stopping.told() {
                is_stopped = true;
                schedule.stop(failure);
                (permit, waiting, claim) = (None, Vec::new(), None);
                (fetching, computing) = (FuturesUnordered::new(), FuturesUnordered::new());
            }
            for day in schedule.take_complete_days() {
                let number = day.state.day;
                closing.push(close(day).map(move |result| (number, result)));
            }
            let in_hand = fetching.len() + computing.len() + waiting.len();
            if self.has_room(in_hand, closing.len(), &pace) {
                self.ask(plan, &mut schedule, &mut permit, &mut claim);
            }
            let ready = take_ready(&schedule, &mut waiting).into_iter();
            computing
                .extend(ready.map(|(chunk, days, bytes)| self.compute(plan, chunk, Arc::clone(&scans), days, bytes)));
            let is_waiting = permit.is_some() || claim.is_some();
            if fetching.is_empty() && computing.is_empty() && closing.is_empty() && !is_waiting {
                break;
            }
            tokio::select! {
                // What that means is said at the beginning of the next round.
                _ = self.stopping.asked(), if !is_stopped => {}
                () = come(&mut facts), if facts.is_some() => schedule.closing_begins(),
                (day, answer) = answered(&mut claim), if claim.is_some() => schedule.claimed(day, answer),
                (chunk, permit) = answered(&mut permit), if permit.is_some() => {
                    pace.begun(plan.chunks[chunk].stored_bytes);
                    fetching.push(self.fetch(&plan.chunks[chunk], chunk, permit));
                }
                Some((chunk, seconds, bytes)) = fetching.next() => {
                    pace.fetched(seconds);
                    self.count("fetch", seconds, 0);
                    match bytes {
                        Ok(bytes) => waiting.push((chunk, bytes)),
                        Err(failure) => {
                            pace.released(plan.chunks[chunk].stored_bytes);
                            schedule.chunk_done(chunk, Err((failure, None)));
                        }
                    }
                }
                Some((chunk, seconds, counts)) = computing.next() => {
                    pace.computed(seconds);
                    pace.released(plan.chunks[chunk].stored_bytes);
                    self.count_computed(&plan.chunks[chunk], seconds, counts.as_ref().ok());
                    counts.iter().for_each(|counts| places.note(&plan.chunks[chunk], counts));
                    schedule.chunk_done(chunk, counts);
                }
                Some((day, result)) = closing.next() => {
                    self.progress.day_done();
                    // A day that was given up for this reason must not be what the run is said to end for.
                    self.stopping.told().into_iter().for_each(|failure| schedule.stop(failure));
                    days.extend(schedule.day_closed(day, result).map(|value| (day, value)));
                }
            }
        }
        never_ready(waiting.len()).into_iter().for_each(|failure| schedule.stop(failure));
        outcome(days, schedule.end(), &pace, places.of_other_periods(plan.window))
    }

    fn count_computed(&self, chunk: &ChunkPlan, seconds: f64, counts: Option<&ChunkCounts>) {
        let rows_of_days = counts.into_iter().flat_map(|counts| &counts.rows_of_days);
        self.count("decode and aggregate", seconds, rows_of_days.map(|(_, rows)| rows).sum());
        self.progress.chunk_done(chunk.row_count, chunk.stored_bytes);
    }

    fn count(&self, stage: &'static str, seconds: f64, row_count: u64) {
        metrics::memory_used(self.budget.in_flight() + self.rules.book.total());
        if self.is_counted {
            metrics::stage_seconds(stage, seconds);
            metrics::rows_read(row_count);
        }
    }

    /// Whether one more chunk may be in hand.
    fn has_room(&self, chunks_in_hand: usize, closing_days: usize, pace: &Pace) -> bool {
        if chunks_in_hand > 0 && self.rules.book.is_tight() {
            // Whatever is in hand frees memory when it is done.
            return false;
        }
        let target_is_waited_for = closing_days >= self.enough_days;
        chunks_in_hand < pace.chunks_in_hand(self.pool.worker_count(), target_is_waited_for)
    }

    /// Asks for memory for the next chunk, and whether the next day is ours.
    fn ask<'p>(
        &'p self,
        plan: &Plan,
        schedule: &mut Schedule<'_>,
        permit: &mut Asked<'p, usize, Permit>,
        claim: &mut Asked<'p, UsageDay, Result<bool, Failure>>,
    ) {
        if permit.is_none() {
            *permit = schedule.next_chunk().map(|chunk| (chunk, self.acquire(&plan.chunks[chunk])));
        }
        if let (None, Some(ask)) = (&claim, self.claim) {
            *claim = schedule.next_claim().map(|day| (day, ask(day)));
        }
    }

    fn acquire(&self, chunk: &ChunkPlan) -> BoxFuture<'_, Permit> {
        self.budget.acquire(held_bytes(chunk) + chunk.decoded_bytes).boxed()
    }

    async fn fetch(&self, chunk: &ChunkPlan, number: usize, permit: Permit) -> Fetched {
        let started = Instant::now();
        let columns = &chunk.column_ranges;
        let mut bytes = fetch_row_group(self.store, &chunk.footer, chunk.row_group, columns, permit).await;
        if let (Ok(bytes), true) = (&mut bytes, chunk.is_in_doubt) {
            let metadata = chunk.footer.metadata();
            let decoded = claimed_bytes(bytes, &metadata, chunk.row_group, &chunk.projection.leaves);
            bytes.grow_permit(held_bytes(chunk) + decoded);
        }
        (number, started.elapsed().as_secs_f64(), bytes.map_err(Failure::from))
    }

    async fn compute(
        &self,
        plan: &Plan,
        number: usize,
        scans: Arc<Vec<CompiledScan>>,
        days: ChunkDays,
        bytes: ChunkBytes,
    ) -> Computed {
        let chunk = plan.chunks[number].clone();
        let first = days.open.first();
        let lane = (self.pass, first.map_or(0, |day| day.day.0));
        let is_split = first.is_some_and(|day| day.is_split(chunk.scan));
        let (window, batch_rows) = (plan.window, self.batch_rows);
        let what = {
            let (key, row_group) = (chunk.footer.object.key.clone(), chunk.row_group);
            move || format!("object `{key}`, row group {row_group}")
        };
        let timed = move |_| {
            let started = Instant::now();
            let object = chunk.footer.object.key.as_str();
            let row_group = RowGroup {
                object,
                metadata: chunk.footer.metadata(),
                row_group: chunk.row_group,
                projection: &chunk.projection,
                columns: &scans[chunk.scan].columns,
                batch_rows,
            };
            let target = Chunk {
                object,
                row_group: chunk.row_group,
                scan: chunk.scan,
                window,
                days: &days.open,
                given_up: &days.given_up,
            };
            let counts = Batches::open(bytes, row_group)
                .map_err(IngestError::from)
                .and_then(|batches| ingest(&target, batches))
                .map_err(|error| (error.other_day(), error))
                .map_err(|(other_day, error)| (Failure::from(error), other_day));
            Ok((started.elapsed().as_secs_f64(), counts))
        };
        // The Parquet library has panics on damaged pages; they say that the object is unreadable.
        match self.pool.run_in_lane((lane, is_split), what, ErrorKind::ObjectUnreadable, timed).await {
            Ok((seconds, counts)) => (number, seconds, counts),
            Err(failure) => (number, 0.0, Err((failure, None))),
        }
    }
}

fn outcome<T>(days: BTreeMap<UsageDay, T>, end: End, pace: &Pace, of_other_periods: OtherPeriods) -> Outcome<T> {
    let (fetch_seconds, compute_seconds) = (pace.fetch_seconds, pace.compute_seconds);
    Outcome { days, end, of_other_periods, fetch_seconds, compute_seconds }
}

/// Bytes of a chunk as it is fetched: what lies between two columns and is fetched along is held as well.
fn held_bytes(chunk: &ChunkPlan) -> Bytes {
    fetched_bytes(chunk.footer.object.size, &chunk.column_ranges).max(chunk.stored_bytes)
}

/// The plan puts what waits after what it waits for; should it ever not, the days must not pass for done.
fn never_ready(chunk_count: usize) -> Option<Failure> {
    let message = || format!("{chunk_count} row groups wait for a scan that is not under way");
    (chunk_count > 0).then(|| Failure::new(ErrorKind::Bug, message()))
}

/// Chunks whose bytes are there and that need not wait for a scan any more.
fn take_ready(schedule: &Schedule<'_>, waiting: &mut Vec<(usize, ChunkBytes)>) -> Vec<(usize, ChunkDays, ChunkBytes)> {
    let (mut ready, mut others) = (Vec::new(), Vec::new());
    for (chunk, bytes) in std::mem::take(waiting) {
        match schedule.ready(chunk) {
            Some(days) => ready.push((chunk, days, bytes)),
            None => others.push((chunk, bytes)),
        }
    }
    *waiting = others;
    ready
}

/// Waits for facts that are to come, and clears the slot.
async fn come(facts: &mut Option<&SetOnce<DayFacts>>) {
    let Some(awaited) = facts else { return std::future::pending().await };
    awaited.wait().await;
    *facts = None;
}

/// What is asked for, and the answer to come.
type Asked<'a, K, T> = Option<(K, BoxFuture<'a, T>)>;

/// Waits for what was asked for, and clears the slot.
async fn answered<K: Copy, T>(slot: &mut Asked<'_, K, T>) -> (K, T) {
    let Some((key, waiting)) = slot.as_mut() else { return std::future::pending().await };
    let answer = waiting.await;
    let key = *key;
    *slot = None;
    (key, answer)
}
