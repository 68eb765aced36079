//! Usage per (namespace, node, pod labels) → Pod rows: label and category joins, second grouping, unit conversion.
//!
//! Source: contract, section 3.5.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::capacity::{Capacities, core_hours, gigabyte_hours};
use super::labels_join::{Categories, LabelJoin};
use super::rows::{FinishError, RowKind, SummaryRow};
use super::{POD_SUMS, PODS};
use crate::labels::LabelSetId;
use crate::rollups::arithmetic::Arithmetic;
use crate::rollups::sum::{CompensatedSum, greatest};
use crate::rollups::tables::{DayTables, GroupedTable, NameId, NameTable};
use crate::schema::source::RESOURCE_ID;
use crate::units::GIBIBYTES_PER_BYTE;

/// An output row: nearly always it is one group of the table, and only then more is kept when it is not.
struct Output {
    namespace: NameId,
    node: NameId,
    labels: LabelSetId,
    group: usize,
    times: u32,
    cost_category_id: Option<i32>,
}

/// Usage of one output row.
struct Usage {
    sums: [Option<CompensatedSum>; POD_SUMS],
    maxima: [Option<f64>; 2],
    resource_id: NameId,
}

impl Usage {
    /// The usage of one group, as often as joins repeat it.
    fn of(table: &GroupedTable, group: usize, times: u32) -> Self {
        Self {
            sums: std::array::from_fn(|position| table.sum(group, position).map(|sum| sum.times(times))),
            maxima: std::array::from_fn(|position| table.maximum(group, position)),
            resource_id: table.text_maxima_of(group)[0],
        }
    }

    fn add(&mut self, table: &GroupedTable, group: usize, times: u32, resource_ids: &NameTable) {
        add_sums(&mut self.sums, table, group, times);
        for (position, total) in self.maxima.iter_mut().enumerate() {
            *total = max_of(*total, table.maximum(group, position));
        }
        let resource_id = table.text_maxima_of(group)[0];
        if resource_ids.text(resource_id) > resource_ids.text(self.resource_id) {
            self.resource_id = resource_id;
        }
    }
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
    let mut outputs: Vec<Output> = Vec::with_capacity(table.len());
    let mut merged_usage: HashMap<usize, Usage> = HashMap::new();
    for group in 0..table.len() {
        let keys = table.keys_of(group);
        let (namespace, node, pod_labels) = (NameId(keys[0]), NameId(keys[1]), LabelSetId(keys[2]));
        let category = joins.categories.of(namespace).map_err(|source| FinishError::pattern(tables, source))?;
        let times = if joins.joins_multiply { category.pattern_count.max(1) } else { 1 };
        let cost_category_id = category.cost_category_id;
        for node_labels in joins.labels.node_sets(node) {
            for namespace_labels in joins.labels.namespace_sets(namespace) {
                let labels = joins.labels.merge(*node_labels, *namespace_labels, pod_labels, LabelSetId::EMPTY);
                match index.entry((namespace, node, labels)) {
                    Entry::Vacant(entry) => {
                        entry.insert(outputs.len());
                        outputs.push(Output { namespace, node, labels, group, times, cost_category_id });
                    }
                    Entry::Occupied(entry) => {
                        let known = &outputs[*entry.get()];
                        let usage = merged_usage
                            .entry(*entry.get())
                            .or_insert_with(|| Usage::of(table, known.group, known.times));
                        usage.add(table, group, times, resource_ids);
                    }
                }
            }
        }
    }
    drop(index);
    let rows = outputs.iter().enumerate().map(|(position, output)| {
        let usage = merged_usage.remove(&position).unwrap_or_else(|| Usage::of(table, output.group, output.times));
        row(tables, joins, output, &usage)
    });
    rows.collect()
}

/// Adds each non-null sum, as often as a join repeats it.
pub fn add_sums(totals: &mut [Option<CompensatedSum>], table: &GroupedTable, group: usize, times: u32) {
    for (position, total) in totals.iter_mut().enumerate() {
        if let Some(sum) = table.sum(group, position) {
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
    output: &Output,
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
        convert().map_err(|source| FinishError::out_of_range(tables, output.namespace, output.node, source))?;
    let node_capacity = joins.capacities.node(output.node);
    let cluster = joins.capacities.cluster();
    Ok(SummaryRow {
        namespace: output.namespace,
        node: output.node,
        resource_id: usage.resource_id,
        labels: Some(output.labels),
        cost_category_id: output.cost_category_id,
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
