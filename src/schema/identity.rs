//! What identifies a row of the summary table, what ties it to a source, and which of its columns add up: facts about
//! [`super::target::OCP_DAILY_SUMMARY`] for those who compare rows.

/// Which of the three sorts of rows a row is. `unallocated` rows are stored as pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowSort {
    /// Usage of a namespace on a node.
    Pod,
    /// A volume.
    Storage,
    /// What is left of a node.
    Unallocated,
}

impl RowSort {
    /// How rows of this sort are called in output.
    pub fn name(self) -> &'static str {
        match self {
            RowSort::Pod => "Pod",
            RowSort::Storage => "Storage",
            RowSort::Unallocated => "Unallocated",
        }
    }

    /// The columns that identify a row of this sort within its day and source.
    pub fn identity(self) -> &'static [&'static str] {
        match self {
            RowSort::Pod => &[NAMESPACE, NODE, POD_LABELS],
            RowSort::Storage => &[
                NAMESPACE,
                NODE,
                "resource_id",
                "persistentvolumeclaim",
                "persistentvolume",
                "storageclass",
                VOLUME_LABELS,
            ],
            RowSort::Unallocated => &[NODE],
        }
    }

    /// Columns whose value follows from an identifying one, so that both change together.
    pub fn follows_from(identity_column: &str) -> &'static [&'static str] {
        match identity_column {
            NAMESPACE => &["cost_category_id"],
            POD_LABELS | VOLUME_LABELS => &["all_labels"],
            _ => &[],
        }
    }
}

/// `Pod` or `Storage`.
pub const DATA_SOURCE: &str = "data_source";
/// The value of [`DATA_SOURCE`] on rows of volumes.
pub const STORAGE: &str = "Storage";
/// Project.
pub const NAMESPACE: &str = "namespace";
/// Node.
pub const NODE: &str = "node";
/// Labels of pod rows.
pub const POD_LABELS: &str = "pod_labels";
/// Labels of volume rows.
pub const VOLUME_LABELS: &str = "volume_labels";
/// The day.
pub const DAY: &str = "usage_start";
/// The cluster as its operator calls it.
pub const CLUSTER_ID: &str = "cluster_id";
/// The source.
pub const SOURCE: &str = "source_uuid";
/// The month of the cluster in the reference's books.
pub const REPORT_PERIOD: &str = "report_period_id";

/// Numbers that a database hands out: in another database the same thing has another number.
pub const DATABASE_LOCAL: [&str; 2] = [REPORT_PERIOD, "cost_category_id"];

/// A measure, and the capacity of the node that the measure's usage and unallocated rows add up to.
pub const ADDS_UP: [(&str, &str); 6] = [
    ("pod_usage_cpu_core_hours", NODE_CPU),
    ("pod_request_cpu_core_hours", NODE_CPU),
    ("pod_effective_usage_cpu_core_hours", NODE_CPU),
    ("pod_usage_memory_gigabyte_hours", NODE_MEMORY),
    ("pod_request_memory_gigabyte_hours", NODE_MEMORY),
    ("pod_effective_usage_memory_gigabyte_hours", NODE_MEMORY),
];

const NODE_CPU: &str = "node_capacity_cpu_core_hours";
const NODE_MEMORY: &str = "node_capacity_memory_gigabyte_hours";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::target::OCP_DAILY_SUMMARY;

    #[test]
    fn every_name_is_a_column_that_the_rollup_fills() {
        let mut names = vec![DATA_SOURCE, DAY, CLUSTER_ID, SOURCE];
        names.extend(DATABASE_LOCAL);
        names.extend(ADDS_UP.iter().flat_map(|(measure, capacity)| [*measure, *capacity]));
        for sort in [RowSort::Pod, RowSort::Storage, RowSort::Unallocated] {
            names.extend(sort.identity());
            names.extend(sort.identity().iter().flat_map(|name| RowSort::follows_from(name)));
        }
        for name in names {
            assert!(OCP_DAILY_SUMMARY.rollup_columns().any(|column| column.name == name), "{name}");
        }
    }
}
