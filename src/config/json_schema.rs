//! List of keys → JSON schema (draft 2020-12) for editors and for `gristmill config --schema`.

use serde_json::{Map, Value, json};

use super::registry::{self, Fallback, Key, Kind, SOURCE_KEYS};
use super::sources::MAX_SOURCES;

/// The schema. Every value may also be a text with `${VAR}`, and every key but the required ones null.
pub fn json_schema() -> Value {
    let mut root = section_schema("", "Configuration of gristmill.");
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("gristmill configuration"));
    root.insert("anyOf".to_owned(), one_or_several_sources());
    Value::Object(root)
}

/// The schema as text, with a newline at its end.
pub fn json_schema_text() -> String {
    format!("{:#}\n", json_schema())
}

/// `source` with what it needs, or `sources`.
fn one_or_several_sources() -> Value {
    let required = required_keys_of_source();
    let given: Map<String, Value> =
        required.iter().map(|name| ((*name).to_owned(), json!({"not": {"type": "null"}}))).collect();
    let source = json!({"type": "object", "required": required, "properties": given});
    json!([
        {"required": ["source"], "properties": {"source": source}},
        {"required": ["sources"], "properties": {"sources": {"type": "array"}}},
    ])
}

fn required_keys_of_source() -> Vec<&'static str> {
    let is_required = |name: &&str| {
        let key = registry::find(&format!("source.{name}"));
        key.is_some_and(|key| matches!(key.default, Fallback::RequiredIf(_)))
    };
    SOURCE_KEYS.iter().copied().filter(is_required).collect()
}

fn section_schema(path: &str, doc: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for section in registry::SECTIONS {
        if let Some(name) = child_name(path, section.path) {
            properties.insert(name.to_owned(), Value::Object(section_schema(section.path, section.doc)));
            let holds_required = registry::keys()
                .any(|key| key.default == Fallback::Required && child_name(section.path, key.path).is_some());
            if holds_required || section.path == "period" {
                required.push(json!(name));
            }
        }
    }
    for key in registry::keys() {
        if let Some(name) = child_name(path, key.path) {
            properties.insert(name.to_owned(), key_schema(key));
            if key.default == Fallback::Required {
                required.push(json!(name));
            }
        }
    }
    let mut schema = Map::new();
    schema.insert("description".to_owned(), json!(doc));
    // A section whose keys are all optional may be left empty.
    schema.insert("type".to_owned(), if required.is_empty() { json!(["object", "null"]) } else { json!("object") });
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

/// `storage.url` is the child `url` of `storage`.
fn child_name<'p>(section: &str, path: &'p str) -> Option<&'p str> {
    let rest = if section.is_empty() { path } else { path.strip_prefix(section)?.strip_prefix('.')? };
    (!rest.contains('.')).then_some(rest)
}

fn key_schema(key: &Key) -> Value {
    let mut text = key.doc.to_owned();
    if !key.unit.is_empty() {
        text.push_str(&format!(" Unit: {}.", key.unit));
    }
    text.push_str(&format!(
        " Value: {}. Default: {}. Why: {}",
        key.kind.describe(),
        key.default.describe(),
        key.reason
    ));
    let forms = forms(key);
    let mut schema = Map::new();
    schema.insert("description".to_owned(), json!(text));
    if let Fallback::Fixed(default) = key.default {
        schema.insert("default".to_owned(), default_value(key.kind, default));
    }
    schema.insert("anyOf".to_owned(), Value::Array(forms));
    Value::Object(schema)
}

/// What a value may be: null too, unless something must be given.
fn forms(key: &Key) -> Vec<Value> {
    let mut forms = kind_schemas(key.kind);
    if key.default != Fallback::Required {
        forms.push(json!({"type": "null"}));
    }
    forms
}

fn default_value(kind: Kind, default: &str) -> Value {
    match kind {
        Kind::Integer { .. } => default.parse::<i64>().map_or_else(|_| json!(default), |number| json!(number)),
        Kind::Flag => json!(default == "true"),
        _ => json!(default),
    }
}

fn kind_schemas(kind: Kind) -> Vec<Value> {
    // A text that may hold a reference: what it becomes is checked when it is read.
    let reference = json!({"type": "string", "pattern": "\\$\\{"});
    // Numbers and words written without quotes are texts to gristmill and something else to an editor.
    let any_scalar = json!({"type": ["string", "number", "boolean"]});
    let nullable_text = json!({"type": ["string", "number", "boolean", "null"]});
    let auto = json!({"enum": ["auto"]});
    match kind {
        Kind::Text { max_chars } => {
            vec![json!({"type": "string", "maxLength": max_chars}), json!({"type": "number"}), reference]
        }
        Kind::Identifier | Kind::Secret | Kind::SecretFile | Kind::Path => vec![any_scalar],
        Kind::Integer { min, max } if min == max => vec![json!({"const": min}), reference],
        Kind::Integer { min, max } => vec![json!({"type": "integer", "minimum": min, "maximum": max}), reference],
        Kind::Number { min, max } => vec![json!({"type": "number", "minimum": min, "maximum": max}), reference],
        Kind::AutoInteger { min, max } => {
            vec![auto, json!({"type": "integer", "minimum": min, "maximum": max}), reference]
        }
        Kind::AutoBytes => vec![
            auto,
            json!({"type": "integer", "minimum": 1}),
            json!({"type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$"}),
            reference,
        ],
        Kind::Flag => vec![json!({"type": "boolean"}), reference],
        Kind::Choice { names, aliases } => {
            let words: Vec<&str> = names.iter().copied().chain(aliases.iter().map(|(alias, _)| *alias)).collect();
            vec![json!({"enum": words}), reference]
        }
        Kind::Uuid => vec![
            json!({"type": "string", "pattern": "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"}),
            reference,
        ],
        Kind::Date => vec![json!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}), reference],
        Kind::Month => vec![json!({"type": "string", "pattern": "^(current|previous|[0-9]{4}-[0-9]{2})$"}), reference],
        Kind::TextList => vec![json!({"type": "array", "items": any_scalar})],
        Kind::CostCategories => {
            let id = json!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": i32::MAX}, reference]});
            vec![item_list(
                json!({"namespace": any_scalar, "cost_category_id": id}),
                &["namespace", "cost_category_id"],
            )]
        }
        Kind::NodeRoles => {
            let fields = json!({"node": any_scalar, "resource_id": nullable_text, "role": nullable_text});
            vec![json!({"const": "derive"}), item_list(fields, &["node"]), reference]
        }
        Kind::Sources => {
            let field = |name: &&str| {
                let key = registry::find(&format!("source.{name}")).expect("an entry has the keys of `source`");
                let is_required = matches!(key.default, Fallback::RequiredIf(_));
                let forms = if is_required { kind_schemas(key.kind) } else { forms(key) };
                ((*name).to_owned(), json!({"anyOf": forms}))
            };
            let mut list =
                item_list(Value::Object(SOURCE_KEYS.iter().map(field).collect()), &required_keys_of_source());
            list["minItems"] = json!(1);
            list["maxItems"] = json!(MAX_SOURCES);
            vec![list]
        }
    }
}

fn item_list(fields: Value, required: &[&str]) -> Value {
    json!({
        "type": "array",
        "items": {"type": "object", "additionalProperties": false, "required": required, "properties": fields},
    })
}
