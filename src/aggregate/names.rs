//! Names of one column and day → small ids, common to all workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use crate::rollups::tables::{NameId, NameTable};

/// Ids of the names of one column; 0 is null, 1 the empty text.
#[derive(Debug)]
pub struct NameStore {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    index: HashTable<u32>,
    texts: Vec<Option<Arc<str>>>,
    text_bytes: usize,
}

/// A locked store, for translating many names at once.
pub struct NameIds<'a> {
    inner: MutexGuard<'a, Inner>,
}

impl Default for NameStore {
    fn default() -> Self {
        Self::new()
    }
}

impl NameStore {
    /// A store that knows null and the empty text.
    pub fn new() -> Self {
        let mut inner = Inner { index: HashTable::new(), texts: vec![None], text_bytes: 0 };
        inner.add("");
        Self { inner: Mutex::new(inner) }
    }

    /// Locks the store. A worker that panicked while holding it left it consistent: adding is the last step.
    pub fn lock(&self) -> NameIds<'_> {
        NameIds { inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// How many names there are, null and the empty text included.
    #[allow(clippy::len_without_is_empty)] // a store is never empty
    pub fn len(&self) -> usize {
        self.lock().inner.texts.len()
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        let inner = &self.lock().inner;
        inner.text_bytes + inner.texts.len() * 48
    }

    /// The names in the order of their ids.
    pub fn table(&self) -> NameTable {
        NameTable::new(self.lock().inner.texts.clone())
    }
}

impl NameIds<'_> {
    /// Id of a name, added if it is new.
    pub fn add(&mut self, text: &str) -> NameId {
        self.inner.add(text)
    }

    /// Id of a name, if it is known.
    pub fn find(&self, text: &str) -> Option<NameId> {
        self.inner.find(text, hash(text))
    }

    /// Text of an id.
    pub fn text(&self, id: NameId) -> Option<&str> {
        self.inner.texts.get(id.0 as usize).and_then(|text| text.as_deref())
    }
}

impl Inner {
    fn find(&self, text: &str, hash: u64) -> Option<NameId> {
        let texts = &self.texts;
        self.index.find(hash, |id| texts[*id as usize].as_deref() == Some(text)).map(|id| NameId(*id))
    }

    fn add(&mut self, text: &str) -> NameId {
        let hash_of_text = hash(text);
        if let Some(id) = self.find(text, hash_of_text) {
            return id;
        }
        let id = u32::try_from(self.texts.len()).expect("fewer than 2^32 distinct names fit into memory");
        self.texts.push(Some(Arc::from(text)));
        self.text_bytes += text.len();
        let texts = &self.texts;
        self.index.insert_unique(hash_of_text, id, |id| hash(texts[*id as usize].as_deref().unwrap_or_default()));
        NameId(id)
    }
}

fn hash(text: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_have_fixed_ids() {
        let store = NameStore::new();
        assert_eq!(store.lock().add(""), NameId::EMPTY);
        let a = store.lock().add("a");
        assert_eq!(store.lock().add("a"), a);
        assert_eq!(store.lock().find("b"), None);
        let table = store.table();
        assert_eq!(table.text(NameId::NULL), None);
        assert_eq!(table.text(NameId::EMPTY), Some(""));
        assert_eq!(table.text(a), Some("a"));
    }
}
