//! Usage per (namespace, node, pod labels) → Pod rows: label and category joins, second grouping, unit conversion.
//!
//! Rows are built in the order of the groups, so that the table is read from front to back; their order is a list of
//! positions beside them. Nothing is hashed per row: what the joins make equal is found among the neighbours in that order.
//!
//! Source: contract, section 3.5.

use std::cmp::Ordering;

use hashbrown::HashMap;

use super::capacity::{Capacities, core_hours, gigabyte_hours};
use super::labels_join::{Categories, LabelJoin};
use super::namespaces::Namespaces;
use super::order::sort_by_rank;
use super::rows::{CapacityRow, FinishError, UsageRow};
use super::{POD_SUMS, PODS};
use crate::labels::LabelSetId;
use crate::rollups::arithmetic::{Arithmetic, ArithmeticError};
use crate::rollups::sum::{CompensatedSum, greatest};
use crate::rollups::tables::{DayTables, GroupedTable, NameId, NameTable};
use crate::schema::source::{NAMESPACE, NODE, RESOURCE_ID};
use crate::units::GIBIBYTES_PER_BYTE;

/// Positions of a node's core-hours and GiB-hours in a `CapacityRow`.
pub const CAPACITY_HOURS: [usize; 2] = [1, 3];

/// What the Pod rows need besides the usage itself.
pub struct Joins<'a, 'b> {
    pub labels: &'b mut LabelJoin<'a>,
    pub categories: &'b mut Categories<'a>,
    pub capacities: &'b Capacities,
    pub arithmetic: Arithmetic,
    pub joins_multiply: bool,
}

/// The Pod rows of a day.
#[derive(Debug, Default)]
pub struct PodRows {
    /// In no particular order.
    pub rows: Vec<UsageRow>,
    /// Positions in `rows`, sorted by namespace, node and labels.
    pub order: Vec<u32>,
    /// What the rows' `capacity` points to.
    pub capacities: Vec<CapacityRow>,
}

/// One row per namespace, node and merged labels.
pub fn pod_rows(tables: &DayTables<'_>, joins: &mut Joins<'_, '_>) -> Result<PodRows, FinishError> {
    let Some(table) = tables.grouped(PODS) else { return Ok(PodRows::default()) };
    let mut joined = join(tables, table, joins)?;
    let mut order = sort(tables, &joined);
    let repeated = take_repeated(&mut joined, &mut order);
    let rows = rows(tables, table, joins, &joined, &repeated)?;
    Ok(PodRows { order, ..rows })
}

/// What one group becomes under one combination of node and namespace labels.
#[derive(Debug, Clone, Copy)]
struct Joined {
    namespace: NameId,
    node: NameId,
    labels: LabelSetId,
    group: u32,
}

fn join(tables: &DayTables<'_>, table: &GroupedTable, joins: &mut Joins<'_, '_>) -> Result<Vec<Joined>, FinishError> {
    let mut joined = Vec::with_capacity(table.len());
    for group in 0..u32::try_from(table.len()).unwrap_or(u32::MAX) {
        let keys = table.keys_of(group as usize);
        let (namespace, node, pod_labels) = (NameId(keys[0]), NameId(keys[1]), LabelSetId(keys[2]));
        joins.categories.of(namespace).map_err(|source| FinishError::pattern(tables, source))?;
        for node_labels in joins.labels.node_sets(node) {
            for namespace_labels in joins.labels.namespace_sets(namespace) {
                let labels = joins.labels.merge(*node_labels, *namespace_labels, pod_labels, LabelSetId::EMPTY);
                joined.push(Joined { namespace, node, labels, group });
            }
        }
    }
    Ok(joined)
}

/// Positions by namespace, node and labels, as texts: ids depend on the order of arrival.
fn sort(tables: &DayTables<'_>, joined: &[Joined]) -> Vec<u32> {
    let namespaces = Namespaces::new(tables.names(NAMESPACE.name)).ranks();
    let nodes = tables.names(NODE.name).ranks();
    let rank = |ranks: &[u32], id: NameId| ranks[id.0 as usize];
    let mut order: Vec<u32> = (0..u32::try_from(joined.len()).expect("rows are numbered in 32 bits")).collect();
    sort_by_rank(&mut order, nodes.len(), |position| rank(&nodes, joined[position as usize].node));
    sort_by_rank(&mut order, namespaces.len(), |position| rank(&namespaces, joined[position as usize].namespace));
    // Few rows share namespace and node, so hardly any label texts are compared.
    let place = |position: &u32| (joined[*position as usize].namespace, joined[*position as usize].node);
    let labels =
        |a: &u32, b: &u32| tables.labels.compare_canonical(joined[*a as usize].labels, joined[*b as usize].labels);
    for of_one_place in order.chunk_by_mut(|a, b| place(a) == place(b)) {
        of_one_place.sort_unstable_by(|a, b| labels(a, b).then(a.cmp(b)));
    }
    order
}

/// Row → the further groups that the joins made equal to it.
type Repeated = HashMap<u32, Vec<u32>>;

/// Leaves one of rows that became equal, and keeps the groups of the others.
fn take_repeated(joined: &mut Vec<Joined>, order: &mut Vec<u32>) -> Repeated {
    let key = |row: &Joined| (row.namespace, row.node, row.labels);
    let same = |a: u32, b: u32| key(&joined[a as usize]) == key(&joined[b as usize]);
    let mut repeated = Repeated::new();
    if !order.windows(2).any(|pair| same(pair[0], pair[1])) {
        return repeated;
    }
    let mut firsts: Vec<(u32, Vec<u32>)> = Vec::new();
    for position in &*order {
        match firsts.last_mut() {
            Some((first, others)) if same(*first, *position) => others.push(joined[*position as usize].group),
            _ => firsts.push((*position, Vec::new())),
        }
    }
    // The remaining rows move up, in the order in which they are.
    let mut by_position: Vec<usize> = (0..firsts.len()).collect();
    by_position.sort_unstable_by_key(|at| firsts[*at].0);
    let mut remaining = Vec::with_capacity(firsts.len());
    *order = vec![0; firsts.len()];
    for (position, at) in (0_u32..).zip(by_position) {
        let (first, others) = &mut firsts[at];
        remaining.push(joined[*first as usize]);
        order[at] = position;
        if !others.is_empty() {
            repeated.insert(position, std::mem::take(others));
        }
    }
    *joined = remaining;
    repeated
}

/// Usage of one row before conversion.
struct Usage {
    sums: [CompensatedSum; POD_SUMS],
    /// One bit per sum.
    measured: u8,
    maxima: [Option<f64>; 2],
    resource_id: NameId,
}

impl Usage {
    /// The usage of one group, as often as joins repeat it.
    #[inline]
    fn of(table: &GroupedTable, group: usize, times: u32) -> Self {
        let (sums, seen) = table.sums_of(group);
        let measured = u8::try_from(seen & 0xFF).expect("eight bits are left");
        Self {
            sums: std::array::from_fn(|position| {
                CompensatedSum { high: sums[position], low: sums[position + POD_SUMS] }.times(times)
            }),
            measured,
            maxima: std::array::from_fn(|position| table.maximum(group, position)),
            resource_id: table.text_maxima_of(group)[0],
        }
    }

    fn add(&mut self, other: &Usage, resource_ids: &NameTable) {
        for position in (0..POD_SUMS).filter(|position| other.measured & (1 << position) != 0) {
            self.sums[position].add_sum(other.sums[position]);
        }
        self.measured |= other.measured;
        for (total, value) in self.maxima.iter_mut().zip(other.maxima) {
            *total = max_of(*total, value);
        }
        if resource_ids.text(other.resource_id) > resource_ids.text(self.resource_id) {
            self.resource_id = other.resource_id;
        }
    }

    /// Core-hours and GiB-hours.
    #[inline]
    fn hours(&self, arithmetic: Arithmetic) -> Result<[f64; POD_SUMS], ArithmeticError> {
        let mut hours = self.sums.map(CompensatedSum::value);
        for (position, value) in hours.iter_mut().enumerate() {
            let convert = if position < POD_SUMS / 2 { core_hours } else { gigabyte_hours };
            *value = convert(*value, arithmetic)?;
        }
        Ok(hours)
    }
}

/// The rows in the order of `joined`.
fn rows(
    tables: &DayTables<'_>,
    table: &GroupedTable,
    joins: &mut Joins<'_, '_>,
    joined: &[Joined],
    repeated: &Repeated,
) -> Result<PodRows, FinishError> {
    assert_eq!(table.sum_count, POD_SUMS, "the scan of pods sums eight measures");
    let resource_ids = tables.names(RESOURCE_ID.name);
    let mut capacities = CapacityIndex::new(joins.capacities, joins.arithmetic, tables.names(NODE.name).len());
    // Mostly one more per node follows, for what is unallocated.
    let mut rows = Vec::with_capacity(joined.len() + tables.names(NODE.name).len());
    for (position, row) in (0_u32..).zip(joined) {
        let category = joins.categories.of(row.namespace).map_err(|source| FinishError::pattern(tables, source))?;
        let times = if joins.joins_multiply { category.pattern_count.max(1) } else { 1 };
        let mut usage = Usage::of(table, row.group as usize, times);
        if !repeated.is_empty() {
            for group in repeated.get(&position).map_or(&[][..], Vec::as_slice) {
                usage.add(&Usage::of(table, *group as usize, times), resource_ids);
            }
        }
        let out_of_range = |source| FinishError::out_of_range(tables, row.namespace, row.node, source);
        rows.push(UsageRow {
            measures: usage.hours(joins.arithmetic).map_err(out_of_range)?,
            measured: usage.measured,
            is_unallocated: false,
            namespace: row.namespace,
            node: row.node,
            resource_id: usage.resource_id,
            labels: row.labels,
            capacity: capacities.position(row.node, usage.maxima).map_err(out_of_range)?,
            cost_category_id: category.cost_category_id,
        });
    }
    Ok(PodRows { rows, order: Vec::new(), capacities: capacities.rows })
}

/// Capacities of rows, each kept once for neighbouring rows of a node.
struct CapacityIndex<'a> {
    of_day: &'a Capacities,
    arithmetic: Arithmetic,
    rows: Vec<CapacityRow>,
    /// By id of the node: maxima and position of the last row.
    last: Vec<Option<([Option<f64>; 2], u32)>>,
    /// All positions: a node that was resized must not get a row for every change of order.
    known: HashMap<(NameId, [Option<u64>; 2]), u32>,
}

impl<'a> CapacityIndex<'a> {
    fn new(of_day: &'a Capacities, arithmetic: Arithmetic, node_count: usize) -> Self {
        Self { of_day, arithmetic, rows: Vec::new(), last: vec![None; node_count], known: HashMap::new() }
    }

    /// The position of a node's capacities; `maxima` are its cores and bytes. Zero has no sign among maxima.
    #[inline]
    fn position(&mut self, node: NameId, maxima: [Option<f64>; 2]) -> Result<u32, ArithmeticError> {
        match self.last[node.0 as usize] {
            Some((last, position)) if last == maxima => Ok(position),
            _ => self.add(node, maxima),
        }
    }

    fn add(&mut self, node: NameId, maxima: [Option<f64>; 2]) -> Result<u32, ArithmeticError> {
        let key = (node, maxima.map(|maximum| maximum.map(f64::to_bits)));
        if let Some(position) = self.known.get(&key) {
            self.last[node.0 as usize] = Some((maxima, *position));
            return Ok(*position);
        }
        let memory_gigabytes = maxima[1].map(|bytes| self.arithmetic.product(bytes, GIBIBYTES_PER_BYTE)).transpose()?;
        let (hours, cluster) = (self.of_day.node(node), self.of_day.cluster());
        let position = u32::try_from(self.rows.len()).expect("rows are numbered in 32 bits");
        self.rows.push([
            maxima[0],
            hours.cpu_core_hours,
            memory_gigabytes,
            hours.memory_gigabyte_hours,
            cluster.cpu_core_hours,
            cluster.memory_gigabyte_hours,
        ]);
        self.last[node.0 as usize] = Some((maxima, position));
        self.known.insert(key, position);
        Ok(position)
    }
}

impl PodRows {
    /// Adds the unallocated rows at their places: by namespace and node after the Pod rows there, then by category.
    pub fn insert(&mut self, tables: &DayTables<'_>, mut unallocated: Vec<UsageRow>) {
        let namespaces = Namespaces::new(tables.names(NAMESPACE.name)).ranks();
        let nodes = tables.names(NODE.name).ranks();
        let place = |row: &UsageRow| (namespaces[row.namespace.0 as usize], nodes[row.node.0 as usize]);
        unallocated.sort_by_key(|row| (place(row), row.cost_category_id));
        let first = self.rows.len();
        self.rows.append(&mut unallocated);
        let (mut pods, mut others) = (&self.order[..], first..self.rows.len());
        let mut order = Vec::with_capacity(self.rows.len());
        for other in &mut others {
            let at = place(&self.rows[other]);
            let before = pods.partition_point(|pod| place(&self.rows[*pod as usize]).cmp(&at) != Ordering::Greater);
            order.extend_from_slice(&pods[..before]);
            order.push(u32::try_from(other).expect("rows are numbered in 32 bits"));
            pods = &pods[before..];
        }
        order.extend_from_slice(pods);
        self.order = order;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resized_node_has_two_capacities_however_often_they_change() {
        let arithmetic = Arithmetic { range_is_checked: false };
        let of_day = Capacities::new(None, true, arithmetic).unwrap();
        let mut index = CapacityIndex::new(&of_day, arithmetic, 2);
        let position = |index: &mut CapacityIndex<'_>, cores| index.position(NameId(1), [Some(cores), None]).unwrap();
        let positions: Vec<u32> = (0..100).map(|row| position(&mut index, f64::from(4 + 4 * (row % 2)))).collect();
        assert!(positions.iter().zip([0, 1].iter().cycle()).all(|(found, expected)| found == expected));
        assert_eq!(index.rows.len(), 2);
        assert_eq!([position(&mut index, f64::NAN), position(&mut index, f64::NAN)], [2, 2]);
    }
}
