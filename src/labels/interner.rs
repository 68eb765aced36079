//! Equal values → the same small number. Locks are held to look up and to insert; reading a value by number takes none.

use super::append_table::AppendTable;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Enough that a few dozen threads seldom meet.
pub(super) const SHARDS: usize = 32;

/// The shard of a hash; the table inside uses the low bits and the highest seven.
pub(super) fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// Interned values of an unsized type such as `str`.
pub(super) struct Interner<T: ?Sized> {
    shards: [Mutex<HashTable<Slot>>; SHARDS],
    values: AppendTable<Box<T>>,
    hasher: foldhash::fast::RandomState,
    value_bytes: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    id: u32,
}

/// Bytes of a slot in its hash table, whose load lies between seven sixteenths and seven eighths, and of an allocation.
const BYTES_PER_VALUE: usize = size_of::<Slot>() * 3 / 2 + 16;

impl<T: ?Sized + Hash + Eq> Interner<T> {
    /// An empty interner.
    pub(super) fn new() -> Self {
        Self {
            shards: [const { Mutex::new(HashTable::new()) }; SHARDS],
            values: AppendTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            value_bytes: AtomicUsize::new(0),
        }
    }

    /// The number of a value, given anew if it was never seen.
    pub(super) fn intern<'a>(&self, value: &'a T) -> u32
    where
        Box<T>: From<&'a T>,
    {
        let hash = self.hasher.hash_one(value);
        let mut shard = self.shards[shard_of(hash)].lock().unwrap_or_else(PoisonError::into_inner);
        let same = |slot: &Slot| slot.hash == hash && self.get(slot.id) == Some(value);
        match shard.entry(hash, same, |slot| slot.hash) {
            Entry::Occupied(slot) => slot.get().id,
            Entry::Vacant(vacant) => {
                self.value_bytes.fetch_add(size_of_val(value), Ordering::Relaxed);
                let id = self.values.push(value.into()).expect("memory ends long before four billion values");
                vacant.insert(Slot { hash, id });
                id
            }
        }
    }

    /// The value with this number.
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.values.get(id).map(|value| &**value)
    }

    /// How many distinct values there are.
    pub(super) fn len(&self) -> u32 {
        self.values.len()
    }

    /// About how many bytes all of this takes.
    pub(super) fn bytes(&self) -> usize {
        let values = self.value_bytes.load(Ordering::Relaxed) + self.len() as usize * BYTES_PER_VALUE;
        values + self.values.slot_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_get_equal_numbers() {
        let interner = Interner::<str>::new();
        let ids: Vec<u32> = ["a", "b", "a", "", "b"].iter().map(|value| interner.intern(value)).collect();
        assert_eq!(ids, [0, 1, 0, 2, 1]);
        assert_eq!((interner.get(2), interner.get(3), interner.len()), (Some(""), None, 3));
    }

    #[test]
    fn threads_agree_on_numbers() {
        let interner = Interner::<[u32]>::new();
        let intern_all = || (0..3_000_u32).map(|i| interner.intern(&[i, i % 7])).collect::<Vec<_>>();
        let lists = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(intern_all)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(lists.iter().all(|list| list == &lists[0]));
        assert_eq!(interner.len(), 3_000);
        assert!((0..3_000_u32).all(|i| interner.get(lists[0][i as usize]) == Some(&[i, i % 7][..])));
        assert!(interner.bytes() >= 3_000 * 8);
    }
}
