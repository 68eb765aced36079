//! Whole records of one CSV → columns per day, converted and ready to be written: the hot path.
//!
//! A field is looked at where it lies; only distinct texts are copied. Rows keep their order.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float64Array, PrimitiveArray, StringArray, TimestampMillisecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::error::{ConvertError, RowProblem};
use super::header::{ColumnSource, Shape, TextField};
use super::labels::LabelCache;
use super::partitions::{self, Partitions};
use super::records::{Fields, Records};
use super::values::{self, NotANumber};
use crate::schema::operator::{ANOMALY, Content};
use crate::time::{SECONDS_PER_DAY, UsageDay};

/// Milliseconds of a day.
pub(super) const DAY_MILLISECONDS: i64 = SECONDS_PER_DAY * 1_000;

/// Days that the rows of one block may belong to; a year and a bit.
const MOST_DAYS: usize = 400;

/// What was read and what was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Counts {
    /// Records besides the header.
    pub rows_read: u64,
    /// Rows that were kept.
    pub rows_written: u64,
    /// Rows left out because a metric is beyond belief.
    pub anomalies: u64,
    /// Label pairs left out because they hold several colons, row by row.
    pub label_pairs_dropped: u64,
    /// Metrics that are neither empty nor a number; 0 was written.
    pub unreadable_numbers: u64,
}

impl Counts {
    /// Adds other counts.
    pub fn add(&mut self, other: Counts) {
        self.rows_read += other.rows_read;
        self.rows_written += other.rows_written;
        self.anomalies += other.anomalies;
        self.label_pairs_dropped += other.label_pairs_dropped;
        self.unreadable_numbers += other.unreadable_numbers;
    }
}

/// Whole records of one file.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    /// Line of the first record.
    pub(super) first_line: u64,
}

/// Rows of one day.
#[derive(Debug)]
pub(super) struct Part {
    /// One array per column of the shape.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) row_count: usize,
    /// Bytes of the arrays.
    pub(super) size: usize,
    /// Whether a row has a profile of a partitioned graphics processor.
    pub(super) has_profiles: bool,
}

/// What became of a block.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Rows per day, in the order in which the days first occur.
    pub(super) parts: Vec<(UsageDay, Part)>,
    pub(super) counts: Counts,
}

/// Converts the records of a block.
pub(super) fn parse_block(
    shape: &Shape,
    file: &str,
    block: Block,
    cache: &mut LabelCache,
) -> Result<Parsed, ConvertError> {
    let Block { bytes, first_line } = block;
    let fail = |at: usize, problem| {
        let line = first_line + memchr::memchr_iter(b'\n', &bytes[..at]).count() as u64;
        ConvertError::Row { file: file.to_owned(), line, problem }
    };
    let text = std::str::from_utf8(&bytes).map_err(|error| fail(error.valid_up_to(), RowProblem::NotUtf8))?;
    let mut reader = RowReader::new(shape, text);
    let mut records = Records::new(text);
    let mut fields = Fields::default();
    while let Some(start) = records.next_into(&mut fields) {
        reader.read(&fields).map_err(|problem| fail(start, problem))?;
    }
    Ok(reader.finish(cache))
}

/// Rows under construction, and what is remembered from row to row.
struct RowReader<'b> {
    shape: &'b Shape,
    text: &'b str,
    days: Vec<DayBuilder>,
    /// Which of `days` the last row belonged to.
    current_day: usize,
    /// The numbers and points in time of the row.
    numbers: Vec<f64>,
    times: Vec<Option<i64>>,
    /// The last text of each time field, which the next row often repeats.
    known_times: Vec<(String, Option<i64>)>,
    counts: Counts,
}

impl<'b> RowReader<'b> {
    fn new(shape: &'b Shape, text: &'b str) -> Self {
        Self {
            shape,
            text,
            days: Vec::new(),
            current_day: 0,
            numbers: vec![0.0; shape.numbers.len()],
            times: vec![None; shape.times.len()],
            known_times: vec![(String::new(), None); shape.times.len()],
            counts: Counts::default(),
        }
    }

    /// Takes one record.
    fn read(&mut self, fields: &Fields) -> Result<(), RowProblem> {
        let shape = self.shape;
        if fields.count() != shape.field_count {
            return Err(RowProblem::FieldCount { found: fields.count(), expected: shape.field_count });
        }
        self.counts.rows_read += 1;
        let mut is_anomaly = false;
        for (number, value) in shape.numbers.iter().zip(&mut self.numbers) {
            *value = match values::number(fields.get(self.text, number.field)) {
                Ok(read) => read.unwrap_or(number.otherwise),
                Err(NotANumber) => {
                    self.counts.unreadable_numbers += 1;
                    number.otherwise
                }
            };
            is_anomaly |= number.is_limited && *value > ANOMALY;
        }
        self.read_times(fields)?;
        if is_anomaly {
            self.counts.anomalies += 1;
            return Ok(());
        }
        let Some(start) = self.times[shape.interval_start] else {
            return Err(RowProblem::TimeUnreadable { column: shape.times[shape.interval_start].name });
        };
        let day = self.day_of(start);
        if self.days.len() > MOST_DAYS {
            return Err(RowProblem::TooManyDays { most: MOST_DAYS });
        }
        self.days[day].push(shape, &self.numbers, &self.times, fields, self.text);
        self.counts.rows_written += 1;
        Ok(())
    }

    fn read_times(&mut self, fields: &Fields) -> Result<(), RowProblem> {
        for ((time, known), value) in self.shape.times.iter().zip(&mut self.known_times).zip(&mut self.times) {
            let text = fields.get(self.text, time.field);
            if known.0 != text || text.is_empty() {
                let read = match values::time(text) {
                    Some(milliseconds) => Some(milliseconds),
                    None if values::is_missing(text) => None,
                    None => return Err(RowProblem::TimeUnreadable { column: time.name }),
                };
                known.0.clear();
                known.0.push_str(text);
                known.1 = read;
            }
            *value = known.1;
        }
        Ok(())
    }

    /// Position of the builder of a row's day.
    fn day_of(&mut self, interval_start: i64) -> usize {
        let is_current = |day: &DayBuilder| (day.start..day.start + DAY_MILLISECONDS).contains(&interval_start);
        if self.days.get(self.current_day).is_some_and(is_current) {
            return self.current_day;
        }
        self.current_day = self.days.iter().position(is_current).unwrap_or_else(|| {
            let start = interval_start.div_euclid(DAY_MILLISECONDS) * DAY_MILLISECONDS;
            self.days.push(DayBuilder::new(self.shape, start));
            self.days.len() - 1
        });
        self.current_day
    }

    fn finish(self, cache: &mut LabelCache) -> Parsed {
        let mut counts = self.counts;
        let shape = self.shape;
        let parts = self.days.into_iter().map(|day| {
            let number = i32::try_from(day.start / DAY_MILLISECONDS).expect("years have four digits");
            (UsageDay(number), day.finish(shape, cache, &mut counts))
        });
        let parts = parts.collect();
        Parsed { parts, counts }
    }
}

/// Columns of one day under construction.
struct DayBuilder {
    /// First millisecond of the day.
    start: i64,
    numbers: Vec<Vec<f64>>,
    times: Vec<Vec<Option<i64>>>,
    texts: Vec<TextBuilder>,
}

impl DayBuilder {
    fn new(shape: &Shape, start: i64) -> Self {
        Self {
            start,
            numbers: shape.numbers.iter().map(|_| Vec::new()).collect(),
            times: shape.times.iter().map(|_| Vec::new()).collect(),
            texts: shape.texts.iter().map(|_| TextBuilder::default()).collect(),
        }
    }

    #[inline]
    fn push(&mut self, shape: &Shape, numbers: &[f64], times: &[Option<i64>], fields: &Fields, text: &str) {
        for (column, value) in self.numbers.iter_mut().zip(numbers) {
            column.push(*value);
        }
        for (column, value) in self.times.iter_mut().zip(times) {
            column.push(*value);
        }
        for (column, field) in self.texts.iter_mut().zip(&shape.texts) {
            column.push(fields.get(text, field.field));
        }
    }

    fn finish(self, shape: &Shape, cache: &mut LabelCache, counts: &mut Counts) -> Part {
        let row_count = self.times[shape.interval_start].len();
        let texts = self.texts.into_iter().zip(&shape.texts);
        let mut texts: Vec<_> = texts.map(|(column, field)| column.finish(field, cache, counts)).collect();
        let partitions = shape.partitions.as_ref().map(|fields| {
            let found = partitions::of_rows(&texts[fields.model], &texts[fields.profile], row_count);
            for text in &fields.nulled {
                texts[*text] = with_nulls(&texts[*text], &found.can_be_partitioned);
            }
            found
        });
        let columns = shape.columns.iter().map(|column| -> ArrayRef {
            match column.source {
                ColumnSource::Time(position) => {
                    Arc::new(self.times[position].iter().copied().collect::<TimestampMillisecondArray>())
                }
                ColumnSource::Number(position) => number_array(self.numbers[position].clone()),
                ColumnSource::Text(position) => Arc::new(texts[position].clone()),
                ColumnSource::Greater(left, right) => {
                    let pairs = self.numbers[left].iter().zip(&self.numbers[right]);
                    // Like the reference's, this maximum prefers a number to NaN.
                    number_array(pairs.map(|(left, right)| left.max(*right)).collect())
                }
                derived => number_array(partition_numbers(partitions.as_ref(), derived)),
            }
        });
        let columns: Vec<ArrayRef> = columns.collect();
        let size = columns.iter().map(|column| column.get_array_memory_size()).sum();
        Part { columns, row_count, size, has_profiles: partitions.is_some_and(|found| found.has_profiles) }
    }
}

fn partition_numbers(partitions: Option<&Partitions>, column: ColumnSource) -> Vec<f64> {
    let partitions = partitions.expect("columns of partitions come with their fields");
    match column {
        ColumnSource::Slices => partitions.slices.clone(),
        ColumnSource::SliceMemory => partitions.memory_mib.clone(),
        _ => partitions.most_slices.clone(),
    }
}

/// NaN becomes null, as the reference's writer does it.
pub(super) fn number_array(values: Vec<f64>) -> ArrayRef {
    let has_nan = values.iter().any(|value| value.is_nan());
    let nulls = has_nan.then(|| values.iter().map(|value| !value.is_nan()).collect::<NullBuffer>());
    Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls))
}

/// The same texts, null where `keep` is false.
fn with_nulls(texts: &DictionaryArray<UInt32Type>, keep: &[bool]) -> DictionaryArray<UInt32Type> {
    let keys = PrimitiveArray::new(texts.keys().values().clone(), Some(NullBuffer::from(keep.to_vec())));
    DictionaryArray::new(keys, Arc::clone(texts.values()))
}

/// A column of texts as it is read: each distinct one once.
#[derive(Default)]
struct TextBuilder {
    codes: Vec<u32>,
    /// The distinct texts, one after the other, and where each ends.
    distinct: String,
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: FixedState,
}

impl TextBuilder {
    #[inline]
    fn push(&mut self, text: &str) {
        // Rows of one namespace or node often follow each other.
        if let Some(last) = self.codes.last()
            && self.value(*last) == text
        {
            self.codes.push(*last);
            return;
        }
        let hash = self.hasher.hash_one(text.as_bytes());
        let Self { codes, distinct, ends, table, hasher } = self;
        let value = |code: u32| distinct_text(distinct, ends, code);
        if let Some(code) = table.find(hash, |code| value(*code) == text) {
            codes.push(*code);
            return;
        }
        let code = u32::try_from(ends.len()).expect("a block has fewer rows");
        table.insert_unique(hash, code, |code| hasher.hash_one(value(*code).as_bytes()));
        distinct.push_str(text);
        ends.push(u32::try_from(distinct.len()).expect("blocks are far below 4 GiB"));
        codes.push(code);
    }

    fn value(&self, code: u32) -> &str {
        distinct_text(&self.distinct, &self.ends, code)
    }

    /// Converts the distinct texts; rows keep their codes, so two codes may now stand for one text.
    fn finish(self, field: &TextField, cache: &mut LabelCache, counts: &mut Counts) -> DictionaryArray<UInt32Type> {
        let mut converted = String::with_capacity(self.distinct.len());
        let mut ends = Vec::with_capacity(self.ends.len() + 1);
        ends.push(0);
        // How many pairs each distinct text has lost; empty as long as none has.
        let mut dropped: Vec<u64> = Vec::new();
        for code in 0..self.ends.len() {
            let text = self.value(u32::try_from(code).expect("codes were made from u32"));
            if field.content == Content::Labels {
                let labels = cache.convert(text);
                converted.push_str(&labels.json);
                if labels.dropped_pairs > 0 {
                    dropped.resize(self.ends.len(), 0);
                    dropped[code] = labels.dropped_pairs;
                }
            } else if !values::is_missing(text) {
                append_text(&mut converted, text, field.content);
            }
            ends.push(i32::try_from(converted.len()).expect("converted blocks are far below 2 GiB"));
        }
        if !dropped.is_empty() {
            counts.label_pairs_dropped += self.codes.iter().map(|code| dropped[*code as usize]).sum::<u64>();
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        let distinct = StringArray::new(offsets, converted.into_bytes().into(), None);
        DictionaryArray::new(PrimitiveArray::from(self.codes), Arc::new(distinct))
    }
}

fn append_text(out: &mut String, text: &str, content: Content) {
    let mut identifier = String::new();
    match content {
        Content::Identifier => values::append_identifier(out, text),
        Content::GpuModel => {
            values::append_identifier(&mut identifier, text);
            out.push_str(&values::gpu_model(&identifier));
        }
        Content::GpuVendor => {
            values::append_identifier(&mut identifier, text);
            out.push_str(values::gpu_vendor(&identifier));
        }
        _ => out.push_str(text),
    }
}

fn distinct_text<'t>(distinct: &'t str, ends: &[u32], code: u32) -> &'t str {
    let code = code as usize;
    let start = if code == 0 { 0 } else { ends[code - 1] };
    &distinct[start as usize..ends[code] as usize]
}
