//! Texts → numbers: each distinct text is kept once, in the order in which the texts came.

use std::hash::BuildHasher;

use arrow_array::StringArray;
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Distinct texts, one after the other.
#[derive(Debug, Default)]
pub(super) struct DistinctTexts {
    texts: String,
    /// Where each text ends.
    ends: Vec<u32>,
    /// Hash and number of each text: a table that grows need not look at texts again.
    table: HashTable<(u64, u32)>,
    hasher: RandomState,
}

impl DistinctTexts {
    /// The number of a text.
    #[inline]
    pub(super) fn number(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text.as_bytes());
        let is_same = |(known, number): &(u64, u32)| *known == hash && self.text(*number) == text;
        if let Some((_, number)) = self.table.find(hash, is_same) {
            return *number;
        }
        let number = u32::try_from(self.ends.len()).expect("an object has fewer rows");
        self.table.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        self.texts.push_str(text);
        self.ends.push(u32::try_from(self.texts.len()).expect("the rows of an object are written long before"));
        number
    }

    /// The text of a number.
    #[inline]
    pub(super) fn text(&self, number: u32) -> &str {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.texts[start as usize..self.ends[number] as usize]
    }

    /// All texts in the order of their numbers.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let text = &self.texts[start..*end as usize];
            start = *end as usize;
            text
        })
    }

    /// All texts in the order of their numbers, as an array.
    pub(super) fn into_array(self) -> StringArray {
        let ends = self.ends.into_iter().map(|end| i32::try_from(end).expect("an object's texts are far below 2 GiB"));
        let offsets: Vec<i32> = std::iter::once(0).chain(ends).collect();
        StringArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), self.texts.into_bytes().into(), None)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;

    use super::*;

    #[test]
    fn each_text_has_one_number_in_the_order_of_arrival() {
        let mut texts = DistinctTexts::default();
        let numbers = ["b", "", "a", "b", "", "c"].map(|text| texts.number(text));
        assert_eq!(numbers, [0, 1, 2, 0, 1, 3]);
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["b", "", "a", "c"]);
        assert_eq!(texts.text(2), "a");
        for index in 0..10_000 {
            assert_eq!(texts.number(&format!("text {index}")), 4 + index);
        }
        let array = texts.into_array();
        assert_eq!((array.len(), array.value(3), array.value(10_003)), (10_004, "c", "text 9999"));
    }
}
