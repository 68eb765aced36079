//! The kept pairs of one label while it is read, in order of appearance → the last of each key, sorted by key.

use super::{EnabledKeys, Refusal};

/// Kept pairs in a buffer that is used again for the next label; the texts lie one behind the other.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    items: Vec<Item>,
    texts: String,
}

/// `end` is `None` for JSON null.
#[derive(Debug, Clone, Copy)]
struct Item {
    key: u32,
    start: usize,
    end: Option<usize>,
}

impl Pairs {
    /// Forgets the pairs and keeps the buffer.
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.texts.clear();
    }

    /// Adds a pair; `None` is JSON null.
    pub(super) fn push(&mut self, key: u32, value: Option<&str>) {
        let start = self.texts.len();
        self.texts.push_str(value.unwrap_or_default());
        self.items.push(Item { key, start, end: value.map(|_| self.texts.len()) });
    }

    /// Adds a pair whose text `write` appends; it answers `false` for JSON null.
    pub(super) fn push_with(
        &mut self,
        key: u32,
        write: impl FnOnce(&mut String) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        let start = self.texts.len();
        let is_text = write(&mut self.texts)?;
        self.items.push(Item { key, start, end: is_text.then_some(self.texts.len()) });
        Ok(())
    }

    /// Sorts by key and leaves the last pair of each key. A kept key or value with U+0000 is refused.
    pub(super) fn settle(&mut self, keys: &EnabledKeys) -> Result<(), Refusal> {
        if !self.items.is_sorted_by(|a, b| a.key < b.key) {
            // stable after reversal, so that of equal keys the last one written stays in front
            self.items.reverse();
            self.items.sort_by_key(|item| item.key);
            self.items.dedup_by_key(|item| item.key);
        }
        match self.iter().any(|(key, value)| has_nul(keys.key(key)) || value.is_some_and(has_nul)) {
            true => Err(Refusal::NulCharacter),
            false => Ok(()),
        }
    }

    /// The pairs in their present order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Option<&str>)> {
        self.items.iter().map(|item| (item.key, item.end.map(|end| &self.texts[item.start..end])))
    }

    /// Writes the pairs in a form that is equal only for equal pairs.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        for (key, value) in self.iter() {
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(&value.map_or(usize::MAX, str::len).to_le_bytes());
            out.extend_from_slice(value.unwrap_or_default().as_bytes());
        }
    }

    /// How many bytes the buffer holds on to.
    pub(super) fn capacity(&self) -> usize {
        self.texts.capacity() + self.items.capacity() * size_of::<Item>()
    }
}

fn has_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> EnabledKeys {
        EnabledKeys::new(["a", "b", "c\0"].map(String::from))
    }

    #[test]
    fn the_last_of_each_key_is_left_in_key_order() {
        let mut pairs = Pairs::default();
        for (key, value) in [(1, Some("x")), (0, Some("first")), (0, None), (1, Some("")), (0, Some("last"))] {
            pairs.push(key, value);
        }
        assert_eq!(pairs.settle(&keys()), Ok(()));
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [(0, Some("last")), (1, Some(""))]);
        pairs.clear();
        pairs.push(1, None);
        assert_eq!(pairs.settle(&keys()), Ok(()));
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [(1, None)]);
    }

    #[test]
    fn different_pairs_are_encoded_differently() {
        let lists: [&[(u32, Option<&str>)]; 6] = [
            &[],
            &[(0, None)],
            &[(0, Some(""))],
            &[(1, Some(""))],
            &[(0, Some("a")), (1, Some("b"))],
            &[(0, Some("ab")), (1, Some(""))],
        ];
        let mut seen = std::collections::HashSet::new();
        for list in lists {
            let (mut pairs, mut encoded) = (Pairs::default(), b"left over".to_vec());
            list.iter().for_each(|(key, value)| pairs.push(*key, *value));
            pairs.encode(&mut encoded);
            assert!(seen.insert(encoded), "{list:?}");
        }
    }

    #[test]
    fn only_what_is_kept_may_be_refused() {
        let mut pairs = Pairs::default();
        pairs.push(0, Some("\0"));
        pairs.push(0, Some("fine"));
        assert_eq!(pairs.settle(&keys()), Ok(()));
        pairs.push(1, Some("a\0b"));
        assert_eq!(pairs.settle(&keys()), Err(Refusal::NulCharacter));
        pairs.clear();
        pairs.push(2, Some("value under a key with U+0000"));
        assert_eq!(pairs.settle(&keys()), Err(Refusal::NulCharacter));
    }
}
