//! The vocabulary of a rollup: which columns of which report feed which kernel. The scan engine knows these words and no
//! column by name.

use crate::schema::source::{Column, INTERVAL_START, SourceTable};

/// One pass over the objects of one report; every kernel sees every row of a day.
#[derive(Debug)]
pub struct Scan {
    /// Name for messages and for other kernels to refer to.
    pub name: &'static str,
    /// What is read.
    pub table: SourceTable,
    /// What is computed from it.
    pub kernels: Vec<Kernel>,
}

/// One computation over the rows of a scan.
#[derive(Debug)]
pub enum Kernel {
    /// Sums and maxima per distinct key.
    Grouped(Grouped),
    /// Maximum per (interval, key), then summed over the intervals of the day.
    Capacity(Capacity),
    /// Distinct tuples of the rows whose pod mounts a volume.
    Members(Members),
    /// Label sets per key.
    LabelSets(LabelSets),
}

/// Grouped sums and maxima.
/// Nulls: skipped by sums and maxima; a sum or maximum over nulls only is null. Null keys form a group of their own.
#[derive(Debug)]
pub struct Grouped {
    /// Group key; `Text` columns group by text, `Labels` columns by filtered label set.
    pub keys: Vec<Key>,
    /// Rows where this key is null or empty are left out (their labels are still looked at).
    pub only_named: Option<&'static Column>,
    /// Summed measures.
    pub sums: Vec<Measure>,
    /// Maxima; NaN is the greatest value.
    pub maxima: Vec<&'static Column>,
    /// Maxima of text in byte order.
    pub text_maxima: Vec<&'static Column>,
}

/// One part of a group key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key {
    /// The text, or the filtered label set, of a column.
    Value(&'static Column),
    /// Whether a text column equals a constant: 1 or 0.
    Equals(&'static Column, &'static str),
    /// Whether a label column holds this entry: in text, the exact substring `"key": "value"` with the blank of the stored
    /// JSON; in a map, the entry itself. 1 or 0.
    HasEntry(&'static Column, &'static str, &'static str),
}

impl Key {
    /// The column that is read.
    pub fn column(self) -> &'static Column {
        match self {
            Key::Value(column) | Key::Equals(column, _) | Key::HasEntry(column, _, _) => column,
        }
    }
}

/// A number to sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// The column itself.
    Column(&'static Column),
    /// The column; where it is null, the greater of two others.
    OrGreatest {
        /// Taken if not null.
        column: &'static Column,
        /// First of the two others.
        left: &'static Column,
        /// Second of the two others.
        right: &'static Column,
        /// Whether one null among the two others makes the result null, or the other one is taken.
        null_if_any: bool,
    },
}

/// Two-level capacity: per key and distinct `interval_start` the maximum, summed over the intervals of the day.
#[derive(Debug)]
pub struct Capacity {
    /// The key, usually the node; null is a key of its own.
    pub key: &'static Column,
    /// Measures.
    pub measures: Vec<&'static Column>,
}

/// Semi-join: of the rows whose `pair` occurs in the grouped result of another scan of the same day, the distinct
/// (pair, node, attribute).
#[derive(Debug)]
pub struct Members {
    /// Name of the scan whose first kernel is `Grouped` with both columns of `pair` among its keys; it must be complete
    /// before this one starts.
    pub of_scan: &'static str,
    /// The two columns that must match; null never matches.
    pub pair: [&'static Column; 2],
    /// The third column of the result.
    pub place: &'static Column,
    /// The fourth column of the result.
    pub attribute: &'static Column,
    /// Whether only the greatest attribute of (pair, place) is kept.
    pub greatest_attribute: bool,
}

/// Label sets per key and day.
#[derive(Debug)]
pub struct LabelSets {
    /// The key; null never joins and is left out (its labels are still looked at).
    pub key: &'static Column,
    /// The labels.
    pub labels: &'static Column,
    /// Which sets are kept.
    pub keep: KeepSets,
}

/// Which label sets of a key are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepSets {
    /// All distinct ones.
    All,
    /// The one of the greatest `interval_start`; ties by the greater UTF-8 bytes of the canonical JSON.
    Latest,
}

impl Scan {
    /// The columns that the scan reads, each once; the first is `interval_start`.
    pub fn columns(&self) -> Vec<&'static Column> {
        let mut columns = vec![&INTERVAL_START];
        for kernel in &self.kernels {
            for column in kernel.columns() {
                if !columns.iter().any(|known| known.name == column.name) {
                    columns.push(column);
                }
            }
        }
        columns
    }

    /// The scan that must be complete for a day before this one may see its rows.
    pub fn after(&self) -> Option<&'static str> {
        self.kernels.iter().find_map(|kernel| match kernel {
            Kernel::Members(members) => Some(members.of_scan),
            _ => None,
        })
    }
}

impl Kernel {
    fn columns(&self) -> Vec<&'static Column> {
        match self {
            Kernel::Grouped(grouped) => grouped.columns(),
            Kernel::Capacity(capacity) => {
                let mut columns = vec![capacity.key];
                columns.extend(&capacity.measures);
                columns
            }
            Kernel::Members(members) => {
                vec![members.pair[0], members.pair[1], members.place, members.attribute]
            }
            Kernel::LabelSets(sets) => vec![sets.key, sets.labels],
        }
    }
}

impl Grouped {
    fn columns(&self) -> Vec<&'static Column> {
        let mut columns: Vec<&'static Column> = self.keys.iter().map(|key| key.column()).collect();
        columns.extend(self.only_named);
        for measure in &self.sums {
            match measure {
                Measure::Column(column) => columns.push(column),
                Measure::OrGreatest { column, left, right, .. } => columns.extend([*column, *left, *right]),
            }
        }
        columns.extend(&self.maxima);
        columns.extend(&self.text_maxima);
        columns
    }
}

/// Leaves out scans of tables without any object, and what would only look things up in them: their columns need not be
/// read then. The result is the same.
pub fn without_empty_tables(scans: Vec<Scan>, has_objects: impl Fn(SourceTable) -> bool) -> Vec<Scan> {
    let mut kept: Vec<Scan> = scans.into_iter().filter(|scan| has_objects(scan.table)).collect();
    let names: Vec<&'static str> = kept.iter().map(|scan| scan.name).collect();
    for scan in &mut kept {
        scan.kernels.retain(|kernel| match kernel {
            Kernel::Members(members) => names.contains(&members.of_scan),
            _ => true,
        });
    }
    kept
}
