//! Cells as text or Arrow → a day's rows as columns of small integers and fixed-point numbers. Both sides of a comparison
//! number their texts with one [`Texts`], so that equal texts are equal integers.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use uuid::Uuid;

use super::values::{canonical_json, date, decimal, decimal_of_double};

pub use super::values::{NOT_A_NUMBER, NULL_NUMBER};
use crate::schema::target::{OCP_DAILY_SUMMARY, TargetColumn, TargetType};
use crate::time::UsageDay;

/// A cell without a value.
pub const NULL_TEXT: u32 = u32::MAX;

/// Distinct texts of a day.
#[derive(Debug, Default)]
pub struct Texts {
    numbers: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
    /// JSON as it was written → number of its canonical text.
    json: HashMap<Box<str>, u32>,
}

impl Texts {
    /// The text with this number; `None` for null.
    pub fn text(&self, number: u32) -> Option<&str> {
        self.texts.get(number as usize).map(AsRef::as_ref)
    }

    /// The number of a text, if any cell holds it.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    fn number(&mut self, text: &str) -> Result<u32, BadCell> {
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        let number = u32::try_from(self.texts.len()).ok().filter(|number| *number < NULL_TEXT);
        let number = number.ok_or(BadCell::TooMany)?;
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        Ok(number)
    }

    fn json(&mut self, text: &str) -> Result<u32, BadCell> {
        if let Some(number) = self.json.get(text) {
            return Ok(*number);
        }
        let canonical = canonical_json(text).ok_or(BadCell::OtherType)?;
        let number = self.number(&canonical)?;
        self.json.insert(text.into(), number);
        Ok(number)
    }
}

/// Why a cell cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCell {
    /// It is no value of its column's type.
    OtherType,
    /// There are more distinct texts than numbers for them.
    TooMany,
}

/// A cell that cannot be taken, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadValue {
    /// Why.
    pub reason: BadCell,
    /// Its column.
    pub column: &'static TargetColumn,
    /// Rows from 1.
    pub row: u64,
}

/// One column of a day.
#[derive(Debug)]
enum Cells {
    /// Everything but decimals.
    Texts(Vec<u32>),
    /// Decimals as counts of 10^-15.
    Numbers(Vec<i128>),
}

/// The rows of a day, in the order of the target's rollup columns.
#[derive(Debug)]
pub struct Rows {
    columns: Vec<(&'static TargetColumn, Cells)>,
    row_count: usize,
}

impl Default for Rows {
    fn default() -> Self {
        let cells = |column: &TargetColumn| match column.target_type {
            TargetType::Decimal => Cells::Numbers(Vec::new()),
            _ => Cells::Texts(Vec::new()),
        };
        let columns = OCP_DAILY_SUMMARY.rollup_columns().map(|column| (column, cells(column))).collect();
        Self { columns, row_count: 0 }
    }
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.row_count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// A cell that is no decimal.
    pub fn text(&self, column: usize, row: usize) -> u32 {
        match &self.columns[column].1 {
            Cells::Texts(texts) => texts[row],
            Cells::Numbers(_) => NULL_TEXT,
        }
    }

    /// A decimal.
    pub fn number(&self, column: usize, row: usize) -> i128 {
        match &self.columns[column].1 {
            Cells::Numbers(numbers) => numbers[row],
            Cells::Texts(_) => NULL_NUMBER,
        }
    }

    /// Adds a row of texts, one per rollup column in order.
    pub fn push<'a>(
        &mut self,
        cells: impl Iterator<Item = Option<&'a str>>,
        texts: &mut Texts,
    ) -> Result<(), BadValue> {
        let row = self.row_count as u64 + 1;
        for ((column, store), cell) in self.columns.iter_mut().zip(cells) {
            push_cell(column, store, cell, texts).map_err(|reason| BadValue { reason, column, row })?;
        }
        self.row_count += 1;
        Ok(())
    }

    /// Adds the rows of a batch in the target's order of columns; decimals may be doubles there.
    pub fn push_batch(&mut self, batch: &RecordBatch, texts: &mut Texts) -> Result<(), BadValue> {
        let first = self.row_count as u64 + 1;
        for ((column, store), array) in self.columns.iter_mut().zip(batch.columns()) {
            for row in 0..batch.num_rows() {
                let bad = |reason| BadValue { reason, column, row: first + row as u64 };
                match store {
                    Cells::Numbers(numbers) => numbers.push(array_number(array.as_ref(), row).map_err(bad)?),
                    Cells::Texts(_) => {
                        let text = array_text(array.as_ref(), row).map_err(bad)?;
                        push_cell(column, store, text.as_deref(), texts).map_err(bad)?;
                    }
                }
            }
        }
        self.row_count += batch.num_rows();
        Ok(())
    }
}

fn push_cell(column: &TargetColumn, store: &mut Cells, cell: Option<&str>, texts: &mut Texts) -> Result<(), BadCell> {
    match (store, cell) {
        (Cells::Numbers(numbers), None) => numbers.push(NULL_NUMBER),
        (Cells::Numbers(numbers), Some(text)) => numbers.push(decimal(text).ok_or(BadCell::OtherType)?),
        (Cells::Texts(cells), None) => cells.push(NULL_TEXT),
        (Cells::Texts(cells), Some(text)) => cells.push(match column.target_type {
            TargetType::Json => texts.json(text)?,
            TargetType::Integer => {
                let number: i64 = text.trim().parse().map_err(|_| BadCell::OtherType)?;
                texts.number(&number.to_string())?
            }
            TargetType::Date => {
                let date = date(text).ok_or(BadCell::OtherType)?;
                texts.number(&UsageDay::from_date(date).to_string())?
            }
            TargetType::Uuid => {
                let id: Uuid = text.trim().parse().map_err(|_| BadCell::OtherType)?;
                texts.number(&id.to_string())?
            }
            TargetType::Varchar(_) | TargetType::Text | TargetType::Decimal => texts.number(text)?,
        }),
    }
    Ok(())
}

fn array_number(array: &dyn Array, row: usize) -> Result<i128, BadCell> {
    if array.is_null(row) {
        return Ok(NULL_NUMBER);
    }
    match array.data_type() {
        DataType::Decimal128(_, 15) => Ok(array.as_primitive::<Decimal128Type>().value(row)),
        DataType::Float64 => {
            decimal_of_double(array.as_primitive::<Float64Type>().value(row)).ok_or(BadCell::OtherType)
        }
        _ => Err(BadCell::OtherType),
    }
}

fn array_text(array: &dyn Array, row: usize) -> Result<Option<Cow<'_, str>>, BadCell> {
    if array.is_null(row) {
        return Ok(None);
    }
    let text = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Utf8View => array.as_string_view().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string().into(),
        DataType::Date32 => UsageDay(array.as_primitive::<Date32Type>().value(row)).to_string().into(),
        DataType::FixedSizeBinary(16) => {
            let id = Uuid::from_slice(array.as_fixed_size_binary().value(row));
            id.map_err(|_| BadCell::OtherType)?.to_string().into()
        }
        _ => return Err(BadCell::OtherType),
    };
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_equal_numbers_whatever_their_spelling() {
        let mut texts = Texts::default();
        let position = |name: &str| OCP_DAILY_SUMMARY.rollup_columns().position(|column| column.name == name);
        let mut push = |rows: &mut Rows, labels: &str, day: &str, cores: &str| {
            let cells: Vec<Option<&str>> = OCP_DAILY_SUMMARY
                .rollup_columns()
                .map(|column| match column.name {
                    "pod_labels" => Some(labels),
                    "usage_start" => Some(day),
                    "node_capacity_cpu_cores" => Some(cores),
                    _ => None,
                })
                .collect();
            rows.push(cells.into_iter(), &mut texts)
        };
        let (mut left, mut right) = (Rows::default(), Rows::default());
        push(&mut left, r#"{"a":"1","b":"2"}"#, "2025-10-01", "8").unwrap();
        push(&mut right, r#"{"b": "2", "a": "1"}"#, "2025-10-01 00:00:00", "8.000").unwrap();
        for name in ["pod_labels", "usage_start", "namespace"] {
            let column = position(name).unwrap();
            assert_eq!(left.text(column, 0), right.text(column, 0), "{name}");
        }
        let cores = position("node_capacity_cpu_cores").unwrap();
        assert_eq!(left.number(cores, 0), right.number(cores, 0));

        let bad = push(&mut left, "{}", "2025-10-01", "eight").unwrap_err();
        assert_eq!((bad.reason, bad.column.name, bad.row), (BadCell::OtherType, "node_capacity_cpu_cores", 2));
    }
}
