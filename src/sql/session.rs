//! Facts and reports of one day → a DataFusion session that runs the reference SQL within a bounded memory pool.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringViewArray};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::error::failure;
use super::functions::functions;
use super::label_text::LabelRules;
use super::scan::ReportTable;
use crate::error::Failure;
use crate::plan::ChunkPlan;
use crate::rollups::facts::ReferenceData;
use crate::rollups::semantics::Semantics;
use crate::schema::source::{self as report, Column, ReportType, Variant};
use crate::store::Store;
use crate::units::Bytes;

/// Rows per batch: DataFusion's own choice.
const BATCH_ROWS: usize = 8_192;

/// Columns of the pod report that the SQL may use.
const POD_COLUMNS: [&Column; 19] = [
    &report::INTERVAL_START,
    &report::NAMESPACE,
    &report::NODE,
    &report::POD,
    &report::RESOURCE_ID,
    &report::NODE_ROLE,
    &report::POD_LABELS,
    &report::POD_USAGE_CPU_CORE_SECONDS,
    &report::POD_REQUEST_CPU_CORE_SECONDS,
    &report::POD_EFFECTIVE_USAGE_CPU_CORE_SECONDS,
    &report::POD_LIMIT_CPU_CORE_SECONDS,
    &report::POD_USAGE_MEMORY_BYTE_SECONDS,
    &report::POD_REQUEST_MEMORY_BYTE_SECONDS,
    &report::POD_EFFECTIVE_USAGE_MEMORY_BYTE_SECONDS,
    &report::POD_LIMIT_MEMORY_BYTE_SECONDS,
    &report::NODE_CAPACITY_CPU_CORES,
    &report::NODE_CAPACITY_CPU_CORE_SECONDS,
    &report::NODE_CAPACITY_MEMORY_BYTES,
    &report::NODE_CAPACITY_MEMORY_BYTE_SECONDS,
];

/// Columns of the storage report.
const STORAGE_COLUMNS: [&Column; 13] = [
    &report::INTERVAL_START,
    &report::NAMESPACE,
    &report::POD,
    &report::PERSISTENTVOLUMECLAIM,
    &report::PERSISTENTVOLUME,
    &report::STORAGECLASS,
    &report::CSI_VOLUME_HANDLE,
    &report::PERSISTENTVOLUME_LABELS,
    &report::PERSISTENTVOLUMECLAIM_LABELS,
    &report::PERSISTENTVOLUMECLAIM_CAPACITY_BYTES,
    &report::PERSISTENTVOLUMECLAIM_CAPACITY_BYTE_SECONDS,
    &report::VOLUME_REQUEST_STORAGE_BYTE_SECONDS,
    &report::PERSISTENTVOLUMECLAIM_USAGE_BYTE_SECONDS,
];

/// Columns of the node labels.
const NODE_LABEL_COLUMNS: [&Column; 3] = [&report::INTERVAL_START, &report::NODE, &report::NODE_LABELS];

/// Columns of the namespace labels.
const NAMESPACE_LABEL_COLUMNS: [&Column; 3] = [&report::INTERVAL_START, &report::NAMESPACE, &report::NAMESPACE_LABELS];

/// The memory of all sessions of a run.
pub(super) fn runtime(memory_limit: Bytes) -> Result<Arc<RuntimeEnv>, Failure> {
    let pool = FairSpillPool::new(usize::try_from(memory_limit.0).unwrap_or(usize::MAX));
    RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc().map_err(|error| failure(&error))
}

/// An empty session with the functions of the reference SQL.
pub(super) fn session(
    runtime: &Arc<RuntimeEnv>,
    threads: usize,
    rules: LabelRules,
    semantics: Semantics,
) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(threads.max(1)).with_batch_size(BATCH_ROWS);
    let session = SessionContext::new_with_config_rt(config, Arc::clone(runtime));
    functions(rules, semantics == Semantics::SelfHosted)
        .into_iter()
        .for_each(|function| session.register_udf(function));
    session
}

/// Registers the reports: row groups by the folder they lie in.
pub(super) fn add_reports(
    session: &SessionContext,
    store: &Store,
    semantics: Semantics,
    chunks: &[&ChunkPlan],
    partitions: usize,
) -> Result<(), DataFusionError> {
    let of = |report: ReportType, variants: &[Variant]| {
        let mut chosen: Vec<ChunkPlan> = Vec::new();
        for chunk in chunks {
            let table = chunk.footer.object.table;
            // A row group that several scans of the plan read is one row group here.
            let is_known = chosen
                .iter()
                .any(|known| known.row_group == chunk.row_group && known.footer.object.key == chunk.footer.object.key);
            if table.report == report && variants.contains(&table.variant) && !is_known {
                chosen.push((*chunk).clone());
            }
        }
        chosen
    };
    // Row 0: balanced reads raw objects, and the daily ones only of a report that has no raw ones; the plan holds one of
    // both. The others read the daily report, and the raw one for capacities.
    let usage: &[Variant] = match semantics {
        Semantics::Balanced => &[Variant::Raw, Variant::Daily],
        Semantics::SelfHosted | Semantics::Trino => &[Variant::Daily],
    };
    let tables: [(&str, &[&'static Column], Vec<ChunkPlan>); 5] = [
        ("pod_usage", &POD_COLUMNS, of(ReportType::PodUsage, usage)),
        ("pod_usage_hourly", &POD_COLUMNS, of(ReportType::PodUsage, &[Variant::Raw])),
        ("storage_usage", &STORAGE_COLUMNS, of(ReportType::StorageUsage, usage)),
        (ReportType::NodeLabels.folder(), &NODE_LABEL_COLUMNS, of(ReportType::NodeLabels, usage)),
        (ReportType::NamespaceLabels.folder(), &NAMESPACE_LABEL_COLUMNS, of(ReportType::NamespaceLabels, usage)),
    ];
    for (name, columns, chunks) in tables {
        session.register_table(name, Arc::new(ReportTable::new(store, columns, chunks, partitions)))?;
    }
    Ok(())
}

/// Registers the small tables.
pub(super) fn add_facts(session: &SessionContext, facts: &ReferenceData) -> Result<(), DataFusionError> {
    let categories = &facts.cost_categories;
    let patterns: StringViewArray =
        categories.iter().map(|category| Some(category.namespace_pattern.as_str())).collect();
    let ids: Int32Array = categories.iter().map(|category| Some(category.cost_category_id)).collect();
    let columns: [(&str, ArrayRef, bool); 2] = [("pattern", Arc::new(patterns), true), ("id", Arc::new(ids), true)];
    session.register_batch("cost_categories", RecordBatch::try_from_iter_with_nullable(columns)?)?;
    let roles = &facts.node_roles;
    let nodes: StringViewArray = roles.iter().map(|role| Some(role.node.as_str())).collect();
    let resource_ids: StringViewArray = roles.iter().map(|role| role.resource_id.as_deref()).collect();
    let names: StringViewArray = roles.iter().map(|role| role.role.as_deref()).collect();
    let columns: [(&str, ArrayRef, bool); 3] = [
        (report::NODE.name, Arc::new(nodes), true),
        (report::RESOURCE_ID.name, Arc::new(resource_ids), true),
        ("role", Arc::new(names), true),
    ];
    session.register_batch("node_roles", RecordBatch::try_from_iter_with_nullable(columns)?)?;
    Ok(())
}
