//! Rows as (interval, key, label set) → the label sets of each key.

use hashbrown::{HashMap, HashSet};
use std::cmp::Ordering;

use crate::labels::{LabelSetId, LabelStore};
use crate::rollups::declaration::KeepSets;

/// Label sets of one lane.
#[derive(Debug)]
pub struct LabelSetsPartial {
    /// Rows with a key, before anything was left out.
    pub row_count: u64,
    sets: Sets,
}

#[derive(Debug)]
enum Sets {
    All(HashSet<(u32, LabelSetId)>),
    Latest(HashMap<u32, (u64, LabelSetId)>),
}

impl LabelSetsPartial {
    /// Nothing seen yet.
    pub fn new(keep: KeepSets) -> Self {
        let sets = match keep {
            KeepSets::All => Sets::All(HashSet::new()),
            KeepSets::Latest => Sets::Latest(HashMap::new()),
        };
        Self { row_count: 0, sets }
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        match &self.sets {
            Sets::All(sets) => sets.capacity() * 9,
            Sets::Latest(sets) => sets.capacity() * 25,
        }
    }

    /// Adds one row; a null key joins nothing and is left out.
    pub fn add(&mut self, nanoseconds_of_day: u64, key: u32, set: LabelSetId, store: &LabelStore) {
        if key == 0 {
            return;
        }
        self.row_count += 1;
        self.keep(nanoseconds_of_day, key, set, store);
    }

    /// Adds the sets of another lane.
    pub fn absorb(&mut self, other: &LabelSetsPartial, store: &LabelStore) {
        self.row_count += other.row_count;
        match &other.sets {
            Sets::All(sets) => sets.iter().for_each(|(key, set)| self.keep(0, *key, *set, store)),
            Sets::Latest(sets) => {
                sets.iter().for_each(|(key, (time, set))| self.keep(*time, *key, *set, store));
            }
        }
    }

    /// Keys and sets, in no particular order.
    pub fn pairs(&self) -> Vec<(u32, LabelSetId)> {
        match &self.sets {
            Sets::All(sets) => sets.iter().copied().collect(),
            Sets::Latest(sets) => sets.iter().map(|(key, (_, set))| (*key, *set)).collect(),
        }
    }

    fn keep(&mut self, nanoseconds_of_day: u64, key: u32, set: LabelSetId, store: &LabelStore) {
        match &mut self.sets {
            Sets::All(sets) => {
                sets.insert((key, set));
            }
            Sets::Latest(sets) => {
                let (time, latest) = sets.entry(key).or_insert((nanoseconds_of_day, set));
                let is_later = match nanoseconds_of_day.cmp(time) {
                    Ordering::Equal => *latest != set && store.compare_canonical(set, *latest) == Ordering::Greater,
                    order => order == Ordering::Greater,
                };
                if is_later {
                    (*time, *latest) = (nanoseconds_of_day, set);
                }
            }
        }
    }
}
