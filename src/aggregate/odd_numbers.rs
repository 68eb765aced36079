//! Numbers that no result can be made of → where the first one of each column stands in the report.
//!
//! A sum only tells that something in it was odd. Kernels notice that at no cost, from what they add up anyway; only then are the
//! rows looked at one by one.

use std::collections::BTreeMap;
use std::fmt;

use crate::decode::{Batch, BatchColumn};
use crate::schema::source::{Column, PLACES};

/// Seconds, bytes and their products are far below; what is above fits into no decimal of the target, in whatever unit.
pub(super) const LARGEST_USUAL: f64 = 1e21;

/// Whether a number, or a sum of absolute numbers, is NaN, infinite or larger than anything that is measured.
#[inline]
pub(super) fn is_odd(number: f64) -> bool {
    // NaN is less than nothing.
    let is_usual = number.abs() < LARGEST_USUAL;
    !is_usual
}

/// Which way a number is odd, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Oddity {
    NotANumber,
    Infinite,
    TooLarge,
}

/// An odd number of a report. Ordered by what is to be told first; never shows the number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OddNumber {
    oddity: Oddity,
    object: String,
    row_group: usize,
    row: usize,
    column: &'static str,
    /// Whose number it is: namespace, node and whatever else the report has.
    place: String,
}

impl fmt::Display for OddNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.oddity {
            Oddity::NotANumber => "is NaN",
            Oddity::Infinite => "is infinite",
            Oddity::TooLarge => "is out of range",
        };
        let Self { column, place, object, row_group, row, .. } = self;
        write!(f, "column `{column}`{place} {what} (object `{object}`, row group {row_group}, row {row})")
    }
}

/// The first odd number of each column.
#[derive(Debug, Default)]
pub struct OddNumbers(BTreeMap<&'static str, OddNumber>);

impl OddNumbers {
    /// Keeps the one that is to be told first, whatever the order of arrival.
    fn add(&mut self, number: OddNumber) {
        let known = self.0.entry(number.column).or_insert_with(|| number.clone());
        if number < *known {
            *known = number;
        }
    }

    /// The one that is to be told first among those of some columns.
    pub fn among(&self, columns: &[&'static Column]) -> Option<&OddNumber> {
        columns.iter().filter_map(|column| self.0.get(column.name)).min()
    }

    /// Notes the first odd number of a column of a batch among some rows.
    pub(super) fn note(
        &mut self,
        (object, row_group): (&str, usize),
        (batch, columns): (&Batch, &[&'static Column]),
        position: usize,
        mut rows: impl Iterator<Item = usize>,
    ) {
        let BatchColumn::Numbers(numbers) = &batch.columns[position] else { return };
        let number = |row: usize| (!arrow_array::Array::is_null(numbers, row)).then(|| numbers.value(row));
        let Some((row, number)) = rows.find_map(|row| Some((row, number(row).filter(|number| is_odd(*number))?)))
        else {
            return;
        };
        let oddity = match number {
            number if number.is_nan() => Oddity::NotANumber,
            number if number.is_infinite() => Oddity::Infinite,
            _ => Oddity::TooLarge,
        };
        let name = |(column, word): &(&Column, &str)| {
            let at = columns.iter().position(|known| known.name == column.name)?;
            let BatchColumn::Text(texts) = &batch.columns[at] else { return None };
            let text = texts.text(row).filter(|text| !text.is_empty())?;
            Some(format!("{word} `{text}`"))
        };
        let names: Vec<String> = PLACES.iter().filter_map(name).collect();
        let place = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
        let (object, row) = (object.to_owned(), batch.first_row + row);
        self.add(OddNumber { oddity, object, row_group, row, column: columns[position].name, place });
    }
}
