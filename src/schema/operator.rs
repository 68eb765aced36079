//! The reports of the cluster operator as CSV: their columns, how each is converted and how a day folds it (contract,
//! sections 2.1 to 2.3).

/// A kind of report, in the order in which a header is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorReport {
    /// Volumes, hourly.
    StorageUsage,
    /// Pods, hourly.
    PodUsage,
    /// Labels of nodes.
    NodeLabels,
    /// Labels of namespaces.
    NamespaceLabels,
    /// Virtual machines, hourly.
    VmUsage,
    /// Graphics processors of pods, hourly.
    GpuUsage,
}

/// What a field holds and so how its text is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A point in time.
    Time,
    /// A text that stays as it is.
    Text,
    /// A name: HTML characters are escaped and NUL bytes removed.
    Identifier,
    /// Labels in the operator's form; become JSON.
    Labels,
    /// A number; 0 if it is none.
    Metric,
    /// A number; a row in which it exceeds [`ANOMALY`] is dropped.
    LimitedMetric,
    /// A number; null if it is none.
    OptionalNumber,
    /// Model of a graphics processor.
    GpuModel,
    /// Vendor of a graphics processor.
    GpuVendor,
}

/// What the daily copy does with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// Part of the group key.
    Key,
    /// The greatest value; texts by their bytes.
    Greatest,
    /// The sum.
    Sum,
    /// Not there.
    Absent,
}

/// Whether a header must have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Decides what kind of report it is.
    Required,
    /// Left out where it is missing.
    Optional,
    /// Where it is missing, the daily copy has it with nulls.
    AddedToDaily,
}

/// A column of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorColumn {
    /// Name in the header and in Parquet.
    pub name: &'static str,
    /// What it holds.
    pub content: Content,
    /// What becomes of it in the daily copy.
    pub fold: Fold,
    /// Whether a header must have it.
    pub presence: Presence,
}

/// The greater of two columns, added to raw and daily copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectiveUsage {
    /// Name of the new column.
    pub name: &'static str,
    /// What was used.
    pub usage: &'static str,
    /// What was requested.
    pub request: &'static str,
}

/// A metric above it (not at it) is an anomaly, infinity included and NaN not.
pub const ANOMALY: f64 = 1e18;

/// First row of an hour; decides the day.
pub const INTERVAL_START: &str = "interval_start";
/// Name of a profile of a partitioned graphics processor.
pub const MIG_PROFILE: &str = "mig_profile";
/// Id of a partition.
pub const MIG_INSTANCE_ID: &str = "mig_instance_id";
/// How a processor is partitioned.
pub const MIG_STRATEGY: &str = "mig_strategy";
/// Slices of a partition; derived.
pub const MIG_SLICE_COUNT: &str = "mig_slice_count";
/// Memory of a partition in MiB; derived.
pub const MIG_MEMORY_CAPACITY_MIB: &str = "mig_memory_capacity_mib";
/// Most slices of the model; derived.
pub const GPU_MAX_SLICES: &str = "gpu_max_slices";
/// Model of a graphics processor.
pub const GPU_MODEL_NAME: &str = "gpu_model_name";
/// Most slices by model.
pub const SLICES_OF_MODELS: [(&str, f64); 7] = [
    ("A30", 4.0),
    ("A100", 7.0),
    ("H100", 7.0),
    ("H200", 7.0),
    ("B200", 7.0),
    ("RTX PRO 6000", 4.0),
    ("RTX PRO 5000", 2.0),
];
/// A vendor's name as some operators write it, and as it is kept.
pub const VENDOR_ALIAS: (&str, &str) = ("nvidia_com_gpu", "nvidia");

impl OperatorReport {
    /// All kinds, in the order in which a header is tried.
    pub const ALL: [OperatorReport; 6] = [
        OperatorReport::StorageUsage,
        OperatorReport::PodUsage,
        OperatorReport::NodeLabels,
        OperatorReport::NamespaceLabels,
        OperatorReport::VmUsage,
        OperatorReport::GpuUsage,
    ];

    /// The folder in object keys.
    pub fn folder(self) -> &'static str {
        match self {
            OperatorReport::StorageUsage => "storage_usage",
            OperatorReport::PodUsage => "pod_usage",
            OperatorReport::NodeLabels => "node_labels",
            OperatorReport::NamespaceLabels => "namespace_labels",
            OperatorReport::VmUsage => "vm_usage",
            OperatorReport::GpuUsage => "gpu_usage",
        }
    }

    /// Its columns, derived ones aside, in the order of the daily copy.
    pub fn columns(self) -> impl Iterator<Item = &'static OperatorColumn> {
        let own = match self {
            OperatorReport::StorageUsage => STORAGE_USAGE,
            OperatorReport::PodUsage => POD_USAGE,
            OperatorReport::NodeLabels => NODE_LABELS,
            OperatorReport::NamespaceLabels => NAMESPACE_LABELS,
            OperatorReport::VmUsage => VM_USAGE,
            OperatorReport::GpuUsage => GPU_USAGE,
        };
        TIMES.iter().chain(own)
    }

    /// A column by name.
    pub fn column(self, name: &str) -> Option<&'static OperatorColumn> {
        self.columns().find(|column| column.name == name)
    }

    /// The kind whose required columns are all in a header: the first that fits.
    pub fn of_header(has_column: impl Fn(&str) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(|report| {
            report.columns().all(|column| column.presence != Presence::Required || has_column(column.name))
        })
    }

    /// The columns that are computed per row from two others.
    pub fn effective_usages(self) -> &'static [EffectiveUsage] {
        if self == OperatorReport::PodUsage { &EFFECTIVE_USAGES } else { &[] }
    }
}

const fn required(name: &'static str, content: Content, fold: Fold) -> OperatorColumn {
    OperatorColumn { name, content, fold, presence: Presence::Required }
}

const fn optional(name: &'static str, content: Content, fold: Fold) -> OperatorColumn {
    OperatorColumn { name, content, fold, presence: Presence::Optional }
}

const fn added(name: &'static str, content: Content, fold: Fold) -> OperatorColumn {
    OperatorColumn { name, content, fold, presence: Presence::AddedToDaily }
}

use Content::{GpuModel, GpuVendor, Identifier, Labels, LimitedMetric, Metric, OptionalNumber, Text, Time};
use Fold::{Absent, Greatest, Key, Sum};

static TIMES: [OperatorColumn; 4] = [
    required("report_period_start", Time, Greatest),
    required("report_period_end", Time, Greatest),
    required(INTERVAL_START, Time, Key),
    required("interval_end", Time, Absent),
];

static POD_USAGE: &[OperatorColumn] = &[
    required("namespace", Identifier, Key),
    required("node", Identifier, Key),
    required("pod", Identifier, Key),
    required("pod_labels", Labels, Key),
    required("resource_id", Identifier, Greatest),
    required("pod_usage_cpu_core_seconds", LimitedMetric, Sum),
    required("pod_request_cpu_core_seconds", LimitedMetric, Sum),
    required("pod_limit_cpu_core_seconds", LimitedMetric, Sum),
    required("pod_usage_memory_byte_seconds", LimitedMetric, Sum),
    required("pod_request_memory_byte_seconds", LimitedMetric, Sum),
    required("pod_limit_memory_byte_seconds", LimitedMetric, Sum),
    required("node_capacity_cpu_cores", Metric, Greatest),
    required("node_capacity_cpu_core_seconds", LimitedMetric, Sum),
    required("node_capacity_memory_bytes", LimitedMetric, Greatest),
    required("node_capacity_memory_byte_seconds", LimitedMetric, Sum),
    added("node_role", Identifier, Greatest),
];

static EFFECTIVE_USAGES: [EffectiveUsage; 2] = [
    EffectiveUsage {
        name: "pod_effective_usage_cpu_core_seconds",
        usage: "pod_usage_cpu_core_seconds",
        request: "pod_request_cpu_core_seconds",
    },
    EffectiveUsage {
        name: "pod_effective_usage_memory_byte_seconds",
        usage: "pod_usage_memory_byte_seconds",
        request: "pod_request_memory_byte_seconds",
    },
];

static STORAGE_USAGE: &[OperatorColumn] = &[
    required("namespace", Identifier, Key),
    required("pod", Identifier, Key),
    required("persistentvolumeclaim", Identifier, Key),
    required("persistentvolume", Identifier, Key),
    required("storageclass", Identifier, Key),
    added("node", Identifier, Key),
    added("csi_driver", Identifier, Key),
    added("csi_volume_handle", Identifier, Key),
    required("persistentvolume_labels", Labels, Key),
    required("persistentvolumeclaim_labels", Labels, Key),
    required("persistentvolumeclaim_capacity_bytes", LimitedMetric, Greatest),
    required("persistentvolumeclaim_capacity_byte_seconds", LimitedMetric, Sum),
    required("volume_request_storage_byte_seconds", LimitedMetric, Sum),
    required("persistentvolumeclaim_usage_byte_seconds", LimitedMetric, Sum),
];

static NODE_LABELS: &[OperatorColumn] = &[required("node", Identifier, Key), required("node_labels", Labels, Key)];

static NAMESPACE_LABELS: &[OperatorColumn] =
    &[required("namespace", Identifier, Key), required("namespace_labels", Labels, Key)];

/// What tells a machine from others is required; older operators lack some of the rest.
static VM_USAGE: &[OperatorColumn] = &[
    required("namespace", Identifier, Key),
    required("node", Identifier, Key),
    required("vm_name", Identifier, Key),
    required("vm_labels", Labels, Key),
    optional("resource_id", Identifier, Greatest),
    optional("vm_instance_type", Identifier, Greatest),
    optional("vm_os", Identifier, Greatest),
    optional("vm_guest_os_arch", Text, Greatest),
    optional("vm_guest_os_name", Text, Greatest),
    optional("vm_guest_os_version", Text, Greatest),
    optional("vm_cpu_limit_cores", Metric, Greatest),
    optional("vm_cpu_request_cores", Metric, Greatest),
    optional("vm_cpu_request_sockets", Metric, Greatest),
    optional("vm_cpu_request_threads", Metric, Greatest),
    optional("vm_memory_limit_bytes", Metric, Greatest),
    optional("vm_memory_request_bytes", Metric, Greatest),
    optional("vm_device", Identifier, Greatest),
    optional("vm_volume_mode", Text, Greatest),
    optional("vm_persistentvolumeclaim_name", Text, Greatest),
    required("vm_uptime_total_seconds", Metric, Sum),
    optional("vm_cpu_limit_core_seconds", Metric, Sum),
    optional("vm_cpu_request_core_seconds", Metric, Sum),
    optional("vm_cpu_request_socket_seconds", Metric, Sum),
    optional("vm_cpu_request_thread_seconds", Metric, Sum),
    optional("vm_cpu_usage_total_seconds", Metric, Sum),
    optional("vm_memory_limit_byte_seconds", Metric, Sum),
    optional("vm_memory_request_byte_seconds", Metric, Sum),
    optional("vm_memory_usage_byte_seconds", Metric, Sum),
    optional("vm_disk_allocated_size_byte_seconds", Metric, Sum),
];

static GPU_USAGE: &[OperatorColumn] = &[
    required("node", Identifier, Key),
    required("namespace", Identifier, Key),
    required("pod", Identifier, Key),
    required("gpu_uuid", Identifier, Key),
    added(MIG_INSTANCE_ID, Text, Key),
    required(GPU_MODEL_NAME, GpuModel, Greatest),
    required("gpu_vendor_name", GpuVendor, Greatest),
    required("gpu_memory_capacity_mib", Metric, Greatest),
    required("gpu_pod_uptime", Metric, Sum),
    added(MIG_PROFILE, Text, Greatest),
    added(MIG_STRATEGY, Text, Greatest),
    added(MIG_SLICE_COUNT, OptionalNumber, Greatest),
    added(GPU_MAX_SLICES, OptionalNumber, Greatest),
    added(MIG_MEMORY_CAPACITY_MIB, OptionalNumber, Greatest),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::schema::source::{self, Column, ColumnType, ReportType};

    #[test]
    fn the_columns_that_rollups_read_are_written_under_their_names() {
        let of_pods = [
            &source::NAMESPACE,
            &source::NODE,
            &source::POD,
            &source::POD_LABELS,
            &source::RESOURCE_ID,
            &source::NODE_ROLE,
            &source::INTERVAL_START,
            &source::NODE_CAPACITY_CPU_CORE_SECONDS,
            &source::NODE_CAPACITY_MEMORY_BYTE_SECONDS,
        ];
        let of_volumes = [
            &source::PERSISTENTVOLUMECLAIM,
            &source::PERSISTENTVOLUME,
            &source::STORAGECLASS,
            &source::CSI_VOLUME_HANDLE,
            &source::PERSISTENTVOLUME_LABELS,
            &source::PERSISTENTVOLUMECLAIM_LABELS,
            &source::PERSISTENTVOLUMECLAIM_CAPACITY_BYTES,
            &source::VOLUME_REQUEST_STORAGE_BYTE_SECONDS,
        ];
        let check = |report: OperatorReport, columns: &[&Column]| {
            for column in columns {
                let found = report.column(column.name);
                let fits = found.is_some_and(|found| match column.column_type {
                    ColumnType::Timestamp => found.content == Time,
                    ColumnType::Text => found.content == Identifier,
                    ColumnType::Labels => found.content == Labels,
                    ColumnType::Number => matches!(found.content, Metric | LimitedMetric),
                });
                assert!(fits, "{}: {found:?}", column.name);
            }
        };
        check(OperatorReport::PodUsage, &of_pods);
        check(OperatorReport::StorageUsage, &of_volumes);
        check(OperatorReport::NodeLabels, &[&source::NODE, &source::NODE_LABELS]);
        check(OperatorReport::NamespaceLabels, &[&source::NAMESPACE, &source::NAMESPACE_LABELS]);
        let effective = OperatorReport::PodUsage.effective_usages();
        assert_eq!(effective[0].name, source::POD_EFFECTIVE_USAGE_CPU_CORE_SECONDS.name);
        assert_eq!(effective[1].name, source::POD_EFFECTIVE_USAGE_MEMORY_BYTE_SECONDS.name);
    }

    #[test]
    fn folders_are_those_that_are_read() {
        let written: BTreeSet<&str> = OperatorReport::ALL.iter().map(|report| report.folder()).collect();
        assert!(ReportType::ALL.iter().all(|report| written.contains(report.folder())));
    }

    #[test]
    fn thirteen_metrics_and_seventeen_names_have_a_treatment_of_their_own() {
        let of = |content: Content| -> BTreeSet<&str> {
            let columns = OperatorReport::ALL.into_iter().flat_map(OperatorReport::columns);
            columns.filter(|column| column.content == content).map(|column| column.name).collect()
        };
        assert_eq!(of(LimitedMetric).len(), 13);
        // Model and vendor are names, too; they have further rules.
        assert_eq!(of(Identifier).len() + of(GpuModel).len() + of(GpuVendor).len(), 17);
    }

    #[test]
    fn the_first_kind_whose_required_columns_are_there_wins() {
        let header =
            |report: OperatorReport| -> BTreeSet<&str> { report.columns().map(|column| column.name).collect() };
        for report in OperatorReport::ALL {
            let names = header(report);
            assert_eq!(OperatorReport::of_header(|name| names.contains(name)), Some(report));
            let with_more: BTreeSet<&str> = names.iter().copied().chain(["more"]).collect();
            assert_eq!(OperatorReport::of_header(|name| with_more.contains(name)), Some(report));
        }
        let mut both = header(OperatorReport::PodUsage);
        both.extend(header(OperatorReport::StorageUsage));
        assert_eq!(OperatorReport::of_header(|name| both.contains(name)), Some(OperatorReport::StorageUsage));
        let mut incomplete = header(OperatorReport::NodeLabels);
        incomplete.remove("interval_end");
        assert_eq!(OperatorReport::of_header(|name| incomplete.contains(name)), None);
    }
}
