//! Label sets that rows refer to → their canonical JSON, written once per set.

use crate::labels::{LabelSetId, LabelStore};

/// Texts of label sets, each with a place of its own.
#[derive(Debug)]
pub struct LabelTexts {
    /// Set id → place, or `UNUSED`.
    places: Vec<u32>,
    /// All texts in the order of their places.
    text: String,
    /// Where each text ends.
    ends: Vec<usize>,
}

const UNUSED: u32 = u32::MAX;

impl LabelTexts {
    /// The place of `{}`.
    pub const EMPTY_PLACE: u32 = 0;

    /// Writes the texts of the given sets, and of the empty set. The null label has no text.
    pub fn new(store: &LabelStore, sets: impl Iterator<Item = LabelSetId>) -> Self {
        let mut this = Self { places: Vec::new(), text: String::new(), ends: Vec::new() };
        for set in std::iter::once(LabelSetId::EMPTY).chain(sets) {
            let id = set.0 as usize;
            if id >= this.places.len() {
                this.places.resize((id + 1).max(2 * this.places.len()), UNUSED);
            }
            if this.places[id] == UNUSED && set != LabelSetId::NULL {
                this.places[id] = u32::try_from(this.ends.len()).unwrap_or(UNUSED);
                store.append_json(set, &mut this.text);
                this.ends.push(this.text.len());
            }
        }
        this
    }

    /// Memory of what has not been taken out.
    pub fn held_bytes(&self) -> usize {
        self.places.capacity() * size_of::<u32>() + self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// The place of a set's text; null for the null label.
    #[inline]
    pub fn place(&self, set: LabelSetId) -> Option<u32> {
        self.places.get(set.0 as usize).copied().filter(|place| *place != UNUSED)
    }

    /// Takes the texts out, in the order of their places: one after the other, and where each ends. The places stay.
    pub fn take(&mut self) -> (String, Vec<usize>) {
        (std::mem::take(&mut self.text), std::mem::take(&mut self.ends))
    }
}
