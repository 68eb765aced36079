//! Settled pairs → ids of label sets; lays sets over one another and writes them as canonical JSON (keys in byte order, no
//! blanks, non-ASCII as it is). Ids follow the order of arrival, so nothing here orders by them.

use super::interner::Interner;
use super::jsonb_text::append_json_string;
use super::pairs::Pairs;
use super::{EnabledKeys, LabelSetId};
use std::cmp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The interned sets of one day. Values are interned as they stand in JSON, so writing a set copies and no more.
pub(super) struct Sets {
    keys: Arc<EnabledKeys>,
    values: Interner<str>,
    /// Every set but the null label, which is none: the set with id n has place n − 1 here.
    sets: Interner<[Pair]>,
    /// Bytes of the canonical JSON of all sets. Threads that meet the same new set at once may both count it.
    json_bytes: AtomicUsize,
}

/// Index of a key and number of a value. Sets hold them sorted, each key once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    key: u32,
    value: u32,
}

/// Memory for one label on its way in, used again for the next.
#[derive(Default)]
pub(super) struct SetScratch {
    fragment: String,
    set: Vec<Pair>,
}

impl SetScratch {
    /// How many bytes the buffers hold on to.
    pub(super) fn capacity(&self) -> usize {
        self.fragment.capacity() + self.set.capacity() * size_of::<Pair>()
    }
}

/// Sets that are looked at for the key that varies most; it is asked for when memory is short.
const LAST_SETS: u32 = 4_096;

/// JSON null as a value, and what the null label is written as.
const NULL: &str = "null";

impl Sets {
    /// Holds only the empty set.
    pub(super) fn new(keys: Arc<EnabledKeys>) -> Self {
        let this = Self { keys, values: Interner::new(), sets: Interner::new(), json_bytes: AtomicUsize::new(0) };
        let empty = this.intern(&[]);
        debug_assert_eq!(empty, LabelSetId::EMPTY);
        this
    }

    /// The set of settled pairs.
    pub(super) fn of_pairs(&self, pairs: &Pairs, scratch: &mut SetScratch) -> LabelSetId {
        scratch.set.clear();
        for (key, value) in pairs.iter() {
            scratch.fragment.clear();
            match value {
                Some(text) => append_json_string(text, &mut scratch.fragment),
                None => scratch.fragment.push_str(NULL),
            }
            scratch.set.push(Pair { key, value: self.values.intern(scratch.fragment.as_str()) });
        }
        self.intern(&scratch.set)
    }

    /// Lays the sets over one another; the later one wins. A null label counts as the empty set.
    pub(super) fn merge(&self, ids: &[LabelSetId]) -> LabelSetId {
        let mut single = LabelSetId::EMPTY;
        let mut merged: Option<Vec<Pair>> = None;
        for id in ids.iter().copied().filter(|id| !self.pairs(*id).is_empty()) {
            merged = match merged {
                Some(under) => Some(overlay(&under, self.pairs(id))),
                None if single == LabelSetId::EMPTY || single == id => {
                    single = id;
                    None
                }
                None => Some(overlay(self.pairs(single), self.pairs(id))),
            };
        }
        merged.map_or(single, |set| self.intern(&set))
    }

    /// Appends the canonical JSON of a set.
    pub(super) fn append_json(&self, id: LabelSetId, out: &mut String) {
        if id == LabelSetId::NULL {
            return out.push_str(NULL);
        }
        out.push('{');
        for (position, pair) in self.pairs(id).iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            out.push_str(self.keys.fragment(pair.key));
            out.push_str(self.value(*pair));
        }
        out.push('}');
    }

    /// Compares the canonical JSON of two sets byte by byte without writing it.
    ///
    /// The first pair that differs decides: JSON strings with their quotes are never the beginning of one another. Where one
    /// set ends before, its `}` stands against the other's `,` or `"` and is the greater byte.
    pub(super) fn compare(&self, a: LabelSetId, b: LabelSetId) -> cmp::Ordering {
        if a == b || a == LabelSetId::NULL || b == LabelSetId::NULL {
            // `null` is less than `{`, and its id is less than any other
            return a.cmp(&b);
        }
        let (a, b) = (self.pairs(a), self.pairs(b));
        match a.iter().zip(b).find(|(a, b)| a != b) {
            Some((a, b)) if a.key == b.key => self.value(*a).cmp(self.value(*b)),
            Some((a, b)) => self.keys.fragment(a.key).cmp(self.keys.fragment(b.key)),
            None => b.len().cmp(&a.len()),
        }
    }

    /// How many sets there are, the empty one included.
    pub(super) fn len(&self) -> u32 {
        self.sets.len()
    }

    /// About how many bytes the canonical JSON of all sets takes.
    pub(super) fn json_bytes(&self) -> usize {
        self.json_bytes.load(Ordering::Relaxed)
    }

    /// The key with the most distinct values among the last sets: the one that makes them many.
    pub(super) fn most_varied_key(&self) -> Option<&str> {
        let last = self.sets.len().saturating_sub(LAST_SETS)..self.sets.len();
        let pairs = last.filter_map(|place| self.sets.get(place)).flatten();
        let mut values: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        pairs.for_each(|pair| _ = values.entry(pair.key).or_default().insert(pair.value));
        let (key, _) = values.into_iter().max_by_key(|(_, values)| values.len())?;
        Some(self.keys.key(key))
    }

    /// About how many bytes the sets and their values take.
    pub(super) fn bytes(&self) -> usize {
        self.sets.bytes() + self.values.bytes()
    }

    fn intern(&self, set: &[Pair]) -> LabelSetId {
        let known = self.sets.len();
        let place = self.sets.intern(set);
        if place >= known {
            // Braces, and a comma behind all pairs but one.
            let pair = |pair: &Pair| self.keys.fragment(pair.key).len() + self.value(*pair).len() + 1;
            self.json_bytes.fetch_add(2 + set.iter().map(pair).sum::<usize>(), Ordering::Relaxed);
        }
        LabelSetId(place + 1)
    }

    /// Ids come from this store; a foreign one is no set and reads as empty.
    fn pairs(&self, id: LabelSetId) -> &[Pair] {
        id.0.checked_sub(1).and_then(|place| self.sets.get(place)).unwrap_or_default()
    }

    fn value(&self, pair: Pair) -> &str {
        self.values.get(pair.value).unwrap_or(NULL)
    }
}

/// Both sets in one, `over` winning where both have a key.
fn overlay(mut under: &[Pair], mut over: &[Pair]) -> Vec<Pair> {
    let mut merged = Vec::with_capacity(under.len() + over.len());
    while let ([lower, under_rest @ ..], [upper, over_rest @ ..]) = (under, over) {
        if lower.key <= upper.key {
            under = under_rest;
        }
        if upper.key <= lower.key {
            over = over_rest;
        }
        merged.push(if upper.key <= lower.key { *upper } else { *lower });
    }
    merged.extend_from_slice(under);
    merged.extend_from_slice(over);
    merged
}
