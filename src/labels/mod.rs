//! Label texts, maps and entries → small ids of filtered label sets, each distinct text looked at once.
//!
//! [`LabelStore`] is the door: one per day, shared by the worker threads. A text or map goes in and an [`Outcome`] comes
//! out; [`LabelStore::merge`] lays sets over one another; [`LabelStore::append_json`] writes a set as canonical JSON. Ids
//! depend on the order of arrival and must never reach the output; the canonical texts do not depend on it.
//!
//! How a text flows: `outcome_cache` (seen before?) → `json` (simd-json, and `json_tree` with `jsonb_text` and
//! `numeric_text` where the text of a number or a nested value matters) or `operator_text` → `pairs` (filtered by `keys`)
//! → `sets` (interned by `interner`, which stands on `append_table`).

mod append_table;
mod interner;
mod json;
mod json_tree;
mod jsonb_text;
mod keys;
mod numeric_text;
mod operator_text;
mod outcome_cache;
mod pairs;
mod sets;
mod storable;
mod store;
#[cfg(test)]
mod tests;

pub use keys::EnabledKeys;
pub use store::{LabelStats, LabelStore, TextForm, form_of};

/// Label rules of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelRules {
    /// What a null label is: `true`: a set of its own (`LabelSetId::NULL`); `false`: `{}`.
    pub null_is_distinct: bool,
    /// Whether a blank text (only space, tab, CR, LF) is refused instead of taken as `{}`.
    pub refuse_blank: bool,
    /// Whether a nested value, under any key, is refused instead of turned into its jsonb text.
    pub refuse_nested: bool,
    /// Whether what PostgreSQL's jsonb cannot hold (U+0000, a number out of numeric's range) is refused anywhere in the text,
    /// instead of only in what is kept.
    pub refuse_unstorable: bool,
    /// Whether the operator's raw form `label_a:b|label_c:d` is understood.
    pub operator_text: bool,
    /// Whether a malformed text is taken as `{}` and counted instead of refused.
    pub malformed_as_empty: bool,
}

/// A filtered label set of one [`LabelStore`]; equal ids there mean equal sets. Another store numbers differently.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct LabelSetId(pub u32);

impl LabelSetId {
    /// A null label, where null is a set of its own.
    pub const NULL: LabelSetId = LabelSetId(0);
    /// The set without any pair, `{}`.
    pub const EMPTY: LabelSetId = LabelSetId(1);
}

/// What became of one label value.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Its filtered set.
    Set(LabelSetId),
    /// The text is malformed and the rules take it as `{}`: the caller counts the row and uses [`LabelSetId::EMPTY`].
    TakenAsEmpty,
    /// The rules do not allow it: the caller names object, row group, row and column and adds the reason.
    Refused(Refusal),
}

/// Why a label value is refused. The text completes "the label …" and never shows the value.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The text is no JSON, or JSON but not an object: malformed. The only refusal that `malformed_as_empty` turns into `{}`.
    #[error("is not a JSON object")]
    NotAnObject,
    /// The text is blank, and a blank text is not allowed.
    #[error("is blank, not a JSON object")]
    Blank,
    /// A value is an object or an array, and nested values are not allowed.
    #[error("is a JSON object that holds a nested value")]
    Nested,
    /// A kept key or value holds U+0000, which PostgreSQL cannot store.
    #[error("holds the character U+0000 in a kept key or value")]
    NulCharacter,
    /// A kept number has more digits than PostgreSQL's numeric, or the kept numbers of the text have too many together.
    #[error("holds a number with more digits than PostgreSQL's numeric can have")]
    NumberTooLong,
    /// Objects or arrays are nested deeper than [`MAX_NESTING`].
    #[error("holds a value nested deeper than {MAX_NESTING} levels")]
    TooDeep,
}

/// How many objects and arrays may lie inside one another, the label object itself included.
pub const MAX_NESTING: usize = 100;

/// The four characters that are blank in JSON.
const JSON_BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];
