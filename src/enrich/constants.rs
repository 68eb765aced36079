//! What is the same on every row of a day → columns, made once and cut to the length of each batch.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Date32Array, FixedSizeBinaryArray, Int32Array, new_null_array};
use arrow_schema::{ArrowError, SchemaRef};

use super::batches::{BATCH_ROWS, NumberForm, Stamp, number_type, schema_with};
use super::texts::{Texts, text_type};
use crate::rollups::ocp_daily_summary::{ColumnValue, RowKind, USAGE_COST};
use crate::time::UsageDay;

/// Columns of `BATCH_ROWS` rows.
#[derive(Debug)]
pub struct Constants {
    /// Schema of the batches.
    pub schema: SchemaRef,
    /// The constant that some rows have.
    pub usage_cost: Texts,
    report_period_id: ArrayRef,
    cluster_id: ArrayRef,
    cluster_alias: ArrayRef,
    source_uuid: ArrayRef,
    day: ArrayRef,
    pod: ArrayRef,
    storage: ArrayRef,
    no_text: ArrayRef,
    no_decimal: ArrayRef,
    no_double: ArrayRef,
}

impl Constants {
    /// The constants of a day.
    pub fn new(day: UsageDay, stamp: &Stamp) -> Result<Self, ArrowError> {
        let text = |text: &str| Texts::new(std::iter::once(text))?.column((0..BATCH_ROWS).map(|_| 0));
        let uuids = stamp.source_uuid.as_bytes().repeat(BATCH_ROWS);
        let none = |form| new_null_array(&number_type(form), BATCH_ROWS);
        Ok(Self {
            schema: schema_with(&text_type(), NumberForm::Decimal),
            usage_cost: Texts::new(std::iter::once(USAGE_COST))?,
            report_period_id: Arc::new(Int32Array::from(vec![stamp.report_period_id; BATCH_ROWS])),
            cluster_id: text(&stamp.cluster_id)?,
            cluster_alias: text(&stamp.cluster_alias)?,
            source_uuid: Arc::new(FixedSizeBinaryArray::try_new(UUID_BYTES, uuids.into(), None)?),
            day: Arc::new(Date32Array::from(vec![day.0; BATCH_ROWS])),
            pod: text("Pod")?,
            storage: text("Storage")?,
            no_text: new_null_array(&text_type(), BATCH_ROWS),
            no_decimal: none(NumberForm::Decimal),
            no_double: none(NumberForm::Double),
        })
    }

    /// A column of constants: those of the day, and null for what a kind of row does not have.
    pub fn column(&self, value: ColumnValue, kind: RowKind, form: NumberForm, row_count: usize) -> ArrayRef {
        let column = match value {
            ColumnValue::ReportPeriod => &self.report_period_id,
            ColumnValue::ClusterId => &self.cluster_id,
            ColumnValue::ClusterAlias => &self.cluster_alias,
            ColumnValue::SourceUuid => &self.source_uuid,
            ColumnValue::Day => &self.day,
            ColumnValue::DataSource if kind == RowKind::Storage => &self.storage,
            ColumnValue::DataSource => &self.pod,
            ColumnValue::Measure(_) | ColumnValue::Capacity(_) | ColumnValue::VolumeMeasure(_) => match form {
                NumberForm::Decimal => &self.no_decimal,
                NumberForm::Double => &self.no_double,
            },
            ColumnValue::CostCategory
            | ColumnValue::Namespace
            | ColumnValue::Node
            | ColumnValue::ResourceId
            | ColumnValue::VolumeName(..)
            | ColumnValue::Labels(_)
            | ColumnValue::AllLabels
            | ColumnValue::UsageCost => &self.no_text,
        };
        column.slice(0, row_count)
    }
}

/// Width of a uuid.
const UUID_BYTES: i32 = 16;
