//! JSON object text → its kept members as trees that remember the text of numbers. The strict, slower reader: used where
//! simd-json refuses a text (this one has the last word) and where the text of a number or a nested value is needed.

use super::{EnabledKeys, MAX_NESTING, Refusal};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// A JSON value; numbers keep the text they were written with, objects keep duplicates and order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// The members of a label object whose keys are enabled, in their order, and whether any member is nested.
#[derive(Debug, Default)]
pub(super) struct KeptMembers {
    pub(super) kept: Vec<(u32, Tree)>,
    pub(super) any_nested: bool,
}

/// Reads a whole text; everything in it is checked, kept or not.
pub(super) fn read_tree(text: &str, keys: &EnabledKeys) -> Result<KeptMembers, Refusal> {
    let notes = Notes::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer
        .deserialize_map(LabelVisitor { keys, notes: &notes })
        .and_then(|members| deserializer.end().map(|()| members));
    members.map_err(|_| {
        // skipping needs no stack, so what is too deep for the tree can still be told from what is no JSON at all
        let is_json = || serde_json::from_str::<IgnoredAny>(text).is_ok() && strings_are_whole(text);
        if notes.too_deep.get() && is_json() { Refusal::TooDeep } else { Refusal::NotAnObject }
    })
}

/// Whether the strings of a text that was skipped hold no half of a surrogate pair: skipping does not look at that.
fn strings_are_whole(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        let mut strings = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        if !matches!(strings.next(), Some(Ok(_))) {
            return false;
        }
        let end = start + strings.byte_offset();
        rest = &rest[end..];
    }
    true
}

/// Reads a whole text of any JSON value, overwritten members included; `None` where it is no JSON, or nested too deep.
pub(super) fn read_value(text: &str) -> Option<Tree> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = ValueSeed { depth: 0, notes: &Notes::default() }.deserialize(&mut deserializer).ok()?;
    deserializer.end().is_ok().then_some(value)
}

/// The key under which serde_json hands over the text of a number, as if it were an object with this one member.
const NUMBER_TOKEN: &str = "$serde_json::private::Number";

/// What the visitors must remember beside the values.
#[derive(Default)]
struct Notes {
    too_deep: Cell<bool>,
    number_text: Cell<bool>,
}

struct LabelVisitor<'a> {
    keys: &'a EnabledKeys,
    notes: &'a Notes,
}

impl<'de> Visitor<'de> for LabelVisitor<'_> {
    type Value = KeptMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeptMembers, A::Error> {
        let mut members = KeptMembers::default();
        let seed = ValueSeed { depth: 1, notes: self.notes };
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(seed)?;
            members.any_nested |= matches!(value, Tree::List(_) | Tree::Object(_));
            if let Some(index) = self.keys.index_of(&key) {
                members.kept.push((index, value));
            }
        }
        Ok(members)
    }
}

/// Reads one value; `depth` containers are open around it.
#[derive(Clone, Copy)]
struct ValueSeed<'a> {
    depth: usize,
    notes: &'a Notes,
}

impl ValueSeed<'_> {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    fn check_depth<E: serde::de::Error>(self, allowed: usize) -> Result<(), E> {
        if self.depth > allowed {
            self.notes.too_deep.set(true);
            return Err(E::custom("nested too deep"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_string()))
    }

    /// Strings of the text arrive borrowed; only the text of a number arrives owned.
    fn visit_string<E>(self, number: String) -> Result<Tree, E> {
        self.notes.number_text.set(true);
        Ok(Tree::Number(number))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        self.check_depth(MAX_NESTING - 1)?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.deeper())? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        // a number is no level of its own, and it shows itself only after its key and value
        self.check_depth(MAX_NESTING)?;
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.deeper())?;
            if self.notes.number_text.take() && key == NUMBER_TOKEN {
                return Ok(value);
            }
            self.check_depth(MAX_NESTING - 1)?;
            members.push((key, value));
        }
        self.check_depth(MAX_NESTING - 1)?;
        Ok(Tree::Object(members))
    }
}

#[cfg(test)]
mod tests;
