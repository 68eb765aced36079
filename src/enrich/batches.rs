//! Rows of ids and doubles → Arrow batches in the order of the target's columns.

use std::sync::Arc;

use arrow_array::builder::{Decimal128Builder, StringBuilder};
use arrow_array::{ArrayRef, Date32Array, FixedSizeBinaryArray, Int32Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use uuid::Uuid;

use super::decimal::{DecimalError, decimal};
use crate::error::ErrorKind;
use crate::impl_failure;
use crate::labels::LabelSetId;
use crate::rollups::ocp_daily_summary::{COLUMNS, ColumnValue, Finish, RowKind, SummaryRow, USAGE_COST};
use crate::rollups::semantics::DecimalRounding;
use crate::rollups::tables::DayTables;
use crate::schema::source;
use crate::schema::target::{DECIMAL_PRECISION, DECIMAL_SCALE, OCP_DAILY_SUMMARY, TargetColumn, TargetType};
use crate::time::UsageDay;

/// Rows per batch: each column makes a pass over them, so they should stay in the second-level cache.
const BATCH_ROWS: usize = 2_048;

/// What is the same on every row.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// Report period; null where the reference keeps none.
    pub report_period_id: Option<i32>,
    /// Cluster id.
    pub cluster_id: String,
    /// Cluster alias.
    pub cluster_alias: String,
    /// Source.
    pub source_uuid: Uuid,
}

/// The rows of a day as columns.
#[derive(Debug)]
pub struct DayColumns {
    /// Batches in the order of the rows.
    pub batches: Vec<RecordBatch>,
    /// Sum of each summed pod measure over all rows, as a count of 10^-15.
    pub sums: Vec<(&'static str, i128)>,
}

/// Why rows cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EnrichError {
    /// A number that is no decimal.
    #[error("{day}: {column} of namespace `{namespace}` on node `{node}` {source}")]
    Decimal {
        /// Day of the row.
        day: UsageDay,
        /// Column of the target.
        column: &'static str,
        /// Namespace of the row.
        namespace: String,
        /// Node of the row.
        node: String,
        /// What is wrong with the number.
        #[source]
        source: DecimalError,
    },
    /// Arrow refuses the columns: a promise of ours was broken.
    #[error("{day}: the rows do not form a batch")]
    Arrow {
        /// Day of the rows.
        day: UsageDay,
        /// What Arrow says.
        #[source]
        source: arrow_schema::ArrowError,
    },
}

impl EnrichError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Decimal { .. } => ErrorKind::ValueUnusable,
            Self::Arrow { .. } => ErrorKind::Bug,
        }
    }
}

impl_failure!(EnrichError);

/// The Arrow schema of the batches: the columns that the rollup fills, in table order.
pub fn schema() -> SchemaRef {
    let field = |column: &TargetColumn| {
        let data_type = match column.target_type {
            TargetType::Integer => DataType::Int32,
            TargetType::Varchar(_) | TargetType::Text | TargetType::Json => DataType::Utf8,
            TargetType::Date => DataType::Date32,
            TargetType::Decimal => DataType::Decimal128(DECIMAL_PRECISION, DECIMAL_SCALE),
            TargetType::Uuid => DataType::FixedSizeBinary(16),
        };
        Field::new(column.name, data_type, !column.not_null)
    };
    Arc::new(Schema::new(OCP_DAILY_SUMMARY.rollup_columns().map(field).collect::<Vec<_>>()))
}

/// Turns a day's rows into columns.
/// Shape: n rows → batches of at most 2,048 rows × 36 columns, in the order of the rows.
/// Errors: the first number that numeric(33,15) cannot hold, with the row's keys.
pub fn day_columns(
    tables: &DayTables<'_>,
    finish: &Finish,
    stamp: &Stamp,
    rounding: DecimalRounding,
) -> Result<DayColumns, EnrichError> {
    let schema = schema();
    let builder = BatchBuilder { tables, finish, stamp, rounding };
    let mut sums: Vec<(&'static str, i128)> = COLUMNS
        .iter()
        .filter(|(_, value)| matches!(value, ColumnValue::Number { is_summed: true, .. }))
        .map(|(name, _)| (*name, 0))
        .collect();
    let mut batches = Vec::new();
    for rows in finish.rows.chunks(BATCH_ROWS) {
        let mut columns = Vec::with_capacity(COLUMNS.len());
        for (name, value) in &COLUMNS {
            let column = match value {
                ColumnValue::Number { get, .. } => {
                    let (column, sum) = builder.decimals(name, *get, rows)?;
                    if let Some((_, total)) = sums.iter_mut().find(|(summed, _)| summed == name) {
                        *total = total.saturating_add(sum);
                    }
                    column
                }
                other => builder.plain(*other, rows),
            };
            columns.push(column);
        }
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        batches.push(batch.map_err(|source| EnrichError::Arrow { day: tables.day, source })?);
    }
    Ok(DayColumns { batches, sums })
}

struct BatchBuilder<'a> {
    tables: &'a DayTables<'a>,
    finish: &'a Finish,
    stamp: &'a Stamp,
    rounding: DecimalRounding,
}

impl BatchBuilder<'_> {
    /// The column and its sum.
    fn decimals(
        &self,
        name: &'static str,
        get: fn(&SummaryRow) -> Option<f64>,
        rows: &[SummaryRow],
    ) -> Result<(ArrayRef, i128), EnrichError> {
        let mut builder = Decimal128Builder::with_capacity(rows.len())
            .with_data_type(DataType::Decimal128(DECIMAL_PRECISION, DECIMAL_SCALE));
        let mut sum = 0_i128;
        // Capacities repeat from node to node and request sizes from pod to pod; a number that was seen is not rounded again.
        let mut seen = [(0_u64, 0_i128); REMEMBERED_NUMBERS];
        for row in rows {
            let Some(value) = get(row) else {
                builder.append_null();
                continue;
            };
            let bits = value.to_bits();
            let slot = &mut seen[remembered_at(bits)];
            if slot.0 != bits {
                *slot = (bits, decimal(value, self.rounding).map_err(|source| self.refuse(name, row, source))?);
            }
            let rounded = slot.1;
            // At most 10^33 a row: 10^5 rows of the greatest value still fit into 128 bits.
            sum = sum.saturating_add(rounded);
            builder.append_value(rounded);
        }
        Ok((Arc::new(builder.finish()), sum))
    }

    fn refuse(&self, column: &'static str, row: &SummaryRow, source: DecimalError) -> EnrichError {
        let node = self.tables.names(source::NODE.name).text(row.node).unwrap_or_default();
        EnrichError::Decimal {
            day: self.tables.day,
            column,
            namespace: self.namespace(row).unwrap_or_default().to_owned(),
            node: node.to_owned(),
            source,
        }
    }

    fn namespace(&self, row: &SummaryRow) -> Option<&str> {
        row.fixed_namespace.or_else(|| self.tables.names(source::NAMESPACE.name).text(row.namespace))
    }

    fn plain(&self, value: ColumnValue, rows: &[SummaryRow]) -> ArrayRef {
        let stamp = self.stamp;
        match value {
            ColumnValue::ReportPeriod => integers(rows.iter().map(|_| stamp.report_period_id)),
            ColumnValue::CostCategory => integers(rows.iter().map(|row| row.cost_category_id)),
            ColumnValue::ClusterId => texts(rows.iter().map(|_| Some(stamp.cluster_id.as_str()))),
            ColumnValue::ClusterAlias => texts(rows.iter().map(|_| Some(stamp.cluster_alias.as_str()))),
            ColumnValue::SourceUuid => uuids(stamp.source_uuid, rows.len()),
            ColumnValue::Day => Arc::new(Date32Array::from(vec![self.tables.day.0; rows.len()])),
            ColumnValue::DataSource => texts(rows.iter().map(|row| Some(data_source(row.kind)))),
            ColumnValue::Namespace => texts(rows.iter().map(|row| self.namespace(row))),
            ColumnValue::Name(column, get) => {
                let names = self.tables.names(column.name);
                texts(rows.iter().map(|row| names.text(get(row))))
            }
            ColumnValue::Labels(kind) => {
                texts(rows.iter().map(|row| if row.kind == kind { self.labels(row.labels) } else { None }))
            }
            ColumnValue::AllLabels => texts(rows.iter().map(|row| Some(self.labels(row.labels).unwrap_or("{}")))),
            ColumnValue::UsageCost => {
                texts(rows.iter().map(|row| (row.kind != RowKind::Unallocated).then_some(USAGE_COST)))
            }
            ColumnValue::Number { .. } => unreachable!("numbers are rounded, not copied"),
        }
    }

    fn labels(&self, set: Option<LabelSetId>) -> Option<&str> {
        self.finish.label_texts.get(&set?).map(String::as_str)
    }
}

/// Slots for numbers that were rounded already; a power of two. Zero rounds to zero, so an unused slot is a right one.
const REMEMBERED_NUMBERS: usize = 1_024;

/// Slot of a number: the high bits of a multiplicative hash.
fn remembered_at(bits: u64) -> usize {
    let hash = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> (u64::BITS - REMEMBERED_NUMBERS.trailing_zeros())).expect("ten bits fit")
}

fn data_source(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Pod | RowKind::Unallocated => "Pod",
        RowKind::Storage => "Storage",
    }
}

/// Measures first, so that the bytes are copied once into a buffer of the right size.
fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let values: Vec<Option<&str>> = values.collect();
    let bytes = values.iter().flatten().map(|text| text.len()).sum();
    let mut builder = StringBuilder::with_capacity(values.len(), bytes);
    values.into_iter().for_each(|value| builder.append_option(value));
    Arc::new(builder.finish())
}

fn integers(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

fn uuids(uuid: Uuid, row_count: usize) -> ArrayRef {
    let values = uuid.as_bytes().repeat(row_count);
    let width = i32::try_from(uuid.as_bytes().len()).expect("a uuid has 16 bytes");
    Arc::new(FixedSizeBinaryArray::new(width, values.into(), None))
}
