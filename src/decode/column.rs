//! Arrow arrays of any physical type → the few column forms that aggregation works on.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryViewArray, DictionaryArray, Float64Array, Int32Array, ListArray,
    MapArray, StringArray, StringViewArray, StructArray,
};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use crate::plan::projection::{is_label_group, key_and_value};
use crate::schema::source::ColumnType;
use crate::time::{SECONDS_PER_DAY, UsageDay};

/// `interval_start` of each row, UTC wall clock, in the file's unit.
#[derive(Debug, Clone)]
pub struct Times {
    values: ScalarBuffer<i64>,
    nulls: Option<NullBuffer>,
    units_per_day: i64,
}

/// One column of a batch.
#[derive(Debug, Clone)]
pub enum BatchColumn {
    /// The file lacks the column, or it is all null by type.
    Absent,
    /// Metrics as doubles.
    Numbers(Float64Array),
    /// Names.
    Text(TextColumn),
    /// Label sets.
    Labels(LabelColumn),
}

/// Names of a batch.
#[derive(Debug, Clone)]
pub enum TextColumn {
    /// Codes into the row group's dictionary.
    Dictionary {
        /// One code a row.
        codes: Int32Array,
        /// The dictionary; batches of a row group share it.
        values: StringArray,
    },
    /// One text a row.
    Views(StringViewArray),
}

impl TextColumn {
    /// The text of a row.
    pub fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Dictionary { codes, values } => {
                codes.is_valid(row).then(|| values.value(codes.value(row).unsigned_abs() as usize))
            }
            Self::Views(views) => views.is_valid(row).then(|| views.value(row)),
        }
    }
}

/// Label sets of a batch in the form the file has them.
#[derive(Debug, Clone)]
pub enum LabelColumn {
    /// JSON or operator text.
    Text(TextColumn),
    /// `MAP<string, string>`.
    Map(MapArray),
    /// A list of pairs, the key in front.
    Entries(ListArray),
    /// One field per key.
    Struct(StructArray),
}

impl Times {
    /// Reads the times of a batch; a null-typed or absent column has no row in any window.
    /// `None` if the type is no time.
    pub fn new(array: Option<&ArrayRef>, row_count: usize) -> Option<Self> {
        let Some(array) = array else { return Some(Self::all_null(row_count)) };
        if array.logical_null_count() == array.len() {
            return Some(Self::all_null(row_count));
        }
        let (values, units_per_second) = match array.data_type() {
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>();
                let values = days.values().iter().map(|day| i64::from(*day)).collect();
                return Some(Self { values, nulls: array.nulls().cloned(), units_per_day: 1 });
            }
            DataType::Timestamp(TimeUnit::Second, _) => (values_of::<TimestampSecondType>(array), 1),
            DataType::Timestamp(TimeUnit::Millisecond, _) => (values_of::<TimestampMillisecondType>(array), 1_000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => (values_of::<TimestampMicrosecondType>(array), 1_000_000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                (values_of::<TimestampNanosecondType>(array), 1_000_000_000)
            }
            _ => return None,
        };
        Some(Self { values, nulls: array.nulls().cloned(), units_per_day: SECONDS_PER_DAY * units_per_second })
    }

    fn all_null(row_count: usize) -> Self {
        Self { values: vec![0; row_count].into(), nulls: Some(NullBuffer::new_null(row_count)), units_per_day: 1 }
    }

    /// The UTC day of a row; null rows and days outside of any calendar belong to none.
    pub fn day(&self, row: usize) -> Option<UsageDay> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        i32::try_from(self.values[row].div_euclid(self.units_per_day)).ok().map(UsageDay)
    }

    /// Nanoseconds since the row's midnight.
    pub fn nanoseconds_of_day(&self, row: usize) -> u64 {
        let nanoseconds_per_unit = SECONDS_PER_DAY * 1_000_000_000 / self.units_per_day;
        (self.values[row].rem_euclid(self.units_per_day) * nanoseconds_per_unit).unsigned_abs()
    }

    /// First row after `start` whose time, or whether it is null, differs from that of `start`.
    pub fn run_end(&self, start: usize) -> usize {
        let value = self.values[start];
        let values = &self.values[start..];
        let mut length = values.iter().position(|other| *other != value).unwrap_or(values.len());
        if let Some(nulls) = &self.nulls {
            let is_null = nulls.is_null(start);
            length = (0..length).find(|at| nulls.is_null(start + at) != is_null).unwrap_or(length);
        }
        start + length
    }
}

fn values_of<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> ScalarBuffer<i64> {
    array.as_primitive::<T>().values().clone()
}

/// Why an array cannot be taken as its declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing can be made of its Arrow type.
    Type,
    /// A value is not UTF-8.
    NotUtf8 {
        /// Position of the first such row.
        row: usize,
    },
}

impl BatchColumn {
    /// Coerces an array to the form of its declared type.
    pub fn new(column_type: ColumnType, array: Option<&ArrayRef>) -> Result<Self, Unusable> {
        let Some(array) = array else { return Ok(Self::Absent) };
        // A column without any value may have any type.
        if array.logical_null_count() == array.len() {
            return Ok(Self::Absent);
        }
        match column_type {
            ColumnType::Number => numbers(array).map(Self::Numbers).ok_or(Unusable::Type),
            ColumnType::Text => text(array).map(Self::Text),
            ColumnType::Labels => labels(array).map(Self::Labels),
            ColumnType::Timestamp => Ok(Self::Absent),
        }
    }

    /// Looks whether the texts are UTF-8, where the reader made strings of bytes without looking. Such columns come as views
    /// or were bytes until now; nobody writes the parts of a label group as anything but UTF-8 strings.
    pub fn checked(self) -> Result<Self, Unusable> {
        match self {
            Self::Text(TextColumn::Views(views)) => recheck(views).map(Self::Text),
            Self::Labels(LabelColumn::Text(TextColumn::Views(views))) => {
                recheck(views).map(|text| Self::Labels(LabelColumn::Text(text)))
            }
            Self::Labels(LabelColumn::Map(_) | LabelColumn::Entries(_) | LabelColumn::Struct(_)) => Err(Unusable::Type),
            other => Ok(other),
        }
    }
}

fn text(array: &ArrayRef) -> Result<TextColumn, Unusable> {
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            let dictionary = array.as_dictionary_opt::<Int32Type>().ok_or(Unusable::Type)?;
            let values = match values.as_ref() {
                DataType::Utf8 => dictionary.values().as_string::<i32>().clone(),
                DataType::Binary => checked_dictionary(dictionary)?,
                _ => return Err(Unusable::Type),
            };
            Ok(TextColumn::Dictionary { codes: dictionary.keys().clone(), values })
        }
        DataType::Utf8View => Ok(TextColumn::Views(array.as_string_view().clone())),
        DataType::BinaryView => checked_views(array.as_binary_view()).map(TextColumn::Views),
        _ => Err(Unusable::Type),
    }
}

/// Bytes that turn out to be UTF-8 are text. The buffers stay where they are.
fn checked_dictionary(dictionary: &DictionaryArray<Int32Type>) -> Result<StringArray, Unusable> {
    let values = dictionary.values().as_binary::<i32>();
    StringArray::try_from_binary(values.clone()).map_err(|_| {
        let is_bad = |code: i32| std::str::from_utf8(values.value(code.unsigned_abs() as usize)).is_err();
        let row = dictionary.keys().iter().position(|code| code.is_some_and(is_bad));
        Unusable::NotUtf8 { row: row.unwrap_or(0) }
    })
}

fn checked_views(views: &BinaryViewArray) -> Result<StringViewArray, Unusable> {
    let bad_row = views.iter().position(|value| value.is_some_and(|bytes| std::str::from_utf8(bytes).is_err()));
    if let Some(row) = bad_row {
        return Err(Unusable::NotUtf8 { row });
    }
    views.clone().to_string_view().map_err(|_| Unusable::NotUtf8 { row: 0 })
}

fn recheck(views: StringViewArray) -> Result<TextColumn, Unusable> {
    checked_views(&views.to_binary_view()).map(TextColumn::Views)
}

fn labels(array: &ArrayRef) -> Result<LabelColumn, Unusable> {
    match array.data_type() {
        // Whether such a column holds values is not always known before it is decoded.
        DataType::Map(..) | DataType::List(_) | DataType::Struct(_) if !is_label_group(array.data_type()) => {
            Err(Unusable::Type)
        }
        DataType::Map(..) => Ok(LabelColumn::Map(array.as_map().clone())),
        DataType::List(_) => entries(array.as_list()).map(LabelColumn::Entries).ok_or(Unusable::Type),
        DataType::Struct(_) => Ok(LabelColumn::Struct(array.as_struct().clone())),
        _ => text(array).map(LabelColumn::Text),
    }
}

/// A list of pairs with the key in front, wherever it stands in the file; `None` where there is none by name.
fn entries(list: &ListArray) -> Option<ListArray> {
    let pairs = list.values().as_struct_opt()?;
    let [key, value] = key_and_value(pairs.fields())?;
    if [key, value] == [0, 1] {
        return Some(list.clone());
    }
    let fields: Fields = [key, value].map(|at| Arc::clone(&pairs.fields()[at])).to_vec().into();
    let columns = [key, value].map(|at| Arc::clone(pairs.column(at))).to_vec();
    let turned = StructArray::try_new(fields, columns, pairs.nulls().cloned()).ok()?;
    let field = Arc::new(Field::new("pair", turned.data_type().clone(), true));
    ListArray::try_new(field, list.offsets().clone(), Arc::new(turned), list.nulls().cloned()).ok()
}

/// Widens any number to a double. Integers beyond 2^53 are rounded to the nearest double, as the reference's own cast does.
#[allow(clippy::cast_precision_loss)]
fn numbers(array: &ArrayRef) -> Option<Float64Array> {
    Some(match array.data_type() {
        DataType::Float64 => array.as_primitive::<Float64Type>().clone(),
        DataType::Float32 => array.as_primitive::<Float32Type>().unary(f64::from),
        DataType::Float16 => array.as_primitive::<Float16Type>().unary(f64::from),
        DataType::Int8 => array.as_primitive::<Int8Type>().unary(f64::from),
        DataType::Int16 => array.as_primitive::<Int16Type>().unary(f64::from),
        DataType::Int32 => array.as_primitive::<Int32Type>().unary(f64::from),
        DataType::Int64 => array.as_primitive::<Int64Type>().unary(|value| value as f64),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().unary(f64::from),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().unary(f64::from),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().unary(f64::from),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().unary(|value| value as f64),
        DataType::Decimal32(_, scale) => {
            array.as_primitive::<Decimal32Type>().unary(|value| double(i128::from(value), *scale))
        }
        DataType::Decimal64(_, scale) => {
            array.as_primitive::<Decimal64Type>().unary(|value| double(i128::from(value), *scale))
        }
        DataType::Decimal128(_, scale) => array.as_primitive::<Decimal128Type>().unary(|value| double(value, *scale)),
        DataType::Decimal256(_, scale) => array.as_primitive::<Decimal256Type>().unary(|value| nearest(value, *scale)),
        _ => return None,
    })
}

/// The double nearest to value · 10^-scale.
#[allow(clippy::cast_precision_loss)]
fn double(value: i128, scale: i8) -> f64 {
    // Both operands are exact doubles, so the one division rounds correctly.
    const EXACT_INTEGER: u128 = 1 << 53;
    const EXACT_POWER: i8 = 22;
    if value.unsigned_abs() <= EXACT_INTEGER && (0..=EXACT_POWER).contains(&scale) {
        return value as f64 / 10_f64.powi(i32::from(scale));
    }
    nearest(value, scale)
}

/// The same through the decimal text, whose parser rounds correctly.
fn nearest(value: impl std::fmt::Display, scale: i8) -> f64 {
    format!("{value}e{}", -i16::from(scale)).parse().unwrap_or(f64::NAN)
}
