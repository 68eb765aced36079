//! Rows of ids and doubles → Arrow batches in the order of the target's columns.

use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Float64Array, Int32Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use uuid::Uuid;

use super::constants::Constants;
use super::decimal::decimal;
use super::error::EnrichError;
use super::sums::{BatchSums, Sums};
use super::texts::{NULL, Texts, text_type};
use crate::labels::LabelSetId;
use crate::rollups::ocp_daily_summary::{
    COLUMNS, CapacityRow, ColumnValue, Finish, LabelTexts, Namespaces, POD_SUMS, RowKind, UsageRow, VolumeRow,
};
use crate::rollups::semantics::DecimalRounding;
use crate::rollups::tables::{DayTables, NameId, NameTable};
use crate::schema::source;
use crate::schema::target::{DECIMAL_PRECISION, DECIMAL_SCALE, OCP_DAILY_SUMMARY, TargetColumn, TargetType};
use crate::time::UsageDay;

/// Rows per batch: each column makes a pass over them, so they should stay in the second-level cache.
pub(super) const BATCH_ROWS: usize = 2_048;

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

/// In which form numbers stand in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberForm {
    /// Rounded to the target's decimals (Decimal128): what is written.
    Decimal,
    /// As they were computed (Float64): what another engine is compared with.
    Double,
}

/// The rows of a day as columns, made batch by batch when they are asked for: the batch that is looked at is in the cache,
/// the others take no memory.
#[derive(Debug)]
pub struct DayColumns {
    pub(super) day: UsageDay,
    pub(super) finish: Finish,
    pub(super) rounding: DecimalRounding,
    /// The rounded form of `Finish::capacities`.
    capacities: Vec<[Option<i128>; 6]>,
    pub(super) namespaces: Texts,
    pub(super) nodes: Texts,
    resource_ids: Texts,
    /// Texts of the volumes' columns, by name of the column.
    pub(super) volume_names: Vec<(&'static str, Texts)>,
    labels: Texts,
    constants: Constants,
}

/// The Arrow schema of the rows with plain texts: the columns that the rollup fills, in table order.
pub fn schema() -> SchemaRef {
    schema_with(&DataType::Utf8, NumberForm::Decimal)
}

pub(super) fn schema_with(text_type: &DataType, form: NumberForm) -> SchemaRef {
    let field = |column: &TargetColumn| {
        let data_type = match column.target_type {
            TargetType::Integer => DataType::Int32,
            TargetType::Varchar(_) | TargetType::Text | TargetType::Json => text_type.clone(),
            TargetType::Date => DataType::Date32,
            TargetType::Decimal => number_type(form),
            TargetType::Uuid => DataType::FixedSizeBinary(16),
        };
        Field::new(column.name, data_type, !column.not_null)
    };
    Arc::new(Schema::new(OCP_DAILY_SUMMARY.rollup_columns().map(field).collect::<Vec<_>>()))
}

pub(super) fn number_type(form: NumberForm) -> DataType {
    match form {
        NumberForm::Decimal => DataType::Decimal128(DECIMAL_PRECISION, DECIMAL_SCALE),
        NumberForm::Double => DataType::Float64,
    }
}

impl DayColumns {
    /// Takes a day's rows, and of its names what they refer to.
    /// Errors: a capacity that numeric(33,15) cannot hold, with the keys of its first row.
    pub fn new(
        tables: &DayTables<'_>,
        mut finish: Finish,
        stamp: &Stamp,
        rounding: DecimalRounding,
    ) -> Result<Self, EnrichError> {
        let day = tables.day;
        let broken = |source| EnrichError::Arrow { day, source };
        let texts = |table: &NameTable| {
            let ids = (0..u32::try_from(table.len()).unwrap_or(u32::MAX)).map(NameId);
            Texts::new(ids.map(|id| table.text(id).unwrap_or_default())).map_err(broken)
        };
        let namespaces = Namespaces::new(tables.names(source::NAMESPACE.name));
        let namespace_ids = (0..u32::try_from(namespaces.id_count()).unwrap_or(u32::MAX)).map(NameId);
        let mut volume_names = Vec::new();
        for (_, value) in &COLUMNS {
            if let ColumnValue::VolumeName(column, _) = value {
                volume_names.push((column.name, texts(tables.names(column.name))?));
            }
        }
        let (text, ends) = finish.label_texts.take();
        let labels = Texts::joined(text, &ends).map_err(broken)?;
        let mut this = Self {
            day,
            rounding,
            capacities: Vec::new(),
            namespaces: Texts::new(namespace_ids.map(|id| namespaces.text(id).unwrap_or_default())).map_err(broken)?,
            nodes: texts(tables.names(source::NODE.name))?,
            resource_ids: texts(tables.names(source::RESOURCE_ID.name))?,
            volume_names,
            labels,
            constants: Constants::new(day, stamp).map_err(broken)?,
            finish,
        };
        this.capacities = this.rounded_capacities()?;
        Ok(this)
    }

    /// The day.
    pub fn day(&self) -> UsageDay {
        self.day
    }

    /// Number of rows.
    pub fn row_count(&self) -> u64 {
        (self.finish.usage_order.len() + self.finish.volumes.len()) as u64
    }

    /// Memory that the rows take until they are dropped; a batch on its way comes on top.
    pub fn held_bytes(&self) -> usize {
        let texts = [&self.namespaces, &self.nodes, &self.resource_ids, &self.labels];
        let texts = texts.into_iter().chain(self.volume_names.iter().map(|(_, texts)| texts));
        let capacities = self.capacities.len() * (size_of::<[Option<i128>; 6]>() + size_of::<CapacityRow>());
        self.finish.held_bytes() + capacities + texts.map(Texts::held_bytes).sum::<usize>()
    }

    /// Number of batches. No batch holds both usage and volumes.
    pub fn batch_count(&self) -> usize {
        self.usage_batch_count() + self.finish.volumes.len().div_ceil(BATCH_ROWS)
    }

    /// The position of a batch's first row among all rows.
    pub fn first_row_index(&self, index: usize) -> usize {
        match index.checked_sub(self.usage_batch_count()) {
            None => index * BATCH_ROWS,
            Some(at) => self.finish.usage_order.len() + at * BATCH_ROWS,
        }
    }

    /// One batch, as it is written.
    /// Shape: at most 2,048 rows × 36 columns; the batches one after the other hold the rows in their order.
    /// Errors: the first number that numeric(33,15) cannot hold, with the row's keys.
    pub fn batch(&self, index: usize) -> Result<RecordBatch, EnrichError> {
        self.batch_in(index, NumberForm::Decimal)
    }

    /// One batch with numbers in the given form.
    pub fn batch_in(&self, index: usize, form: NumberForm) -> Result<RecordBatch, EnrichError> {
        self.summed_batch(index, form, &mut [0; POD_SUMS])
    }

    /// Rounds every number of a batch once, for its sums and for what cannot be rounded; makes no columns.
    pub fn round(&self, index: usize) -> Result<BatchSums, EnrichError> {
        let mut sums = BatchSums::default();
        let (usage, volumes) = self.rows(index);
        for (name, value) in &COLUMNS {
            match value {
                ColumnValue::Measure(position) => {
                    self.rounded_measure(name, *position, usage, |_| {}, &mut sums.0[*position])?;
                }
                ColumnValue::VolumeMeasure(position) => {
                    self.rounded_volume_measure(name, *position, volumes)?;
                }
                _ => {}
            }
        }
        Ok(sums)
    }

    /// Makes a batch and drops it: for a target that only counts.
    pub fn make(&self, index: usize) -> Result<BatchSums, EnrichError> {
        let mut sums = BatchSums::default();
        self.summed_batch(index, NumberForm::Decimal, &mut sums.0)?;
        Ok(sums)
    }

    /// The sums over the rows of unallocated capacity alone.
    pub fn unallocated_sums(&self) -> Result<Sums, EnrichError> {
        let is_unallocated = |row: &&u32| self.finish.usage[**row as usize].is_unallocated;
        let rows: Vec<u32> = self.finish.usage_order.iter().filter(is_unallocated).copied().collect();
        let mut sums = BatchSums::default();
        for (name, value) in &COLUMNS {
            if let ColumnValue::Measure(position) = value {
                self.rounded_measure(name, *position, &rows, |_| {}, &mut sums.0[*position])?;
            }
        }
        Ok(BatchSums::total([sums]))
    }

    /// The usage or the volumes of a batch.
    fn rows(&self, index: usize) -> (&[u32], &[VolumeRow]) {
        let (usage, volumes) = (&self.finish.usage_order[..], &self.finish.volumes[..]);
        let piece = |length: usize, at: usize| at * BATCH_ROWS..((at + 1) * BATCH_ROWS).min(length);
        match index.checked_sub(self.usage_batch_count()) {
            None => (&usage[piece(usage.len(), index)], &[]),
            Some(at) => (&[], &volumes[piece(volumes.len(), at)]),
        }
    }

    fn usage_batch_count(&self) -> usize {
        self.finish.usage_order.len().div_ceil(BATCH_ROWS)
    }

    fn summed_batch(
        &self,
        index: usize,
        form: NumberForm,
        sums: &mut [i128; POD_SUMS],
    ) -> Result<RecordBatch, EnrichError> {
        let (usage, volumes) = self.rows(index);
        let mut columns = Vec::with_capacity(COLUMNS.len());
        for (name, value) in &COLUMNS {
            columns.push(match volumes {
                [] => self.usage_column(name, *value, form, usage, sums)?,
                volumes => self.volume_column(name, *value, form, volumes)?,
            });
        }
        let schema = match form {
            NumberForm::Decimal => SchemaRef::clone(&self.constants.schema),
            NumberForm::Double => schema_with(&text_type(), form),
        };
        RecordBatch::try_new(schema, columns).map_err(|source| self.broken(source))
    }

    fn broken(&self, source: ArrowError) -> EnrichError {
        EnrichError::Arrow { day: self.day, source }
    }

    fn usage_column(
        &self,
        name: &'static str,
        value: ColumnValue,
        form: NumberForm,
        rows: &[u32],
        sums: &mut [i128; POD_SUMS],
    ) -> Result<ArrayRef, EnrichError> {
        let usage = |position: &u32| &self.finish.usage[*position as usize];
        let texts = |texts: &Texts, get: fn(&UsageRow) -> NameId| {
            texts.column(rows.iter().map(|row| name_position(get(usage(row))))).map_err(|source| self.broken(source))
        };
        match value {
            ColumnValue::CostCategory => Ok(integers(rows.iter().map(|row| usage(row).cost_category_id))),
            ColumnValue::Namespace => texts(&self.namespaces, |row| row.namespace),
            ColumnValue::Node => texts(&self.nodes, |row| row.node),
            ColumnValue::ResourceId => texts(&self.resource_ids, |row| row.resource_id),
            ColumnValue::Labels(RowKind::Pod) => self.label_column(rows.iter().map(|row| {
                let row = usage(row);
                if row.is_unallocated { None } else { self.finish.label_texts.place(row.labels) }
            })),
            ColumnValue::AllLabels => self.all_labels_column(rows.iter().map(|row| usage(row).labels)),
            ColumnValue::UsageCost => {
                let positions = rows.iter().map(|row| if usage(row).is_unallocated { NULL } else { 0 });
                self.constants.usage_cost.column(positions).map_err(|source| self.broken(source))
            }
            ColumnValue::Measure(position) if form == NumberForm::Double => {
                Ok(doubles(rows.iter().map(|row| usage(row).measure(position))))
            }
            ColumnValue::Measure(position) => {
                let mut values = Vec::with_capacity(rows.len());
                let sum = &mut sums[position];
                let is_dense = self.rounded_measure(name, position, rows, |value| values.push(value), sum)?;
                let nulls =
                    (!is_dense).then(|| rows.iter().map(|row| usage(row).measure(position).is_some()).collect());
                Ok(decimals(values, nulls))
            }
            ColumnValue::Capacity(position) if form == NumberForm::Double => {
                let capacity = |row: &u32| self.finish.capacities[usage(row).capacity as usize][position];
                Ok(doubles(rows.iter().map(capacity)))
            }
            ColumnValue::Capacity(position) => {
                let capacity = |row: &u32| self.capacities[usage(row).capacity as usize][position];
                let values = rows.iter().map(|row| capacity(row).unwrap_or_default()).collect();
                let is_dense = rows.iter().all(|row| capacity(row).is_some());
                Ok(decimals(values, (!is_dense).then(|| rows.iter().map(|row| capacity(row).is_some()).collect())))
            }
            other => Ok(self.constants.column(other, RowKind::Pod, form, rows.len())),
        }
    }

    fn volume_column(
        &self,
        name: &'static str,
        value: ColumnValue,
        form: NumberForm,
        rows: &[VolumeRow],
    ) -> Result<ArrayRef, EnrichError> {
        let texts = |texts: &Texts, get: fn(&VolumeRow) -> NameId| {
            texts.column(rows.iter().map(|row| name_position(get(row)))).map_err(|source| self.broken(source))
        };
        match value {
            ColumnValue::CostCategory => Ok(integers(rows.iter().map(|row| row.cost_category_id))),
            ColumnValue::Namespace => texts(&self.namespaces, |row| row.namespace),
            ColumnValue::Node => texts(&self.nodes, |row| row.node),
            ColumnValue::ResourceId => texts(&self.resource_ids, |row| row.resource_id),
            ColumnValue::VolumeName(column, get) => {
                let known = self.volume_names.iter().find(|(name, _)| *name == column.name);
                texts(&known.expect("the texts of every such column were taken").1, get)
            }
            ColumnValue::Labels(RowKind::Storage) => {
                self.label_column(rows.iter().map(|row| self.finish.label_texts.place(row.labels)))
            }
            ColumnValue::AllLabels => self.all_labels_column(rows.iter().map(|row| row.labels)),
            ColumnValue::UsageCost => {
                let positions = rows.iter().map(|_| 0);
                self.constants.usage_cost.column(positions).map_err(|source| self.broken(source))
            }
            ColumnValue::VolumeMeasure(position) if form == NumberForm::Double => {
                Ok(doubles(rows.iter().map(|row| row.measures[position])))
            }
            ColumnValue::VolumeMeasure(position) => {
                let values = self.rounded_volume_measure(name, position, rows)?;
                Ok(decimals(values, Some(rows.iter().map(|row| row.measures[position].is_some()).collect())))
            }
            other => Ok(self.constants.column(other, RowKind::Storage, form, rows.len())),
        }
    }

    fn label_column(&self, places: impl Iterator<Item = Option<u32>>) -> Result<ArrayRef, EnrichError> {
        self.labels.column(places.map(|place| place.unwrap_or(NULL))).map_err(|source| self.broken(source))
    }

    /// The null label is `{}` here.
    fn all_labels_column(&self, sets: impl Iterator<Item = LabelSetId>) -> Result<ArrayRef, EnrichError> {
        let place = |set| self.finish.label_texts.place(set).unwrap_or(LabelTexts::EMPTY_PLACE);
        self.labels.column(sets.map(place)).map_err(|source| self.broken(source))
    }

    /// Rounds one measure of some rows and adds them up; a null is taken for 0. Returns whether there is no null.
    #[inline]
    fn rounded_measure(
        &self,
        name: &'static str,
        position: usize,
        rows: &[u32],
        mut take: impl FnMut(i128),
        total: &mut i128,
    ) -> Result<bool, EnrichError> {
        let (mut sum, mut measured) = (0_i128, u8::MAX);
        // Sizes that are requested repeat from pod to pod: a number that was seen is not rounded again.
        let mut seen = [(0_u64, 0_i128); REMEMBERED_NUMBERS];
        for at in rows {
            let row = &self.finish.usage[*at as usize];
            measured &= row.measured;
            let value = row.measure(position).unwrap_or(0.0);
            let bits = value.to_bits();
            let slot = &mut seen[remembered_at(bits)];
            if slot.0 != bits {
                let rounded =
                    decimal(value, self.rounding).map_err(|source| self.refuse_measure(name, position, row, source))?;
                *slot = (bits, rounded);
            }
            let rounded = slot.1;
            // At most 10^33 a row: the rows of a batch fit into 128 bits.
            sum += rounded;
            take(rounded);
        }
        *total = total.saturating_add(sum);
        Ok(measured & (1 << position) != 0)
    }

    fn rounded_volume_measure(
        &self,
        name: &'static str,
        position: usize,
        rows: &[VolumeRow],
    ) -> Result<Vec<i128>, EnrichError> {
        let rounded = rows.iter().map(|row| {
            decimal(row.measures[position].unwrap_or(0.0), self.rounding)
                .map_err(|source| self.refuse_volume(name, row, source))
        });
        rounded.collect()
    }

    fn rounded_capacities(&self) -> Result<Vec<[Option<i128>; 6]>, EnrichError> {
        let mut rounded = Vec::with_capacity(self.finish.capacities.len());
        let mut is_bad = false;
        for row in &self.finish.capacities {
            rounded.push(row.map(|value| {
                let value = decimal(value?, self.rounding).ok();
                is_bad |= value.is_none();
                value
            }));
        }
        match is_bad.then(|| self.first_bad_capacity()).flatten() {
            Some(error) => Err(error),
            None => Ok(rounded),
        }
    }
}

/// Slots for numbers that were rounded already; a power of two. Zero rounds to zero, so an unused slot is a right one.
const REMEMBERED_NUMBERS: usize = 256;

/// Slot of a number: the high bits of a multiplicative hash.
#[inline]
fn remembered_at(bits: u64) -> usize {
    let hash = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> (u64::BITS - REMEMBERED_NUMBERS.trailing_zeros())).expect("eight bits fit")
}

/// The position of a name among its texts.
#[inline]
pub(super) fn name_position(id: NameId) -> u32 {
    if id == NameId::NULL { NULL } else { id.0 }
}

fn integers(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

fn doubles(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

fn decimals(values: Vec<i128>, nulls: Option<NullBuffer>) -> ArrayRef {
    let array = Decimal128Array::new(values.into(), nulls);
    Arc::new(array.with_data_type(number_type(NumberForm::Decimal)))
}
