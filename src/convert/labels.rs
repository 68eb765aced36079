//! The operator's label text, `label_app:shop|label_tier:web` → the JSON text that the reference stores, each distinct
//! text converted once per thread as long as the cache remembers it (contract, section 2.2).

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use super::values::is_missing;
use crate::objects::append_label;

/// What is removed from keys, wherever it occurs.
const PREFIX: &str = "label_";
/// Bytes of texts that a cache keeps; it is emptied when they are full.
const MOST_CACHED_BYTES: usize = 16 << 20;
/// What an entry takes besides its texts.
const ENTRY_BYTES: usize = 64;

/// A converted label text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConvertedLabels {
    /// The JSON object.
    pub(super) json: String,
    /// Pairs that were lost because they hold more than one colon.
    pub(super) dropped_pairs: u64,
}

/// Converted texts of one thread.
#[derive(Debug, Default)]
pub(super) struct LabelCache {
    entries: HashTable<(String, Arc<ConvertedLabels>)>,
    hasher: RandomState,
    cached_bytes: usize,
}

impl LabelCache {
    /// The converted text, from memory if possible.
    pub(super) fn convert(&mut self, text: &str) -> Arc<ConvertedLabels> {
        let hash = self.hasher.hash_one(text);
        if let Some((_, converted)) = self.entries.find(hash, |(known, _)| known == text) {
            return Arc::clone(converted);
        }
        let converted = Arc::new(convert(text));
        let entry_bytes = text.len() + converted.json.len() + ENTRY_BYTES;
        if self.cached_bytes + entry_bytes > MOST_CACHED_BYTES {
            self.entries.clear();
            self.cached_bytes = 0;
        }
        if entry_bytes <= MOST_CACHED_BYTES {
            self.cached_bytes += entry_bytes;
            let hasher = &self.hasher;
            self.entries.insert_unique(hash, (text.to_owned(), Arc::clone(&converted)), |(known, _)| {
                hasher.hash_one(known.as_str())
            });
        }
        converted
    }
}

/// Items without a colon mean nothing, items with several are lost; a key keeps its first place and its last value.
fn convert(text: &str) -> ConvertedLabels {
    let mut dropped_pairs = 0;
    let mut pairs: Vec<(Cow<'_, str>, &str)> = Vec::new();
    let mut places: HashMap<Cow<'_, str>, usize, RandomState> = HashMap::default();
    let text = if is_missing(text) { "" } else { text };
    for item in text.split('|') {
        let Some((key, value)) = item.split_once(':') else { continue };
        if value.contains(':') {
            dropped_pairs += 1;
            continue;
        }
        let key = match key.strip_prefix(PREFIX) {
            Some(bare) if !bare.contains(PREFIX) => Cow::Borrowed(bare),
            _ => Cow::Owned(key.replace(PREFIX, "")),
        };
        match places.get(&key) {
            Some(place) => pairs[*place].1 = value,
            None => {
                places.insert(key.clone(), pairs.len());
                pairs.push((key, value));
            }
        }
    }
    let mut json = String::with_capacity(text.len() + 16 * pairs.len() + 2);
    json.push('{');
    for (key, value) in &pairs {
        append_label(&mut json, key, value);
    }
    json.push('}');
    ConvertedLabels { json, dropped_pairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_converted(text: &str, json: &str, dropped_pairs: u64) {
        assert_eq!(convert(text), ConvertedLabels { json: json.to_owned(), dropped_pairs }, "{text}");
    }

    #[test]
    fn pairs_become_members_in_their_order() {
        assert_converted("label_tier:web|label_app:shop", r#"{"tier": "web", "app": "shop"}"#, 0);
        assert_converted("", "{}", 0);
        assert_converted("nan", "{}", 0);
        assert_converted("label_foo:", r#"{"foo": ""}"#, 0);
        assert_converted("app:x", r#"{"app": "x"}"#, 0);
    }

    #[test]
    fn items_without_colon_are_ignored_and_with_several_lost() {
        assert_converted("label_app|label_tier:web||", r#"{"tier": "web"}"#, 0);
        assert_converted("label_url:http://x|label_a:1:|label_b:2", r#"{"b": "2"}"#, 2);
    }

    #[test]
    fn every_occurrence_of_the_prefix_leaves_the_key_only() {
        assert_converted("label_my_label_x:label_v", r#"{"my_x": "label_v"}"#, 0);
        assert_converted("label_:empty key", r#"{"": "empty key"}"#, 0);
        assert_converted("lablabel_el_app:once", r#"{"label_app": "once"}"#, 0);
    }

    #[test]
    fn the_last_duplicate_wins_in_the_place_of_the_first() {
        assert_converted("label_a:1|label_b:2|label_label_a:3", r#"{"a": "3", "b": "2"}"#, 0);
    }

    #[test]
    fn values_are_escaped_as_json() {
        assert_converted("label_q:\"\\|label_u:é", r#"{"q": "\"\\", "u": "\u00e9"}"#, 0);
    }

    #[test]
    fn a_full_cache_forgets_and_goes_on() {
        let mut cache = LabelCache::default();
        let long = "x".repeat(1 << 20);
        for round in 0..40 {
            let text = format!("label_k{round}:{long}");
            assert_eq!(*cache.convert(&text), convert(&text));
            assert!(cache.cached_bytes <= MOST_CACHED_BYTES);
        }
        let first = cache.convert("label_a:1");
        assert!(Arc::ptr_eq(&first, &cache.convert("label_a:1")));
    }
}
