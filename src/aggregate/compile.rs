//! A scan's declaration → positions: which columns become ids, which stay numbers, and where each kernel finds them.

use crate::rollups::declaration::{Capacity, Grouped, KeepSets, Kernel, Key, LabelSets, Measure, Members, Scan};
use crate::schema::source::{Column, ColumnType};

/// How the values of a column become ids.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IdSource {
    /// Names of the day, added as they appear.
    Names,
    /// Names of the day, only looked up: what another scan has not seen cannot match.
    KnownNames,
    /// Filtered label sets of the day.
    Labels,
    /// 1 where the text equals a constant.
    Equals(&'static str),
    /// 1 where the labels hold an entry.
    HasEntry(&'static str, &'static str),
}

/// A column whose values become ids.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdColumn {
    /// Position among the scan's columns.
    pub column: usize,
    /// Name of the column: names of the same column share their ids across scans.
    pub name: &'static str,
    /// How values become ids.
    pub source: IdSource,
}

/// A summed measure by positions among the scan's columns.
#[derive(Debug, Clone, Copy)]
pub enum CompiledMeasure {
    /// The column itself.
    Column(usize),
    /// See `Measure::OrGreatest`.
    OrGreatest {
        /// Taken if not null.
        column: usize,
        /// First of the two others.
        left: usize,
        /// Second of the two others.
        right: usize,
        /// Whether one null among the two others makes the result null.
        null_if_any: bool,
    },
}

/// A kernel by positions; keys, places, attributes and labels are positions among `CompiledScan::ids`, measures and maxima
/// among the scan's columns.
#[derive(Debug)]
pub enum CompiledKernel {
    /// See `Grouped`.
    Grouped {
        /// Group key.
        keys: Vec<usize>,
        /// Rows where this id is null or empty are left out.
        only_named: Option<usize>,
        /// Summed measures.
        sums: Vec<CompiledMeasure>,
        /// Maxima.
        maxima: Vec<usize>,
        /// Maxima of text, as ids.
        text_maxima: Vec<usize>,
    },
    /// See `Capacity`.
    Capacity {
        /// Key.
        key: usize,
        /// Measures.
        measures: Vec<usize>,
    },
    /// See `Members`.
    Members {
        /// The pair that must match.
        pair: [usize; 2],
        /// Third part of the result.
        place: usize,
        /// Fourth part of the result.
        attribute: usize,
        /// Whether only the greatest attribute is kept.
        greatest_attribute: bool,
    },
    /// See `LabelSets`.
    LabelSets {
        /// Key.
        key: usize,
        /// Label sets.
        labels: usize,
        /// Which sets are kept.
        keep: KeepSets,
    },
}

impl CompiledKernel {
    /// Positions of the columns whose numbers it adds up or compares.
    pub(super) fn number_columns(&self) -> Vec<usize> {
        match self {
            Self::Grouped { sums, maxima, .. } => {
                let of_sum = |measure: &CompiledMeasure| match *measure {
                    CompiledMeasure::Column(column) => vec![column],
                    CompiledMeasure::OrGreatest { column, left, right, .. } => vec![column, left, right],
                };
                sums.iter().flat_map(of_sum).chain(maxima.iter().copied()).collect()
            }
            Self::Capacity { measures, .. } => measures.clone(),
            Self::Members { .. } | Self::LabelSets { .. } => Vec::new(),
        }
    }
}

/// A scan ready to run.
#[derive(Debug)]
pub struct CompiledScan {
    /// Name of the scan.
    pub name: &'static str,
    /// Columns that are read, `interval_start` first.
    pub columns: Vec<&'static Column>,
    /// Columns whose values become ids, each with one source.
    pub ids: Vec<IdColumn>,
    /// Kernels in the order of the declaration.
    pub kernels: Vec<CompiledKernel>,
    /// Scan that must be complete for a day first.
    pub after: Option<&'static str>,
}

impl CompiledScan {
    /// Compiles a declaration.
    pub fn new(scan: &Scan) -> Self {
        let mut compiled = Self {
            name: scan.name,
            columns: scan.columns(),
            ids: Vec::new(),
            kernels: Vec::new(),
            after: scan.after(),
        };
        for kernel in &scan.kernels {
            let kernel = match kernel {
                Kernel::Grouped(grouped) => compiled.grouped(grouped),
                Kernel::Capacity(capacity) => compiled.capacity(capacity),
                Kernel::Members(members) => compiled.members(members),
                Kernel::LabelSets(sets) => compiled.label_sets(sets),
            };
            compiled.kernels.push(kernel);
        }
        compiled
    }

    fn grouped(&mut self, grouped: &Grouped) -> CompiledKernel {
        CompiledKernel::Grouped {
            keys: grouped.keys.iter().map(|key| self.key(*key)).collect(),
            only_named: grouped.only_named.map(|column| self.id(column, IdSource::Names)),
            sums: grouped.sums.iter().map(|measure| self.measure(*measure)).collect(),
            maxima: grouped.maxima.iter().map(|column| self.position(column)).collect(),
            text_maxima: grouped.text_maxima.iter().map(|column| self.id(column, IdSource::Names)).collect(),
        }
    }

    fn capacity(&mut self, capacity: &Capacity) -> CompiledKernel {
        CompiledKernel::Capacity {
            key: self.id(capacity.key, IdSource::Names),
            measures: capacity.measures.iter().map(|column| self.position(column)).collect(),
        }
    }

    fn members(&mut self, members: &Members) -> CompiledKernel {
        CompiledKernel::Members {
            pair: members.pair.map(|column| self.id(column, IdSource::KnownNames)),
            place: self.id(members.place, IdSource::Names),
            attribute: self.id(members.attribute, IdSource::Names),
            greatest_attribute: members.greatest_attribute,
        }
    }

    fn label_sets(&mut self, sets: &LabelSets) -> CompiledKernel {
        CompiledKernel::LabelSets {
            key: self.id(sets.key, IdSource::Names),
            labels: self.id(sets.labels, IdSource::Labels),
            keep: sets.keep,
        }
    }

    fn measure(&self, measure: Measure) -> CompiledMeasure {
        match measure {
            Measure::Column(column) => CompiledMeasure::Column(self.position(column)),
            Measure::OrGreatest { column, left, right, null_if_any } => CompiledMeasure::OrGreatest {
                column: self.position(column),
                left: self.position(left),
                right: self.position(right),
                null_if_any,
            },
        }
    }

    fn key(&mut self, key: Key) -> usize {
        match key {
            Key::Value(column) if column.column_type == ColumnType::Labels => self.id(column, IdSource::Labels),
            Key::Value(column) => self.id(column, IdSource::Names),
            Key::Equals(column, constant) => self.id(column, IdSource::Equals(constant)),
            Key::HasEntry(column, key, value) => self.id(column, IdSource::HasEntry(key, value)),
        }
    }

    /// Position of the id column, added if it is new. A column whose names are added anyway is not looked up again.
    fn id(&mut self, column: &Column, source: IdSource) -> usize {
        let wanted = IdColumn { column: self.position(column), name: column.name, source };
        let serves = |known: &IdColumn| {
            known.column == wanted.column
                && (known.source == source || (source == IdSource::KnownNames && known.source == IdSource::Names))
        };
        self.ids.iter().position(serves).unwrap_or_else(|| {
            self.ids.push(wanted);
            self.ids.len() - 1
        })
    }

    fn position(&self, column: &Column) -> usize {
        self.columns.iter().position(|known| known.name == column.name).expect("a scan lists its kernels' columns")
    }
}
