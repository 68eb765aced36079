//! Names of a day's namespaces, with those that unallocated rows are given → ids, texts and places in byte order.

use super::unallocated::{PLATFORM_UNALLOCATED, WORKER_UNALLOCATED};
use crate::rollups::tables::{NameId, NameTable};

/// Names that no report has to hold; their ids follow those of the day.
const FIXED: [&str; 2] = [WORKER_UNALLOCATED, PLATFORM_UNALLOCATED];

/// The namespaces of one day.
#[derive(Clone, Copy)]
pub struct Namespaces<'a> {
    names: &'a NameTable,
}

impl<'a> Namespaces<'a> {
    /// Those of a day, and the fixed ones.
    pub fn new(names: &'a NameTable) -> Self {
        Self { names }
    }

    /// The text of an id; null for the null id.
    pub fn text(self, id: NameId) -> Option<&'a str> {
        let fixed = (id.0 as usize).checked_sub(self.first_fixed()).and_then(|position| FIXED.get(position));
        fixed.copied().or_else(|| self.names.text(id))
    }

    /// The id of a name that unallocated rows are given.
    pub fn fixed(self, text: &str) -> NameId {
        let position = FIXED.iter().position(|fixed| *fixed == text);
        let id = position.map(|position| self.first_fixed() + position);
        NameId(id.and_then(|id| u32::try_from(id).ok()).unwrap_or(NameId::NULL.0))
    }

    /// Number of ids, null and the fixed names included.
    pub fn id_count(self) -> usize {
        self.first_fixed() + FIXED.len()
    }

    /// For each id the place of its text in byte order, below `id_count`; equal texts share one, null comes last.
    pub fn ranks(self) -> Vec<u32> {
        let text = |id: usize| u32::try_from(id).ok().and_then(|id| self.text(NameId(id)));
        let mut ids: Vec<usize> = (0..self.id_count()).collect();
        ids.sort_unstable_by_key(|id| (text(*id).is_none(), text(*id)));
        let mut ranks = vec![0; ids.len()];
        let mut rank = 0;
        for pair in ids.windows(2) {
            rank += u32::from(text(pair[0]) != text(pair[1]));
            ranks[pair[1]] = rank;
        }
        ranks
    }

    /// The first two ids are null and the empty name, even on a day without names.
    fn first_fixed(self) -> usize {
        self.names.len().max(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_names_take_their_place_among_the_others() {
        let texts = [None, Some(""), Some("a"), Some(WORKER_UNALLOCATED), Some("Zebra")];
        let names = NameTable::new(texts.map(|text| text.map(std::sync::Arc::from)).to_vec());
        let namespaces = Namespaces::new(&names);
        let (worker, platform) = (namespaces.fixed(WORKER_UNALLOCATED), namespaces.fixed(PLATFORM_UNALLOCATED));
        assert_eq!([worker, platform], [NameId(5), NameId(6)]);
        assert_eq!(
            [worker, platform].map(|id| namespaces.text(id)),
            [Some(WORKER_UNALLOCATED), Some(PLATFORM_UNALLOCATED)]
        );
        assert_eq!(namespaces.ranks(), [5, 0, 4, 2, 3, 2, 1]);
        assert_eq!(Namespaces::new(&NameTable::default()).fixed(WORKER_UNALLOCATED), NameId(2));
        assert_eq!(Namespaces::new(&NameTable::default()).ranks(), [2, 2, 1, 0]);
    }
}
