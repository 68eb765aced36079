//! A day's merged tables and the reference data → the day's rows, sorted: the order of the steps of the summary.

use hashbrown::HashMap;

use super::capacity::Capacities;
use super::labels_join::{Categories, LabelJoin};
use super::pods::{self, pod_rows};
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
use crate::rollups::tables::{DayTables, NameId, NameTable};
use crate::schema::source as report;
use crate::time::UsageDay;

/// What a row stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    /// Usage of pods.
    Pod,
    /// Capacity of a node that no pod used.
    Unallocated,
    /// A volume.
    Storage,
}

/// One row before it is turned into columns. Names are ids of the day's name tables; fields that a kind does not have are
/// null.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SummaryRow {
    /// What the row stands for.
    pub kind: RowKind,
    /// Namespace of pods and volumes.
    pub namespace: NameId,
    /// Namespace of unallocated rows, which is none of the report's.
    pub fixed_namespace: Option<&'static str>,
    /// Node.
    pub node: NameId,
    /// The node's id at its cloud.
    pub resource_id: NameId,
    /// Merged pod labels (Pod) or volume labels (Storage); `Some(NULL)` where the merge is null.
    pub labels: Option<LabelSetId>,
    /// Cost category.
    pub cost_category_id: Option<i32>,
    /// Usage, request, effective usage, limit: first core-hours, then GiB-hours.
    pub pod: [Option<f64>; POD_SUMS],
    /// Cores, core-hours, GiB, GiB-hours of the node.
    pub node_capacity: [Option<f64>; 4],
    /// Core-hours and GiB-hours of the cluster.
    pub cluster_capacity: [Option<f64>; 2],
    /// Claim.
    pub claim: NameId,
    /// Volume.
    pub volume: NameId,
    /// Storage class.
    pub storage_class: NameId,
    /// The volume's id at its driver: separates rows, is not written.
    pub csi_volume_handle: NameId,
    /// Capacity in GiB, capacity, request and usage in GiB-months.
    pub storage: [Option<f64>; 4],
}

impl SummaryRow {
    /// A row of a kind with everything null.
    pub fn empty(kind: RowKind) -> Self {
        Self {
            kind,
            namespace: NameId::NULL,
            fixed_namespace: None,
            node: NameId::NULL,
            resource_id: NameId::NULL,
            labels: None,
            cost_category_id: None,
            pod: [None; POD_SUMS],
            node_capacity: [None; 4],
            cluster_capacity: [None; 2],
            claim: NameId::NULL,
            volume: NameId::NULL,
            storage_class: NameId::NULL,
            csi_volume_handle: NameId::NULL,
            storage: [None; 4],
        }
    }
}

/// The finished rows of a day.
#[derive(Debug)]
pub struct Finish {
    /// Sorted: Pod and unallocated rows by namespace, node and labels, then Storage rows.
    pub rows: Vec<SummaryRow>,
    /// Canonical JSON of every label set that a row refers to.
    pub label_texts: HashMap<LabelSetId, String>,
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
    #[error("{day}: a measure of namespace `{namespace}` on node `{node}` cannot be converted")]
    OutOfRange {
        /// Day of the row.
        day: UsageDay,
        /// Namespace of the row.
        namespace: String,
        /// Node of the row.
        node: String,
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

fn at_node(node: Option<&str>) -> String {
    node.map_or_else(String::new, |node| format!(" of node `{node}`"))
}

impl FinishError {
    /// Names the row whose conversion failed.
    pub fn out_of_range(tables: &DayTables<'_>, namespace: NameId, node: NameId, source: ArithmeticError) -> Self {
        let text = |column: &str, id| tables.names(column).text(id).unwrap_or_default().to_owned();
        Self::OutOfRange {
            day: tables.day,
            namespace: text(report::NAMESPACE.name, namespace),
            node: text(report::NODE.name, node),
            source,
        }
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
        .map_err(|source| FinishError::out_of_range(tables, NameId::NULL, NameId::NULL, source))?;
    let mut labels = LabelJoin::new(tables.label_sets(NODE_LABELS), tables.label_sets(NAMESPACE_LABELS), tables.labels);
    let namespaces = tables.names(report::NAMESPACE.name);
    let mut categories = Categories::new(&reference.cost_categories, semantics.like_has_escape(), namespaces);

    let mut rows = pod_rows(
        tables,
        &mut pods::Joins {
            labels: &mut labels,
            categories: &mut categories,
            capacities: &capacities,
            arithmetic,
            joins_multiply: semantics.joins_multiply(),
        },
    )?;
    let unallocated = unallocated_rows(tables, &rows, &reference.node_roles, &categories, semantics.joins_multiply())?;
    rows.extend(unallocated);
    if semantics.conserves() {
        conservation::check_totals(tables, &rows)?;
        conservation::check_nodes(tables, &rows)?;
    }
    rows.extend(storage_rows(
        tables,
        &mut storage::Joins { labels: &mut labels, categories: &mut categories, semantics, arithmetic },
    )?);
    let label_texts = label_texts(tables, &rows);
    sort(tables, &mut rows, &label_texts);
    Ok(Finish { rows, label_texts })
}

fn label_texts(tables: &DayTables<'_>, rows: &[SummaryRow]) -> HashMap<LabelSetId, String> {
    let mut ids: Vec<LabelSetId> = rows.iter().filter_map(|row| row.labels).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter()
        .filter(|id| *id != LabelSetId::NULL)
        .map(|id| {
            let mut text = String::new();
            tables.labels.append_json(id, &mut text);
            (id, text)
        })
        .collect()
}

/// Sorts by text, not by id: ids depend on the order of arrival.
fn sort(tables: &DayTables<'_>, rows: &mut [SummaryRow], label_texts: &HashMap<LabelSetId, String>) {
    let ranks = |column: &report::Column| tables.names(column.name).ranks();
    let namespaces = NamespaceRanks::new(tables.names(report::NAMESPACE.name));
    let (nodes, resource_ids) = (ranks(&report::NODE), ranks(&report::RESOURCE_ID));
    let claims = ranks(&report::PERSISTENTVOLUMECLAIM);
    let volumes = ranks(&report::PERSISTENTVOLUME);
    let storage_classes = ranks(&report::STORAGECLASS);
    let handles = ranks(&report::CSI_VOLUME_HANDLE);
    let mut texts: Vec<(&str, LabelSetId)> = label_texts.iter().map(|(id, text)| (text.as_str(), *id)).collect();
    texts.sort_unstable();
    // Rank 0 is for rows without labels.
    let label_ranks: HashMap<LabelSetId, u32> = texts.iter().map(|(_, id)| *id).zip(1..).collect();
    let rank = |ranks: &[u32], id: NameId| ranks.get(id.0 as usize).copied().unwrap_or(u32::MAX);
    rows.sort_by_cached_key(|row| {
        (
            (row.kind == RowKind::Storage, namespaces.rank(row), rank(&nodes, row.node)),
            [
                rank(&claims, row.claim),
                rank(&volumes, row.volume),
                rank(&storage_classes, row.storage_class),
                rank(&handles, row.csi_volume_handle),
            ],
            row.kind,
            row.labels.and_then(|id| label_ranks.get(&id)).copied().unwrap_or(0),
            rank(&resource_ids, row.resource_id),
            row.cost_category_id,
        )
    });
}

/// Places of namespaces in byte order, the fixed ones of unallocated rows among them; null comes last.
struct NamespaceRanks<'a> {
    names: &'a NameTable,
    ranks: Vec<u32>,
}

impl<'a> NamespaceRanks<'a> {
    fn new(names: &'a NameTable) -> Self {
        Self { names, ranks: names.ranks() }
    }

    /// Names have odd ranks; a fixed name that is none of them has the even rank between its neighbours.
    fn rank(&self, row: &SummaryRow) -> u32 {
        let Some(fixed) = row.fixed_namespace else {
            let is_null = row.kind == RowKind::Unallocated || row.namespace == NameId::NULL;
            let rank = self.ranks.get(row.namespace.0 as usize).filter(|_| !is_null);
            return rank.map_or(u32::MAX, |rank| 2 * rank + 1);
        };
        let ids = (0..u32::try_from(self.names.len()).unwrap_or(u32::MAX)).map(NameId);
        let names = || ids.clone().filter_map(|id| self.names.text(id));
        let less = u32::try_from(names().filter(|name| *name < fixed).count()).unwrap_or(u32::MAX);
        2 * less + u32::from(names().any(|name| name == fixed))
    }
}
