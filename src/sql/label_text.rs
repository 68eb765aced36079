//! The text of one label column → its enabled keys as canonical JSON, by the rules of one semantics (rows 1 to 5).
//!
//! Written from the contract for the second engine; nothing here comes from the native label code.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::number_text::numeric_text;
use crate::rollups::semantics::Semantics;

/// The always-enabled key (section 3.4.1).
const ALWAYS_ENABLED: &str = "vm_kubevirt_io_name";
/// What every key of the operator's own form begins with; removed wherever it occurs in a key.
const OPERATOR_PREFIX: &str = "label_";
/// Space, tab, carriage return and line feed: the blanks of JSON.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Begins a text that was made of a map, a struct or a list of pairs. No JSON text can begin so.
pub(super) const GROUPED_MARK: char = '\u{1}';

/// A text as a file holds it, so that it cannot pass for a grouped one: where it begins with the mark it is no JSON anyway, and stays
/// none with another control character in its place.
pub(super) fn as_written(text: &str) -> Cow<'_, str> {
    match text.strip_prefix(GROUPED_MARK) {
        Some(rest) => Cow::Owned(format!("\u{2}{rest}")),
        None => Cow::Borrowed(text),
    }
}

/// What a filtered label set is: key → text or null, in byte order of the keys.
type LabelSet = BTreeMap<String, Option<String>>;

/// How labels are read and which keys are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LabelRules {
    semantics: Semantics,
    kept_keys: BTreeSet<String>,
    malformed_is_empty: bool,
}

/// Why a label text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelProblem {
    /// Not a JSON object.
    Malformed,
    /// Blank, where that is refused.
    Blank,
    /// A nested value, where that is refused.
    Nested,
    /// U+0000, which jsonb cannot store.
    Nul,
    /// A number outside the range of numeric.
    Number,
}

/// The members of a JSON object as they come, repeated keys included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl LabelRules {
    pub(super) fn new(semantics: Semantics, enabled_keys: &[String], malformed_is_empty: bool) -> Self {
        let mut kept_keys: BTreeSet<String> = enabled_keys.iter().cloned().collect();
        // Without any enabled key Trino's list of keys is null, and so nothing is in it.
        if semantics != Semantics::Trino || !kept_keys.is_empty() {
            kept_keys.insert(ALWAYS_ENABLED.to_owned());
        }
        Self { semantics, kept_keys, malformed_is_empty: malformed_is_empty && semantics == Semantics::Balanced }
    }

    /// The filtered set as canonical JSON; null only under `trino`, for null.
    pub(super) fn kept(&self, text: Option<&str>) -> Result<Option<String>, LabelProblem> {
        let is_trino = self.semantics == Semantics::Trino;
        let Some(text) = text else {
            return Ok((!is_trino).then(|| "{}".to_owned()));
        };
        let grouped = text.strip_prefix(GROUPED_MARK);
        let text = grouped.unwrap_or(text);
        let trimmed = text.trim_matches(BLANKS);
        if trimmed.is_empty() {
            return if is_trino { Err(LabelProblem::Blank) } else { Ok(Some("{}".to_owned())) };
        }
        if self.semantics == Semantics::Balanced && trimmed.starts_with(OPERATOR_PREFIX) {
            return self.kept_of_operator(trimmed).map(|set| Some(canonical(&set)));
        }
        let Ok(Members(members)) = serde_json::from_str::<Members>(text) else {
            return if self.malformed_is_empty { Ok(Some("{}".to_owned())) } else { Err(LabelProblem::Malformed) };
        };
        // Row 5 speaks of any nested value inside the object: one that a later member of the same key overwrites is there as well.
        if is_trino && members.iter().any(|(_, value)| value.is_array() || value.is_object()) {
            return Err(LabelProblem::Nested);
        }
        let object: BTreeMap<String, Value> = members.into_iter().collect();
        if self.semantics == Semantics::SelfHosted && grouped.is_none() {
            // The whole text becomes jsonb there before any key is chosen. A map has no text.
            if escapes_nul(text) {
                return Err(LabelProblem::Nul);
            }
            check_numbers(trimmed)?;
        }
        let mut set = LabelSet::new();
        for (key, value) in object.iter().filter(|(key, _)| self.kept_keys.contains(*key)) {
            let text = value_text(value)?;
            if key.contains('\0') || text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(LabelProblem::Nul);
            }
            set.insert(key.clone(), text);
        }
        Ok(Some(canonical(&set)))
    }

    /// `label_KEY:VALUE|label_KEY:VALUE` (section 2.2).
    fn kept_of_operator(&self, text: &str) -> Result<LabelSet, LabelProblem> {
        let mut set = LabelSet::new();
        for item in text.split('|') {
            let parts: Vec<&str> = item.split(':').collect();
            let [key, value] = parts[..] else { continue };
            let key = key.replace(OPERATOR_PREFIX, "");
            if !self.kept_keys.contains(&key) {
                continue;
            }
            if key.contains('\0') || value.contains('\0') {
                return Err(LabelProblem::Nul);
            }
            set.insert(key, Some(value.to_owned()));
        }
        Ok(set)
    }
}

/// One object out of canonical ones; on equal keys the later one wins.
pub(super) fn merged(texts: &[&str]) -> String {
    let not_empty: Vec<&str> = texts.iter().copied().filter(|text| *text != "{}").collect();
    match not_empty[..] {
        [] => "{}".to_owned(),
        [only] => only.to_owned(),
        _ => {
            let mut set = LabelSet::new();
            for text in not_empty {
                set.extend(serde_json::from_str::<LabelSet>(text).expect("canonical JSON comes from `canonical`"));
            }
            canonical(&set)
        }
    }
}

/// A value as text: numbers as numeric prints them, nested values as jsonb prints them.
fn value_text(value: &Value) -> Result<Option<String>, LabelProblem> {
    Ok(match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => {
            let mut out = String::new();
            jsonb_text(other, &mut out)?;
            Some(out)
        }
    })
}

/// jsonb's output: `, ` and `: `, keys by length, then bytes.
fn jsonb_text(value: &Value, out: &mut String) -> Result<(), LabelProblem> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&numeric_text(number.as_str()).ok_or(LabelProblem::Number)?),
        Value::String(text) => {
            if text.contains('\0') {
                return Err(LabelProblem::Nul);
            }
            out.push_str(&quoted(text));
        }
        Value::Array(values) => {
            out.push('[');
            for (position, value) in values.iter().enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                jsonb_text(value, out)?;
            }
            out.push(']');
        }
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> = object.iter().collect();
            entries.sort_by_key(|(key, _)| (key.len(), *key));
            out.push('{');
            for (position, (key, value)) in entries.into_iter().enumerate() {
                if key.contains('\0') {
                    return Err(LabelProblem::Nul);
                }
                out.push_str(if position > 0 { ", " } else { "" });
                out.push_str(&quoted(key));
                out.push_str(": ");
                jsonb_text(value, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Looks at every number of a JSON text, overwritten members included.
fn check_numbers(text: &str) -> Result<(), LabelProblem> {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        rest = &rest[at..];
        if rest.starts_with('"') {
            rest = &rest[string_length(rest)..];
            continue;
        }
        let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = rest.find(|c| !is_of_number(c)).unwrap_or(rest.len());
        numeric_text(&rest[..end]).ok_or(LabelProblem::Number)?;
        rest = &rest[end..];
    }
    Ok(())
}

/// Bytes of the string that a JSON text begins with, both quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a JSON text holds the escape of U+0000, keys and overwritten values included.
fn escapes_nul(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        rest = &rest[at + 1..];
        if rest.starts_with("u0000") {
            return true;
        }
        // The escaped character may be a backslash itself.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Keys sorted by bytes, no blanks.
fn canonical(set: &LabelSet) -> String {
    serde_json::to_string(set).expect("a map of texts is JSON")
}

#[cfg(test)]
mod tests;
