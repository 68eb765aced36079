//! Day after day of matched rows → what the comparison knows at the end: counts, lists of a bounded length, sets, sums.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::drift::{ColumnDrift, DayDrift, Unequal};
use super::layout::{Comparison, Layout, Marks};
use super::matching::{Day, Matched, Tolerance};
use super::rows::{NOT_A_NUMBER, NULL_NUMBER, NULL_TEXT, Rows, Texts};
use super::values::double;
use crate::schema::identity::RowSort;
use crate::schema::target::TargetType;
use crate::time::UsageDay;

/// Rows of a kind that are shown.
pub const SHOWN: usize = 20;
/// Different names of one kind that are kept apart.
const MOST_NAMES: usize = 100_000;
/// Characters of a text in the description of a row.
const LONGEST_TEXT: usize = 200;

/// Many rows, of which the first are shown.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// How many.
    pub count: u64,
    /// Descriptions of the first.
    pub shown: Vec<String>,
}

impl Listed {
    /// Those of both, the first of `self` before the first of the other.
    pub fn with(&self, other: &Self) -> Self {
        let shown = self.shown.iter().chain(&other.shown).take(SHOWN).cloned().collect();
        Self { count: self.count + other.count, shown }
    }

    fn add(&mut self, describe: impl FnOnce() -> String) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(describe());
        }
    }
}

/// A name on both sides: rows in the target, rows on the other side.
pub type Names = BTreeMap<Option<String>, [u64; 2]>;

/// What is known after some days.
#[derive(Debug)]
pub struct Tally {
    /// Rows of each day: target, other side.
    pub days: BTreeMap<UsageDay, [u64; 2]>,
    /// Pairs that are equal.
    pub equal: u64,
    /// Clusters of the target's and the other side's rows.
    pub clusters: [BTreeSet<Option<String>>; 2],
    /// Sources of the target's and the other side's rows.
    pub sources: [BTreeSet<Option<String>>; 2],
    /// Data sources, namespaces and nodes.
    pub names: [Names; 3],
    /// Rows that only the other side has, those in `renamed` not among them.
    pub missing: Listed,
    /// Rows that only the target has, those in `renamed` not among them.
    pub extra: Listed,
    /// Rows of the other side, and of the target, that would be one row if a single identifying column were another.
    pub renamed: [Listed; 2],
    /// Rows that are there more than once: in the target, on the other side, on both.
    pub repeated: [Listed; 3],
    /// Rows of the target beside those that have a partner, of days whose rows the ledger knows to be fewer.
    pub left_over: Listed,
    /// Identifying column, its value on the other side and in the target → rows, where nothing else differs.
    pub changed_keys: BTreeMap<(&'static str, Option<String>, Option<String>), u64>,
    /// Rows whose values differ.
    pub unequal: u64,
    /// Differences per rollup column.
    pub drift: Vec<ColumnDrift>,
    /// Sum of each decimal column over the target's rows of a day, and the sum of absolute values, as counts of 10^-15;
    /// `None` beyond 128 bits or NaN.
    pub sums: BTreeMap<UsageDay, Vec<Option<(i128, i128)>>>,
    /// Nodes whose usage and unallocated rows do not give their capacity.
    pub unbalanced: Listed,
}

/// What a day is compared with.
#[derive(Debug, Clone, Copy)]
pub struct DayRules {
    /// The day.
    pub day: UsageDay,
    /// For decimals.
    pub tolerance: Tolerance,
    /// Whether the semantics promise that the books close.
    pub conserves: bool,
    /// Rows that the ledger has for the day in the target.
    pub recorded: Option<u64>,
}

impl Tally {
    /// Nothing compared yet.
    pub fn new(layout: &Layout) -> Self {
        Self {
            days: BTreeMap::new(),
            equal: 0,
            clusters: Default::default(),
            sources: Default::default(),
            names: Default::default(),
            missing: Listed::default(),
            extra: Listed::default(),
            renamed: Default::default(),
            repeated: Default::default(),
            left_over: Listed::default(),
            changed_keys: BTreeMap::new(),
            unequal: 0,
            drift: vec![ColumnDrift::default(); layout.columns.len()],
            sums: BTreeMap::new(),
            unbalanced: Listed::default(),
        }
    }

    /// Rows of each side.
    pub fn row_counts(&self) -> [u64; 2] {
        self.days.values().fold([0, 0], |sum, day| [sum[0] + day[0], sum[1] + day[1]])
    }

    /// Compares a day and adds what it shows.
    pub fn add_day(&mut self, rules: DayRules, layout: &Layout, sides: [&Rows; 2], texts: &Texts) {
        let [target, other] = sides;
        self.days.insert(rules.day, sides.map(|rows| rows.len() as u64));
        let marks = Marks::new(texts);
        self.add_names(layout, sides, texts);
        let day = Day { layout, marks: &marks, target, other, tolerance: rules.tolerance };
        let matched = day.matched(rules.conserves);
        let describe = Describe { layout, texts, day: rules.day };
        self.add_rows(&day, &describe, &matched, rules);
        self.add_drift(&day, &describe, &matched);
        self.sums.insert(rules.day, sums(layout, target));
        if rules.conserves {
            self.add_unbalanced(&day, &describe);
        }
    }

    fn add_names(&mut self, layout: &Layout, sides: [&Rows; 2], texts: &Texts) {
        for (side, rows) in sides.into_iter().enumerate() {
            let columns = [layout.cluster, layout.source, layout.data_source, layout.namespace, layout.node];
            for (number, column) in columns.into_iter().enumerate() {
                let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
                (0..rows.len()).for_each(|row| *counts.entry(rows.text(column, row)).or_default() += 1);
                for (name, count) in counts {
                    let name = texts.text(name).map(str::to_owned);
                    match number {
                        0 => _ = self.clusters[side].insert(name),
                        1 => _ = self.sources[side].insert(name),
                        _ => {
                            let names = &mut self.names[number - 2];
                            if names.len() < MOST_NAMES || names.contains_key(&name) {
                                names.entry(name).or_default()[side] += count;
                            }
                        }
                    }
                }
            }
        }
    }

    fn add_rows(&mut self, day: &Day<'_>, describe: &Describe<'_>, matched: &Matched, rules: DayRules) {
        self.equal += matched.equal;
        self.unequal += matched.unequal.len() as u64;
        let target = |row: &usize| describe.row(day.sort(day.target, *row), day.target, *row);
        let other = |row: &usize| describe.row(day.sort(day.other, *row), day.other, *row);
        let renamed: HashSet<usize> = matched.one_key_differs.iter().map(|(_, _, on_other)| *on_other).collect();
        for row in &matched.missing {
            let list = if renamed.contains(row) { &mut self.renamed[0] } else { &mut self.missing };
            list.add(|| other(row));
        }
        let renamed: HashSet<usize> = matched.one_key_differs.iter().map(|(_, in_target, _)| *in_target).collect();
        for row in &matched.extra {
            let list = if renamed.contains(row) { &mut self.renamed[1] } else { &mut self.extra };
            list.add(|| target(row));
        }
        matched.repeated_in_target.iter().for_each(|row| self.repeated[0].add(|| target(row)));
        matched.repeated_in_other.iter().for_each(|row| self.repeated[1].add(|| other(row)));
        matched.repeated_in_both.iter().for_each(|row| self.repeated[2].add(|| target(row)));
        let has_more_than_recorded = rules.recorded.is_some_and(|recorded| day.target.len() as u64 > recorded);
        for row in &matched.beside {
            // A second row of an identity that no run counted was left by an earlier one. Otherwise its kind decides.
            let list = match day.sort(day.target, *row) {
                _ if has_more_than_recorded => &mut self.left_over,
                RowSort::Storage => &mut self.extra,
                RowSort::Pod | RowSort::Unallocated => &mut self.repeated[0],
            };
            list.add(|| target(row));
        }
        for (column, in_target, on_other) in &matched.one_key_differs {
            let text = |rows: &Rows, row| describe.texts.text(rows.text(*column, row)).map(shortened);
            let values = (text(day.other, *on_other), text(day.target, *in_target));
            let key = (day.layout.columns[*column].name, values.0, values.1);
            if self.changed_keys.len() < MOST_NAMES || self.changed_keys.contains_key(&key) {
                *self.changed_keys.entry(key).or_default() += 1;
            }
        }
    }

    fn add_drift(&mut self, day: &Day<'_>, describe: &Describe<'_>, matched: &Matched) {
        let mut drift = DayDrift::default();
        for (target, other) in &matched.unequal {
            let sort = day.sort(day.target, *target);
            let namespace = day.target.text(day.layout.namespace, *target);
            for column in 0..day.layout.columns.len() {
                if day.differs(sort, column, *target, *other) {
                    let pair = pair(day, column, *target, *other);
                    let tells_factor = sort != RowSort::Unallocated;
                    let example = || describe.row(sort, day.target, *target);
                    drift.add(column, namespace, describe.day.month(), pair, tells_factor, example);
                }
            }
        }
        for row in 0..day.target.len() {
            let sort = day.sort(day.target, row);
            let namespace = day.target.text(day.layout.namespace, row);
            for (column, comparison) in day.layout.comparison(sort).iter().enumerate() {
                let has_value = match comparison {
                    Comparison::No => false,
                    Comparison::Number => day.target.number(column, row) != NULL_NUMBER,
                    Comparison::Exact | Comparison::Presence => day.target.text(column, row) != NULL_TEXT,
                };
                if has_value {
                    drift.compared(column, namespace);
                }
            }
        }
        drift.merge_into(&mut self.drift, |namespace| describe.texts.text(namespace).map(str::to_owned));
    }

    /// For every node with an unallocated row: what its namespaces used and that row give the node's capacity.
    fn add_unbalanced(&mut self, day: &Day<'_>, describe: &Describe<'_>) {
        let (layout, rows) = (day.layout, day.target);
        let width = layout.adds_up.len();
        let mut used: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
        for row in 0..rows.len() {
            if day.sort(rows, row) == RowSort::Pod && day.marks.is_usage(layout, rows, row) {
                let sums = used.entry(rows.text(layout.node, row)).or_insert_with(|| vec![(0.0, 0.0); width]);
                for (sum, (measure, _)) in sums.iter_mut().zip(&layout.adds_up) {
                    if let Some(value) = finite(rows.number(*measure, row)) {
                        sum.0 += value;
                        sum.1 += value.abs();
                    }
                }
            }
        }
        for row in (0..rows.len()).filter(|row| day.sort(rows, *row) == RowSort::Unallocated) {
            let sums = used.get(&rows.text(layout.node, row));
            for (position, (measure, capacity)) in layout.adds_up.iter().enumerate() {
                let values = [*capacity, *measure].map(|column| finite(rows.number(column, row)));
                let [Some(capacity), Some(rest)] = values else { continue };
                let (used, size) = sums.map_or((0.0, 0.0), |sums| sums[position]);
                let tolerated = RELATIVE_TOLERANCE * (size + capacity.abs() + rest.abs()) + ABSOLUTE_TOLERANCE;
                if (capacity - used - rest).abs() > tolerated {
                    let name = layout.columns[*measure].name;
                    let node = describe.texts.text(rows.text(layout.node, row)).unwrap_or("null");
                    self.unbalanced.add(|| {
                        let total = used + rest;
                        format!("{} node {node}: {name} adds up to {total}, the capacity is {capacity}", describe.day)
                    });
                }
            }
        }
    }
}

/// Relative to the sum of absolute values, as the contract says for the books.
const RELATIVE_TOLERANCE: f64 = 1e-9;
/// For sums that are themselves rounding noise.
const ABSOLUTE_TOLERANCE: f64 = 1e-12;

fn finite(number: i128) -> Option<f64> {
    (number != NULL_NUMBER && number != NOT_A_NUMBER).then(|| double(number))
}

fn sums(layout: &Layout, rows: &Rows) -> Vec<Option<(i128, i128)>> {
    let add = |(sum, size): (i128, i128), number: i128| match number {
        NULL_NUMBER => Some((sum, size)),
        NOT_A_NUMBER => None,
        number => Some((sum.checked_add(number)?, size.checked_add(number.checked_abs()?)?)),
    };
    let sum = |column: usize| (0..rows.len()).try_fold((0, 0), |sums, row| add(sums, rows.number(column, row)));
    let is_decimal = |column: usize| layout.columns[column].target_type == TargetType::Decimal;
    (0..layout.columns.len()).map(|column| if is_decimal(column) { sum(column) } else { None }).collect()
}

fn pair(day: &Day<'_>, column: usize, target: usize, other: usize) -> Unequal {
    if day.layout.columns[column].target_type == TargetType::Decimal {
        return Unequal::Numbers(day.target.number(column, target), day.other.number(column, other));
    }
    let [target, other] = [day.target.text(column, target), day.other.text(column, other)];
    Unequal::Texts { target_is_null: target == NULL_TEXT, other_is_null: other == NULL_TEXT }
}

/// Turns a row into a line that names it by its keys.
struct Describe<'a> {
    layout: &'a Layout,
    texts: &'a Texts,
    day: UsageDay,
}

impl Describe<'_> {
    fn row(&self, sort: RowSort, rows: &Rows, row: usize) -> String {
        let mut text = format!("{} {}", self.day, sort.name());
        for column in self.layout.identity(sort) {
            let value = self.texts.text(rows.text(*column, row)).map_or_else(|| "null".to_owned(), shortened);
            text.push_str(&format!(" {}={value}", self.layout.columns[*column].name));
        }
        text
    }
}

/// At most so many characters of a text, on one line.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_TEXT).flat_map(char::escape_debug).collect();
    // JSON needs no second escape to be read.
    short = short.replace("\\\"", "\"");
    if text.chars().count() > LONGEST_TEXT {
        short.push('…');
    }
    short
}
