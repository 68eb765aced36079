//! Random usage → the same usage as odd writers put it: labels of all kinds and encodings, other physical types, columns
//! and whole reports that are missing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, MapBuilder, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Float64Array, NullArray, StringArray, StructArray};
use arrow_schema::{DataType, Field, TimeUnit};
use datafusion::arrow::compute::cast;

use super::usage::{Column, ORG, Random, SOURCE, Usage, label_columns, pod_columns, volume_columns, write_file};

/// Label texts, from harmless to refused; a run draws from the first so many of them.
const LABEL_TEXTS: [&[Option<&str>]; 4] = [
    &[
        Some(r#"{"app": "x", "env": "prod"}"#),
        Some(r#"{"env": "dev", "other": "1"}"#),
        Some(r#"{"app": "\u00e9", "n": 2.50, "vm_kubevirt_io_name": "vm"}"#),
        Some(r#"{"app": "é", "n": 2.5}"#),
        Some(r#"{"n": 1e2, "env": null, "app": true, "env": "last"}"#),
        Some(r#"{"env": null}"#),
        Some(r#"{"node_role_kubernetes_io": "infra", "n": -0.0}"#),
        Some(r#" {"app":"a\"\\\/\b\f\n\r\t\u0001b", "App": "case"} "#),
        Some("{}"),
    ],
    &[None],
    &[
        Some(""),
        Some(" \t\r\n"),
        Some(r#"{"app": {"b": [1.0, "x"], "a": null, "": {}}, "n": []}"#),
        Some(r#"{"other": {"deep": [{}]}}"#),
        Some(r#"{"other": "\u0000"}"#),
    ],
    &[
        Some("label_app:x|label_env:prod|label_n:|broken"),
        Some(" label_label_app:y:z|label_env:|label_env:b:c|label_my_label_n:1\n"),
        Some("label_app: x |label_app:"),
    ],
];
/// Malformed in every semantics, or refused if the key is kept.
const BAD_TEXTS: [&str; 5] = ["[]", "{", r#"{"app": "\u0000"}"#, r#"{"app": 1e200000}"#, "app:x"];

/// How a run differs from a plain one.
pub struct Oddity {
    /// How many of the lists of label texts are drawn from.
    pub label_level: usize,
    /// Whether a bad label text may occur.
    pub has_bad_labels: bool,
    /// Whether columns get other types and encodings.
    pub has_odd_types: bool,
}

/// Gives every row labels of the level.
pub fn relabel(random: &mut Random, usage: &mut Usage, oddity: &Oddity) {
    let pool: Vec<Option<&str>> = LABEL_TEXTS[..oddity.label_level].concat();
    let draw = |random: &mut Random| random.pick(&pool).map(str::to_owned);
    for row in &mut usage.pods {
        row.labels = draw(random);
    }
    for row in &mut usage.volumes {
        row.labels = [draw(random), draw(random)];
    }
    for row in usage.node_labels.iter_mut().chain(&mut usage.namespace_labels) {
        row.labels = draw(random);
    }
    if oddity.has_bad_labels && !usage.pods.is_empty() {
        let row = random.below(usage.pods.len());
        usage.pods[row].labels = Some(random.pick(&BAD_TEXTS).to_owned());
    }
}

/// Writes raw and daily objects, each file in ways of its own.
pub fn write_oddly(random: &mut Random, usage: &Usage, folder: &Path, oddity: &Oddity) {
    for report in ["pod_usage", "storage_usage", "node_labels", "namespace_labels"] {
        for variant in ["", "daily/"] {
            let is_left_out = random.below(12) == 0;
            for part in 0..2 {
                let columns = match report {
                    "pod_usage" => pod_columns(half(&usage.pods, part)),
                    "storage_usage" => volume_columns(half(&usage.volumes, part)),
                    "node_labels" => label_columns("node", "node_labels", half(&usage.node_labels, part)),
                    _ => label_columns("namespace", "namespace_labels", half(&usage.namespace_labels, part)),
                };
                let columns = if oddity.has_odd_types { odd(random, columns) } else { columns };
                let row_group_rows = 1 + random.below(60);
                for month in ["02", "03"].into_iter().filter(|_| !is_left_out) {
                    let folder = folder.join(format!(
                        "data/parquet/{variant}{ORG}/OCP/{report}/source={SOURCE}/year=2025/month={month}"
                    ));
                    fs::create_dir_all(&folder).expect("a folder");
                    write_file(&folder.join(format!("part-{part}.parquet")), columns.clone(), row_group_rows);
                }
            }
        }
    }
}

fn half<T>(rows: &[T], part: usize) -> &[T] {
    let middle = rows.len() / 2;
    if part == 0 { &rows[..middle] } else { &rows[middle..] }
}

const REQUIRED: [&str; 4] = ["interval_start", "namespace", "node", "persistentvolume"];

fn odd(random: &mut Random, columns: Vec<Column>) -> Vec<Column> {
    let mut odd = Vec::new();
    for (name, array) in columns {
        let is_droppable = !REQUIRED.contains(&name);
        match random.below(16) {
            0 if is_droppable => {}
            1 if is_droppable => odd.push((name, Arc::new(NullArray::new(array.len())) as ArrayRef)),
            2 if is_droppable => {
                odd.push((name, arrow_array::new_null_array(&DataType::Int64, array.len())));
            }
            _ => odd.push((in_other_case(random, name), other_type(random, name, &array))),
        }
    }
    random.shuffle(&mut odd);
    odd
}

/// Names have no letter case.
fn in_other_case(random: &mut Random, name: &'static str) -> &'static str {
    match random.below(8) {
        0 => name.to_uppercase().leak(),
        1 => (name[..1].to_uppercase() + &name[1..]).leak(),
        _ => name,
    }
}

fn other_type(random: &mut Random, name: &str, array: &ArrayRef) -> ArrayRef {
    let other = match array.data_type() {
        DataType::Timestamp(..) => random.pick(&[
            DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())),
        ]),
        DataType::Float64 if random.below(3) == 0 => {
            let whole = array.as_primitive::<arrow_array::types::Float64Type>().iter();
            let whole: Float64Array = whole.map(|value| value.map(f64::trunc)).collect();
            let types = [DataType::Int64, DataType::Float32, DataType::Decimal128(20, 2), DataType::UInt64];
            return cast(&whole, &random.pick(&types)).expect("a cast of numbers");
        }
        DataType::Utf8 if name.ends_with("_labels") => return other_labels(random, array.as_string()),
        DataType::Utf8 => text_type(random),
        same => same.clone(),
    };
    cast(array, &other).expect("a cast")
}

fn text_type(random: &mut Random) -> DataType {
    random.pick(&[
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    ])
}

/// Keys with their texts or nulls.
type Entries = Vec<(String, Option<String>)>;

/// A flat object's entries; `None` if the text is anything else.
fn entries(text: Option<&str>) -> Option<Entries> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text?).ok()?;
    let entry = |(key, value): (String, serde_json::Value)| match value {
        serde_json::Value::Null => (key, None),
        serde_json::Value::String(text) => (key, Some(text)),
        other => (key, Some(other.to_string())),
    };
    Some(object.into_iter().map(entry).collect())
}

/// The labels as another type; texts that are no flat object become null.
fn other_labels(random: &mut Random, texts: &StringArray) -> ArrayRef {
    match random.below(5) {
        0 => map_of(random, texts),
        1 => list_of(random, texts),
        2 => struct_of(texts),
        _ => cast(texts, &text_type(random)).expect("a cast of texts"),
    }
}

fn map_of(random: &mut Random, texts: &StringArray) -> ArrayRef {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for text in texts {
        let found = entries(text);
        for (key, value) in found.iter().flatten() {
            if random.below(6) == 0 {
                // Overwritten by the entry that follows.
                map.keys().append_value(key);
                map.values().append_value("earlier");
            }
            map.keys().append_value(key);
            map.values().append_option(value.as_deref());
        }
        map.append(found.is_some()).expect("keys and values are of one length");
    }
    Arc::new(map.finish())
}

/// A list of pairs whose fields have names in any order and letter case.
fn list_of(random: &mut Random, texts: &StringArray) -> ArrayRef {
    let (key, names) =
        random.pick(&[(0, ["key", "value"]), (1, ["value", "key"]), (1, ["Value", "Key"]), (0, ["KEY", "vALUE"])]);
    let fields = names.map(|name| Field::new(name, DataType::Utf8, true)).to_vec();
    let pair = StructBuilder::new(fields, vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())]);
    let mut list = ListBuilder::new(pair);
    for text in texts {
        let found = entries(text);
        for (text, value) in found.iter().flatten() {
            let pair = list.values();
            pair.field_builder::<StringBuilder>(key).expect("the key").append_value(text);
            pair.field_builder::<StringBuilder>(1 - key).expect("the value").append_option(value.as_deref());
            pair.append(true);
        }
        list.append(found.is_some());
    }
    Arc::new(list.finish())
}

fn struct_of(texts: &StringArray) -> ArrayRef {
    let rows: Vec<Option<Entries>> = texts.iter().map(entries).collect();
    let member = |key: &str| -> ArrayRef {
        let value = |row: &Option<Entries>| row.as_ref()?.iter().find(|(name, _)| name == key)?.1.clone();
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let keys = ["app", "env", "other"];
    let fields: Vec<Field> = keys.iter().map(|key| Field::new(*key, DataType::Utf8, true)).collect();
    let nulls = rows.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    Arc::new(StructArray::new(fields.into(), keys.map(member).to_vec(), Some(nulls)))
}
