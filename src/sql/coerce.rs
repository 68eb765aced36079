//! A column as a file holds it → the one type that the reference SQL sees (section 1.5).
//!
//! Timestamps → nanoseconds of UTC wall clock, numbers → doubles, names → text, labels → JSON text: a map, a struct or a
//! list of pairs becomes the text that the reference would have stored for it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringViewBuilder, StructArray, new_null_array};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::error::ArrowError;
use serde_json::{Map, Value};

use super::label_text::{GROUPED_MARK, as_written};
use crate::schema::source::ColumnType;

/// The texts of an array.
type Texts = Vec<Option<String>>;

/// The type that a column has in the SQL.
pub(super) fn sql_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, None),
        ColumnType::Text | ColumnType::Labels => DataType::Utf8View,
        ColumnType::Number => DataType::Float64,
    }
}

/// Coerces one column; `None` if its type cannot be used and it holds values.
/// Nulls: stay. A time outside the range of nanoseconds becomes null: it lies on no day that anybody asks for.
pub(super) fn coerce(column_type: ColumnType, array: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let target = sql_type(column_type);
    if array.null_count() == array.len() || *array.data_type() == DataType::Null {
        return Ok(Some(new_null_array(&target, array.len())));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let found = array.data_type();
    match column_type {
        ColumnType::Timestamp if matches!(found, DataType::Timestamp(..) | DataType::Date32) => {
            cast(array, &target).map(Some)
        }
        ColumnType::Number if found.is_numeric() => cast_with_options(array, &target, &strict).map(Some),
        ColumnType::Text | ColumnType::Labels if is_text(found) => {
            // Bytes that are no UTF-8 are an error here, not a null.
            let text = cast_with_options(array, &DataType::Utf8, &strict)?;
            let text = if column_type == ColumnType::Labels { unmarked(text) } else { text };
            cast(&text, &target).map(Some)
        }
        ColumnType::Labels => Ok(grouped_labels(array)),
        ColumnType::Timestamp | ColumnType::Number | ColumnType::Text => Ok(None),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::Binary | DataType::BinaryView)
}

/// Label texts, none of which can pass for a grouped label.
fn unmarked(texts: ArrayRef) -> ArrayRef {
    let strings = texts.as_string::<i32>();
    if !strings.iter().flatten().any(|text| text.starts_with(GROUPED_MARK)) {
        return texts;
    }
    Arc::new(strings.iter().map(|text| text.map(as_written)).collect::<StringArray>())
}

/// Label columns of grouped types as JSON text.
fn grouped_labels(array: &ArrayRef) -> Option<ArrayRef> {
    let mut texts = StringViewBuilder::with_capacity(array.len());
    let mut append = |row: usize, entries: Vec<(Option<String>, Value)>| {
        if array.is_null(row) {
            return texts.append_null();
        }
        // An entry without a key is no label; of two with the same key the last one counts.
        let object: Map<String, Value> = entries.into_iter().filter_map(|(key, value)| Some((key?, value))).collect();
        texts.append_value(stored_text(&object));
    };
    match array.data_type() {
        DataType::Map(..) => {
            let map = array.as_map();
            // The key comes first in a map; names that say the opposite are not read over.
            if position_of(map.entries(), "value") == Some(0) && position_of(map.entries(), "key") == Some(1) {
                return None;
            }
            let (keys, values) = (texts_of(map.keys())?, texts_of(map.values())?);
            for (row, range) in map.offsets().windows(2).enumerate() {
                append(row, entries(&keys, &values, range));
            }
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let pairs = list.values().as_struct_opt()?;
            let (keys, values) = pair_columns(pairs)?;
            for (row, range) in list.offsets().windows(2).enumerate() {
                append(row, entries(&keys, &values, range));
            }
        }
        DataType::Struct(fields) => {
            let members = array.as_struct();
            let columns = members.columns().iter().map(texts_of).collect::<Option<Vec<_>>>()?;
            for row in 0..array.len() {
                // Every row of a struct has every member: a null one is how a label that is not there looks.
                let entry = |(name, column): (&String, &Texts)| {
                    (column[row].is_some().then(|| name.clone()), value(&column[row]))
                };
                append(row, fields.iter().map(|field| field.name()).zip(&columns).map(entry).collect());
            }
        }
        _ => return None,
    }
    Some(Arc::new(texts.finish()))
}

/// Keys and values of a list's pairs, found by name.
fn pair_columns(pairs: &StructArray) -> Option<(Texts, Texts)> {
    if pairs.num_columns() != 2 {
        return None;
    }
    let member = |name| position_of(pairs, name).map(|position| pairs.column(position));
    let mut keys = texts_of(member("key")?)?;
    // A pair that is null itself is no label.
    (0..pairs.len()).filter(|pair| pairs.is_null(*pair)).for_each(|pair| keys[pair] = None);
    Some((keys, texts_of(member("value")?)?))
}

/// Position of a member by its name in small letters.
fn position_of(members: &StructArray, name: &str) -> Option<usize> {
    members.fields().iter().position(|field| field.name().to_lowercase() == name)
}

fn entries(keys: &[Option<String>], values: &[Option<String>], range: &[i32]) -> Vec<(Option<String>, Value)> {
    let position = |offset: i32| usize::try_from(offset).unwrap_or(0);
    let positions = position(range[0])..position(range[1]);
    positions.map(|position| (keys[position].clone(), value(&values[position]))).collect()
}

fn value(text: &Option<String>) -> Value {
    text.as_ref().map_or(Value::Null, |text| Value::from(text.as_str()))
}

fn texts_of(array: &ArrayRef) -> Option<Texts> {
    if *array.data_type() == DataType::Null {
        return Some(vec![None; array.len()]);
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let texts = is_text(array.data_type()).then(|| cast_with_options(array, &DataType::Utf8, &strict))?.ok()?;
    Some(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}

/// JSON as the reference stores it, with a blank after `:` and `,`; marked as what no writer put into the file as text.
fn stored_text(object: &Map<String, Value>) -> String {
    let entry = |(key, value): (&String, &Value)| format!("{}: {value}", Value::from(key.as_str()));
    let entries: Vec<String> = object.iter().map(entry).collect();
    format!("{GROUPED_MARK}{{{}}}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ListArray, MapArray};
    use datafusion::arrow::buffer::OffsetBuffer;
    use datafusion::arrow::datatypes::{Field, Fields};

    use super::*;

    /// One row with one pair, `k` under the first name and `v` under the second.
    fn pairs(names: &[&str]) -> StructArray {
        let fields: Fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
        let texts = ["k", "v", "x"].map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef);
        StructArray::new(fields, texts[..names.len()].to_vec(), None)
    }

    fn text(array: ArrayRef) -> Option<String> {
        let texts = coerce(ColumnType::Labels, &array).unwrap()?;
        Some(texts.as_string_view().value(0).trim_start_matches(GROUPED_MARK).to_owned())
    }

    #[test]
    fn keys_of_a_list_are_found_by_name_and_those_of_a_map_come_first() {
        let list = |names: &[&str]| {
            let pairs = pairs(names);
            let field = Arc::new(Field::new("pair", pairs.data_type().clone(), true));
            text(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([1]), Arc::new(pairs), None)))
        };
        assert_eq!(list(&["key", "VALUE"]).as_deref(), Some(r#"{"k": "v"}"#));
        assert_eq!(list(&["Value", "Key"]).as_deref(), Some(r#"{"v": "k"}"#));
        for unknown in [&["k", "v"][..], &["name", "value"], &["key", "value", "more"], &["key"]] {
            assert_eq!(list(unknown), None, "{unknown:?}");
        }
        let map = |names: &[&str]| {
            let pairs = pairs(names);
            let field = Arc::new(Field::new("entries", pairs.data_type().clone(), false));
            text(Arc::new(MapArray::new(field, OffsetBuffer::from_lengths([1]), pairs, None, false)))
        };
        for known in [["key", "value"], ["a", "b"], ["keys", "values"]] {
            assert_eq!(map(&known).as_deref(), Some(r#"{"k": "v"}"#));
        }
        assert_eq!(map(&["Value", "Key"]), None);
    }
}
