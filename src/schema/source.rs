//! The report columns that are read from Parquet (contract, sections 1.1 and 2.3).

use std::fmt;

/// What a column holds once it is read, whatever its physical type in a file was (contract, section 1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// A point in time, UTC wall clock; any Parquet timestamp unit, with or without the UTC flag.
    Timestamp,
    /// A name; strings of any width, dictionary or not, binary holding UTF-8.
    Text,
    /// A metric; doubles, floats, integers and decimals widen to f64.
    Number,
    /// A label set; map, struct, list of entries, or text (JSON or the operator's raw form).
    Labels,
}

/// One column of a report.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Name in the file, in any letter case; addressed by name, never by position.
    pub name: &'static str,
    /// What it holds.
    pub column_type: ColumnType,
    /// Whether an object without it is an error. Others read as null when absent (old operators lack them).
    pub required: bool,
}

/// Where a column is among the columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No name fits.
    Nowhere,
    /// The position of the one that is read.
    At(usize),
    /// Several names fit and none of them more than the others.
    Ambiguous(Vec<String>),
}

impl Column {
    /// Finds the column by name, without regard to letter case, as the reference's reader does: the very name goes first,
    /// whatever else there is. Of several others the reference takes the first; position means nothing here, so they are ambiguous.
    pub fn find<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Found {
        let place = |fits: &dyn Fn(&str) -> bool| -> Found {
            let mut fitting = names.clone().enumerate().filter(|(_, name)| fits(name));
            match (fitting.next(), fitting.next()) {
                (None, _) => Found::Nowhere,
                (Some((position, _)), None) => Found::At(position),
                _ => Found::Ambiguous(names.clone().filter(|name| fits(name)).map(str::to_owned).collect()),
            }
        };
        match place(&|name| name == self.name) {
            Found::Nowhere => place(&|name| self.is_alike(name)),
            exact => exact,
        }
    }

    /// Whether a name is that of the column but for letter case.
    pub fn is_alike(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name)
    }
}

/// The kind of report an object holds; also the folder name in object keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportType {
    /// Pod usage, hourly.
    PodUsage,
    /// Volume usage, hourly.
    StorageUsage,
    /// Labels of nodes.
    NodeLabels,
    /// Labels of namespaces.
    NamespaceLabels,
}

impl ReportType {
    /// All types that are read.
    pub const ALL: [ReportType; 4] =
        [ReportType::PodUsage, ReportType::StorageUsage, ReportType::NodeLabels, ReportType::NamespaceLabels];

    /// The folder name in object keys.
    pub fn folder(self) -> &'static str {
        match self {
            ReportType::PodUsage => "pod_usage",
            ReportType::StorageUsage => "storage_usage",
            ReportType::NodeLabels => "node_labels",
            ReportType::NamespaceLabels => "namespace_labels",
        }
    }
}

impl fmt::Display for ReportType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// Which of the two copies of a report an object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// As delivered, one row per hour.
    Raw,
    /// Grouped per day by the reference's Python code; partial, must be grouped again.
    Daily,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Raw => "raw",
            Variant::Daily => "daily",
        })
    }
}

/// A report in one of its copies: what a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceTable {
    /// The kind of report.
    pub report: ReportType,
    /// Raw or daily.
    pub variant: Variant,
}

impl fmt::Display for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.report, self.variant)
    }
}

const fn column(name: &'static str, column_type: ColumnType, required: bool) -> Column {
    Column { name, column_type, required }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $kind:ident, $required:literal;)*) => {
        $($(#[$doc])* pub static $constant: Column = column($name, ColumnType::$kind, $required);)*
    };
}

columns! {
    /// Start of the hour (raw) or of the day (daily), UTC.
    INTERVAL_START = "interval_start", Timestamp, true;
    /// Name of the project.
    NAMESPACE = "namespace", Text, true;
    /// Name of the node; `""` or null where a pod has none.
    NODE = "node", Text, true;
    /// Name of the pod.
    POD = "pod", Text, false;
    /// The node's id at its cloud.
    RESOURCE_ID = "resource_id", Text, false;
    /// `master`, `infra` or `worker`; newer operators only.
    NODE_ROLE = "node_role", Text, false;
    /// Labels of the pod.
    POD_LABELS = "pod_labels", Labels, false;
    /// Core-seconds used.
    POD_USAGE_CPU_CORE_SECONDS = "pod_usage_cpu_core_seconds", Number, false;
    /// Core-seconds requested.
    POD_REQUEST_CPU_CORE_SECONDS = "pod_request_cpu_core_seconds", Number, false;
    /// Core-seconds, the greater of used and requested per hour; absent before 2022.
    POD_EFFECTIVE_USAGE_CPU_CORE_SECONDS = "pod_effective_usage_cpu_core_seconds", Number, false;
    /// Core-seconds allowed.
    POD_LIMIT_CPU_CORE_SECONDS = "pod_limit_cpu_core_seconds", Number, false;
    /// Byte-seconds used.
    POD_USAGE_MEMORY_BYTE_SECONDS = "pod_usage_memory_byte_seconds", Number, false;
    /// Byte-seconds requested.
    POD_REQUEST_MEMORY_BYTE_SECONDS = "pod_request_memory_byte_seconds", Number, false;
    /// Byte-seconds, the greater of used and requested per hour; absent before 2022.
    POD_EFFECTIVE_USAGE_MEMORY_BYTE_SECONDS = "pod_effective_usage_memory_byte_seconds", Number, false;
    /// Byte-seconds allowed.
    POD_LIMIT_MEMORY_BYTE_SECONDS = "pod_limit_memory_byte_seconds", Number, false;
    /// Cores of the pod's node.
    NODE_CAPACITY_CPU_CORES = "node_capacity_cpu_cores", Number, false;
    /// Core-seconds of the pod's node in this hour.
    NODE_CAPACITY_CPU_CORE_SECONDS = "node_capacity_cpu_core_seconds", Number, false;
    /// Bytes of memory of the pod's node.
    NODE_CAPACITY_MEMORY_BYTES = "node_capacity_memory_bytes", Number, false;
    /// Byte-seconds of the pod's node in this hour.
    NODE_CAPACITY_MEMORY_BYTE_SECONDS = "node_capacity_memory_byte_seconds", Number, false;
    /// Name of the claim; `""` for a volume without one.
    PERSISTENTVOLUMECLAIM = "persistentvolumeclaim", Text, false;
    /// Name of the volume.
    PERSISTENTVOLUME = "persistentvolume", Text, true;
    /// Name of the storage class.
    STORAGECLASS = "storageclass", Text, false;
    /// The volume's id at its driver; newer operators only.
    CSI_VOLUME_HANDLE = "csi_volume_handle", Text, false;
    /// Labels of the volume.
    PERSISTENTVOLUME_LABELS = "persistentvolume_labels", Labels, false;
    /// Labels of the claim.
    PERSISTENTVOLUMECLAIM_LABELS = "persistentvolumeclaim_labels", Labels, false;
    /// Capacity in bytes.
    PERSISTENTVOLUMECLAIM_CAPACITY_BYTES = "persistentvolumeclaim_capacity_bytes", Number, false;
    /// Capacity in byte-seconds.
    PERSISTENTVOLUMECLAIM_CAPACITY_BYTE_SECONDS = "persistentvolumeclaim_capacity_byte_seconds", Number, false;
    /// Requested byte-seconds.
    VOLUME_REQUEST_STORAGE_BYTE_SECONDS = "volume_request_storage_byte_seconds", Number, false;
    /// Used byte-seconds.
    PERSISTENTVOLUMECLAIM_USAGE_BYTE_SECONDS = "persistentvolumeclaim_usage_byte_seconds", Number, false;
    /// Labels of the node.
    NODE_LABELS = "node_labels", Labels, false;
    /// Labels of the namespace.
    NAMESPACE_LABELS = "namespace_labels", Labels, false;
}

/// The columns that say whose number it is, and what they are called in messages.
pub static PLACES: [(&Column, &str); 5] = [
    (&NAMESPACE, "namespace"),
    (&NODE, "node"),
    (&POD, "pod"),
    (&PERSISTENTVOLUMECLAIM, "claim"),
    (&PERSISTENTVOLUME, "volume"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_in_any_letter_case_and_by_its_very_name_first() {
        let find = |names: &[&str]| NODE.find(names.iter().copied());
        assert_eq!(find(&["pod", "nodes", "node_role"]), Found::Nowhere);
        assert_eq!(find(&["pod", "node"]), Found::At(1));
        assert_eq!(find(&["pod", "NODE"]), Found::At(1));
        assert_eq!(find(&["Node", "pod", "node"]), Found::At(2));
        assert_eq!(find(&["Node", "pod", "NODE"]), Found::Ambiguous(vec!["Node".to_owned(), "NODE".to_owned()]));
        assert_eq!(find(&["node", "Node", "node"]), Found::Ambiguous(vec!["node".to_owned(), "node".to_owned()]));
    }
}
