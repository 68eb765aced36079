//! A file's schema and the columns a scan wants → which columns of the file are read, and as which Arrow types.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::{ConvertedType, Encoding, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::error::ErrorKind;
use crate::impl_failure;
use crate::schema::source::{Column, ColumnType, Found};

/// The columns of one row group that a scan reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// For each column of the scan its position among the file's top-level columns; `None` where the file lacks it.
    pub roots: Vec<Option<usize>>,
    /// Leaf columns to fetch and decode.
    pub leaves: Vec<usize>,
    /// For each column of the scan whether the reader makes strings of its bytes without looking whether they are UTF-8.
    pub unchecked: Vec<bool>,
    /// The whole file's schema with the types that decoding shall produce.
    pub schema: SchemaRef,
}

/// Why a file's columns cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The file's schema cannot be expressed.
    #[error("object `{object}`: the Parquet schema cannot be read")]
    Schema {
        /// Key of the object.
        object: String,
        /// What the Parquet library says.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A column without which the report is none.
    #[error("object `{object}`: required column `{column}` is missing")]
    Missing {
        /// Key of the object.
        object: String,
        /// Name of the column.
        column: &'static str,
    },
    /// Several columns that may be meant.
    #[error("object `{object}`: `{}` may all be column `{column}`, letter case aside; rename or drop all but one", .names.join("`, `"))]
    Ambiguous {
        /// Key of the object.
        object: String,
        /// Name of the column.
        column: &'static str,
        /// Names in the file.
        names: Vec<String>,
    },
    /// A column of a type that cannot be coerced.
    #[error("object `{object}`: column `{column}` is {found}, expected {expected}")]
    Unusable {
        /// Key of the object.
        object: String,
        /// Name of the column.
        column: &'static str,
        /// Type in the file.
        found: String,
        /// What would do.
        expected: &'static str,
    },
}

impl ProjectionError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Schema { .. } => ErrorKind::ObjectUnreadable,
            Self::Missing { .. } => ErrorKind::ColumnMissing,
            Self::Ambiguous { .. } | Self::Unusable { .. } => ErrorKind::ColumnUnusable,
        }
    }
}

impl_failure!(ProjectionError);

/// Chooses columns and types for one row group.
/// Errors: a required column is missing, or a column has a type that nothing can be made of.
pub fn project(
    object: &str,
    metadata: &ParquetMetaData,
    row_group: usize,
    columns: &[&'static Column],
) -> Result<Projection, ProjectionError> {
    let parquet_schema = metadata.file_metadata().schema_descr();
    let schema = parquet_to_arrow_schema(parquet_schema, None)
        .map_err(|source| ProjectionError::Schema { object: object.to_owned(), source })?;
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let mut roots = Vec::with_capacity(columns.len());
    let mut leaves = Vec::new();
    for column in columns {
        let Some(root) = root_of(object, &fields, column)? else {
            roots.push(None);
            continue;
        };
        let found = fields[root].data_type();
        let column_leaves: Vec<usize> = (0..parquet_schema.num_columns())
            .filter(|leaf| parquet_schema.get_column_root_idx(*leaf) == root)
            .collect();
        if !is_usable(column.column_type, found) {
            // Writers give a column without any value whatever type they like (contract, section 1.5).
            match holds_values(metadata, row_group, &column_leaves) {
                Some(false) => {
                    roots.push(None);
                    continue;
                }
                Some(true) => {
                    return Err(ProjectionError::Unusable {
                        object: object.to_owned(),
                        column: column.name,
                        found: found.to_string(),
                        expected: expected(column.column_type),
                    });
                }
                // Decoding will tell.
                None => {}
            }
        }
        if is_text(found) && column_leaves.len() == 1 {
            let chunk = metadata.row_group(row_group).column(column_leaves[0]);
            let data_type = text_type(chunk, *found == DataType::Binary);
            fields[root] = Arc::new(fields[root].as_ref().clone().with_data_type(data_type));
        }
        leaves.extend(column_leaves);
        roots.push(Some(root));
    }
    leaves.sort_unstable();
    leaves.dedup();
    let has_unchecked_leaf = |root: &usize| {
        let mut descriptors = leaves.iter().map(|leaf| (parquet_schema.get_column_root_idx(*leaf), *leaf));
        descriptors.any(|(of, leaf)| of == *root && is_unchecked(&parquet_schema.column(leaf)))
    };
    let unchecked = roots.iter().map(|root| root.as_ref().is_some_and(has_unchecked_leaf)).collect();
    Ok(Projection { roots, leaves, unchecked, schema: Arc::new(Schema::new(fields)) })
}

/// Position of a column among the file's; `None` where it is missing and need not be there.
fn root_of(object: &str, fields: &[Arc<Field>], column: &'static Column) -> Result<Option<usize>, ProjectionError> {
    match column.find(fields.iter().map(|field| field.name().as_str())) {
        Found::At(root) => Ok(Some(root)),
        Found::Nowhere if column.required => {
            Err(ProjectionError::Missing { object: object.to_owned(), column: column.name })
        }
        Found::Nowhere => Ok(None),
        Found::Ambiguous(names) => {
            Err(ProjectionError::Ambiguous { object: object.to_owned(), column: column.name, names })
        }
    }
}

/// Strings with another annotation than UTF-8, such as JSON: the reader does not check them.
fn is_unchecked(leaf: &ColumnDescriptor) -> bool {
    leaf.physical_type() == PhysicalType::BYTE_ARRAY && leaf.converted_type() != ConvertedType::UTF8
}

/// Whether any leaf of a column has a value; `None` if the footer does not tell.
fn holds_values(metadata: &ParquetMetaData, row_group: usize, leaves: &[usize]) -> Option<bool> {
    let row_group = metadata.row_group(row_group);
    let mut any = false;
    for leaf in leaves {
        let chunk = row_group.column(*leaf);
        // Where a column repeats there are more values, and perhaps more nulls, than rows.
        let value_count = u64::try_from(chunk.num_values()).ok()?;
        any |= chunk.statistics().and_then(Statistics::null_count_opt)? < value_count;
    }
    Some(any)
}

/// A dictionary is kept where all data pages have one; where it overflowed into plain pages, views cost less than hashing
/// the plain values into a dictionary. Bytes that the file does not call text stay bytes until they are known to be UTF-8:
/// the reader would not check them.
fn text_type(chunk: &ColumnChunkMetaData, is_binary: bool) -> DataType {
    let has_only_dictionary_pages = chunk.dictionary_page_offset().is_some()
        && chunk
            .page_encoding_stats_mask()
            .is_none_or(|mask| mask.is_only(Encoding::RLE_DICTIONARY) || mask.is_only(Encoding::PLAIN_DICTIONARY));
    // For strings with another annotation than UTF-8 the reader makes dictionaries whose type is not their values'.
    let keeps_dictionary = has_only_dictionary_pages && (is_binary || !is_unchecked(chunk.column_descr()));
    match (keeps_dictionary, is_binary) {
        (true, false) => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        (true, true) => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Binary)),
        (false, false) => DataType::Utf8View,
        (false, true) => DataType::BinaryView,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Binary)
}

fn is_usable(column_type: ColumnType, data_type: &DataType) -> bool {
    if *data_type == DataType::Null {
        return true;
    }
    match column_type {
        ColumnType::Timestamp => matches!(data_type, DataType::Timestamp(_, _) | DataType::Date32),
        ColumnType::Text => is_text(data_type),
        ColumnType::Number => {
            data_type.is_integer()
                || matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64)
                || matches!(data_type, DataType::Decimal32(..) | DataType::Decimal64(..))
                || matches!(data_type, DataType::Decimal128(..) | DataType::Decimal256(..))
        }
        ColumnType::Labels => is_text(data_type) || is_label_group(data_type),
    }
}

/// Whether labels can be made of a group: `MAP<string, string>`, a struct of strings, or a list of structs of a key and a value.
pub fn is_label_group(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(entries, _) => pair(entries).is_some_and(|pair| !is_reversed(pair)),
        DataType::List(entry) => pair(entry).and_then(key_and_value).is_some(),
        DataType::Struct(fields) => fields.iter().all(|field| is_string(field.data_type())),
        _ => false,
    }
}

/// The two strings of a struct.
fn pair(field: &Field) -> Option<&Fields> {
    match field.data_type() {
        DataType::Struct(pair) if pair.len() == 2 && pair.iter().all(|part| is_string(part.data_type())) => Some(pair),
        _ => None,
    }
}

/// Positions of key and value in a struct of two fields, by name and in any letter case; `None` where they are called otherwise:
/// which of two texts is the key cannot be guessed.
pub fn key_and_value(pair: &Fields) -> Option<[usize; 2]> {
    let position = |name: &str| pair.iter().position(|field| field.name().eq_ignore_ascii_case(name));
    Some([position("key")?, position("value")?]).filter(|_| pair.len() == 2)
}

/// Entries of a map go by position, whatever they are called: the format says that the key comes first. Where the names say the
/// opposite, one of the two is wrong.
fn is_reversed(entries: &Fields) -> bool {
    key_and_value(entries) == Some([1, 0])
}

fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Null)
}

fn expected(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Timestamp => "a timestamp",
        ColumnType::Text => "a string",
        ColumnType::Number => "a number",
        ColumnType::Labels => {
            "a string, MAP<string, string> (the key first), a struct of strings, or a list of structs of two strings that are \
             called `key` and `value`"
        }
    }
}

#[cfg(test)]
mod tests {
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    /// Whether the one column of a schema can hold labels.
    fn holds_labels(column: &str) -> bool {
        let message = parse_message_type(&format!("message m {{ {column} }}")).unwrap();
        let schema = parquet_to_arrow_schema(&SchemaDescriptor::new(Arc::new(message)), None).unwrap();
        is_usable(ColumnType::Labels, schema.field(0).data_type())
    }

    #[test]
    fn pairs_are_understood_in_every_form_that_a_list_has_had() {
        for names in [["Key", "Value"], ["VALUE", "KEY"]] {
            let pair = names.map(|name| format!("optional binary {name} (UTF8);")).concat();
            for list in [
                format!("optional group l (LIST) {{ repeated group list {{ optional group element {{ {pair} }} }} }}"),
                format!("optional group l (LIST) {{ repeated group bag {{ optional group array {{ {pair} }} }} }}"),
                format!("optional group l (LIST) {{ repeated group array {{ {pair} }} }}"),
                format!("repeated group l {{ {pair} }}"),
            ] {
                assert!(holds_labels(&list), "{list}");
                assert!(!holds_labels(&list.replace(names[0], "other")), "{list}");
            }
        }
    }

    #[test]
    fn a_map_goes_by_position_unless_its_names_say_the_opposite() {
        let map = |first: &str, second: &str| {
            holds_labels(&format!(
                "optional group m (MAP) {{ repeated group key_value {{ required binary {first} (UTF8); optional binary \
                 {second} (UTF8); }} }}"
            ))
        };
        assert!(map("key", "value") && map("a", "b") && map("keys", "values"));
        assert!(!map("value", "key") && !map("Value", "KEY"));
        assert!(!holds_labels(
            "optional group m (MAP) { repeated group map { required binary key (UTF8); optional int64 value; } }"
        ));
    }
}
