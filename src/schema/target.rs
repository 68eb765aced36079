//! The summary table that is written (contract, section 3.9): columns in the order of the reference's table.

/// Type of a column in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetType {
    /// `uuid`
    Uuid,
    /// `integer`
    Integer,
    /// `varchar(n)`; length in characters.
    Varchar(u32),
    /// `text`
    Text,
    /// `date`
    Date,
    /// `jsonb`
    Json,
    /// `numeric(33,15)`
    Decimal,
}

/// Total digits of a decimal column.
pub const DECIMAL_PRECISION: u8 = 33;
/// Digits after the point of a decimal column.
pub const DECIMAL_SCALE: i8 = 15;

/// Who fills a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// This rollup.
    Rollup,
    /// The sink, at the moment of writing (the random row id).
    Sink,
    /// Later steps of the reference (cost model, back-population); left null here.
    Reference,
}

/// One column of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct TargetColumn {
    /// Name in PostgreSQL.
    pub name: &'static str,
    /// Its type.
    pub target_type: TargetType,
    /// `NOT NULL`.
    pub not_null: bool,
    /// Who fills it.
    pub writer: Writer,
}

/// A table and the columns that identify its structure.
#[derive(Debug)]
pub struct TargetTable {
    /// Default name; `target.postgres.table` may set another.
    pub name: &'static str,
    /// All columns in table order.
    pub columns: &'static [TargetColumn],
    /// The date column by which the table is partitioned and replaced.
    pub day_column: &'static str,
}

impl TargetTable {
    /// The columns that this rollup fills, in table order.
    pub fn rollup_columns(&self) -> impl Iterator<Item = &'static TargetColumn> {
        self.columns.iter().filter(|column| column.writer == Writer::Rollup)
    }
}

const fn rollup(name: &'static str, target_type: TargetType) -> TargetColumn {
    TargetColumn { name, target_type, not_null: false, writer: Writer::Rollup }
}

const fn reference(name: &'static str, target_type: TargetType) -> TargetColumn {
    TargetColumn { name, target_type, not_null: false, writer: Writer::Reference }
}

use TargetType::{Date, Decimal, Integer, Json, Text, Uuid, Varchar};

/// Set on every row of usage, null on those of unallocated capacity.
pub const USAGE_MARK: &str = "infrastructure_usage_cost";

/// `reporting_ocpusagelineitem_daily_summary`.
pub static OCP_DAILY_SUMMARY: TargetTable = TargetTable {
    name: "reporting_ocpusagelineitem_daily_summary",
    day_column: "usage_start",
    columns: &[
        TargetColumn { name: "uuid", target_type: Uuid, not_null: true, writer: Writer::Sink },
        rollup("report_period_id", Integer),
        rollup("cost_category_id", Integer),
        rollup("cluster_id", Varchar(50)),
        rollup("cluster_alias", Varchar(256)),
        rollup("data_source", Varchar(64)),
        rollup("namespace", Varchar(253)),
        rollup("node", Varchar(253)),
        rollup("resource_id", Varchar(253)),
        TargetColumn { name: "usage_start", target_type: Date, not_null: true, writer: Writer::Rollup },
        TargetColumn { name: "usage_end", target_type: Date, not_null: true, writer: Writer::Rollup },
        rollup("pod_labels", Json),
        rollup("pod_usage_cpu_core_hours", Decimal),
        rollup("pod_request_cpu_core_hours", Decimal),
        rollup("pod_effective_usage_cpu_core_hours", Decimal),
        rollup("pod_limit_cpu_core_hours", Decimal),
        rollup("pod_usage_memory_gigabyte_hours", Decimal),
        rollup("pod_request_memory_gigabyte_hours", Decimal),
        rollup("pod_effective_usage_memory_gigabyte_hours", Decimal),
        rollup("pod_limit_memory_gigabyte_hours", Decimal),
        rollup("node_capacity_cpu_cores", Decimal),
        rollup("node_capacity_cpu_core_hours", Decimal),
        rollup("node_capacity_memory_gigabytes", Decimal),
        rollup("node_capacity_memory_gigabyte_hours", Decimal),
        rollup("cluster_capacity_cpu_core_hours", Decimal),
        rollup("cluster_capacity_memory_gigabyte_hours", Decimal),
        rollup("persistentvolumeclaim", Varchar(253)),
        rollup("persistentvolume", Varchar(253)),
        rollup("storageclass", Varchar(253)),
        rollup("volume_labels", Json),
        rollup("all_labels", Json),
        rollup("persistentvolumeclaim_capacity_gigabyte", Decimal),
        rollup("persistentvolumeclaim_capacity_gigabyte_months", Decimal),
        rollup("volume_request_storage_gigabyte_months", Decimal),
        rollup("persistentvolumeclaim_usage_gigabyte_months", Decimal),
        reference("infrastructure_raw_cost", Decimal),
        reference("infrastructure_project_raw_cost", Decimal),
        reference("infrastructure_data_in_gigabytes", Decimal),
        reference("infrastructure_data_out_gigabytes", Decimal),
        rollup(USAGE_MARK, Json),
        reference("infrastructure_markup_cost", Decimal),
        reference("infrastructure_project_markup_cost", Decimal),
        reference("infrastructure_monthly_cost", Decimal),
        reference("infrastructure_monthly_cost_json", Json),
        reference("supplementary_usage_cost", Json),
        reference("supplementary_monthly_cost", Decimal),
        reference("supplementary_monthly_cost_json", Json),
        reference("infrastructure_project_monthly_cost", Json),
        reference("supplementary_project_monthly_cost", Json),
        reference("cost_model_cpu_cost", Decimal),
        reference("cost_model_memory_cost", Decimal),
        reference("cost_model_volume_cost", Decimal),
        reference("cost_model_gpu_cost", Decimal),
        reference("cost_model_rate_type", Text),
        reference("monthly_cost_type", Text),
        rollup("source_uuid", Uuid),
        reference("raw_currency", Text),
        reference("distributed_cost", Decimal),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollup_fills_36_of_58_columns() {
        assert_eq!(OCP_DAILY_SUMMARY.columns.len(), 58);
        assert_eq!(OCP_DAILY_SUMMARY.rollup_columns().count(), 36);
    }
}
