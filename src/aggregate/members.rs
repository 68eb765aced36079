//! Rows whose pair of names is wanted → distinct (pair, place, attribute).

use hashbrown::{HashMap, HashSet};

use super::names::NameIds;
use crate::rollups::tables::NameId;

/// Tuples of one lane.
#[derive(Debug)]
pub enum MembersPartial {
    /// All distinct attributes.
    All(HashSet<[u32; 4]>),
    /// The greatest attribute of each (pair, place).
    Greatest(HashMap<[u32; 3], NameId>),
}

impl MembersPartial {
    /// Nothing seen yet.
    pub fn new(greatest_attribute: bool) -> Self {
        if greatest_attribute { Self::Greatest(HashMap::new()) } else { Self::All(HashSet::new()) }
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        match self {
            Self::All(tuples) => tuples.capacity() * 17,
            Self::Greatest(tuples) => tuples.capacity() * 17,
        }
    }

    /// Adds the rows whose pair is wanted.
    pub fn add(
        &mut self,
        wanted: &HashSet<(u32, u32)>,
        [first, second, place, attribute]: [&[u32]; 4],
        attributes: &NameIds<'_>,
    ) {
        for row in 0..first.len() {
            // Most pods mount no volume, and their names are not among the known ones.
            if second[row] != 0 && wanted.contains(&(first[row], second[row])) {
                self.add_tuple([first[row], second[row], place[row], attribute[row]], attributes);
            }
        }
    }

    /// Adds one tuple.
    pub fn add_tuple(&mut self, tuple: [u32; 4], attributes: &NameIds<'_>) {
        let [first, second, place, attribute] = tuple;
        match self {
            Self::All(tuples) => {
                tuples.insert(tuple);
            }
            Self::Greatest(tuples) => {
                let greatest = tuples.entry([first, second, place]).or_insert(NameId(attribute));
                if greatest.0 != attribute && attributes.text(NameId(attribute)) > attributes.text(*greatest) {
                    *greatest = NameId(attribute);
                }
            }
        }
    }

    /// All tuples, in no particular order.
    pub fn tuples(&self) -> Vec<[u32; 4]> {
        match self {
            Self::All(tuples) => tuples.iter().copied().collect(),
            Self::Greatest(tuples) => tuples.iter().map(|([a, b, c], d)| [*a, *b, *c, d.0]).collect(),
        }
    }
}
