//! Rows of one identity on both sides → pairs of equal ones, and whether a row repeats an earlier one. Whole rows are
//! hashed, so that the work grows with the rows and not with their square.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};

use super::layout::Comparison;
use super::matching::Day;
use super::rows::{NOT_A_NUMBER, NULL_NUMBER, NULL_TEXT, Rows};
use super::values::double;
use crate::schema::identity::RowSort;

/// Different rows that are tried for one row where a group is too large to try all of them.
pub const MOST_CANDIDATES: usize = 256;
/// Pairs of different rows up to which all are tried.
const MOST_PAIRS: usize = MOST_CANDIDATES * MOST_CANDIDATES;
/// Decimals below so many units of the last place are put together: near zero the absolute tolerance counts. No round
/// number, which values may well lie on both sides of.
const SMALL: f64 = 1_370_117.0;
/// Width of the classes into which decimals are put, as a ratio; far above the default tolerance.
const CLASS_WIDTH: f64 = 1e-6;
/// Keeps the borders of the classes off round numbers.
const CLASS_OFFSET: f64 = 0.377_181;

/// What is left of a group once equal rows are paired.
pub struct Unpaired {
    /// Pairs.
    pub equal: u64,
    /// Rows of the target, in order.
    pub target: Vec<usize>,
    /// Rows of the other side, in order.
    pub other: Vec<usize>,
}

impl Day<'_> {
    /// Pairs equal rows of one identity: first those with the same digits, then those within the tolerance.
    pub fn pair_up(&self, sort: RowSort, target: &[usize], other: &[usize]) -> Unpaired {
        let mut equal = 0;
        let mut waiting: HashMap<u64, VecDeque<usize>> = HashMap::with_capacity(other.len());
        for row in other {
            waiting.entry(self.exact_key(sort, self.other, *row)).or_default().push_back(*row);
        }
        let mut rest: Vec<(u64, usize)> = Vec::new();
        for row in target {
            let key = self.exact_key(sort, self.target, *row);
            if waiting.get_mut(&key).is_some_and(|rows| self.take(sort, *row, rows)) {
                equal += 1;
            } else {
                rest.push((key, *row));
            }
        }
        let target = self.pair_within_tolerance(sort, rest, other, &mut waiting, &mut equal);
        let mut other: Vec<usize> = waiting.into_values().flatten().collect();
        other.sort_unstable();
        Unpaired { equal, target, other }
    }

    /// The rows that hold the same in every column as an earlier one of the list.
    pub fn repeated(&self, rows: &Rows, listed: &[usize]) -> HashSet<usize> {
        let mut firsts: HashMap<u64, Vec<usize>> = HashMap::with_capacity(listed.len());
        let is_repeated = |row: &usize| {
            let known = firsts.entry(self.whole_key(rows, *row)).or_default();
            let is_known = known.iter().any(|first| self.is_same(rows, *first, *row));
            if !is_known {
                known.push(*row);
            }
            is_known
        };
        listed.iter().copied().filter(is_repeated).collect()
    }

    /// Tries what has no partner of the same digits; returns the rows that find none.
    fn pair_within_tolerance(
        &self,
        sort: RowSort,
        rest: Vec<(u64, usize)>,
        other: &[usize],
        waiting: &mut HashMap<u64, VecDeque<usize>>,
        equal: &mut u64,
    ) -> Vec<usize> {
        waiting.retain(|_, rows| !rows.is_empty());
        let different: HashSet<u64> = rest.iter().map(|(key, _)| *key).collect();
        let tries_all = different.len().saturating_mul(waiting.len()) <= MOST_PAIRS;
        let limit = if tries_all { usize::MAX } else { MOST_CANDIDATES };
        let class = |rows: &Rows, row: usize| if tries_all { 0 } else { self.rough_key(sort, rows, row) };
        let mut classes: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut listed = HashSet::new();
        for row in other {
            let key = self.exact_key(sort, self.other, *row);
            if waiting.contains_key(&key) && listed.insert(key) {
                classes.entry(class(self.other, *row)).or_default().push(key);
            }
        }
        let mut unpaired = Vec::new();
        // A row without a partner has none when it comes again: there are only fewer.
        let mut hopeless = HashSet::new();
        for (key, row) in rest {
            let is_partner = |other: &u64| waiting.get_mut(other).is_some_and(|rows| self.take(sort, row, rows));
            let candidates = classes.get_mut(&class(self.target, row)).filter(|_| !hopeless.contains(&key));
            let found = candidates.and_then(|keys| {
                let position = keys.iter().take(limit).position(is_partner)?;
                Some((keys, position))
            });
            match found {
                Some((keys, position)) => {
                    *equal += 1;
                    if waiting.get(&keys[position]).is_none_or(VecDeque::is_empty) {
                        keys.swap_remove(position);
                    }
                }
                None => {
                    hopeless.insert(key);
                    unpaired.push(row);
                }
            }
        }
        unpaired
    }

    /// Takes the first of rows that are alike if it is the partner.
    fn take(&self, sort: RowSort, target: usize, alike: &mut VecDeque<usize>) -> bool {
        let is_partner = alike.front().is_some_and(|other| self.is_pair(sort, target, *other));
        is_partner && alike.pop_front().is_some()
    }

    /// Equal for rows that agree to the last digit in all that is compared.
    fn exact_key(&self, sort: RowSort, rows: &Rows, row: usize) -> u64 {
        self.key(sort, rows, row, |_, number, hasher| number.hash(hasher))
    }

    /// Equal for rows that agree in all that is compared exactly and roughly in the decimals, but for those on both sides
    /// of a border.
    fn rough_key(&self, sort: RowSort, rows: &Rows, row: usize) -> u64 {
        let width = CLASS_WIDTH.max(self.tolerance.relative * 1_000.0);
        self.key(sort, rows, row, |column, number, hasher| {
            // What is left of a node is compared at the size of its capacity, not at its own.
            if sort != RowSort::Unallocated || self.layout.capacity_of(column).is_none() {
                number_class(number, width).hash(hasher);
            }
        })
    }

    fn key(
        &self,
        sort: RowSort,
        rows: &Rows,
        row: usize,
        mut hash_number: impl FnMut(usize, i128, &mut DefaultHasher),
    ) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (column, comparison) in self.layout.comparison(sort).iter().enumerate() {
            match comparison {
                Comparison::No => {}
                Comparison::Exact => rows.text(column, row).hash(&mut hasher),
                Comparison::Presence => (rows.text(column, row) == NULL_TEXT).hash(&mut hasher),
                Comparison::Number => hash_number(column, rows.number(column, row), &mut hasher),
            }
        }
        hasher.finish()
    }

    fn whole_key(&self, rows: &Rows, row: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        for column in 0..self.layout.columns.len() {
            rows.text(column, row).hash(&mut hasher);
            rows.number(column, row).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether two rows of one side hold the same in every column.
    fn is_same(&self, rows: &Rows, left: usize, right: usize) -> bool {
        (0..self.layout.columns.len()).all(|column| {
            rows.text(column, left) == rows.text(column, right)
                && rows.number(column, left) == rows.number(column, right)
        })
    }
}

/// Sign and order of magnitude in fine steps; null and NaN are classes of their own.
fn number_class(number: i128, width: f64) -> (i8, u64) {
    if number == NULL_NUMBER || number == NOT_A_NUMBER {
        return (if number == NULL_NUMBER { 2 } else { 3 }, 0);
    }
    // In units of the last place.
    let size = double(number).abs() / double(1);
    if size < SMALL {
        return (0, 0);
    }
    let class = (size.ln() / width + CLASS_OFFSET).floor();
    (if number < 0 { -1 } else { 1 }, class.to_bits())
}

#[cfg(test)]
mod tests;
