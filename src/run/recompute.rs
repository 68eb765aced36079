//! Configuration → the rows of every day of the period by the second engine, for whoever compares them.
//!
//! Lists, reads footers, plans and loads the reference data exactly as a run does; everything after that is SQL.

use tracing::info;

use super::{Resources, RunOptions, roles, window};
use crate::config::{Config, NodeRoles, OnMalformedLabel};
use crate::error::Failure;
use crate::reference;
use crate::runtime::limits::{default_workers, limits};
use crate::sql::{Recompute, RecomputeSettings, RecomputedDay};
use crate::telemetry::progress::Progress;
use crate::time::Window;
use crate::units::Bytes;

/// The most that the second engine takes by itself; sorting and grouping a day of ten million rows fits into less.
const MOST_MEMORY: Bytes = Bytes(2 << 30);

/// Computes every day of the period and hands each one on, in order. A window without any object gives days without rows.
/// Errors: the first that any stage or `each_day` gives; no object in the whole period, unless the options accept that.
pub async fn recompute(
    config: &Config,
    options: &RunOptions,
    progress: &Progress,
    mut each_day: impl AsyncFnMut(RecomputedDay) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let resources = Resources::new(config)?;
    let context = resources.context(config, options, progress);
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let settings = settings(config);
    let mut object_count = 0;
    for window in &windows {
        let (prepared, _) = window::prepare(&context, *window).await?;
        object_count += prepared.plan.object_count;
        let mut facts = reference::load(config, *window, context.run_id).await?;
        if matches!(config.reference.node_roles, NodeRoles::Derive) && prepared.plan.object_count > 0 {
            let roles_plan = roles::role_plan(&context, &prepared);
            facts.node_roles = Recompute::new(&resources.store, &settings, &facts)?.node_roles(&roles_plan).await?;
        }
        let engine = Recompute::new(&resources.store, &settings, &facts)?;
        for day in window.days() {
            let recomputed = engine.day(&prepared.plan, day).await?;
            let row_count: usize = recomputed.batches.iter().map(|batch| batch.num_rows()).sum();
            info!(%day, input_row_count = recomputed.input_row_count, row_count, "day recomputed");
            each_day(recomputed).await?;
        }
    }
    if object_count == 0 && !options.allow_empty {
        return Err(window::no_objects(&context, &windows).await);
    }
    Ok(())
}

fn settings(config: &Config) -> RecomputeSettings {
    let limits = limits(config.performance.memory_limit);
    RecomputeSettings {
        semantics: config.semantics,
        malformed_labels_are_empty: config.on_malformed_label == OnMalformedLabel::Empty,
        cluster_id: config.source.cluster_id.clone(),
        cluster_alias: config.source.cluster_alias.clone(),
        source_uuid: config.source.uuid,
        memory_limit: config.performance.memory_budget.unwrap_or(Bytes(limits.memory.0 / 2).min(MOST_MEMORY)),
        threads: config.performance.max_workers.unwrap_or_else(|| default_workers(limits.cpus)),
    }
}
