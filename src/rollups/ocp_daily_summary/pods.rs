//! Usage per (namespace, node, pod labels) → Pod rows: label and category joins, second grouping, unit conversion.
//!
//! Source: contract, section 3.5.

use hashbrown::HashMap;

use super::capacity::{Capacities, core_hours, gigabyte_hours};
use super::labels_join::{Categories, LabelJoin};
use super::rows::{FinishError, RowKind, SummaryRow};
use super::{POD_SUMS, PODS};
use crate::labels::LabelSetId;
use crate::rollups::arithmetic::Arithmetic;
use crate::rollups::sum::{CompensatedSum, greatest};
use crate::rollups::tables::{DayTables, NameId};
use crate::schema::source::RESOURCE_ID;
use crate::units::GIBIBYTES_PER_BYTE;

/// Usage of one output row while rows are still being added.
#[derive(Default)]
struct Usage {
    sums: [Option<CompensatedSum>; POD_SUMS],
    maxima: [Option<f64>; 2],
    resource_id: Option<NameId>,
    cost_category_id: Option<i32>,
}

/// What the Pod rows need besides the usage itself.
pub struct Joins<'a, 'b> {
    pub labels: &'b mut LabelJoin<'a>,
    pub categories: &'b mut Categories<'a>,
    pub capacities: &'b Capacities,
    pub arithmetic: Arithmetic,
    pub joins_multiply: bool,
}

/// One row per namespace, node and merged labels, in no particular order.
pub fn pod_rows(tables: &DayTables<'_>, joins: &mut Joins<'_, '_>) -> Result<Vec<SummaryRow>, FinishError> {
    let Some(table) = tables.grouped(PODS) else { return Ok(Vec::new()) };
    let resource_ids = tables.names(RESOURCE_ID.name);
    let mut index: HashMap<(NameId, NameId, LabelSetId), usize> = HashMap::with_capacity(table.len());
    let mut groups: Vec<((NameId, NameId, LabelSetId), Usage)> = Vec::with_capacity(table.len());
    for group in 0..table.len() {
        let keys = table.keys_of(group);
        let (namespace, node, pod_labels) = (NameId(keys[0]), NameId(keys[1]), LabelSetId(keys[2]));
        let category = joins.categories.of(namespace).map_err(|source| FinishError::pattern(tables, source))?;
        let times = if joins.joins_multiply { category.pattern_count.max(1) } else { 1 };
        for node_labels in joins.labels.node_sets(node) {
            for namespace_labels in joins.labels.namespace_sets(namespace) {
                let merged = joins.labels.merge(*node_labels, *namespace_labels, pod_labels, LabelSetId::EMPTY);
                let key = (namespace, node, merged);
                let position = *index.entry(key).or_insert_with(|| {
                    groups.push((key, Usage::default()));
                    groups.len() - 1
                });
                let usage = &mut groups[position].1;
                usage.cost_category_id = category.cost_category_id;
                add_sums(&mut usage.sums, table.sums_of(group), times);
                for (total, value) in usage.maxima.iter_mut().zip(table.maxima_of(group)) {
                    *total = max_of(*total, *value);
                }
                let resource_id = table.text_maxima_of(group)[0];
                let is_greater =
                    usage.resource_id.is_none_or(|known| resource_ids.text(resource_id) > resource_ids.text(known));
                if is_greater {
                    usage.resource_id = Some(resource_id);
                }
            }
        }
    }
    groups.into_iter().map(|(key, usage)| row(tables, joins, key, &usage)).collect()
}

/// Adds each non-null sum, as often as a join repeats it.
pub fn add_sums(totals: &mut [Option<CompensatedSum>], sums: &[Option<CompensatedSum>], times: u32) {
    for (total, sum) in totals.iter_mut().zip(sums) {
        if let Some(sum) = sum {
            total.get_or_insert_default().add_sum(sum.times(times));
        }
    }
}

/// The greater of two nullable numbers; nulls are skipped.
pub fn max_of(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(greatest(left, right)),
        (left, right) => left.or(right),
    }
}

fn row(
    tables: &DayTables<'_>,
    joins: &Joins<'_, '_>,
    (namespace, node, labels): (NameId, NameId, LabelSetId),
    usage: &Usage,
) -> Result<SummaryRow, FinishError> {
    let arithmetic = joins.arithmetic;
    let convert = || {
        let mut pod = [None; POD_SUMS];
        for (position, sum) in usage.sums.iter().enumerate() {
            let convert = if position < POD_SUMS / 2 { core_hours } else { gigabyte_hours };
            pod[position] = sum.map(|sum| convert(sum.value(), arithmetic)).transpose()?;
        }
        let memory_gigabytes = usage.maxima[1].map(|bytes| arithmetic.product(bytes, GIBIBYTES_PER_BYTE));
        Ok((pod, memory_gigabytes.transpose()?))
    };
    let (pod, node_capacity_memory_gigabytes) =
        convert().map_err(|source| FinishError::out_of_range(tables, namespace, node, source))?;
    let node_capacity = joins.capacities.node(node);
    let cluster = joins.capacities.cluster();
    Ok(SummaryRow {
        namespace,
        node,
        resource_id: usage.resource_id.unwrap_or(NameId::NULL),
        labels: Some(labels),
        cost_category_id: usage.cost_category_id,
        pod,
        node_capacity: [
            usage.maxima[0],
            node_capacity.cpu_core_hours,
            node_capacity_memory_gigabytes,
            node_capacity.memory_gigabyte_hours,
        ],
        cluster_capacity: [cluster.cpu_core_hours, cluster.memory_gigabyte_hours],
        ..SummaryRow::empty(RowKind::Pod)
    })
}
