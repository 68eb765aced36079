//! The rows of one day of both sides → pairs that belong together, and rows that have no partner.
//!
//! Rows belong together by the columns that identify them. Where several share an identity they are matched as multisets.

use std::collections::{HashMap, HashSet, VecDeque};

use super::layout::{Comparison, Layout, Marks, SORTS};
use super::pairing::{MOST_CANDIDATES, Unpaired};
use super::rows::{NOT_A_NUMBER, NULL_NUMBER, NULL_TEXT, Rows};
use super::values::double;
use crate::schema::identity::RowSort;

/// How far decimals may lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Relative to the greater of the two.
    pub relative: f64,
    /// In units of the last stored place, 10^-15.
    pub units: i128,
}

impl Tolerance {
    /// Native and SQL sums agree far better; what is stored is rounded at fifteen places on either side.
    pub const DEFAULT: Tolerance = Tolerance { relative: 1e-12, units: 1 };

    /// A relative tolerance of one's own; 0 asks for the same digits.
    pub fn relative(relative: f64) -> Self {
        Self { relative, units: i128::from(relative > 0.0) }
    }

    /// Whether two decimals are equal. `scale` is the size of what they are differences of; both in units of 10^-15.
    fn accepts(self, left: i128, right: i128, scale: i128) -> bool {
        if left == NOT_A_NUMBER || right == NOT_A_NUMBER || left == NULL_NUMBER || right == NULL_NUMBER {
            return left == right && left == NULL_NUMBER;
        }
        let difference = left.abs_diff(right);
        if difference <= self.units.unsigned_abs() {
            return true;
        }
        let size = left.unsigned_abs().max(right.unsigned_abs()).saturating_add(scale.unsigned_abs());
        let size = i128::try_from(size).unwrap_or(i128::MAX);
        double(i128::try_from(difference).unwrap_or(i128::MAX)) <= self.relative * double(size)
    }
}

/// Both sides of a day.
pub struct Day<'a> {
    /// Positions of columns.
    pub layout: &'a Layout,
    /// The texts that decide a row's sort.
    pub marks: &'a Marks,
    /// Target.
    pub target: &'a Rows,
    /// Other side.
    pub other: &'a Rows,
    /// For decimals.
    pub tolerance: Tolerance,
}

/// Rows of a day, sorted out. Numbers are positions in the target or on the other side.
#[derive(Debug, Default)]
pub struct Matched {
    /// Pairs that are equal.
    pub equal: u64,
    /// Same identity, other values: target, other side.
    pub unequal: Vec<(usize, usize)>,
    /// Rows of the target that stand there again, more often than on the other side.
    pub repeated_in_target: Vec<usize>,
    /// The same for the other side.
    pub repeated_in_other: Vec<usize>,
    /// Rows of the target whose identity both sides hold several times although it is unique.
    pub repeated_in_both: Vec<usize>,
    /// Rows of the target beside those that have a partner: their identity is there, their values are not.
    pub beside: Vec<usize>,
    /// Rows of the other side without a partner.
    pub missing: Vec<usize>,
    /// Rows of the target without a partner.
    pub extra: Vec<usize>,
    /// Rows that differ in one identifying column only: its position, target, other side. Also in `missing` and `extra`.
    pub one_key_differs: Vec<(usize, usize, usize)>,
}

/// Identity of a row: its sort and the identifying columns, the longest being that of volumes.
type Identity = [u32; 8];

#[derive(Default)]
struct Group {
    target: Vec<usize>,
    other: Vec<usize>,
}

impl Day<'_> {
    /// Sorts the rows out. `unallocated_is_unique`: not under profiles that repeat these rows.
    pub fn matched(&self, unallocated_is_unique: bool) -> Matched {
        let mut matched = Matched::default();
        for (sort, group) in self.groups() {
            let is_unique = match sort {
                RowSort::Pod => true,
                RowSort::Storage => false,
                RowSort::Unallocated => unallocated_is_unique,
            };
            self.match_group(sort, group, is_unique, &mut matched);
        }
        self.pair_by_other_keys(&mut matched);
        matched
    }

    /// The sort of a row.
    pub fn sort(&self, rows: &Rows, row: usize) -> RowSort {
        self.marks.sort(self.layout, rows, row)
    }

    /// Whether a value of a pair differs.
    pub fn differs(&self, sort: RowSort, column: usize, target: usize, other: usize) -> bool {
        match self.layout.comparison(sort)[column] {
            Comparison::No => false,
            Comparison::Exact => self.target.text(column, target) != self.other.text(column, other),
            Comparison::Presence => {
                (self.target.text(column, target) == NULL_TEXT) != (self.other.text(column, other) == NULL_TEXT)
            }
            Comparison::Number => {
                let [left, right] = [self.target.number(column, target), self.other.number(column, other)];
                // What is left of a node is a difference: its error is that of the capacity.
                let capacity = self.layout.capacity_of(column).filter(|_| sort == RowSort::Unallocated);
                let scale = capacity.map_or(0, |capacity| self.target.number(capacity, target));
                let scale = if scale == NULL_NUMBER || scale == NOT_A_NUMBER { 0 } else { scale };
                !self.tolerance.accepts(left, right, scale)
            }
        }
    }

    /// Groups by identity, in the order in which the rows stand.
    fn groups(&self) -> Vec<(RowSort, Group)> {
        let mut numbers: HashMap<Identity, usize> = HashMap::with_capacity(self.target.len());
        let mut groups: Vec<(RowSort, Group)> = Vec::new();
        for (rows, is_target) in [(self.target, true), (self.other, false)] {
            for row in 0..rows.len() {
                let sort = self.sort(rows, row);
                let number = *numbers.entry(self.identity(sort, rows, row, None)).or_insert_with(|| {
                    groups.push((sort, Group::default()));
                    groups.len() - 1
                });
                let group = &mut groups[number].1;
                if is_target { group.target.push(row) } else { group.other.push(row) }
            }
        }
        groups
    }

    /// The identity of a row, perhaps with one column left out.
    fn identity(&self, sort: RowSort, rows: &Rows, row: usize, without: Option<usize>) -> Identity {
        let mut identity = [NULL_TEXT; 8];
        identity[0] = sort as u32;
        for (slot, column) in identity[1..].iter_mut().zip(self.layout.identity(sort)) {
            // No text has the number before null's, see `Texts`.
            *slot = if Some(*column) == without { NULL_TEXT - 1 } else { rows.text(*column, row) };
        }
        identity
    }

    /// Whether a row of the target and one of the other side are equal, identity aside.
    pub fn is_pair(&self, sort: RowSort, target: usize, other: usize) -> bool {
        (0..self.layout.columns.len()).all(|column| !self.differs(sort, column, target, other))
    }

    fn match_group(&self, sort: RowSort, group: Group, is_unique: bool, matched: &mut Matched) {
        let Group { target, other } = group;
        if let ([target], [other]) = (&target[..], &other[..]) {
            if self.is_pair(sort, *target, *other) {
                matched.equal += 1;
            } else {
                matched.unequal.push((*target, *other));
            }
            return;
        }
        if !is_unique && target.is_empty() {
            // Volumes may legally be there several times.
            return matched.missing.extend(other);
        }
        if !is_unique && other.is_empty() {
            return matched.extra.extend(target);
        }
        if is_unique && target.len() > 1 && other.len() > 1 {
            matched.repeated_in_both.extend(&target[1..]);
        }
        let Unpaired { equal, target: target_rest, other: other_rest } = self.pair_up(sort, &target, &other);
        matched.equal += equal;
        let pairs = target_rest.len().min(other_rest.len());
        matched.unequal.extend(target_rest.iter().copied().zip(other_rest.iter().copied()));
        if let [_, ..] = &target_rest[pairs..] {
            let repeated = self.repeated(self.target, &target);
            for row in &target_rest[pairs..] {
                match (repeated.contains(row), other.is_empty()) {
                    (true, _) => matched.repeated_in_target.push(*row),
                    (false, true) => matched.extra.push(*row),
                    (false, false) => matched.beside.push(*row),
                }
            }
        }
        if let [_, ..] = &other_rest[pairs..] {
            let repeated = self.repeated(self.other, &other);
            let (again, missing): (Vec<usize>, Vec<usize>) =
                other_rest[pairs..].iter().partition(|row| repeated.contains(row));
            matched.repeated_in_other.extend(again);
            matched.missing.extend(missing);
        }
    }

    /// Looks for rows without a partner that would have one if a single identifying column were another.
    fn pair_by_other_keys(&self, matched: &mut Matched) {
        if matched.missing.is_empty() || matched.extra.is_empty() {
            return;
        }
        let mut missing: Vec<usize> = matched.missing.clone();
        let mut extra: Vec<usize> = matched.extra.clone();
        for sort in SORTS {
            for column in self.layout.identity(sort) {
                let mut known: HashMap<Identity, VecDeque<usize>> = HashMap::new();
                for row in extra.iter().filter(|row| self.sort(self.target, **row) == sort) {
                    known.entry(self.identity(sort, self.target, *row, Some(*column))).or_default().push_back(*row);
                }
                missing.retain(|other| {
                    if self.sort(self.other, *other) != sort {
                        return true;
                    }
                    let identity = self.identity(sort, self.other, *other, Some(*column));
                    let Some(candidates) = known.get_mut(&identity) else { return true };
                    let found = candidates
                        .iter()
                        .take(MOST_CANDIDATES)
                        .position(|target| self.is_pair_but_for(sort, *column, *target, *other));
                    let target = found.and_then(|position| candidates.remove(position));
                    matched.one_key_differs.extend(target.map(|target| (*column, target, *other)));
                    target.is_none()
                });
                let paired: HashSet<usize> = matched.one_key_differs.iter().map(|(_, target, _)| *target).collect();
                extra.retain(|row| !paired.contains(row));
            }
        }
    }

    /// Whether all values are equal, leaving out those that follow from an identifying column.
    fn is_pair_but_for(&self, sort: RowSort, identifying: usize, target: usize, other: usize) -> bool {
        let follow = RowSort::follows_from(self.layout.columns[identifying].name);
        (0..self.layout.columns.len())
            .filter(|column| !follow.contains(&self.layout.columns[*column].name))
            .all(|column| !self.differs(sort, column, target, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::target::OCP_DAILY_SUMMARY;
    use crate::verify::rows::Texts;

    const ONE: i128 = 1_000_000_000_000_000;

    #[test]
    fn tolerance_is_relative_and_covers_the_last_place() {
        let tolerance = Tolerance::DEFAULT;
        assert!(tolerance.accepts(ONE, ONE + 1, 0));
        assert!(tolerance.accepts(3, 4, 0) && !tolerance.accepts(3, 5, 0));
        assert!(tolerance.accepts(1_000 * ONE, 1_000 * ONE + 999_999, 0));
        assert!(!tolerance.accepts(1_000 * ONE, 1_000 * ONE + 1_100_000, 0));
        assert!(tolerance.accepts(-ONE, -ONE, 0) && !tolerance.accepts(ONE, -ONE, 0));
        assert!(!Tolerance::relative(0.0).accepts(ONE, ONE + 1, 0));
    }

    #[test]
    fn a_rest_is_compared_at_the_size_of_its_capacity() {
        // 1e-13 instead of 0, of a node with 96 core hours.
        assert!(Tolerance::DEFAULT.accepts(100, 0, 96 * ONE));
        assert!(!Tolerance::DEFAULT.accepts(100, 0, 0));
    }

    #[test]
    fn null_is_not_zero_and_nan_is_never_right() {
        let tolerance = Tolerance::relative(0.5);
        assert!(tolerance.accepts(NULL_NUMBER, NULL_NUMBER, 0));
        assert!(!tolerance.accepts(NULL_NUMBER, 0, 0) && !tolerance.accepts(0, NULL_NUMBER, 0));
        assert!(!tolerance.accepts(NOT_A_NUMBER, NOT_A_NUMBER, 0) && !tolerance.accepts(NOT_A_NUMBER, ONE, 0));
    }

    /// Rows of volumes with these capacities; all of one identity.
    fn volumes(capacities: &[&str], texts: &mut Texts) -> Rows {
        let mut rows = Rows::default();
        for capacity in capacities {
            let cells: Vec<Option<&str>> = OCP_DAILY_SUMMARY
                .rollup_columns()
                .map(|column| match column.name {
                    "data_source" => Some("Storage"),
                    "namespace" => Some("ns"),
                    "persistentvolumeclaim_capacity_gigabyte" => Some(*capacity),
                    _ => None,
                })
                .collect();
            rows.push(cells.into_iter(), texts).unwrap();
        }
        rows
    }

    /// Equal, unequal, repeated in the target, repeated on the other side, beside, missing, extra.
    fn counts(target: &[&str], other: &[&str]) -> [usize; 7] {
        let (layout, mut texts) = (Layout::new(true), Texts::default());
        let [target, other] = [target, other].map(|capacities| volumes(capacities, &mut texts));
        let marks = Marks::new(&texts);
        let tolerance = Tolerance::DEFAULT;
        let day = Day { layout: &layout, marks: &marks, target: &target, other: &other, tolerance };
        let matched = day.matched(true);
        let lists = [&matched.repeated_in_target, &matched.repeated_in_other, &matched.beside];
        let [repeated, repeated_in_other, beside] = lists.map(Vec::len);
        let (missing, extra) = (matched.missing.len(), matched.extra.len());
        let equal = usize::try_from(matched.equal).unwrap();
        [equal, matched.unequal.len(), repeated, repeated_in_other, beside, missing, extra]
    }

    #[test]
    fn volumes_of_one_identity_are_multisets() {
        assert_eq!(counts(&["1", "2", "2"], &["2", "1", "2"]), [3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts(&["1", "1"], &["1"]), [1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(counts(&["1"], &["1", "1"]), [1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(counts(&["1", "2"], &["1", "3"]), [1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(counts(&["1", "2"], &["1"]), [1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(counts(&["1"], &["1", "2"]), [1, 0, 0, 0, 0, 1, 0]);
        // Legal, whoever has them.
        assert_eq!(counts(&["1", "1"], &[]), [0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(counts(&[], &["1", "1"]), [0, 0, 0, 0, 0, 2, 0]);
    }
}
