//! Volumes per pod → Storage rows: volume-to-node map, divisor of shared volumes, label joins, unit conversion.
//!
//! Source: contract, section 3.6; table of behaviours, rows 7, 8, 8b and 8c.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use super::labels_join::{Categories, LabelJoin};
use super::namespaces::Namespaces;
use super::pods::{add_sums, max_of};
use super::rows::{FinishError, VolumeRow};
use super::{PODS, VOLUMES};
use crate::labels::LabelSetId;
use crate::rollups::arithmetic::{Arithmetic, ArithmeticError};
use crate::rollups::semantics::Semantics;
use crate::rollups::sum::CompensatedSum;
use crate::rollups::tables::{DayTables, GroupedTable, NameId};
use crate::schema::source::{
    CSI_VOLUME_HANDLE, Column, NAMESPACE, NODE, PERSISTENTVOLUME, PERSISTENTVOLUMECLAIM, RESOURCE_ID, STORAGECLASS,
};
use crate::units::{GIBIBYTES_PER_BYTE, SECONDS_PER_HOUR};

/// Group key of the output: names in the order of `Volume`, node, resource id and merged labels.
type OutputKey = (Volume, NameId, NameId, LabelSetId);

/// What identifies a volume on its row, the mounting pod aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Volume {
    namespace: NameId,
    claim: NameId,
    volume: NameId,
    storage_class: NameId,
    csi_volume_handle: NameId,
}

#[derive(Default)]
struct Usage {
    sums: [Option<CompensatedSum>; 3],
    capacity_bytes: Option<f64>,
    cost_category_id: Option<i32>,
}

/// What the Storage rows need besides the volumes themselves.
pub struct Joins<'a, 'b> {
    pub labels: &'b mut LabelJoin<'a>,
    pub categories: &'b mut Categories<'a>,
    pub semantics: Semantics,
    pub arithmetic: Arithmetic,
}

/// One row per volume, claim, place and merged labels, sorted.
pub fn storage_rows(tables: &DayTables<'_>, joins: &mut Joins<'_, '_>) -> Result<Vec<VolumeRow>, FinishError> {
    let Some(table) = tables.grouped(VOLUMES) else { return Ok(Vec::new()) };
    let map = VolumeMap::new(table, tables, joins.semantics);
    let mut index: HashMap<OutputKey, usize> = HashMap::new();
    let mut groups: Vec<(OutputKey, Usage)> = Vec::new();
    for group in 0..table.len() {
        let keys = table.keys_of(group);
        let (volume, pod) = split_keys(keys);
        let (volume_labels, claim_labels) = (LabelSetId(keys[6]), LabelSetId(keys[7]));
        let category = joins.categories.of(volume.namespace).map_err(|source| FinishError::pattern(tables, source))?;
        let times = if joins.semantics.joins_multiply() { category.pattern_count.max(1) } else { 1 };
        for (node, resource_id) in map.places(&volume, pod) {
            for node_labels in joins.labels.node_sets(*node) {
                for namespace_labels in joins.labels.namespace_sets(volume.namespace) {
                    let merged = joins.labels.merge(*node_labels, *namespace_labels, volume_labels, claim_labels);
                    let key = (volume, *node, *resource_id, merged);
                    let position = *index.entry(key).or_insert_with(|| {
                        groups.push((key, Usage::default()));
                        groups.len() - 1
                    });
                    let usage = &mut groups[position].1;
                    usage.cost_category_id = category.cost_category_id;
                    add_sums(&mut usage.sums, table, group, times);
                    usage.capacity_bytes = max_of(usage.capacity_bytes, table.maximum(group, 0));
                }
            }
        }
    }
    let rows = groups.into_iter().map(|(key, usage)| row(tables, joins, &map, key, &usage));
    let mut rows = rows.collect::<Result<Vec<VolumeRow>, FinishError>>()?;
    sort(tables, &mut rows);
    Ok(rows)
}

/// Sorts by text, not by id: ids depend on the order of arrival.
fn sort(tables: &DayTables<'_>, rows: &mut [VolumeRow]) {
    let ranks = |column: &Column| tables.names(column.name).ranks();
    let namespaces = Namespaces::new(tables.names(NAMESPACE.name)).ranks();
    let (nodes, resource_ids) = (ranks(&NODE), ranks(&RESOURCE_ID));
    let (claims, volumes) = (ranks(&PERSISTENTVOLUMECLAIM), ranks(&PERSISTENTVOLUME));
    let (storage_classes, handles) = (ranks(&STORAGECLASS), ranks(&CSI_VOLUME_HANDLE));
    let rank = |ranks: &[u32], id: NameId| ranks.get(id.0 as usize).copied().unwrap_or(u32::MAX);
    let key = |row: &VolumeRow| {
        [
            rank(&namespaces, row.namespace),
            rank(&nodes, row.node),
            rank(&claims, row.claim),
            rank(&volumes, row.volume),
            rank(&storage_classes, row.storage_class),
            rank(&handles, row.csi_volume_handle),
        ]
    };
    let rest = |row: &VolumeRow| (rank(&resource_ids, row.resource_id), row.cost_category_id);
    rows.sort_by(|a, b| {
        let labels = || tables.labels.compare_canonical(a.labels, b.labels);
        key(a).cmp(&key(b)).then_with(labels).then_with(|| rest(a).cmp(&rest(b)))
    });
}

fn split_keys(keys: &[u32]) -> (Volume, NameId) {
    let name = |position: usize| NameId(keys[position]);
    let volume = Volume {
        namespace: name(0),
        claim: name(2),
        volume: name(3),
        storage_class: name(4),
        csi_volume_handle: name(5),
    };
    (volume, name(1))
}

/// Where the pods that mount a claim ran, and on how many nodes each volume was.
struct VolumeMap {
    /// (namespace, pod, claim, volume or null) → places; the volume is part of the key where the join uses it.
    places: HashMap<[NameId; 4], Vec<(NameId, NameId)>>,
    /// Volume → number of distinct nodes.
    node_counts: HashMap<NameId, u32>,
    joins_on_volume: bool,
}

/// What the outer join yields for a pod that is not in the pod report.
const NO_PLACE: [(NameId, NameId); 1] = [(NameId::NULL, NameId::NULL)];

impl VolumeMap {
    fn new(table: &GroupedTable, tables: &DayTables<'_>, semantics: Semantics) -> Self {
        let mut pods: HashMap<(NameId, NameId), Vec<(NameId, NameId)>> = HashMap::new();
        for [namespace, pod, node, resource_id] in tables.members(PODS).map_or(&[][..], |members| &members.rows) {
            pods.entry((*namespace, *pod)).or_default().push((*node, *resource_id));
        }
        let mut map = Self {
            places: HashMap::new(),
            node_counts: HashMap::new(),
            joins_on_volume: semantics.volume_map_joins_on_volume(),
        };
        let mut nodes: HashMap<NameId, BTreeSet<NameId>> = HashMap::new();
        let mut seen: HashSet<[NameId; 4]> = HashSet::new();
        for group in 0..table.len() {
            let (volume, pod) = split_keys(table.keys_of(group));
            let Some(places) = pods.get(&(volume.namespace, pod)) else { continue };
            // Distinct (claim, volume, pod, namespace) of the storage report; the places are distinct already.
            if !seen.insert([volume.namespace, pod, volume.claim, volume.volume]) {
                continue;
            }
            let on_nodes = places.iter().map(|(node, _)| *node).filter(|node| *node != NameId::NULL);
            nodes.entry(volume.volume).or_default().extend(on_nodes);
            let key = map.key(&volume, pod);
            map.places.entry(key).or_default().extend(places);
        }
        let count = |nodes: &BTreeSet<NameId>| u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        map.node_counts = nodes.iter().map(|(volume, nodes)| (*volume, count(nodes))).collect();
        map
    }

    fn key(&self, volume: &Volume, pod: NameId) -> [NameId; 4] {
        let joined_volume = if self.joins_on_volume { volume.volume } else { NameId::NULL };
        [volume.namespace, pod, volume.claim, joined_volume]
    }

    /// Places of a volume's row; a null claim (and, where it is joined on, a null volume) joins nothing.
    fn places(&self, volume: &Volume, pod: NameId) -> &[(NameId, NameId)] {
        let joins = volume.claim != NameId::NULL && (!self.joins_on_volume || volume.volume != NameId::NULL);
        let places = if joins { self.places.get(&self.key(volume, pod)) } else { None };
        places.map_or(&NO_PLACE, Vec::as_slice)
    }

    /// Number of nodes of a volume; `None` if it was never seen with a pod of the pod report.
    fn node_count(&self, volume: NameId) -> Option<u32> {
        if volume == NameId::NULL { None } else { self.node_counts.get(&volume).copied() }
    }
}

/// What request and usage are divided by; `None` makes them null.
fn divisor(
    node_count: Option<u32>,
    semantics: Semantics,
    has_numerator: bool,
    tables: &DayTables<'_>,
    volume: NameId,
) -> Result<Option<f64>, FinishError> {
    match node_count {
        None if semantics.missing_divisor_is_null() => Ok(None),
        None => Ok(Some(1.0)),
        Some(0) if semantics.zero_divisor_is_error() && has_numerator => Err(FinishError::DivisionByZero {
            day: tables.day,
            volume: tables.names(PERSISTENTVOLUME.name).text(volume).unwrap_or_default().to_owned(),
        }),
        Some(count) => Ok(Some(f64::from(count.max(1)))),
    }
}

fn row(
    tables: &DayTables<'_>,
    joins: &Joins<'_, '_>,
    map: &VolumeMap,
    (volume, node, resource_id, labels): OutputKey,
    usage: &Usage,
) -> Result<VolumeRow, FinishError> {
    let [capacity, request, used] = usage.sums.map(|sum| sum.map(CompensatedSum::value));
    let has_numerator = request.is_some() || used.is_some();
    let node_count = map.node_count(volume.volume);
    let divisor = divisor(node_count, joins.semantics, has_numerator, tables, volume.volume)?;
    let arithmetic = joins.arithmetic;
    let month_seconds = 24.0 * SECONDS_PER_HOUR * f64::from(tables.day.month().day_count());
    let months =
        |byte_seconds: f64| arithmetic.product(arithmetic.quotient(byte_seconds, month_seconds)?, GIBIBYTES_PER_BYTE);
    let shared = |byte_seconds: Option<f64>| match (byte_seconds, divisor) {
        (Some(value), Some(divisor)) => months(arithmetic.quotient(value, divisor)?).map(Some),
        _ => Ok(None),
    };
    let convert = || -> Result<[Option<f64>; 4], ArithmeticError> {
        let bytes = usage.capacity_bytes.map(|bytes| arithmetic.product(bytes, GIBIBYTES_PER_BYTE)).transpose()?;
        Ok([bytes, capacity.map(months).transpose()?, shared(request)?, shared(used)?])
    };
    let numbers = convert().map_err(|source| FinishError::out_of_range(tables, volume.namespace, node, source))?;
    Ok(VolumeRow {
        namespace: volume.namespace,
        node,
        resource_id,
        claim: volume.claim,
        volume: volume.volume,
        storage_class: volume.storage_class,
        csi_volume_handle: volume.csi_volume_handle,
        labels,
        cost_category_id: usage.cost_category_id,
        measures: numbers,
    })
}
