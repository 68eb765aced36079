//! Configuration → the target of a run, prepared once; a target per source, and of it one handle per window.

use std::sync::Arc;

use futures::FutureExt;
use tracing::warn;

use super::{Context, preflight};
use crate::config::{Config, Postgres, Target};
use crate::enrich::batches::schema;
use crate::error::{ErrorKind, Failure};
use crate::postgres::copy::EncodeError;
use crate::postgres::error::PostgresError;
use crate::rollups::facts::ReferenceData;
use crate::runtime::cpu_pool::CpuPool;
use crate::sink::Sink;
use crate::sink::file::FileSink;
use crate::sink::null::NullSink;
use crate::sink::postgres::{EncodeJob, EncodeRunner, PostgresSink, PostgresSinkOptions};
use crate::telemetry::health::Health;
use crate::telemetry::metrics;
use crate::time::{BillingMonth, Window};

/// The target of one source.
pub enum Sinks {
    /// PostgreSQL; the report period differs from window to window.
    Postgres(Box<PostgresSink>),
    /// One for all windows.
    Same(Arc<dyn Sink>),
}

impl Sinks {
    /// The target, opened and prepared: everything that PostgreSQL has to have for all sources and months is looked at before
    /// anything is read. All sources of a run have the same table and months, so this is done for the first of them; `config` has all
    /// of them.
    pub async fn prepared(config: &Config, context: &Context<'_>, windows: &[Window]) -> Result<Self, Failure> {
        if let Some(postgres) = preflight::database_in_use(config) {
            let (found, _) = preflight::look(config, postgres, windows, context.run_id).await?;
            found.warnings.iter().for_each(|warning| warn!("{warning}"));
            if !found.problems.is_empty() {
                return Err(PostgresError::NotReady(found.problems).into());
            }
        }
        let sinks = Self::unprepared(context)?;
        if let Self::Postgres(sink) = &sinks {
            let months: Vec<BillingMonth> = windows.iter().map(|window| window.month()).collect();
            sink.prepare(&months).await?;
            if config.metrics_listen.is_some() {
                tell_previous_run(sink, config).await?;
            }
        }
        Ok(sinks)
    }

    /// The target of a source after the first. The database is asked when the first day is compared.
    pub fn unprepared(context: &Context<'_>) -> Result<Self, Failure> {
        let config = context.config;
        match &config.target {
            Target::None => Ok(Self::Same(Arc::new(NullSink))),
            Target::File { path, format } => {
                let sink = FileSink::new(path, *format, schema(), context.options.delete_empty_days)?;
                Ok(Self::Same(Arc::new(sink)))
            }
            Target::Postgres => {
                let postgres = config.postgres.as_ref().ok_or_else(|| {
                    Failure::new(ErrorKind::Config, "target.kind is postgres, but target.postgres is missing")
                })?;
                Ok(Self::Postgres(Box::new(postgres_sink(context, postgres)?)))
            }
        }
    }

    /// The target for the days of one window.
    pub fn of(&self, reference: &ReferenceData) -> Arc<dyn Sink> {
        match self {
            Self::Postgres(sink) => Arc::new(sink.for_report_period(reference.report_period_id)),
            Self::Same(sink) => Arc::clone(sink),
        }
    }
}

/// The PostgreSQL target as it is configured. Nothing is asked of the database yet.
pub fn postgres_sink(context: &Context<'_>, postgres: &Postgres) -> Result<PostgresSink, Failure> {
    let config = context.config;
    let options = PostgresSinkOptions {
        source_uuid: config.source.uuid,
        cluster_id: config.source.cluster_id.clone(),
        run_id: context.run_id,
        delete_empty_days: context.options.delete_empty_days,
        stopping: context.options.stopping.clone(),
        max_change_percent: config.max_change_percent,
    };
    let health = Arc::clone(context.progress.health());
    Ok(PostgresSink::new(postgres, options, encode_on(context.pool.clone(), health))?)
}

/// Until this run ends, whoever scrapes it sees the one before: a process that ends at once after setting them would hardly ever
/// be asked for its own figures.
async fn tell_previous_run(sink: &PostgresSink, config: &Config) -> Result<(), Failure> {
    let sources: Vec<_> = config.sources().map(|source| source.uuid).collect();
    if let Some(last) = sink.last_write(&sources).await? {
        metrics::previous_run(last.finished_at_seconds, last.row_count);
    }
    Ok(())
}

/// Encodes rows for COPY on the CPU pool.
fn encode_on(pool: CpuPool, health: Arc<Health>) -> EncodeRunner {
    Arc::new(move |job: EncodeJob| {
        // Batches are asked for as the connection takes them: a COPY that moves is a run that moves.
        health.moved();
        let pool = pool.clone();
        async move {
            let encoded = pool.run(|| "encoding rows".to_owned(), ErrorKind::Bug, move |_| Ok(job.run())).await;
            encoded.unwrap_or_else(|failure| Err(EncodeError::Lost(failure.message)))
        }
        .boxed()
    })
}
