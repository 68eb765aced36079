//! A day's merged tables and the reference data → the day's rows, sorted: the order of the steps of the summary.

use super::capacity::Capacities;
use super::label_texts::LabelTexts;
use super::labels_join::{Categories, LabelJoin};
use super::pods::{self, PodRows, pod_rows};
use super::storage::{self, storage_rows};
use super::unallocated::unallocated_rows;
use super::{CAPACITIES, NAMESPACE_LABELS, NODE_LABELS, POD_SUMS, PODS, conservation};
use crate::error::ErrorKind;
use crate::impl_failure;
use crate::labels::LabelSetId;
use crate::rollups::arithmetic::{Arithmetic, ArithmeticError};
use crate::rollups::facts::ReferenceData;
use crate::rollups::like::TrailingEscape;
use crate::rollups::semantics::Semantics;
use crate::rollups::tables::{DayTables, NameId};
use crate::schema::source as report;
use crate::time::UsageDay;

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// Usage of pods, or capacity of a node that none used.
    Pod,
    /// A volume.
    Storage,
}

/// A Pod or unallocated row before it is turned into columns. Names are ids of the day's name tables. Kept small: there are
/// as many as a day has groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsageRow {
    /// Usage, request, effective usage, limit: first core-hours, then GiB-hours.
    pub measures: [f64; POD_SUMS],
    /// One bit per measure; without it the measure is null.
    pub measured: u8,
    /// Whether this is capacity that no pod used.
    pub is_unallocated: bool,
    /// Namespace, or one of the fixed ones of unallocated rows (see `Namespaces`).
    pub namespace: NameId,
    /// Node.
    pub node: NameId,
    /// The node's id at its cloud.
    pub resource_id: NameId,
    /// Merged pod labels; `NULL` where the merge is null, `EMPTY` on unallocated rows.
    pub labels: LabelSetId,
    /// Position among the day's capacities.
    pub capacity: u32,
    /// Cost category.
    pub cost_category_id: Option<i32>,
}

impl UsageRow {
    /// A measure; null if its bit is not set.
    #[inline]
    pub fn measure(&self, position: usize) -> Option<f64> {
        (self.measured & (1 << position) != 0).then(|| self.measures[position])
    }
}

/// Cores, core-hours, GiB, GiB-hours of a node, core-hours and GiB-hours of the cluster: hardly more than one per node.
pub type CapacityRow = [Option<f64>; 6];

/// A Storage row before it is turned into columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VolumeRow {
    /// Namespace.
    pub namespace: NameId,
    /// Node.
    pub node: NameId,
    /// The node's id at its cloud.
    pub resource_id: NameId,
    /// Claim.
    pub claim: NameId,
    /// Volume.
    pub volume: NameId,
    /// Storage class.
    pub storage_class: NameId,
    /// The volume's id at its driver: separates rows, is not written.
    pub csi_volume_handle: NameId,
    /// Merged volume labels; `NULL` where the merge is null.
    pub labels: LabelSetId,
    /// Cost category.
    pub cost_category_id: Option<i32>,
    /// Capacity in GiB, capacity, request and usage in GiB-months.
    pub measures: [Option<f64>; 4],
}

/// The finished rows of a day: Pod and unallocated rows by namespace, node and labels, then Storage rows. Holds nothing of the
/// day's state, so that this can be freed.
#[derive(Debug)]
pub struct Finish {
    /// Pod and unallocated rows, in no particular order.
    pub usage: Vec<UsageRow>,
    /// Positions in `usage`, sorted.
    pub usage_order: Vec<u32>,
    /// What the rows' `capacity` points to.
    pub capacities: Vec<CapacityRow>,
    /// Storage rows, sorted.
    pub volumes: Vec<VolumeRow>,
    /// Canonical JSON of every label set that a row refers to.
    pub label_texts: LabelTexts,
}

impl Finish {
    /// Memory of the rows.
    pub fn held_bytes(&self) -> usize {
        self.usage.capacity() * size_of::<UsageRow>()
            + self.usage_order.capacity() * size_of::<u32>()
            + self.volumes.capacity() * size_of::<VolumeRow>()
            + self.label_texts.held_bytes()
    }
}

/// Why a day cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// A shared volume whose pods all lack a node.
    #[error(
        "{day}: division by zero: persistent volume `{volume}` is mounted by pods of the pod report, none of which has a node"
    )]
    DivisionByZero {
        /// Day of the row.
        day: UsageDay,
        /// Name of the volume.
        volume: String,
    },
    /// Underflow or overflow where the semantics refuse it.
    #[error("{day}: a measure of {place} cannot be converted")]
    OutOfRange {
        /// Day of the row.
        day: UsageDay,
        /// Namespace and node of the row.
        place: String,
        /// Which way.
        #[source]
        source: ArithmeticError,
    },
    /// A pattern that the semantics refuse.
    #[error("{day}: a cost category pattern cannot be used")]
    Pattern {
        /// Day that was being finished.
        day: UsageDay,
        /// What is wrong with it.
        #[source]
        source: TrailingEscape,
    },
    /// Totals differ.
    #[error("{day}: {measure}{} is not conserved: expected {expected:e}, found {found:e}", at_node(.node.as_deref()))]
    NotConserved {
        /// Day of the rows.
        day: UsageDay,
        /// Column of the target.
        measure: &'static str,
        /// Node, if the law is about one.
        node: Option<String>,
        /// Input total or capacity.
        expected: f64,
        /// Output total.
        found: f64,
    },
}

/// Whose number it is; what has neither a namespace nor a node is the cluster's.
pub fn place(namespace: &str, node: &str) -> String {
    match (namespace, node) {
        ("", "") => "the cluster".to_owned(),
        ("", node) => format!("node `{node}`"),
        (namespace, "") => format!("namespace `{namespace}`"),
        (namespace, node) => format!("namespace `{namespace}` on node `{node}`"),
    }
}

fn at_node(node: Option<&str>) -> String {
    node.map_or_else(String::new, |node| format!(" of node `{node}`"))
}

impl FinishError {
    /// Names the row whose conversion failed.
    pub fn out_of_range(tables: &DayTables<'_>, namespace: NameId, node: NameId, source: ArithmeticError) -> Self {
        let text = |column: &str, id| tables.names(column).text(id).unwrap_or_default();
        let place = place(text(report::NAMESPACE.name, namespace), text(report::NODE.name, node));
        Self::OutOfRange { day: tables.day, place, source }
    }

    /// Names the day whose namespaces met the pattern.
    pub fn pattern(tables: &DayTables<'_>, source: TrailingEscape) -> Self {
        Self::Pattern { day: tables.day, source }
    }

    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DivisionByZero { .. } | Self::OutOfRange { .. } => ErrorKind::ValueUnusable,
            Self::Pattern { .. } => ErrorKind::Config,
            Self::NotConserved { .. } => ErrorKind::NotConserved,
        }
    }
}

impl_failure!(FinishError);

/// Turns a day's tables into its rows.
/// Shape: one row per Pod, unallocated and Storage group; sorted, the same for any order of input.
/// Units: hours, GiB, GiB-hours and GiB-months, as double precision; rounding to decimals comes later.
/// Errors: see `FinishError`; nothing of the day is used then.
pub fn finish(tables: &DayTables<'_>, reference: &ReferenceData, semantics: Semantics) -> Result<Finish, FinishError> {
    let arithmetic = Arithmetic { range_is_checked: semantics.underflow_is_error() };
    let hourly = tables.capacity(CAPACITIES).or_else(|| tables.capacity(PODS));
    let capacities = Capacities::new(hourly, semantics.missing_capacity_is_zero(), arithmetic)
        .map_err(|(node, source)| FinishError::out_of_range(tables, NameId::NULL, node, source))?;
    let mut labels = LabelJoin::new(tables.label_sets(NODE_LABELS), tables.label_sets(NAMESPACE_LABELS), tables.labels);
    let namespaces = tables.names(report::NAMESPACE.name);
    let mut categories = Categories::new(&reference.cost_categories, semantics.like_has_escape(), namespaces);

    let mut pods = pod_rows(
        tables,
        &mut pods::Joins {
            labels: &mut labels,
            categories: &mut categories,
            capacities: &capacities,
            arithmetic,
            joins_multiply: semantics.joins_multiply(),
        },
    )?;
    let unallocated =
        unallocated_rows(tables, &mut pods, &reference.node_roles, &categories, semantics.joins_multiply())?;
    if semantics.conserves() {
        conservation::check(tables, &pods, &unallocated)?;
    }
    pods.insert(tables, unallocated);
    let volumes = storage_rows(
        tables,
        &mut storage::Joins { labels: &mut labels, categories: &mut categories, semantics, arithmetic },
    )?;
    let PodRows { rows: usage, order: usage_order, capacities } = pods;
    assert_eq!(usage.len(), usage_order.len(), "every row has its place in the order");
    let sets = usage.iter().map(|row| row.labels).chain(volumes.iter().map(|row| row.labels));
    let label_texts = LabelTexts::new(tables.labels, sets);
    Ok(Finish { usage, usage_order, capacities, volumes, label_texts })
}
