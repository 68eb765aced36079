//! The OpenShift daily summary: which columns of which reports feed it, and the code that turns a day into rows.
//!
//! Source: contract of the OCP daily summary, sections 3.2 to 3.7.

mod capacity;
mod columns;
mod conservation;
mod label_texts;
mod labels_join;
mod namespaces;
mod order;
mod pods;
mod rows;
mod storage;
mod unallocated;

use crate::rollups::declaration::{Capacity, Grouped, KeepSets, Kernel, Key, LabelSets, Measure, Members, Scan};
use crate::rollups::semantics::Semantics;
use crate::schema::source::{self as report, Column, ReportType, SourceTable, Variant};

pub use columns::{COLUMNS, ColumnValue, USAGE_COST};
pub use label_texts::LabelTexts;
pub use namespaces::Namespaces;
pub use rows::{CapacityRow, Finish, FinishError, RowKind, UsageRow, VolumeRow, finish, place};
pub use unallocated::{PLATFORM_UNALLOCATED, RESERVED, WORKER_UNALLOCATED};

/// Scan of pods: usage, and in `balanced` capacities.
pub const PODS: &str = "pods";
/// Scan of raw pods for capacities, where usage comes from the daily objects.
pub const CAPACITIES: &str = "capacities";
/// Scan of volumes.
pub const VOLUMES: &str = "volumes";
/// Scan of node labels.
pub const NODE_LABELS: &str = "node_labels";
/// Scan of namespace labels.
pub const NAMESPACE_LABELS: &str = "namespace_labels";

/// The summed pod measures, in the order of their sums: four of CPU, four of memory.
pub const POD_SUMS: usize = 8;
/// Position of usage, request, effective usage and limit among four measures of one resource.
const EFFECTIVE: usize = 2;

/// Summed columns of volumes, in order: capacity, request, usage (byte-seconds).
const VOLUME_SUMS: [&Column; 3] = [
    &report::PERSISTENTVOLUMECLAIM_CAPACITY_BYTE_SECONDS,
    &report::VOLUME_REQUEST_STORAGE_BYTE_SECONDS,
    &report::PERSISTENTVOLUMECLAIM_USAGE_BYTE_SECONDS,
];

/// The scans of the rollup, in the order in which they may run.
///
/// `has_raw` tells whether the window's prefix of a report's raw objects holds any object: `balanced` then never opens the
/// daily ones (table of behaviours, row 0).
pub fn scans(semantics: Semantics, has_raw: impl Fn(ReportType) -> bool) -> Vec<Scan> {
    let table = |report_type| {
        let daily = semantics.reads_daily_objects() || !has_raw(report_type);
        SourceTable { report: report_type, variant: if daily { Variant::Daily } else { Variant::Raw } }
    };
    let keep = if semantics.joins_multiply() { KeepSets::All } else { KeepSets::Latest };
    let pods = table(ReportType::PodUsage);
    let mut scans = vec![
        labels_scan(NODE_LABELS, table(ReportType::NodeLabels), &report::NODE, &report::NODE_LABELS, keep),
        labels_scan(
            NAMESPACE_LABELS,
            table(ReportType::NamespaceLabels),
            &report::NAMESPACE,
            &report::NAMESPACE_LABELS,
            keep,
        ),
        Scan { name: VOLUMES, table: table(ReportType::StorageUsage), kernels: vec![Kernel::Grouped(volumes())] },
    ];
    let mut pod_kernels = vec![Kernel::Grouped(pod_usage(semantics)), Kernel::Members(volume_places(semantics))];
    if pods.variant == Variant::Raw {
        pod_kernels.push(Kernel::Capacity(capacities()));
    } else if semantics.reads_daily_objects() {
        let raw = SourceTable { report: ReportType::PodUsage, variant: Variant::Raw };
        scans.push(Scan { name: CAPACITIES, table: raw, kernels: vec![Kernel::Capacity(capacities())] });
    }
    scans.push(Scan { name: PODS, table: pods, kernels: pod_kernels });
    scans
}

fn labels_scan(
    name: &'static str,
    table: SourceTable,
    key: &'static Column,
    labels: &'static Column,
    keep: KeepSets,
) -> Scan {
    Scan { name, table, kernels: vec![Kernel::LabelSets(LabelSets { key, labels, keep })] }
}

/// Section 3.5: usage per namespace, node and filtered pod labels; pods without a node give no row.
fn pod_usage(semantics: Semantics) -> Grouped {
    let effective = |column, left, right| Measure::OrGreatest {
        column,
        left,
        right,
        null_if_any: semantics.greatest_is_null_if_any(),
    };
    Grouped {
        keys: vec![Key::Value(&report::NAMESPACE), Key::Value(&report::NODE), Key::Value(&report::POD_LABELS)],
        only_named: Some(&report::NODE),
        sums: vec![
            Measure::Column(&report::POD_USAGE_CPU_CORE_SECONDS),
            Measure::Column(&report::POD_REQUEST_CPU_CORE_SECONDS),
            effective(
                &report::POD_EFFECTIVE_USAGE_CPU_CORE_SECONDS,
                &report::POD_USAGE_CPU_CORE_SECONDS,
                &report::POD_REQUEST_CPU_CORE_SECONDS,
            ),
            Measure::Column(&report::POD_LIMIT_CPU_CORE_SECONDS),
            Measure::Column(&report::POD_USAGE_MEMORY_BYTE_SECONDS),
            Measure::Column(&report::POD_REQUEST_MEMORY_BYTE_SECONDS),
            effective(
                &report::POD_EFFECTIVE_USAGE_MEMORY_BYTE_SECONDS,
                &report::POD_USAGE_MEMORY_BYTE_SECONDS,
                &report::POD_REQUEST_MEMORY_BYTE_SECONDS,
            ),
            Measure::Column(&report::POD_LIMIT_MEMORY_BYTE_SECONDS),
        ],
        maxima: vec![&report::NODE_CAPACITY_CPU_CORES, &report::NODE_CAPACITY_MEMORY_BYTES],
        text_maxima: vec![&report::RESOURCE_ID],
    }
}

/// The report's columns that the values of a column of the target are made of; none for what is no number.
pub fn source_columns(target: &str) -> Vec<&'static Column> {
    let Some((_, value)) = COLUMNS.iter().find(|(name, _)| *name == target) else { return Vec::new() };
    match *value {
        ColumnValue::Measure(position) => {
            // What is unallocated comes from the node's capacity as well.
            let of_node = capacities().measures[position / (POD_SUMS / 2)];
            match pod_usage(Semantics::Balanced).sums[position] {
                Measure::Column(column) => vec![column, of_node],
                Measure::OrGreatest { column, left, right, .. } => vec![column, left, right, of_node],
            }
        }
        ColumnValue::Capacity(0) => vec![&report::NODE_CAPACITY_CPU_CORES],
        ColumnValue::Capacity(2) => vec![&report::NODE_CAPACITY_MEMORY_BYTES],
        ColumnValue::Capacity(1 | 4) => vec![&report::NODE_CAPACITY_CPU_CORE_SECONDS],
        ColumnValue::Capacity(_) => vec![&report::NODE_CAPACITY_MEMORY_BYTE_SECONDS],
        ColumnValue::VolumeMeasure(0) => vec![&report::PERSISTENTVOLUMECLAIM_CAPACITY_BYTES],
        ColumnValue::VolumeMeasure(position) => vec![VOLUME_SUMS[position - 1]],
        _ => Vec::new(),
    }
}

/// Section 3.4.3: per node the hourly maxima summed over the day; every node counts, the null and the empty one too.
fn capacities() -> Capacity {
    Capacity {
        key: &report::NODE,
        measures: vec![&report::NODE_CAPACITY_CPU_CORE_SECONDS, &report::NODE_CAPACITY_MEMORY_BYTE_SECONDS],
    }
}

/// Section 3.6, the volume-to-node map: where the pods that mount a volume ran.
fn volume_places(semantics: Semantics) -> Members {
    Members {
        of_scan: VOLUMES,
        pair: [&report::NAMESPACE, &report::POD],
        place: &report::NODE,
        attribute: &report::RESOURCE_ID,
        greatest_attribute: !semantics.reads_daily_objects(),
    }
}

/// Section 3.6: volumes per pod that mounts them.
fn volumes() -> Grouped {
    Grouped {
        keys: vec![
            Key::Value(&report::NAMESPACE),
            Key::Value(&report::POD),
            Key::Value(&report::PERSISTENTVOLUMECLAIM),
            Key::Value(&report::PERSISTENTVOLUME),
            Key::Value(&report::STORAGECLASS),
            Key::Value(&report::CSI_VOLUME_HANDLE),
            Key::Value(&report::PERSISTENTVOLUME_LABELS),
            Key::Value(&report::PERSISTENTVOLUMECLAIM_LABELS),
        ],
        only_named: None,
        sums: VOLUME_SUMS.iter().map(|column| Measure::Column(column)).collect(),
        maxima: vec![&report::PERSISTENTVOLUMECLAIM_CAPACITY_BYTES],
        text_maxima: vec![],
    }
}
