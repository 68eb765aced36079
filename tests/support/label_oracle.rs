//! One label text → what the native reader makes of it, held against a general reader of JSON and the second engine.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill::labels::{EnabledKeys, LabelStore, MAX_NESTING, Outcome, Refusal};
use gristmill::rollups::semantics::Semantics;
use serde_json::Value;

/// Keys that are kept, beside the one that always is.
pub const ENABLED: [&str; 8] = ["app", "env", "é", "", "a", "my_x", "label", "key with \"quotes\""];
/// All semantics.
pub const ALL: [Semantics; 3] = [Semantics::Balanced, Semantics::SelfHosted, Semantics::Trino];

/// An empty store.
pub fn store_of(semantics: Semantics) -> LabelStore {
    let keys = Arc::new(EnabledKeys::new(keys(semantics)));
    LabelStore::new(keys, semantics.label_rules(false), 1 << 20)
}

/// What the native reader says: canonical JSON of the kept pairs, or why not.
pub fn read(store: &LabelStore, text: &str) -> Result<String, Refusal> {
    match store.resolve_text(Some(text)) {
        Outcome::Set(set) => Ok(store.canonical_json(set)),
        Outcome::Refused(refusal) => Err(refusal),
        Outcome::TakenAsEmpty => panic!("nothing is taken as empty here"),
    }
}

fn keys(semantics: Semantics) -> Vec<String> {
    semantics.kept_keys(&ENABLED.map(str::to_owned))
}

/// What a general reader of JSON says: no object at all, or an object with its members.
enum Oracle {
    NoObject,
    Object(serde_json::Map<String, Value>),
    /// Deeper than it reads itself.
    TooDeepToTell,
}

fn oracle(text: &str) -> Oracle {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(members)) => Oracle::Object(members),
        Ok(_) => Oracle::NoObject,
        Err(error) if error.to_string().starts_with("recursion limit") => Oracle::TooDeepToTell,
        Err(_) => Oracle::NoObject,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The kept members as a text, where the oracle can tell: it does not know how PostgreSQL prints numbers.
fn kept(members: &serde_json::Map<String, Value>, keys: &[String]) -> Option<String> {
    let mut kept = BTreeMap::new();
    for (key, value) in members.iter().filter(|(key, _)| keys.contains(key)) {
        let text = match value {
            Value::Null => None,
            Value::Bool(flag) => Some(flag.to_string()),
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Array(_) | Value::Object(_) => return None,
        };
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return None;
        }
        kept.insert(key, text);
    }
    Some(serde_json::to_string(&kept).unwrap())
}

/// Compares the verdict with the oracle's; answers whether the pairs could be compared as well.
pub fn compare(semantics: Semantics, text: &str, found: &Result<String, Refusal>) -> bool {
    let is_blank = text.trim_matches([' ', '\t', '\r', '\n']).is_empty();
    let is_operator =
        semantics == Semantics::Balanced && text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with("label_");
    if is_blank {
        let expected = if semantics == Semantics::Trino { Err(Refusal::Blank) } else { Ok("{}".to_owned()) };
        assert_eq!(*found, expected, "{semantics}: blank");
        return true;
    }
    if is_operator {
        assert!(!matches!(found, Err(Refusal::NotAnObject)), "{semantics}: operator text {text:?}");
        return false;
    }
    let is_object = *found != Err(Refusal::NotAnObject);
    match oracle(text) {
        Oracle::NoObject => assert!(!is_object, "{semantics}: {text:?} is no JSON object and gave {found:?}"),
        Oracle::TooDeepToTell => {
            assert!(found.is_err(), "{semantics}: {text:?} is too deep and gave {found:?}");
        }
        Oracle::Object(members) => {
            assert!(is_object, "{semantics}: {text:?} is a JSON object");
            let is_nested = members.values().any(|value| depth(value) > 0);
            if is_nested && semantics == Semantics::Trino {
                assert_eq!(*found, Err(Refusal::Nested), "{text:?}");
            } else if members.values().map(depth).max().unwrap_or(0) + 1 > MAX_NESTING {
                assert_eq!(*found, Err(Refusal::TooDeep), "{semantics}: {text:?}");
            } else if let (Some(expected), Ok(found)) = (kept(&members, &keys(semantics)), found) {
                assert_eq!(*found, expected, "{semantics}: {text:?}");
                return true;
            }
        }
    }
    false
}

/// The second engine's reader was written from the contract and shares no code with the first.
#[cfg(feature = "sql")]
pub fn same_as_second_engine(semantics: Semantics, text: &str, found: &Result<String, Refusal>) -> bool {
    let enabled = ENABLED.map(str::to_owned);
    let second = gristmill::sql::kept_labels(semantics, &enabled, Some(text));
    match (found, second) {
        (Ok(native), Ok(second)) => assert_eq!(Some(native), second.as_ref(), "{semantics}: {text:?}"),
        // Deeper than this is refused by the first engine alone, which has to bound its stack.
        (Err(Refusal::TooDeep), _) => {}
        (Err(_), Err(_)) => {}
        (native, second) => panic!("{semantics}: {text:?}: {native:?}, the second engine says {second:?}"),
    }
    true
}

/// Without the second engine there is nothing to compare with.
#[cfg(not(feature = "sql"))]
pub fn same_as_second_engine(_: Semantics, _: &str, _: &Result<String, Refusal>) -> bool {
    false
}
