//! The contract's facts about columns → positions in a row: which identify it, which are compared and how.

use super::rows::{NULL_TEXT, Rows, Texts};
use crate::rollups::ocp_daily_summary::{PLATFORM_UNALLOCATED, RESERVED, WORKER_UNALLOCATED};
use crate::schema::identity::{
    ADDS_UP, CLUSTER_ID, DATA_SOURCE, DATABASE_LOCAL, DAY, NAMESPACE, NODE, POD_LABELS, RowSort, SOURCE, STORAGE,
};
use crate::schema::target::{OCP_DAILY_SUMMARY, TargetColumn, TargetType};

/// The three sorts, in the order of their numbers here.
pub const SORTS: [RowSort; 3] = [RowSort::Pod, RowSort::Storage, RowSort::Unallocated];

/// How a column that does not identify its row is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Not here: it identifies the row, or must be the configured one in all rows of both sides, or the day that is read.
    No,
    /// Equal or both null.
    Exact,
    /// Both null or neither: a number that every database gives out by itself.
    Presence,
    /// Within the tolerance, or both null.
    Number,
}

/// Positions of columns, made once.
#[derive(Debug)]
pub struct Layout {
    /// The rollup's columns, in table order.
    pub columns: Vec<&'static TargetColumn>,
    /// Cluster.
    pub cluster: usize,
    /// Source.
    pub source: usize,
    /// `Pod` or `Storage`.
    pub data_source: usize,
    /// Namespace.
    pub namespace: usize,
    /// Node.
    pub node: usize,
    /// Labels of pods.
    pub pod_labels: usize,
    /// Measure and capacity that add up per node.
    pub adds_up: Vec<(usize, usize)>,
    identity: [Vec<usize>; 3],
    comparison: [Vec<Comparison>; 3],
}

impl Layout {
    /// Positions in the contract's table; `same_database` says whether numbers that a database gives out are comparable.
    pub fn new(same_database: bool) -> Self {
        let columns: Vec<&'static TargetColumn> = OCP_DAILY_SUMMARY.rollup_columns().collect();
        let at = |name: &str| {
            let position = columns.iter().position(|column| column.name == name);
            position.expect("the identity names columns of the table; its test says so")
        };
        let all_at = |names: &[&str]| names.iter().map(|name| at(name)).collect::<Vec<_>>();
        let compare = |sort: RowSort| {
            columns.iter().map(|column| comparison(column, sort.identity(), same_database)).collect::<Vec<_>>()
        };
        Self {
            cluster: at(CLUSTER_ID),
            source: at(SOURCE),
            data_source: at(DATA_SOURCE),
            namespace: at(NAMESPACE),
            node: at(NODE),
            pod_labels: at(POD_LABELS),
            adds_up: ADDS_UP.iter().map(|(measure, capacity)| (at(measure), at(capacity))).collect(),
            identity: SORTS.map(|sort| all_at(sort.identity())),
            comparison: SORTS.map(compare),
            columns,
        }
    }

    /// Columns that identify a row of a sort.
    pub fn identity(&self, sort: RowSort) -> &[usize] {
        &self.identity[sort as usize]
    }

    /// How each column of a row of a sort is compared.
    pub fn comparison(&self, sort: RowSort) -> &[Comparison] {
        &self.comparison[sort as usize]
    }

    /// Where the capacity stands that a measure's unallocated rows are differences of.
    pub fn capacity_of(&self, column: usize) -> Option<usize> {
        self.adds_up.iter().find(|(measure, _)| *measure == column).map(|(_, capacity)| *capacity)
    }
}

fn comparison(column: &TargetColumn, identity: &[&str], same_database: bool) -> Comparison {
    let is_fixed = [CLUSTER_ID, SOURCE, DAY].contains(&column.name);
    if is_fixed || identity.contains(&column.name) {
        Comparison::No
    } else if column.target_type == TargetType::Decimal {
        Comparison::Number
    } else if !same_database && DATABASE_LOCAL.contains(&column.name) {
        Comparison::Presence
    } else {
        Comparison::Exact
    }
}

/// The numbers of the texts that decide a row's sort, on one day.
#[derive(Debug, Clone)]
pub struct Marks {
    storage: u32,
    unallocated: [u32; 2],
    reserved: [u32; 4],
}

impl Marks {
    /// Looks the texts up once both sides are read. A text that no cell holds matches none.
    pub fn new(texts: &Texts) -> Self {
        // Null is no text, and no text has this number either.
        let number = |text: &str| texts.find(text).unwrap_or(NULL_TEXT - 1);
        Self {
            storage: number(STORAGE),
            unallocated: [PLATFORM_UNALLOCATED, WORKER_UNALLOCATED].map(number),
            reserved: RESERVED.map(number),
        }
    }

    /// The sort of a row. Unallocated rows have a fixed namespace or none, and no labels; measures must not decide, since
    /// they are what may be wrong.
    pub fn sort(&self, layout: &Layout, rows: &Rows, row: usize) -> RowSort {
        if rows.text(layout.data_source, row) == self.storage {
            return RowSort::Storage;
        }
        let namespace = rows.text(layout.namespace, row);
        let may_be = namespace == NULL_TEXT || self.unallocated.contains(&namespace);
        let has_labels = rows.text(layout.pod_labels, row) != NULL_TEXT;
        if may_be && !has_labels { RowSort::Unallocated } else { RowSort::Pod }
    }

    /// Whether a pod row counts as usage of its node.
    pub fn is_usage(&self, layout: &Layout, rows: &Rows, row: usize) -> bool {
        let namespace = rows.text(layout.namespace, row);
        namespace != NULL_TEXT && !self.reserved.contains(&namespace) && rows.text(layout.node, row) != NULL_TEXT
    }
}
