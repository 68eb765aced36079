//! Which value of a row goes into which column of the summary table.
//!
//! Source: contract, section 3.9.

use super::rows::{RowKind, VolumeRow};
use crate::rollups::tables::NameId;
use crate::schema::source::{Column, PERSISTENTVOLUME, PERSISTENTVOLUMECLAIM, STORAGECLASS};

/// Where the value of a column comes from. What one kind of row does not have is null on it.
#[derive(Clone, Copy)]
pub enum ColumnValue {
    /// Id of the report period, the same on every row.
    ReportPeriod,
    /// Cluster id, the same on every row.
    ClusterId,
    /// Cluster alias, the same on every row.
    ClusterAlias,
    /// Source uuid, the same on every row.
    SourceUuid,
    /// The day.
    Day,
    /// `Pod` or `Storage`.
    DataSource,
    /// Namespace of the report, or the fixed one of unallocated rows.
    Namespace,
    /// Cost category.
    CostCategory,
    /// Node.
    Node,
    /// The node's id at its cloud.
    ResourceId,
    /// A name of the storage report's column.
    VolumeName(&'static Column, fn(&VolumeRow) -> NameId),
    /// Labels of rows of one kind; null on others.
    Labels(RowKind),
    /// Labels of whatever kind the row is; `{}` where it has none.
    AllLabels,
    /// The constant that the reference writes as usage cost; null on unallocated rows.
    UsageCost,
    /// A pod measure by position; the day's sum of it is noted and checked after writing.
    Measure(usize),
    /// A capacity of node or cluster by position.
    Capacity(usize),
    /// A volume's measure by position.
    VolumeMeasure(usize),
}

/// What the reference writes into `infrastructure_usage_cost`.
pub const USAGE_COST: &str = r#"{"cpu": 0.000000000, "memory": 0.000000000, "storage": 0.000000000}"#;

/// Column name → value. The order is that of the table.
pub static COLUMNS: [(&str, ColumnValue); 36] = [
    ("report_period_id", ColumnValue::ReportPeriod),
    ("cost_category_id", ColumnValue::CostCategory),
    ("cluster_id", ColumnValue::ClusterId),
    ("cluster_alias", ColumnValue::ClusterAlias),
    ("data_source", ColumnValue::DataSource),
    ("namespace", ColumnValue::Namespace),
    ("node", ColumnValue::Node),
    ("resource_id", ColumnValue::ResourceId),
    ("usage_start", ColumnValue::Day),
    ("usage_end", ColumnValue::Day),
    ("pod_labels", ColumnValue::Labels(RowKind::Pod)),
    ("pod_usage_cpu_core_hours", ColumnValue::Measure(0)),
    ("pod_request_cpu_core_hours", ColumnValue::Measure(1)),
    ("pod_effective_usage_cpu_core_hours", ColumnValue::Measure(2)),
    ("pod_limit_cpu_core_hours", ColumnValue::Measure(3)),
    ("pod_usage_memory_gigabyte_hours", ColumnValue::Measure(4)),
    ("pod_request_memory_gigabyte_hours", ColumnValue::Measure(5)),
    ("pod_effective_usage_memory_gigabyte_hours", ColumnValue::Measure(6)),
    ("pod_limit_memory_gigabyte_hours", ColumnValue::Measure(7)),
    ("node_capacity_cpu_cores", ColumnValue::Capacity(0)),
    ("node_capacity_cpu_core_hours", ColumnValue::Capacity(1)),
    ("node_capacity_memory_gigabytes", ColumnValue::Capacity(2)),
    ("node_capacity_memory_gigabyte_hours", ColumnValue::Capacity(3)),
    ("cluster_capacity_cpu_core_hours", ColumnValue::Capacity(4)),
    ("cluster_capacity_memory_gigabyte_hours", ColumnValue::Capacity(5)),
    ("persistentvolumeclaim", ColumnValue::VolumeName(&PERSISTENTVOLUMECLAIM, |row| row.claim)),
    ("persistentvolume", ColumnValue::VolumeName(&PERSISTENTVOLUME, |row| row.volume)),
    ("storageclass", ColumnValue::VolumeName(&STORAGECLASS, |row| row.storage_class)),
    ("volume_labels", ColumnValue::Labels(RowKind::Storage)),
    ("all_labels", ColumnValue::AllLabels),
    ("persistentvolumeclaim_capacity_gigabyte", ColumnValue::VolumeMeasure(0)),
    ("persistentvolumeclaim_capacity_gigabyte_months", ColumnValue::VolumeMeasure(1)),
    ("volume_request_storage_gigabyte_months", ColumnValue::VolumeMeasure(2)),
    ("persistentvolumeclaim_usage_gigabyte_months", ColumnValue::VolumeMeasure(3)),
    ("infrastructure_usage_cost", ColumnValue::UsageCost),
    ("source_uuid", ColumnValue::SourceUuid),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::target::OCP_DAILY_SUMMARY;

    #[test]
    fn every_column_of_the_target_has_a_value_in_table_order() {
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let target: Vec<&str> = OCP_DAILY_SUMMARY.rollup_columns().map(|column| column.name).collect();
        assert_eq!(names, target);
    }
}
