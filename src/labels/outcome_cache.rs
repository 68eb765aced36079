//! Bytes of a label seen before → its outcome. Bounded in bytes: what no longer fits is worked out again, never wrongly.

use super::Outcome;
use super::interner::{SHARDS, shard_of};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes that caches may take together.
pub(super) struct CacheBudget {
    used: AtomicUsize,
    limit: usize,
}

impl CacheBudget {
    /// A budget nothing of which is used.
    pub(super) fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn try_take(&self, bytes: usize) -> bool {
        let grown = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }
}

/// Outcomes by the exact bytes they came from.
pub(super) struct OutcomeCache {
    shards: [Mutex<HashTable<Known>>; SHARDS],
    hasher: foldhash::fast::RandomState,
}

struct Known {
    hash: u64,
    bytes: Box<[u8]>,
    outcome: Outcome,
}

/// Bytes of an entry beside its text: its place in a table that is seven sixteenths to seven eighths full, an allocation.
const BYTES_PER_ENTRY: usize = size_of::<Known>() * 3 / 2 + 16;

/// What came of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insertion {
    New,
    /// Another thread was quicker.
    Known,
    /// The budget is used up.
    NoRoom,
}

impl OutcomeCache {
    /// An empty cache.
    pub(super) fn new() -> Self {
        Self {
            shards: [const { Mutex::new(HashTable::new()) }; SHARDS],
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// The hash to look up and insert with.
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// The outcome of these bytes, if they were seen and kept.
    pub(super) fn get(&self, hash: u64, bytes: &[u8]) -> Option<Outcome> {
        let shard = self.shards[shard_of(hash)].lock().unwrap_or_else(PoisonError::into_inner);
        shard.find(hash, |known| known.hash == hash && *known.bytes == *bytes).map(|known| known.outcome)
    }

    /// Keeps the outcome of these bytes if the budget has room.
    pub(super) fn insert(&self, hash: u64, bytes: &[u8], outcome: Outcome, budget: &CacheBudget) -> Insertion {
        let mut shard = self.shards[shard_of(hash)].lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Known| known.hash == hash && *known.bytes == *bytes;
        match shard.entry(hash, same, |known| known.hash) {
            Entry::Occupied(_) => Insertion::Known,
            Entry::Vacant(_) if !budget.try_take(bytes.len() + BYTES_PER_ENTRY) => Insertion::NoRoom,
            Entry::Vacant(vacant) => {
                vacant.insert(Known { hash, bytes: bytes.into(), outcome });
                Insertion::New
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LabelSetId;
    use super::*;

    #[test]
    fn keeps_outcomes_until_the_budget_is_used_up() {
        let (cache, budget) = (OutcomeCache::new(), CacheBudget::new(2 * BYTES_PER_ENTRY + 10));
        let insert = |text: &str, outcome| cache.insert(cache.hash(text.as_bytes()), text.as_bytes(), outcome, &budget);
        let get = |text: &str| cache.get(cache.hash(text.as_bytes()), text.as_bytes());
        let outcome = Outcome::Set(LabelSetId(7));
        assert_eq!(insert("abcde", outcome), Insertion::New);
        assert_eq!(insert("abcde", Outcome::TakenAsEmpty), Insertion::Known);
        assert_eq!(insert("abcdef", outcome), Insertion::NoRoom);
        assert_eq!(insert("fghij", Outcome::TakenAsEmpty), Insertion::New);
        assert_eq!(insert("", outcome), Insertion::NoRoom);
        assert_eq!(
            (get("abcde"), get("fghij"), get("abcdef"), get("")),
            (Some(outcome), Some(Outcome::TakenAsEmpty), None, None)
        );
        assert_eq!(budget.used(), 2 * BYTES_PER_ENTRY + 10);
    }

    #[test]
    fn equal_hashes_do_not_make_texts_equal() {
        let (cache, budget) = (OutcomeCache::new(), CacheBudget::new(1 << 20));
        cache.insert(1, b"one", Outcome::Set(LabelSetId(2)), &budget);
        assert_eq!(cache.get(1, b"two"), None);
        assert_eq!(cache.insert(1, b"two", Outcome::TakenAsEmpty, &budget), Insertion::New);
        assert_eq!(
            (cache.get(1, b"one"), cache.get(1, b"two")),
            (Some(Outcome::Set(LabelSetId(2))), Some(Outcome::TakenAsEmpty))
        );
    }
}
