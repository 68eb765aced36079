//! JSON object text → kept pairs. simd-json reads the plain texts, which is nearly all of them; where it refuses one, or a
//! kept value is a fraction or nested (it keeps no number text), `json_tree` reads the text again and decides.

use super::json_tree::{Tree, read_tree};
use super::jsonb_text::JsonbText;
use super::pairs::Pairs;
use super::{EnabledKeys, MAX_NESTING, Refusal};
use simd_json::{Buffers, INPUT_PADDING, Node, StaticNode, Tape};

/// Buffers above this many bytes are given back after use.
const KEEP_BYTES: usize = 1 << 20;

/// The buffers of simd-json, one per thread, used for text after text.
pub(super) struct JsonReader {
    input: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Default for JsonReader {
    fn default() -> Self {
        Self { input: Vec::new(), buffers: Buffers::with_max_depth(1024, MAX_NESTING), tape: Tape(Vec::new()) }
    }
}

impl JsonReader {
    /// Adds the kept members of `text` to `pairs`; on a refusal the pairs are of no use.
    pub(super) fn read(
        &mut self,
        text: &str,
        keys: &EnabledKeys,
        refuse_nested: bool,
        pairs: &mut Pairs,
    ) -> Result<(), Refusal> {
        match self.read_fast(text, keys, refuse_nested, pairs) {
            Some(outcome) => outcome,
            None => {
                pairs.clear();
                read_strictly(text, keys, refuse_nested, pairs)
            }
        }
    }

    /// `None`: only the strict reader can tell.
    fn read_fast(
        &mut self,
        text: &str,
        keys: &EnabledKeys,
        refuse_nested: bool,
        pairs: &mut Pairs,
    ) -> Option<Result<(), Refusal>> {
        self.input.clear();
        self.input.extend_from_slice(text.as_bytes());
        self.input.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let is_json = simd_json::fill_tape_padded(&mut self.input, text.len(), &mut self.buffers, &mut tape).is_ok();
        let outcome = if is_json { keep_members(&tape.0, keys, refuse_nested, pairs) } else { None };
        self.tape = tape.reset();
        if self.input.capacity() > KEEP_BYTES {
            *self = Self::default();
        }
        outcome
    }
}

fn keep_members(
    nodes: &[Node<'_>],
    keys: &EnabledKeys,
    refuse_nested: bool,
    pairs: &mut Pairs,
) -> Option<Result<(), Refusal>> {
    let (Node::Object { .. }, mut rest) = nodes.split_first()? else {
        return Some(Err(Refusal::NotAnObject));
    };
    let mut needs_strict_reader = false;
    while let [Node::String(key), value, after @ ..] = rest {
        rest = after;
        let kept = keys.index_of(key);
        match (value, kept) {
            (Node::Object { count, .. } | Node::Array { count, .. }, _) => {
                if refuse_nested {
                    return Some(Err(Refusal::Nested));
                }
                rest = after.get(*count..)?;
                needs_strict_reader |= kept.is_some();
            }
            (_, None) => {}
            (Node::String(text), Some(key)) => pairs.push(key, Some(text)),
            (Node::Static(value), Some(key)) => match value {
                StaticNode::Null => pairs.push(key, None),
                StaticNode::Bool(true) => pairs.push(key, Some("true")),
                StaticNode::Bool(false) => pairs.push(key, Some("false")),
                // the shortest text of an integer is the one numeric prints, -0 as 0 included
                StaticNode::I64(number) => pairs.push(key, Some(&number.to_string())),
                StaticNode::U64(number) => pairs.push(key, Some(&number.to_string())),
                StaticNode::F64(_) => needs_strict_reader = true,
            },
        }
    }
    if needs_strict_reader { None } else { Some(Ok(())) }
}

fn read_strictly(text: &str, keys: &EnabledKeys, refuse_nested: bool, pairs: &mut Pairs) -> Result<(), Refusal> {
    let members = match read_tree(text, keys) {
        Err(Refusal::TooDeep) if refuse_nested => return Err(Refusal::Nested),
        other => other?,
    };
    if refuse_nested && members.any_nested {
        return Err(Refusal::Nested);
    }
    let mut writer = JsonbText::new();
    for (key, value) in last_of_each_key(&members.kept) {
        pairs.push_with(*key, |out| writer.append_value(value, out))?;
    }
    Ok(())
}

/// What a duplicate overwrites is not kept, so it must not be able to refuse the text.
fn last_of_each_key(members: &[(u32, Tree)]) -> Vec<&(u32, Tree)> {
    let mut last: Vec<&(u32, Tree)> = members.iter().rev().collect();
    last.sort_by_key(|(key, _)| *key);
    last.dedup_by_key(|(key, _)| *key);
    last
}

#[cfg(test)]
mod tests;
