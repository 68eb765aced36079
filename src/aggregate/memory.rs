//! What a day holds → its place in the books of memory, and in words what makes it grow.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::day::DayState;
use crate::runtime::memory_book::{Excess, Holding, MemoryBook};
use crate::units::Bytes;

/// The place of one day in the books.
#[derive(Debug)]
pub struct Account {
    holding: Holding,
    /// Rows that the day has at most, as far as footers tell.
    planned_row_count: u64,
    row_count: AtomicU64,
}

impl Account {
    /// A day that will have so many rows at most.
    pub fn new(book: &MemoryBook, planned_row_count: u64) -> Self {
        Self { holding: book.hold(Bytes(0)), planned_row_count, row_count: AtomicU64::new(0) }
    }

    pub(super) fn count_rows(&self, row_count: u64) {
        self.row_count.fetch_add(row_count, Ordering::Relaxed);
    }

    fn rows_so_far(&self) -> u64 {
        self.row_count.load(Ordering::Relaxed)
    }
}

/// One thing that takes memory.
struct Part {
    bytes: usize,
    text: String,
}

/// Parts that are told; the others are small beside them.
const PARTS_TOLD: usize = 4;

impl DayState {
    /// Enters the day's size into the books; why work on it has to stop, if it has to.
    pub fn excess(&self) -> Option<Excess> {
        self.account.holding.set(Bytes(self.state_bytes() as u64));
        self.account.holding.book().excess()
    }

    /// All rows are in: the day will be written and freed.
    pub fn leave(&self) {
        self.account.holding.leave();
    }

    /// The day's bytes in the books.
    pub fn held_bytes(&self) -> Bytes {
        self.account.holding.bytes()
    }

    /// What the day will hold once all of its planned rows are in, if further rows add as much as those so far: more than
    /// it will be, since rows of the same hour differ more than the hours do. Nothing is known before the first row.
    pub fn expected_bytes(&self) -> Option<Bytes> {
        let rows = self.account.rows_so_far();
        if rows == 0 {
            return None;
        }
        let planned = self.account.planned_row_count.max(rows);
        let expected = u128::from(self.account.holding.bytes().0) * u128::from(planned) / u128::from(rows);
        Some(Bytes(u64::try_from(expected).unwrap_or(u64::MAX)))
    }

    /// How much there is, what makes it grow and what the limit is.
    pub fn excess_text(&self, excess: Excess) -> String {
        let (rows, planned) = (self.account.rows_so_far(), self.account.planned_row_count);
        let held = self.account.holding.bytes();
        let mut text = match excess {
            Excess::State { bytes, limit } => {
                format!("{} needs {held} after {rows} of at most {planned} rows", self.day)
                    + &format!(
                        ", all state {bytes}; the limit of state is {limit}, its share of performance.memory_budget"
                    )
            }
            Excess::Process { resident, limit } => {
                format!("the process holds {resident} of the {limit} that it may (performance.memory_limit); ")
                    + &format!("{} needs {held} after {rows} of at most {planned} rows", self.day)
            }
        };
        let mut parts = self.parts();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        for (position, part) in parts.iter().take(PARTS_TOLD).filter(|part| part.bytes > 0).enumerate() {
            let lead = if position == 0 { "; it grows by " } else { ", " };
            // Writing to a string cannot fail.
            let _infallible = write!(text, "{lead}{} ({})", part.text, Bytes(part.bytes as u64));
        }
        let expected = self.expected_bytes().unwrap_or(held);
        if let Excess::State { bytes, .. } = excess
            && expected > held
        {
            // State gets half of a budget that is set; a quarter on top, since tables double when they are full.
            let budget = (bytes - held + expected).0 / 2 * 5;
            let budget = Bytes(budget.div_ceil(1 << 20) << 20);
            // An upper bound: most days repeat in each hour the pods of the one before, and then hardly grow any more.
            let _infallible = write!(
                text,
                "; at this rate a memory_budget of {budget} would do, and less where further rows repeat pods and labels of these"
            );
        }
        text
    }

    fn parts(&self) -> Vec<Part> {
        let (counts, count_bytes) = self.counted_texts();
        let stats = self.labels.stats();
        let mut columns: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        columns.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let of_columns = columns.iter().map(|(column, count)| format!("{count} in {column}")).collect::<Vec<_>>();
        let texts = if of_columns.is_empty() { "none as text".to_owned() } else { of_columns.join(", ") };
        let key =
            self.labels.most_varied_key().map_or_else(String::new, |key| format!("; label key `{key}` varies most"));
        let label_bytes = self.labels.state_bytes() + self.labels.json_bytes() + count_bytes;
        let mut parts = vec![Part {
            bytes: label_bytes,
            text: format!("label sets: {} of them, from distinct texts: {texts}{key}", stats.sets),
        }];
        for (column, count, bytes) in self.name_sizes() {
            parts.push(Part { bytes, text: format!("{count} names in {column}") });
        }
        let named: usize = parts.iter().map(|part| part.bytes).sum();
        let bytes = self.state_bytes().saturating_sub(named);
        parts.push(Part { bytes, text: format!("{} groups with the rows that they become", self.group_count()) });
        parts
    }
}
