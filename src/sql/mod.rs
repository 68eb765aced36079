//! Plan and facts → the rows of a day once more, by the reference SQL on DataFusion: the second opinion of `verify`.
//!
//! Shares nothing with the engine that writes the rows but names of columns, the plan (which row groups belong to which
//! day) and the facts of the reference: labels, LIKE, sums and formulas are its own, written from the contract.

mod coerce;
mod error;
mod functions;
mod label_text;
mod number_text;
mod scan;
mod segments;
mod session;

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionContext;
use uuid::Uuid;

pub use error::RecomputeError;

use crate::error::Failure;
use crate::plan::{ChunkPlan, Plan};
use crate::rollups::facts::{NodeRole, ReferenceData};
use crate::rollups::reference_sql::{self as scripts, Parameter, semantics_parameters, statements, text_literal};
use crate::rollups::semantics::Semantics;
use crate::schema::source::{NAMESPACE, NODE};
use crate::schema::target::{OCP_DAILY_SUMMARY, TargetColumn, TargetType, USAGE_MARK};
use crate::store::Store;
use crate::time::{UsageDay, Window};
use crate::units::Bytes;
use error::failure;
use label_text::{LabelRules, as_written};

/// Rows of one day as the reference SQL gives them.
#[derive(Debug, Clone)]
pub struct RecomputedDay {
    /// The day.
    pub day: UsageDay,
    /// Columns of `TargetTable::rollup_columns` in order, types as in `sink::DayRows` except that decimals are Float64,
    /// not rounded; every number is finite. Rows in no particular order.
    pub batches: Vec<RecordBatch>,
    /// Rows of the day in all reports that the rollup reads.
    pub input_row_count: u64,
}

/// What the configuration says about the rows.
#[derive(Debug, Clone)]
pub struct RecomputeSettings {
    /// Which reference the numbers agree with.
    pub semantics: Semantics,
    /// Whether a malformed label text is taken as `{}` (`balanced` only).
    pub malformed_labels_are_empty: bool,
    /// Stamped on every row.
    pub cluster_id: String,
    /// Stamped on every row.
    pub cluster_alias: String,
    /// Stamped on every row.
    pub source_uuid: Uuid,
    /// What DataFusion may hold in memory; it spills to temporary files beyond.
    pub memory_limit: Bytes,
    /// Partitions of every statement.
    pub threads: usize,
}

/// How this engine reads one label text: the enabled keys as canonical JSON (null only under `trino`, for null), or why not.
pub fn kept_labels(
    semantics: Semantics,
    enabled_keys: &[String],
    text: Option<&str>,
) -> Result<Option<String>, RecomputeError> {
    let kept = LabelRules::new(semantics, enabled_keys, false).kept(text.map(as_written).as_deref());
    kept.map_err(|problem| RecomputeError::label("label", problem))
}

/// The second engine for one window.
pub struct Recompute<'a> {
    store: &'a Store,
    settings: &'a RecomputeSettings,
    reference: &'a ReferenceData,
    runtime: Arc<RuntimeEnv>,
}

impl<'a> Recompute<'a> {
    /// Errors: DataFusion cannot set up its memory.
    pub fn new(
        store: &'a Store,
        settings: &'a RecomputeSettings,
        reference: &'a ReferenceData,
    ) -> Result<Self, Failure> {
        Ok(Self { store, settings, reference, runtime: session::runtime(settings.memory_limit)? })
    }

    /// The rows of one day of a plan.
    /// Errors: an object of the day that cannot be used, whatever the SQL refuses, and numbers that are not finite.
    pub async fn day(&self, plan: &Plan, day: UsageDay) -> Result<RecomputedDay, Failure> {
        refuse_bad_objects(plan, |days| days.contains(&day))?;
        let chunks: Vec<&ChunkPlan> = plan.chunks.iter().filter(|chunk| chunk.days.contains(&day)).collect();
        let session = self.session(&chunks)?;
        let found = self.run_day(&session, day).await.map_err(|error| failure(&error));
        let (batches, input_row_count) = found?;
        refuse_not_finite(&batches, day)?;
        Ok(RecomputedDay { day, batches, input_row_count })
    }

    /// The roles of a window's nodes (contract, section 3.3), sorted.
    /// Errors: any object of the window that cannot be used, since a role may depend on any of its days.
    pub async fn node_roles(&self, plan: &Plan) -> Result<Vec<NodeRole>, Failure> {
        refuse_bad_objects(plan, |_| true)?;
        let session = self.session(&plan.chunks.iter().collect::<Vec<_>>())?;
        let Window { start, end } = plan.window;
        let bounds = [given("$start", midnight(start)), given("$end", midnight(end.next()))];
        let mut roles = Vec::new();
        for statement in statements(scripts::NODE_ROLES, &bounds) {
            for batch in query(&session, &statement).await.map_err(|error| failure(&error))? {
                roles.extend(roles_of(&batch).map_err(|error| failure(&error))?);
            }
        }
        roles.sort();
        Ok(roles)
    }

    fn session(&self, chunks: &[&ChunkPlan]) -> Result<SessionContext, Failure> {
        let settings = self.settings;
        let (semantics, threads) = (settings.semantics, settings.threads);
        let keys = &self.reference.enabled_tag_keys;
        let rules = LabelRules::new(semantics, keys, settings.malformed_labels_are_empty);
        let session = session::session(&self.runtime, threads, rules, semantics);
        session::add_reports(&session, self.store, semantics, chunks, threads)
            .and_then(|()| session::add_facts(&session, self.reference))
            .map_err(|error| failure(&error))?;
        Ok(session)
    }

    async fn run_day(
        &self,
        session: &SessionContext,
        day: UsageDay,
    ) -> Result<(Vec<RecordBatch>, u64), DataFusionError> {
        let mut last = Vec::new();
        for statement in statements(scripts::DAILY_SUMMARY, &self.parameters(day)) {
            last = query(session, &statement).await?;
        }
        let counted = query(session, scripts::INPUT_ROW_COUNT).await?;
        let count = counted.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0));
        let schema = rows_schema();
        let batches = last.iter().map(|batch| as_target(batch, &schema)).collect::<Result<_, _>>()?;
        Ok((batches, u64::try_from(count).unwrap_or(0)))
    }

    fn parameters(&self, day: UsageDay) -> Vec<Parameter> {
        let settings = self.settings;
        let period = self.reference.report_period_id.map_or("NULL".to_owned(), |id| id.to_string());
        let mut parameters = semantics_parameters(settings.semantics);
        parameters.extend([
            given("$day", midnight(day)),
            given("$next_day", midnight(day.next())),
            given("$month_seconds", format!("{}.0", 86_400 * u64::from(day.month().day_count()))),
            given("$report_period_id", period),
            given("$cluster_id", text_literal(&settings.cluster_id)),
            given("$cluster_alias", text_literal(&settings.cluster_alias)),
            given("$source_uuid", format!("X'{}'", settings.source_uuid.simple())),
        ]);
        parameters
    }
}

fn given(name: &'static str, literal: String) -> Parameter {
    Parameter { name, literal, meaning: "" }
}

fn midnight(day: UsageDay) -> String {
    format!("TIMESTAMP '{day} 00:00:00'")
}

/// A plan says which days its unusable objects may belong to.
fn refuse_bad_objects(plan: &Plan, concerns: impl Fn(&[UsageDay]) -> bool) -> Result<(), Failure> {
    match plan.bad_objects.iter().find(|bad| concerns(&bad.days)) {
        Some(bad) => Err(Failure::new(bad.failure.kind, bad.failure.message_with_causes())),
        None => Ok(()),
    }
}

async fn query(session: &SessionContext, statement: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    session.sql(statement).await?.collect().await
}

/// The Arrow schema of the rows: `sink::DayRows` with doubles in place of decimals.
fn rows_schema() -> SchemaRef {
    let field = |column: &TargetColumn| {
        let data_type = match column.target_type {
            TargetType::Integer => DataType::Int32,
            TargetType::Varchar(_) | TargetType::Text | TargetType::Json => DataType::Utf8,
            TargetType::Date => DataType::Date32,
            TargetType::Decimal => DataType::Float64,
            TargetType::Uuid => DataType::FixedSizeBinary(16),
        };
        Field::new(column.name, data_type, !column.not_null)
    };
    Arc::new(Schema::new(OCP_DAILY_SUMMARY.rollup_columns().map(field).collect::<Vec<_>>()))
}

/// The columns that the SQL gave, by name, in the types of the target.
fn as_target(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, DataFusionError> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let position = batch.schema().index_of(field.name())?;
        columns.push(cast(batch.column(position), field.data_type())?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Names a row of the report rather than one that was computed from it: unallocated capacity has no usage cost.
fn refuse_not_finite(batches: &[RecordBatch], day: UsageDay) -> Result<(), Failure> {
    let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(()) };
    for is_computed in [false, true] {
        for (position, field) in schema.fields().iter().enumerate() {
            for batch in batches {
                let Some(numbers) = batch.column(position).as_primitive_opt::<Float64Type>() else { continue };
                let is_wanted =
                    |row: usize| batch.column_by_name(USAGE_MARK).is_some_and(|cost| cost.is_null(row)) == is_computed;
                let is_bad =
                    |row: &usize| is_wanted(*row) && numbers.is_valid(*row) && !numbers.value(*row).is_finite();
                let Some(row) = (0..numbers.len()).find(is_bad) else { continue };
                let text = |name| {
                    batch.column_by_name(name).map_or("", |names| names.as_string::<i32>().value(row)).to_owned()
                };
                let (namespace, node) = (text(NAMESPACE.name), text(NODE.name));
                let column = field.name().clone();
                return Err(RecomputeError::NotFinite { day, column, namespace, node }.into());
            }
        }
    }
    Ok(())
}

fn roles_of(batch: &RecordBatch) -> Result<Vec<NodeRole>, DataFusionError> {
    let texts = |position: usize| -> Result<Vec<Option<String>>, DataFusionError> {
        let column = cast(batch.column(position), &DataType::Utf8)?;
        Ok(column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    };
    let rows = texts(0)?.into_iter().zip(texts(1)?).zip(texts(2)?);
    // The null node has no name to join on.
    Ok(rows.filter_map(|((node, resource_id), role)| Some(NodeRole { node: node?, resource_id, role })).collect())
}
