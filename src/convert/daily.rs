//! Rows of one raw object → its daily rows: grouped by the keys, sorted by them, sums and maxima (contract, section 2.3).

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType, UInt32Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float64Array, PrimitiveArray, RecordBatch, StringArray,
    TimestampMillisecondArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::block::{DAY_MILLISECONDS, number_array};
use super::header::{ColumnSource, Shape, text_type, time_type};
use super::objects::Slice;
use crate::rollups::sum::CompensatedSum;
use crate::schema::operator::{Content, Fold, INTERVAL_START, OperatorColumn, Presence};
use crate::time::UsageDay;

/// Stands for null among the numbers of texts; nulls come last.
const NULL: u32 = u32::MAX;

/// Groups the rows of an object; `slices` all belong to `day`.
pub(super) fn daily_batch(shape: &Shape, slices: &[Slice], day: UsageDay) -> Result<RecordBatch, ArrowError> {
    let texts: Vec<Option<NumberedTexts>> = shape
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let is_used = matches!(column.source, ColumnSource::Text(_)) && column.fold != Fold::Absent;
            is_used.then(|| NumberedTexts::new(slices, index))
        })
        .collect();
    let keys: Vec<&NumberedTexts> = shape
        .columns
        .iter()
        .zip(&texts)
        .filter(|(column, _)| column.fold == Fold::Key)
        .filter_map(|(_, texts)| texts.as_ref())
        .collect();
    let groups = Groups::new(&keys, slices);

    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for column in shape.report.columns() {
        let present = shape.columns.iter().position(|present| present.name == column.name);
        let array = match present {
            Some(index) => folded(&groups, slices, index, texts[index].as_ref(), column.fold, day, column.name),
            None if column.presence == Presence::AddedToDaily => Some(new_null_array(&type_of(column), groups.count())),
            None => None,
        };
        if let Some(array) = array {
            fields.push(Field::new(column.name, array.data_type().clone(), true));
            arrays.push(array);
        }
    }
    for effective in shape.report.effective_usages() {
        let present = shape.columns.iter().position(|present| present.name == effective.name);
        let index = present.expect("effective usage is always derived");
        fields.push(Field::new(effective.name, DataType::Float64, true));
        arrays.push(groups.sums(slices, index));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// The daily array of a column that the object has; `None` if the daily copy leaves it out.
fn folded(
    groups: &Groups,
    slices: &[Slice],
    index: usize,
    texts: Option<&NumberedTexts>,
    fold: Fold,
    day: UsageDay,
    name: &str,
) -> Option<ArrayRef> {
    let is_time = slices.first().is_some_and(|slice| *slice.part.columns[index].data_type() == time_type());
    Some(match (fold, texts) {
        (Fold::Absent, _) => return None,
        (_, _) if name == INTERVAL_START => {
            let midnight = i64::from(day.0) * DAY_MILLISECONDS;
            Arc::new(TimestampMillisecondArray::from(vec![midnight; groups.count()]))
        }
        (Fold::Key, Some(texts)) => texts.array(groups.first_rows().map(|row| texts.numbers[row])),
        (Fold::Key, None) => unreachable!("keys are texts, the interval's start aside"),
        (Fold::Greatest, Some(texts)) => texts.array(groups.greatest_texts(texts).into_iter()),
        (Fold::Greatest, None) if is_time => groups.greatest_times(slices, index),
        (Fold::Greatest, None) => groups.greatest_numbers(slices, index),
        (Fold::Sum, _) => groups.sums(slices, index),
    })
}

/// How Parquet holds a column that is added with nulls.
fn type_of(column: &OperatorColumn) -> DataType {
    match column.content {
        Content::Time => time_type(),
        Content::Metric | Content::LimitedMetric | Content::OptionalNumber => DataType::Float64,
        _ => text_type(),
    }
}

/// A column of texts of the whole object: each distinct text has a number, and each row the number of its text.
struct NumberedTexts {
    distinct: Vec<String>,
    numbers: Vec<u32>,
}

impl NumberedTexts {
    fn new(slices: &[Slice], index: usize) -> Self {
        let hasher = FixedState::default();
        let mut table: HashTable<u32> = HashTable::new();
        let mut distinct: Vec<String> = Vec::new();
        let mut numbers = Vec::with_capacity(slices.iter().map(Slice::row_count).sum());
        for slice in slices {
            let column = slice.part.columns[index].as_dictionary::<UInt32Type>();
            let values = column.values().as_string::<i32>();
            // Texts of rows that belong to the neighbouring object get a number, too, and no row has it.
            let number_of_code: Vec<u32> = (0..values.len())
                .map(|code| {
                    let text = values.value(code);
                    let hash = hasher.hash_one(text.as_bytes());
                    if let Some(number) = table.find(hash, |number| distinct[*number as usize] == text) {
                        return *number;
                    }
                    let number = u32::try_from(distinct.len()).expect("an object has fewer rows");
                    table.insert_unique(hash, number, |number| hasher.hash_one(distinct[*number as usize].as_bytes()));
                    distinct.push(text.to_owned());
                    number
                })
                .collect();
            let codes = column.keys();
            match codes.nulls() {
                None => {
                    let codes = &codes.values()[slice.rows.clone()];
                    numbers.extend(codes.iter().map(|code| number_of_code[*code as usize]));
                }
                Some(nulls) => numbers.extend(
                    slice
                        .rows
                        .clone()
                        .map(|row| if nulls.is_null(row) { NULL } else { number_of_code[codes.value(row) as usize] }),
                ),
            }
        }
        Self { distinct, numbers }
    }

    /// The place of each text among all of them, by bytes.
    fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.distinct.len()).collect();
        order.sort_unstable_by(|left, right| self.distinct[*left].cmp(&self.distinct[*right]));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in (0_u32..).zip(order) {
            ranks[number] = rank;
        }
        ranks
    }

    /// Numbers of texts as an array.
    fn array(&self, numbers: impl Iterator<Item = u32>) -> ArrayRef {
        let keys: PrimitiveArray<UInt32Type> = numbers.map(|number| (number != NULL).then_some(number)).collect();
        Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from_iter_values(&self.distinct))))
    }
}

/// Which group each row belongs to.
struct Groups {
    /// Position of each row's group in the sorted order.
    of_rows: Vec<u32>,
    /// A row of each group, in the sorted order.
    first_rows: Vec<usize>,
}

impl Groups {
    fn new(keys: &[&NumberedTexts], slices: &[Slice]) -> Self {
        let row_count: usize = slices.iter().map(Slice::row_count).sum();
        let hasher = FixedState::default();
        let mut table: HashTable<u32> = HashTable::new();
        let mut first_rows: Vec<usize> = Vec::new();
        let mut of_rows = Vec::with_capacity(row_count);
        let hash_of = |row: usize| {
            // Two numbers of 32 bits in one of 64, mixed one after the other.
            keys.iter().fold(0_u64, |hash, key| hasher.hash_one(hash ^ u64::from(key.numbers[row]).rotate_left(32)))
        };
        for row in 0..row_count {
            let hash = hash_of(row);
            let is_same = |group: &u32| {
                let first = first_rows[*group as usize];
                keys.iter().all(|key| key.numbers[first] == key.numbers[row])
            };
            let group = table.find(hash, is_same).copied().unwrap_or_else(|| {
                let group = u32::try_from(first_rows.len()).expect("an object has fewer rows");
                table.insert_unique(hash, group, |group| hash_of(first_rows[*group as usize]));
                first_rows.push(row);
                group
            });
            of_rows.push(group);
        }
        Self { of_rows, first_rows }.sorted(keys)
    }

    /// The same groups in the order of their keys.
    fn sorted(mut self, keys: &[&NumberedTexts]) -> Self {
        let ranks: Vec<Vec<u32>> = keys.iter().map(|key| key.ranks()).collect();
        let rank = |key: usize, group: u32| {
            let number = keys[key].numbers[self.first_rows[group as usize]];
            if number == NULL { NULL } else { ranks[key][number as usize] }
        };
        let mut order: Vec<u32> = (0_u32..).take(self.first_rows.len()).collect();
        order.sort_unstable_by(|left, right| {
            let differences = (0..keys.len()).map(|key| rank(key, *left).cmp(&rank(key, *right)));
            differences.fold(Ordering::Equal, Ordering::then)
        });
        let mut places = vec![0; order.len()];
        for (place, group) in (0_u32..).zip(&order) {
            places[*group as usize] = place;
        }
        self.first_rows = order.iter().map(|group| self.first_rows[*group as usize]).collect();
        self.of_rows.iter_mut().for_each(|group| *group = places[*group as usize]);
        self
    }

    fn count(&self) -> usize {
        self.first_rows.len()
    }

    fn first_rows(&self) -> impl Iterator<Item = usize> {
        self.first_rows.iter().copied()
    }

    /// Sums of a column of numbers; NaN and null count as nothing.
    fn sums(&self, slices: &[Slice], index: usize) -> ArrayRef {
        let mut sums = vec![CompensatedSum::default(); self.count()];
        self.for_each_number(slices, index, |group, value| sums[group].add(value));
        Arc::new(Float64Array::from_iter_values(sums.into_iter().map(CompensatedSum::value)))
    }

    /// Maxima of a column of numbers; NaN and null only where there is nothing else.
    fn greatest_numbers(&self, slices: &[Slice], index: usize) -> ArrayRef {
        let mut greatest = vec![f64::NAN; self.count()];
        self.for_each_number(slices, index, |group, value| greatest[group] = greatest[group].max(value));
        number_array(greatest)
    }

    fn for_each_number(&self, slices: &[Slice], index: usize, mut fold: impl FnMut(usize, f64)) {
        let mut groups = self.of_rows.iter();
        for slice in slices {
            let values = &slice.part.columns[index].as_primitive::<Float64Type>().values()[slice.rows.clone()];
            for (value, group) in values.iter().zip(&mut groups) {
                // Nulls were made of NaN and still hold it.
                if !value.is_nan() {
                    fold(*group as usize, *value);
                }
            }
        }
    }

    fn greatest_times(&self, slices: &[Slice], index: usize) -> ArrayRef {
        let mut greatest: Vec<Option<i64>> = vec![None; self.count()];
        let mut groups = self.of_rows.iter();
        for slice in slices {
            let column = slice.part.columns[index].as_primitive::<TimestampMillisecondType>();
            for (row, group) in slice.rows.clone().zip(&mut groups) {
                let value = (!column.is_null(row)).then(|| column.value(row));
                let known = &mut greatest[*group as usize];
                *known = value.max(*known);
            }
        }
        Arc::new(greatest.into_iter().collect::<TimestampMillisecondArray>())
    }

    /// The greatest text of each group by bytes, as its number.
    fn greatest_texts(&self, texts: &NumberedTexts) -> Vec<u32> {
        let mut greatest = vec![NULL; self.count()];
        for (number, group) in texts.numbers.iter().zip(&self.of_rows) {
            let known = &mut greatest[*group as usize];
            if *known == *number || *number == NULL {
                continue;
            }
            let text = |number: u32| texts.distinct[number as usize].as_str();
            if *known == NULL || text(*known) < text(*number) {
                *known = *number;
            }
        }
        greatest
    }
}
