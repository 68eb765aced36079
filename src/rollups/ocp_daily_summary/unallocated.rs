//! Pod rows of a day → one row per node for the capacity that no pod used.
//!
//! Source: contract, section 3.7; table of behaviours, rows 6 and 12.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::POD_SUMS;
use super::labels_join::Categories;
use super::pods::max_of;
use super::rows::{FinishError, RowKind, SummaryRow};
use crate::rollups::facts::NodeRole;
use crate::rollups::like::TrailingEscape;
use crate::rollups::sum::CompensatedSum;
use crate::rollups::tables::{DayTables, NameId};
use crate::schema::source::{NAMESPACE, NODE, RESOURCE_ID};

/// Namespace of the unallocated rows of worker nodes.
pub const WORKER_UNALLOCATED: &str = "Worker unallocated";
/// Namespace of the unallocated rows of master and infrastructure nodes.
pub const PLATFORM_UNALLOCATED: &str = "Platform unallocated";
/// Namespaces whose rows are no usage of a node.
pub const RESERVED: [&str; 4] =
    [PLATFORM_UNALLOCATED, WORKER_UNALLOCATED, "Network unattributed", "Storage unattributed"];

/// Sums of a node's rows.
#[derive(Default, Clone)]
struct Node {
    sums: [Option<CompensatedSum>; POD_SUMS],
    node_capacity: [Option<f64>; 4],
    cluster_capacity: [Option<f64>; 2],
    resource_id: Option<NameId>,
    role: Option<String>,
}

/// Whether a Pod row counts as usage of its node.
pub fn is_usage(tables: &DayTables<'_>, row: &SummaryRow) -> bool {
    let namespace = tables.names(NAMESPACE.name).text(row.namespace);
    row.kind == RowKind::Pod && namespace.is_some_and(|name| !RESERVED.contains(&name))
}

/// The unallocated rows for the given Pod rows, in no particular order.
pub fn unallocated_rows(
    tables: &DayTables<'_>,
    pods: &[SummaryRow],
    roles: &[NodeRole],
    categories: &Categories<'_>,
    joins_multiply: bool,
) -> Result<Vec<SummaryRow>, FinishError> {
    let roles = RoleIndex::new(roles);
    let node_names = tables.names(NODE.name);
    let resource_ids = tables.names(RESOURCE_ID.name);
    let mut nodes: BTreeMap<NameId, Node> = BTreeMap::new();
    for row in pods.iter().filter(|row| row.node != NameId::NULL && is_usage(tables, row)) {
        let node = nodes.entry(row.node).or_default();
        for (total, value) in node.sums.iter_mut().zip(row.pod) {
            if let Some(value) = value {
                total.get_or_insert_default().add(value);
            }
        }
        for (total, value) in node.node_capacity.iter_mut().zip(row.node_capacity) {
            *total = max_of(*total, value);
        }
        for (total, value) in node.cluster_capacity.iter_mut().zip(row.cluster_capacity) {
            *total = max_of(*total, value);
        }
        let resource_id = resource_ids.text(row.resource_id);
        if node.resource_id.is_none_or(|known| resource_id > resource_ids.text(known)) {
            node.resource_id = Some(row.resource_id);
        }
        let role = roles.role(node_names.text(row.node), resource_id);
        if role > node.role.as_deref() {
            node.role = role.map(str::to_owned);
        }
    }
    let mut rows = Vec::with_capacity(nodes.len());
    for (node, sums) in &nodes {
        let of_node = rows_of(*node, sums, categories, joins_multiply);
        rows.extend(of_node.map_err(|source| FinishError::pattern(tables, source))?);
    }
    Ok(rows)
}

fn rows_of(
    node: NameId,
    sums: &Node,
    categories: &Categories<'_>,
    joins_multiply: bool,
) -> Result<Vec<SummaryRow>, TrailingEscape> {
    let namespace = match sums.role.as_deref() {
        Some("master" | "infra") => Some(PLATFORM_UNALLOCATED),
        Some("worker") => Some(WORKER_UNALLOCATED),
        _ => None,
    };
    let rest = |position: usize| {
        let capacity = if position < POD_SUMS / 2 { sums.node_capacity[1] } else { sums.node_capacity[3] };
        let is_limit = position % (POD_SUMS / 2) == POD_SUMS / 2 - 1;
        let used = if is_limit { None } else { sums.sums[position].map(CompensatedSum::value) };
        Some(capacity? - used?)
    };
    let row = |cost_category_id| SummaryRow {
        fixed_namespace: namespace,
        node,
        resource_id: sums.resource_id.unwrap_or(NameId::NULL),
        cost_category_id,
        pod: std::array::from_fn(rest),
        node_capacity: sums.node_capacity,
        cluster_capacity: sums.cluster_capacity,
        ..SummaryRow::empty(RowKind::Unallocated)
    };
    let matching = namespace.map(|namespace| categories.all_of(namespace)).transpose()?.unwrap_or_default();
    Ok(if joins_multiply && !matching.is_empty() {
        matching.into_iter().map(|id| row(Some(id))).collect()
    } else {
        vec![row(matching.into_iter().max())]
    })
}

/// Greatest role per (node, resource id).
struct RoleIndex<'a> {
    roles: HashMap<(&'a str, &'a str), &'a str>,
}

impl<'a> RoleIndex<'a> {
    fn new(all: &'a [NodeRole]) -> Self {
        let mut roles: HashMap<(&str, &str), &str> = HashMap::new();
        for entry in all {
            let (Some(resource_id), Some(role)) = (entry.resource_id.as_deref(), entry.role.as_deref()) else {
                continue;
            };
            let known = roles.entry((&entry.node, resource_id)).or_insert(role);
            *known = (*known).max(role);
        }
        Self { roles }
    }

    fn role(&self, node: Option<&str>, resource_id: Option<&str>) -> Option<&'a str> {
        self.roles.get(&(node?, resource_id?)).copied()
    }
}
