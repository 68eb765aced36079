//! A complete day → its rows merged, finished and written, and what that gave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::SetOnce;
use tracing::{Instrument, error_span, info, warn};

use super::Context;
use super::fingerprint::Ingredients;
use super::schedule::CompleteDay;
use super::unchanged::Decisions;
use crate::aggregate::{DayState, LabelColumnStats, OddNumbers};
use crate::enrich::{BatchSums, DayColumns, EnrichError, Stamp, Sums};
use crate::error::{ErrorKind, Failure};
use crate::merge::{LabelRowCounts, merge};
use crate::rollups::facts::ReferenceData;
use crate::rollups::ocp_daily_summary;
use crate::runtime::cpu_pool::in_pieces;
use crate::runtime::memory_book::Excess;
use crate::sink::{DayRows, Rows, Sink, Written};
use crate::telemetry::metrics::{self, DayOutcome};
use crate::telemetry::report::LabelColumnReport;
use crate::time::UsageDay;
use crate::units::Bytes;

/// What the days of a window are closed with. Rows are read before it is known, where node roles are derived meanwhile.
pub struct DayFacts {
    /// The reference data, roles of nodes included.
    pub reference: Arc<ReferenceData>,
    /// What each day is noted with.
    pub ingredients: BTreeMap<UsageDay, Ingredients>,
}

/// What one day gave.
pub struct ClosedDay {
    /// Rows that were read.
    pub input_row_count: u64,
    /// What the target did.
    pub written: Written,
    /// Name → sum of each summed pod measure over the rows, in units of the target's last place.
    pub sums: Vec<(&'static str, i128)>,
    /// How its label columns were read.
    pub label_stats: Vec<(&'static str, LabelColumnReport)>,
    /// Label rows before and after de-duplication.
    pub label_rows: LabelRowCounts,
    /// Pairs of operator texts that were lost because they hold more than one colon.
    pub operator_pairs_dropped: u64,
    /// Seconds for merging and finishing.
    pub finish_seconds: f64,
    /// Seconds for writing.
    pub write_seconds: f64,
}

/// Merges, finishes and writes one day, as soon as the facts of the window are known.
pub fn close_day<'a>(
    context: &'a Context<'_>,
    decisions: &'a Decisions,
    facts: &'a SetOnce<DayFacts>,
    sink: &'a Arc<dyn Sink>,
    day: CompleteDay,
) -> BoxFuture<'a, Result<ClosedDay, Failure>> {
    let CompleteDay { state, input_row_count } = day;
    let number = state.day;
    async move {
        let config = context.config;
        let DayFacts { reference, ingredients } = facts.wait().await;
        let started = Instant::now();
        let Ingredients { fingerprint, made_from } = ingredients.get(&number).cloned().unwrap_or_default();
        let (claims, source) = (context.sharing.claims(), config.source.uuid);
        let basis = decisions.basis(number, claims.map(|claims| claims.token(source, number)));
        let (facts, semantics) = (Arc::clone(reference), config.semantics);
        let stamp = Stamp {
            report_period_id: reference.report_period_id,
            cluster_id: config.source.cluster_id.clone(),
            cluster_alias: config.source.cluster_alias.clone(),
            source_uuid: config.source.uuid,
        };
        let reads_rows = sink.reads_rows();
        let book = context.book.clone();
        let finish = move |_worker| {
            let (tables, label_rows) = merge(&state);
            stop_if_full(&state)?;
            let finish = ocp_daily_summary::finish(&tables, &facts, semantics)?;
            stop_if_full(&state)?;
            let odd_numbers = state.take_odd_numbers();
            let refuse = |error| because_of(&odd_numbers, error);
            let columns = DayColumns::new(&tables, finish, &stamp, semantics.decimal_rounding()).map_err(refuse)?;
            let (label_stats, dropped) = (label_reports(&state), state.labels.stats().operator_pairs_dropped);
            drop(tables);
            // The day's place in the books has room for its rows already: it goes before they get their own.
            drop(state);
            let held = book.hold_leaving(Bytes(columns.held_bytes() as u64));
            let sums = sums(&columns, reads_rows).map_err(refuse)?;
            Ok((columns, sums, label_rows, label_stats, dropped, held))
        };
        let (columns, [sums, pod_sums], label_rows, label_stats, operator_pairs_dropped, _held) =
            context.pool.run(|| format!("day {number}"), ErrorKind::Bug, finish).await?;
        let finish_seconds = started.elapsed().as_secs_f64();
        let rows = Rows::Columns(Arc::new(columns));
        let rows = DayRows { day: number, rows, input_row_count, fingerprint, made_from, sums, pod_sums, basis };
        let row_count = rows.row_count();
        // The target takes the rows with it.
        let sums = rows.sums.clone();
        let started = Instant::now();
        let written = sink.replace(rows).await?;
        if let (Some(claims), Written::Replaced { .. }) = (claims, written) {
            claims.written(source, number);
        }
        let write_seconds = started.elapsed().as_secs_f64();
        metrics::stage_seconds("merge and finish", finish_seconds);
        metrics::stage_seconds("write", write_seconds);
        for (_, labels) in &label_stats {
            metrics::label_texts(labels.text_rows, labels.json_texts + labels.operator_texts);
        }
        note(number, input_row_count, row_count, written);
        Ok(ClosedDay {
            input_row_count,
            written,
            sums,
            label_stats,
            label_rows,
            operator_pairs_dropped,
            finish_seconds,
            write_seconds,
        })
    }
    .instrument(error_span!("day", day = %number))
    .boxed()
}

/// Counts a day, and says in the log what the target did.
pub fn note(day: UsageDay, input_row_count: u64, row_count: u64, written: Written) {
    match written {
        Written::Replaced { deleted_row_count, .. } => {
            metrics::days(DayOutcome::Written, 1);
            metrics::rows_written(row_count);
            info!(%day, input_row_count, row_count, deleted_row_count, "day written");
        }
        Written::AlreadyThere => {
            metrics::days(DayOutcome::Unchanged, 1);
            info!(%day, input_row_count, row_count, "day is left alone, another run has written the same rows meanwhile");
        }
        Written::LeftAsItWas => {
            metrics::days(DayOutcome::Empty, 1);
            warn!(%day, "day has no input rows and stays as it was");
        }
        Written::Dropped { .. } => {
            metrics::days(DayOutcome::Written, 1);
            metrics::rows_written(row_count);
            info!(%day, input_row_count, row_count, "day counted and dropped");
        }
    }
}

/// The sums of the day over all rows and over those of pods; every number is rounded on the way, and made into columns where nothing
/// else does that.
fn sums(columns: &DayColumns, reads_rows: bool) -> Result<[Sums; 2], EnrichError> {
    let unallocated = columns.unallocated_sums()?;
    let sums =
        in_pieces(columns.batch_count(), |batch| if reads_rows { columns.round(batch) } else { columns.make(batch) });
    let sums = BatchSums::total(sums.into_iter().collect::<Result<Vec<_>, _>>()?);
    let of_pods = |((name, sum), (_, unallocated)): (&(_, i128), &(_, i128))| (*name, sum - unallocated);
    let pod_sums = sums.iter().zip(&unallocated).map(of_pods).collect();
    Ok([sums, pod_sums])
}

/// A number that cannot be stored, by the number of the report that it comes from, if one is to blame.
fn because_of(odd_numbers: &OddNumbers, error: EnrichError) -> Failure {
    error.because_of(|column| {
        let sources = ocp_daily_summary::source_columns(column);
        odd_numbers.among(&sources).map(ToString::to_string)
    })
}

/// What finishing a day takes is accounted for beforehand; should it be more, the run ends here and not by the kernel.
fn stop_if_full(state: &DayState) -> Result<(), Failure> {
    match state.excess() {
        Some(excess @ Excess::Process { .. }) => Err(Failure::new(ErrorKind::MemoryBudget, state.excess_text(excess))),
        _ => Ok(()),
    }
}

fn label_reports(state: &DayState) -> Vec<(&'static str, LabelColumnReport)> {
    let report = |stats: LabelColumnStats| LabelColumnReport {
        map_rows: stats.map_rows,
        struct_rows: stats.struct_rows,
        text_rows: stats.text_rows,
        null_rows: stats.null_rows,
        malformed_rows: stats.malformed_rows,
        json_texts: stats.json_texts.len() as u64,
        operator_texts: stats.operator_texts.len() as u64,
    };
    state.take_label_stats().into_iter().map(|(column, stats)| (column, report(stats))).collect()
}
