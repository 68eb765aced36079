//! Pod rows of a day → one row per node for the capacity that no pod used.
//!
//! Source: contract, section 3.7; table of behaviours, rows 6 and 12.

use hashbrown::HashMap;

use super::POD_SUMS;
use super::labels_join::Categories;
use super::namespaces::Namespaces;
use super::pods::{CAPACITY_HOURS, PodRows, max_of};
use super::rows::{CapacityRow, FinishError, UsageRow};
use crate::labels::LabelSetId;
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

/// Sums and maxima of a node's rows.
#[derive(Default, Clone)]
struct Node {
    sums: [CompensatedSum; POD_SUMS],
    /// One bit per sum.
    measured: u8,
    capacity: CapacityRow,
    resource_id: Option<NameId>,
    role: Option<String>,
    last_capacity: Option<u32>,
    last_resource_id: Option<NameId>,
}

/// Which namespaces' rows count as usage of their node.
pub struct UsageNamespaces {
    /// By id.
    is_usage: Vec<bool>,
}

impl UsageNamespaces {
    pub fn new(tables: &DayTables<'_>) -> Self {
        let names = tables.names(NAMESPACE.name);
        let ids = (0..u32::try_from(names.len()).unwrap_or(u32::MAX)).map(NameId);
        Self { is_usage: ids.map(|id| names.text(id).is_some_and(|name| !RESERVED.contains(&name))).collect() }
    }

    #[inline]
    pub fn contains(&self, namespace: NameId) -> bool {
        self.is_usage.get(namespace.0 as usize).copied().unwrap_or(false)
    }
}

/// The unallocated rows for the given Pod rows, in no particular order; their capacities are added to those of the Pod rows.
pub fn unallocated_rows(
    tables: &DayTables<'_>,
    pods: &mut PodRows,
    roles: &[NodeRole],
    categories: &Categories<'_>,
    joins_multiply: bool,
) -> Result<Vec<UsageRow>, FinishError> {
    let nodes = nodes(tables, pods, &RoleIndex::new(roles));
    let mut rows = Vec::with_capacity(nodes.len());
    for (id, node) in (0_u32..).zip(&nodes) {
        let Some(node) = node else { continue };
        let capacity = u32::try_from(pods.capacities.len()).expect("rows are numbered in 32 bits");
        pods.capacities.push(node.capacity);
        let of_node = rows_of(tables, (NameId(id), node), capacity, categories, joins_multiply);
        rows.extend(of_node.map_err(|source| FinishError::pattern(tables, source))?);
    }
    Ok(rows)
}

/// The nodes with usage, by id.
fn nodes(tables: &DayTables<'_>, pods: &PodRows, roles: &RoleIndex<'_>) -> Vec<Option<Node>> {
    let node_names = tables.names(NODE.name);
    let resource_ids = tables.names(RESOURCE_ID.name);
    let is_usage = UsageNamespaces::new(tables);
    let mut nodes: Vec<Option<Node>> = vec![None; node_names.len()];
    let of_usage = pods.rows.iter().filter(|row| row.node != NameId::NULL && is_usage.contains(row.namespace));
    for row in of_usage {
        let node = nodes[row.node.0 as usize].get_or_insert_default();
        for position in 0..POD_SUMS {
            if let Some(value) = row.measure(position) {
                node.measured |= 1 << position;
                node.sums[position].add(value);
            }
        }
        // All rows of a node mostly have the same capacity and the same id.
        if node.last_capacity != Some(row.capacity) {
            node.last_capacity = Some(row.capacity);
            for (total, value) in node.capacity.iter_mut().zip(pods.capacities[row.capacity as usize]) {
                *total = max_of(*total, value);
            }
        }
        if node.last_resource_id != Some(row.resource_id) {
            node.last_resource_id = Some(row.resource_id);
            let resource_id = resource_ids.text(row.resource_id);
            if node.resource_id.is_none_or(|known| resource_id > resource_ids.text(known)) {
                node.resource_id = Some(row.resource_id);
            }
            let role = roles.role(node_names.text(row.node), resource_id);
            if role > node.role.as_deref() {
                node.role = role.map(str::to_owned);
            }
        }
    }
    nodes
}

fn rows_of(
    tables: &DayTables<'_>,
    (id, node): (NameId, &Node),
    capacity: u32,
    categories: &Categories<'_>,
    joins_multiply: bool,
) -> Result<Vec<UsageRow>, TrailingEscape> {
    let namespace = match node.role.as_deref() {
        Some("master" | "infra") => Some(PLATFORM_UNALLOCATED),
        Some("worker") => Some(WORKER_UNALLOCATED),
        _ => None,
    };
    let (mut measures, mut measured) = ([0.0; POD_SUMS], 0);
    for (position, rest) in measures.iter_mut().enumerate() {
        let of_node = node.capacity[CAPACITY_HOURS[position / (POD_SUMS / 2)]];
        let is_limit = position % (POD_SUMS / 2) == POD_SUMS / 2 - 1;
        let is_measured = node.measured & (1 << position) != 0;
        if let Some(of_node) = of_node.filter(|_| is_measured && !is_limit) {
            *rest = of_node - node.sums[position].value();
            measured |= 1 << position;
        }
    }
    let names = Namespaces::new(tables.names(NAMESPACE.name));
    let row = |cost_category_id| UsageRow {
        measures,
        measured,
        is_unallocated: true,
        namespace: namespace.map_or(NameId::NULL, |namespace| names.fixed(namespace)),
        node: id,
        resource_id: node.resource_id.unwrap_or(NameId::NULL),
        labels: LabelSetId::EMPTY,
        capacity,
        cost_category_id,
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
