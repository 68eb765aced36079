//! Label values of one day, as texts or entries, from many threads → ids of filtered sets; counts what it saw.

use super::json::JsonReader;
use super::operator_text::{PREFIX, read_operator_text};
use super::outcome_cache::{CacheBudget, Insertion, OutcomeCache};
use super::pairs::Pairs;
use super::sets::{SetScratch, Sets};
use super::storable::check_whole_text;
use super::{EnabledKeys, JSON_BLANKS, LabelRules, LabelSetId, Outcome, Refusal};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The label sets of one day, shared by all threads that work on it. What was read is kept until the store is dropped.
pub struct LabelStore {
    keys: Arc<EnabledKeys>,
    rules: LabelRules,
    sets: Sets,
    texts: OutcomeCache,
    entries: OutcomeCache,
    budget: CacheBudget,
    counters: Counters,
}

/// What a store saw. A text that no longer fitted into the cache counts each time it is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LabelStats {
    /// Distinct texts, of whatever form.
    pub distinct_texts: u64,
    /// Distinct texts that are, or ought to be, JSON objects.
    pub json_texts: u64,
    /// Distinct texts in the operator's raw form.
    pub operator_texts: u64,
    /// Distinct texts that are malformed.
    pub malformed_texts: u64,
    /// Distinct texts refused for any reason, malformed ones that the rules take as `{}` not among them.
    pub refused_texts: u64,
    /// Pairs of operator texts that were lost because they hold more than one colon.
    pub operator_pairs_dropped: u64,
    /// Distinct filtered sets that came as entries of a map, struct or list.
    pub entry_sets: u64,
    /// Texts and entries read without keeping their outcome, because the cache was full.
    pub uncached: u64,
    /// Distinct sets, merged ones and the empty one included.
    pub sets: u64,
}

/// What a label text looks like from its first characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextForm {
    /// Nothing but blanks.
    Blank,
    /// The operator's raw form.
    Operator,
    /// Anything else, which has to be a JSON object.
    Json,
}

/// The form in which `text` is read under these rules.
pub fn form_of(text: &str, rules: LabelRules) -> TextForm {
    let trimmed = text.trim_start_matches(JSON_BLANKS);
    if trimmed.is_empty() {
        TextForm::Blank
    } else if rules.operator_text && trimmed.starts_with(PREFIX) {
        TextForm::Operator
    } else {
        TextForm::Json
    }
}

impl LabelStore {
    /// An empty store. Outcomes of texts are remembered in up to `cache_bytes`; beyond that they are read again.
    pub fn new(keys: Arc<EnabledKeys>, rules: LabelRules, cache_bytes: usize) -> Self {
        Self {
            sets: Sets::new(Arc::clone(&keys)),
            keys,
            rules,
            texts: OutcomeCache::new(),
            entries: OutcomeCache::new(),
            budget: CacheBudget::new(cache_bytes),
            counters: Counters::default(),
        }
    }

    /// The keys that are kept.
    pub fn keys(&self) -> &EnabledKeys {
        &self.keys
    }

    /// The set of a label text: a JSON object, the operator's raw form, blank, or null.
    pub fn resolve_text(&self, text: Option<&str>) -> Outcome {
        let Some(text) = text else {
            return Outcome::Set(self.resolve_null());
        };
        let hash = self.texts.hash(text.as_bytes());
        self.texts.get(hash, text.as_bytes()).unwrap_or_else(|| {
            let reading = with_scratch(|scratch| self.read_text(text, scratch));
            let insertion = self.texts.insert(hash, text.as_bytes(), reading.outcome, &self.budget);
            self.counters.count_text(&reading, insertion);
            reading.outcome
        })
    }

    /// The set of a native map, struct or list of entries. `None` as a value is JSON null.
    pub fn resolve_entries<'a>(&self, entries: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Outcome {
        with_scratch(|scratch| {
            scratch.pairs.clear();
            for (key, value) in entries {
                if let Some(index) = self.keys.index_of(key) {
                    scratch.pairs.push(index, value);
                }
            }
            if let Err(refusal) = scratch.pairs.settle(&self.keys) {
                return Outcome::Refused(refusal);
            }
            scratch.pairs.encode(&mut scratch.encoded);
            let hash = self.entries.hash(&scratch.encoded);
            self.entries.get(hash, &scratch.encoded).unwrap_or_else(|| {
                let outcome = Outcome::Set(self.sets.of_pairs(&scratch.pairs, &mut scratch.set));
                let insertion = self.entries.insert(hash, &scratch.encoded, outcome, &self.budget);
                self.counters.count_entries(insertion);
                outcome
            })
        })
    }

    /// The set of a null label.
    pub fn resolve_null(&self) -> LabelSetId {
        if self.rules.null_is_distinct { LabelSetId::NULL } else { LabelSetId::EMPTY }
    }

    /// Lays the sets over one another from left to right: of equal keys the later set's value stays. A null label counts as
    /// `{}` here; whether it makes the whole result null is for the caller to decide.
    pub fn merge(&self, sets: &[LabelSetId]) -> LabelSetId {
        self.sets.merge(sets)
    }

    /// Appends the canonical JSON of a set: keys in byte order, no blanks, non-ASCII characters as they are, values strings or
    /// null. The null label is written as `null`.
    pub fn append_json(&self, set: LabelSetId, out: &mut String) {
        self.sets.append_json(set, out);
    }

    /// The canonical JSON of a set; see [`LabelStore::append_json`], which spares the allocation.
    pub fn canonical_json(&self, set: LabelSetId) -> String {
        let mut out = String::new();
        self.sets.append_json(set, &mut out);
        out
    }

    /// Compares two sets by the UTF-8 bytes of their canonical JSON.
    pub fn compare_canonical(&self, a: LabelSetId, b: LabelSetId) -> std::cmp::Ordering {
        self.sets.compare(a, b)
    }

    /// About how many bytes the store holds.
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>() + self.sets.bytes() + self.budget.used()
    }

    /// About how many bytes the canonical JSON of all sets takes, once it is written.
    pub fn json_bytes(&self) -> usize {
        self.sets.json_bytes()
    }

    /// The label key with the most distinct values among the sets that came last.
    pub fn most_varied_key(&self) -> Option<&str> {
        self.sets.most_varied_key()
    }

    /// What was read so far.
    pub fn stats(&self) -> LabelStats {
        let counters = &self.counters;
        LabelStats {
            distinct_texts: counters.texts.load(Relaxed),
            json_texts: counters.json_texts.load(Relaxed),
            operator_texts: counters.operator_texts.load(Relaxed),
            malformed_texts: counters.malformed_texts.load(Relaxed),
            refused_texts: counters.refused_texts.load(Relaxed),
            operator_pairs_dropped: counters.operator_pairs_dropped.load(Relaxed),
            entry_sets: counters.entry_sets.load(Relaxed),
            uncached: counters.uncached.load(Relaxed),
            sets: u64::from(self.sets.len()),
        }
    }

    fn read_text(&self, text: &str, scratch: &mut Scratch) -> Reading {
        let form = form_of(text, self.rules);
        let trimmed = text.trim_matches(JSON_BLANKS);
        let pairs = &mut scratch.pairs;
        pairs.clear();
        let mut pairs_dropped = 0;
        let read = match form {
            TextForm::Blank if self.rules.refuse_blank => Err(Refusal::Blank),
            TextForm::Blank => Ok(()),
            TextForm::Operator => {
                pairs_dropped = read_operator_text(trimmed, &self.keys, pairs);
                Ok(())
            }
            TextForm::Json if trimmed.starts_with('{') => {
                let read = scratch.json.read(trimmed, &self.keys, self.rules.refuse_nested, pairs);
                if self.rules.refuse_unstorable { read.and_then(|()| check_whole_text(trimmed)) } else { read }
            }
            TextForm::Json => Err(Refusal::NotAnObject),
        };
        let is_malformed = read == Err(Refusal::NotAnObject);
        let outcome = match read.and_then(|()| pairs.settle(&self.keys)) {
            Ok(()) => Outcome::Set(self.sets.of_pairs(pairs, &mut scratch.set)),
            Err(_) if is_malformed && self.rules.malformed_as_empty => Outcome::TakenAsEmpty,
            Err(refusal) => Outcome::Refused(refusal),
        };
        Reading { outcome, form, is_malformed, pairs_dropped }
    }
}

/// A text that was read.
struct Reading {
    outcome: Outcome,
    form: TextForm,
    is_malformed: bool,
    pairs_dropped: u64,
}

#[derive(Default)]
struct Counters {
    texts: AtomicU64,
    json_texts: AtomicU64,
    operator_texts: AtomicU64,
    malformed_texts: AtomicU64,
    refused_texts: AtomicU64,
    operator_pairs_dropped: AtomicU64,
    entry_sets: AtomicU64,
    uncached: AtomicU64,
}

impl Counters {
    fn count_text(&self, reading: &Reading, insertion: Insertion) {
        if insertion == Insertion::Known {
            return; // counted by the thread that was quicker
        }
        self.texts.fetch_add(1, Relaxed);
        match reading.form {
            TextForm::Blank => {}
            TextForm::Operator => {
                self.operator_texts.fetch_add(1, Relaxed);
                self.operator_pairs_dropped.fetch_add(reading.pairs_dropped, Relaxed);
            }
            TextForm::Json => {
                self.json_texts.fetch_add(1, Relaxed);
            }
        }
        self.malformed_texts.fetch_add(u64::from(reading.is_malformed), Relaxed);
        self.refused_texts.fetch_add(u64::from(matches!(reading.outcome, Outcome::Refused(_))), Relaxed);
        self.uncached.fetch_add(u64::from(insertion == Insertion::NoRoom), Relaxed);
    }

    fn count_entries(&self, insertion: Insertion) {
        self.entry_sets.fetch_add(u64::from(insertion != Insertion::Known), Relaxed);
        self.uncached.fetch_add(u64::from(insertion == Insertion::NoRoom), Relaxed);
    }
}

/// Buffers of one thread, used for label after label.
#[derive(Default)]
struct Scratch {
    json: JsonReader,
    pairs: Pairs,
    encoded: Vec<u8>,
    set: SetScratch,
}

/// Buffers above this many bytes are given back after use.
const KEEP_BYTES: usize = 1 << 20;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Lends the thread's buffers. They are taken out meanwhile, so a call from within only costs new ones.
fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let result = work(&mut scratch);
    if scratch.pairs.capacity() + scratch.encoded.capacity() + scratch.set.capacity() <= KEEP_BYTES {
        SCRATCH.set(Some(scratch));
    }
    result
}
