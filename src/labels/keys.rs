//! The enabled tag keys → a sorted list with a quick "which one is this?". Exact and case-sensitive.

use super::jsonb_text::append_json_string;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The keys that are kept of every label set, distinct and in byte order; a key's index is its place in that order.
#[derive(Debug)]
pub struct EnabledKeys {
    keys: Vec<Box<str>>,
    fragments: Vec<Box<str>>,
    table: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

impl EnabledKeys {
    /// Sorts the keys and drops duplicates. Without any key every label is dropped.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Self {
        let mut keys: Vec<Box<str>> = keys.into_iter().map(String::into_boxed_str).collect();
        keys.sort_unstable();
        keys.dedup();
        let hasher = foldhash::fast::RandomState::default();
        let mut table = HashTable::with_capacity(keys.len());
        for (index, key) in (0_u32..).zip(&keys) {
            table.insert_unique(hasher.hash_one(key.as_bytes()), index, |i| {
                hasher.hash_one(keys[*i as usize].as_bytes())
            });
        }
        let fragments = keys.iter().map(|key| key_fragment(key)).collect();
        Self { keys, fragments, table, hasher }
    }

    /// The place of `key` in the order, if it is enabled.
    pub fn index_of(&self, key: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(key.as_bytes());
        self.table.find(hash, |index| &*self.keys[*index as usize] == key).copied()
    }

    /// Whether `key` is enabled.
    pub fn contains(&self, key: &str) -> bool {
        self.index_of(key).is_some()
    }

    /// How many keys are enabled.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is enabled.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys in byte order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| &**key)
    }

    /// The key at `index`.
    pub(super) fn key(&self, index: u32) -> &str {
        &self.keys[index as usize]
    }

    /// The key at `index` as it stands in canonical JSON, quoted and with its colon.
    pub(super) fn fragment(&self, index: u32) -> &str {
        &self.fragments[index as usize]
    }
}

fn key_fragment(key: &str) -> Box<str> {
    let mut fragment = String::with_capacity(key.len() + 3);
    append_json_string(key, &mut fragment);
    fragment.push(':');
    fragment.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(list: &[&str]) -> EnabledKeys {
        EnabledKeys::new(list.iter().map(ToString::to_string))
    }

    #[test]
    fn keys_are_sorted_by_bytes_and_distinct() {
        let keys = keys(&["é", "b", "B", "a", "b", "aa"]);
        assert_eq!(keys.iter().collect::<Vec<_>>(), ["B", "a", "aa", "b", "é"]);
        assert_eq!(keys.len(), 5);
    }

    #[test]
    fn look_ups_are_exact_and_case_sensitive() {
        let keys = keys(&["app", "tier"]);
        assert_eq!(keys.index_of("app"), Some(0));
        assert_eq!(keys.index_of("tier"), Some(1));
        for other in ["App", "app ", "", "ap", "tier\0"] {
            assert!(!keys.contains(other), "{other:?}");
        }
    }

    #[test]
    fn no_key_matches_nothing() {
        let keys = keys(&[]);
        assert!(keys.is_empty() && !keys.contains("") && !keys.contains("app"));
    }

    #[test]
    fn fragments_are_escaped() {
        assert_eq!(keys(&["a\"b"]).fragment(0), r#""a\"b":"#);
    }
}
