//! One chunk's batches → the partial results of the days it touches.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::Array;
use arrow_buffer::NullBuffer;
use hashbrown::HashSet;

use super::compile::{CompiledKernel, CompiledMeasure, CompiledScan};
use super::day::{DayState, KernelPartial, Lane};
use super::grouped::{NO_GROUP, Numbers};
use super::ids::Translation;
use super::texts::KnownTexts;
use crate::decode::{Batch, BatchColumn, DecodeError};
use crate::error::{ErrorKind, Failure};
use crate::labels::{LabelSetId, Refusal};
use crate::rollups::sum::greatest;
use crate::time::{UsageDay, Window};

/// Where a chunk's rows go.
#[derive(Clone)]
pub struct Chunk<'a> {
    /// Key of the object, for messages.
    pub object: &'a str,
    /// Position of the row group, for messages.
    pub row_group: usize,
    /// Position of the scan.
    pub scan: usize,
    /// Days of the run: rows of other days are left out.
    pub window: Window,
    /// The open days that the row group's statistics name, in order.
    pub days: &'a [Arc<DayState>],
    /// Days that were given up: their rows are passed over.
    pub given_up: &'a [UsageDay],
}

/// What a chunk held.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ChunkCounts {
    /// All rows.
    pub row_count: u64,
    /// Rows per day of the window.
    pub rows_of_days: Vec<(UsageDay, u64)>,
    /// First and last day of rows outside of the window.
    pub outside: Option<(UsageDay, UsageDay)>,
}

impl ChunkCounts {
    fn note_outside(&mut self, day: UsageDay) {
        let (first, last) = self.outside.unwrap_or((day, day));
        self.outside = Some((first.min(day), last.max(day)));
    }
}

/// Why a chunk cannot be aggregated.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The bytes cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A label is refused.
    #[error("object `{object}`, row group {row_group}, row {row}: column `{column}` {refusal}")]
    Label {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Position of the row within the row group.
        row: usize,
        /// Name of the column.
        column: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// The day takes more memory than there is.
    #[error("{message}")]
    Memory {
        /// How much it needs, what makes it grow, and the limit.
        message: String,
    },
    /// The statistics do not say what the rows say.
    #[error(
        "object `{object}`, row group {row_group}, row {row}: interval_start lies on {day}, outside of the row group's \
         statistics; {day} lacks rows as well"
    )]
    Statistics {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Position of the row within the row group.
        row: usize,
        /// Day of the row.
        day: UsageDay,
    },
}

impl IngestError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Decode(error) => error.kind(),
            Self::Label { refusal: Refusal::NotAnObject, .. } => ErrorKind::LabelMalformed,
            Self::Label { .. } => ErrorKind::LabelRefused,
            Self::Memory { .. } => ErrorKind::MemoryBudget,
            Self::Statistics { .. } => ErrorKind::ObjectUnreadable,
        }
    }
}

impl IngestError {
    /// The day that lacks a row although no chunk of it failed.
    pub fn other_day(&self) -> Option<UsageDay> {
        match self {
            Self::Statistics { day, .. } => Some(*day),
            _ => None,
        }
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Decode(error) => error.into(),
            other => Failure::new(other.kind(), other.to_string()),
        }
    }
}

/// Adds a chunk's rows to its days.
/// Errors: the first bad row, by position; the days it touches must then be given up, they hold part of the chunk.
pub fn ingest(
    chunk: &Chunk<'_>,
    batches: impl Iterator<Item = Result<Batch, DecodeError>>,
) -> Result<ChunkCounts, IngestError> {
    let mut counts = ChunkCounts::default();
    let Some(first) = chunk.days.first() else { return Ok(counts) };
    let scan = &first.scans()[chunk.scan];
    let mut days: Vec<DayIngest<'_>> = chunk.days.iter().map(|day| DayIngest::new(day, scan, chunk.scan)).collect();
    for batch in batches {
        let batch = batch?;
        counts.row_count += batch.row_count as u64;
        for (day, rows) in day_runs(chunk, &batch, &mut counts)? {
            days[day].add(chunk, &batch, rows)?;
            days[day].account()?;
        }
    }
    for day in days {
        counts.rows_of_days.push((day.state.day, day.row_count));
        day.end(chunk.scan);
    }
    Ok(counts)
}

/// Runs of rows of one day: positions among the chunk's days and rows.
fn day_runs(
    chunk: &Chunk<'_>,
    batch: &Batch,
    counts: &mut ChunkCounts,
) -> Result<Vec<(usize, Range<usize>)>, IngestError> {
    let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
    let mut start = 0;
    while start < batch.row_count {
        let end = batch.times.run_end(start);
        let day = batch.times.day(start);
        day.filter(|day| !chunk.window.contains(*day)).into_iter().for_each(|day| counts.note_outside(day));
        if let Some(day) = day.filter(|day| chunk.window.contains(*day)) {
            let position = chunk.days.iter().position(|state| state.day == day);
            if position.is_none() && chunk.given_up.contains(&day) {
                start = end;
                continue;
            }
            let Some(position) = position else {
                return Err(IngestError::Statistics {
                    object: chunk.object.to_owned(),
                    row_group: chunk.row_group,
                    row: batch.first_row + start,
                    day,
                });
            };
            match runs.last_mut() {
                Some((last, rows)) if *last == position && rows.end == start => rows.end = end,
                _ => runs.push((position, start..end)),
            }
        }
        start = end;
    }
    Ok(runs)
}

/// What one chunk adds to one day.
struct DayIngest<'a> {
    state: &'a DayState,
    lane: Lane<'a>,
    scan: &'a CompiledScan,
    translations: Vec<Translation>,
    ids: Vec<Vec<u32>>,
    groups: Vec<u32>,
    row_count: u64,
}

impl<'a> DayIngest<'a> {
    /// `position` is that of the scan.
    fn new(state: &'a DayState, scan: &'a CompiledScan, position: usize) -> Self {
        let lane = state.lane(position);
        let mut texts = lane.take_texts(position);
        texts.resize_with(scan.ids.len(), || KnownTexts::new(state.text_bytes));
        let translations = scan.ids.iter().zip(texts).map(|(column, texts)| Translation::new(*column, texts)).collect();
        let ids = vec![Vec::new(); scan.ids.len()];
        Self { state, lane, scan, translations, ids, groups: Vec::new(), row_count: 0 }
    }

    fn add(&mut self, chunk: &Chunk<'_>, batch: &Batch, rows: Range<usize>) -> Result<(), IngestError> {
        self.row_count += rows.len() as u64;
        self.state.account.count_rows(rows.len() as u64);
        for (translation, ids) in self.translations.iter_mut().zip(&mut self.ids) {
            let column = translation.column();
            let values = &batch.columns[column.column];
            translation.translate(self.state, values, rows.clone(), ids).map_err(|refused| IngestError::Label {
                object: chunk.object.to_owned(),
                row_group: chunk.row_group,
                row: batch.first_row + refused.row,
                column: column.name,
                refusal: refused.refusal,
            })?;
        }
        // Before this lane's results are locked, since the pairs are collected from those of all lanes.
        let wanted = self.scan.after.map(|_| self.state.pairs(self.scan));
        let view = Rows { state: self.state, scan: self.scan, wanted, batch, rows, ids: &self.ids };
        let mut partials = self.lane.partials();
        for (kernel, partial) in self.scan.kernels.iter().zip(&mut partials[chunk.scan]) {
            view.run(kernel, partial, &mut self.groups);
            if partial.take_odd() {
                view.note_odd_numbers(chunk, kernel, &self.groups);
            }
        }
        Ok(())
    }

    /// Enters into the books what the day holds now. A row group may add more than fits: who notices only at its end is too late.
    fn account(&mut self) -> Result<(), IngestError> {
        self.lane.note_bytes(self.translations.iter().map(Translation::state_bytes).sum());
        let Some(excess) = self.state.excess() else { return Ok(()) };
        // The message counts the texts of this chunk as well.
        self.hand_over_stats();
        Err(IngestError::Memory { message: self.state.excess_text(excess) })
    }

    /// `position` is that of the scan.
    fn end(mut self, position: usize) {
        self.hand_over_stats();
        self.lane.keep_texts(position, self.translations.into_iter().map(|translation| translation.texts).collect());
    }

    fn hand_over_stats(&mut self) {
        let labels = self.translations.iter_mut().filter(|translation| translation.is_labels());
        let stats = labels.map(|translation| (translation.column().name, std::mem::take(&mut translation.stats)));
        self.state.add_stats(stats.collect());
    }
}

/// Some rows of a batch that belong to one day, with their ids.
struct Rows<'a> {
    state: &'a DayState,
    scan: &'a CompiledScan,
    wanted: Option<&'a HashSet<(u32, u32)>>,
    batch: &'a Batch,
    rows: Range<usize>,
    ids: &'a [Vec<u32>],
}

impl Rows<'_> {
    fn run(&self, kernel: &CompiledKernel, partial: &mut KernelPartial, groups: &mut Vec<u32>) {
        match (kernel, partial) {
            (
                CompiledKernel::Grouped { keys, only_named, sums, maxima, text_maxima },
                KernelPartial::Grouped(partial),
            ) => {
                let keys: Vec<&[u32]> = keys.iter().map(|key| self.ids[*key].as_slice()).collect();
                partial.find_groups(&keys, only_named.map(|id| self.ids[id].as_slice()), groups);
                let measures: Vec<Measured<'_>> = sums.iter().map(|measure| self.measure(*measure)).collect();
                let measures: Vec<_> = measures.iter().map(Measured::numbers).collect();
                partial.add_sums(groups, &measures);
                let maxima: Vec<_> = maxima.iter().map(|column| self.numbers(*column)).collect();
                let maxima: Vec<_> = maxima.iter().map(Measured::numbers).collect();
                partial.add_maxima(groups, &maxima);
                for (position, id) in text_maxima.iter().enumerate() {
                    let names = self.state.names(self.scan.ids[*id].name).lock();
                    partial.add_text_maxima(groups, position, &self.ids[*id], &names);
                }
            }
            (CompiledKernel::Capacity { key, measures }, KernelPartial::Capacity(partial)) => {
                let measures: Vec<_> = measures.iter().map(|column| self.numbers(*column)).collect();
                for run in self.interval_runs() {
                    let slices: Vec<_> = measures.iter().map(|measure| measure.slice(&run)).collect();
                    let slices: Vec<_> = slices.iter().map(Measured::numbers).collect();
                    let time = self.batch.times.nanoseconds_of_day(self.rows.start + run.start);
                    partial.add(time, &self.ids[*key][run], &slices);
                }
            }
            (CompiledKernel::Members { pair, place, attribute, .. }, KernelPartial::Members(partial)) => {
                let Some(wanted) = self.wanted.filter(|pairs| !pairs.is_empty()) else { return };
                let names = self.state.names(self.scan.ids[*attribute].name).lock();
                let ids = [pair[0], pair[1], *place, *attribute].map(|id| self.ids[id].as_slice());
                partial.add(wanted, ids, &names);
            }
            (CompiledKernel::LabelSets { key, labels, .. }, KernelPartial::LabelSets(partial)) => {
                for (row, (key, set)) in self.ids[*key].iter().zip(&self.ids[*labels]).enumerate() {
                    let time = self.batch.times.nanoseconds_of_day(self.rows.start + row);
                    partial.add(time, *key, LabelSetId(*set), &self.state.labels);
                }
            }
            _ => unreachable!("partials are made from the kernels they belong to"),
        }
    }

    /// Looks for the numbers for which no result of a kernel can be stored. `groups` are those of the grouped kernel that ran last.
    fn note_odd_numbers(&self, chunk: &Chunk<'_>, kernel: &CompiledKernel, groups: &[u32]) {
        let is_grouped = matches!(kernel, CompiledKernel::Grouped { .. });
        let counts = |row: &usize| !is_grouped || groups[row - self.rows.start] != NO_GROUP;
        let mut found = self.state.odd_numbers();
        for column in kernel.number_columns() {
            let (object, batch) = ((chunk.object, chunk.row_group), (self.batch, &self.scan.columns[..]));
            found.note(object, batch, column, self.rows.clone().filter(counts));
        }
    }

    /// Runs of equal `interval_start`, relative to the rows' start.
    fn interval_runs(&self) -> Vec<Range<usize>> {
        let mut runs = Vec::new();
        let mut start = self.rows.start;
        while start < self.rows.end {
            let end = self.batch.times.run_end(start).min(self.rows.end);
            runs.push(start - self.rows.start..end - self.rows.start);
            start = end;
        }
        runs
    }

    fn numbers(&self, column: usize) -> Measured<'_> {
        let BatchColumn::Numbers(array) = &self.batch.columns[column] else { return Measured::Null };
        let values = &array.values()[self.rows.clone()];
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        let nulls = nulls.map(|nulls| nulls.slice(self.rows.start, self.rows.len()));
        Measured::Column { values, nulls: nulls.filter(|nulls| nulls.null_count() > 0) }
    }

    fn measure(&self, measure: CompiledMeasure) -> Measured<'_> {
        match measure {
            CompiledMeasure::Column(column) => self.numbers(column),
            CompiledMeasure::OrGreatest { column, left, right, null_if_any } => {
                let own = self.numbers(column);
                if matches!(own, Measured::Column { nulls: None, .. }) {
                    return own;
                }
                let (left, right) = (self.numbers(left), self.numbers(right));
                let value = |row: usize| {
                    own.get(row).or_else(|| match (left.get(row), right.get(row)) {
                        (Some(left), Some(right)) => Some(greatest(left, right)),
                        (left, right) if !null_if_any => left.or(right),
                        _ => None,
                    })
                };
                Measured::computed((0..self.rows.len()).map(value))
            }
        }
    }
}

/// Numbers of some rows: a column's own, computed ones, or nulls only.
enum Measured<'a> {
    Null,
    Column { values: &'a [f64], nulls: Option<NullBuffer> },
    Computed { values: Vec<f64>, nulls: NullBuffer },
}

impl Measured<'_> {
    fn computed(numbers: impl Iterator<Item = Option<f64>>) -> Self {
        let (values, valid): (Vec<f64>, Vec<bool>) =
            numbers.map(|number| (number.unwrap_or(0.0), number.is_some())).unzip();
        Self::Computed { values, nulls: NullBuffer::from(valid) }
    }

    fn numbers(&self) -> Option<Numbers<'_>> {
        match self {
            Self::Null => None,
            Self::Column { values, nulls } => Some(Numbers { values, nulls: nulls.as_ref() }),
            Self::Computed { values, nulls } => Some(Numbers { values, nulls: Some(nulls) }),
        }
    }

    fn get(&self, row: usize) -> Option<f64> {
        let numbers = self.numbers()?;
        numbers.nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| numbers.values[row])
    }

    fn slice(&self, rows: &Range<usize>) -> Measured<'_> {
        match self.numbers() {
            None => Measured::Null,
            Some(numbers) => Measured::Column {
                values: &numbers.values[rows.clone()],
                nulls: numbers.nulls.map(|nulls| nulls.slice(rows.start, rows.len())),
            },
        }
    }
}
