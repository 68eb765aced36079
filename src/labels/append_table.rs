//! Values → places that never move and are read without a lock. Only grows; dropped as a whole with its day.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Places in the first chunk; each further chunk doubles.
const FIRST_CHUNK: usize = 256;
/// Chunks enough for every u32.
const CHUNKS: usize = 25;

/// A list that many threads append to and read at once.
pub(super) struct AppendTable<T> {
    chunks: [OnceLock<Box<[OnceLock<T>]>>; CHUNKS],
    len: AtomicU32,
}

impl<T> AppendTable<T> {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS], len: AtomicU32::new(0) }
    }

    /// Appends a value; its place is the answer. `None` once every u32 is taken.
    pub(super) fn push(&self, value: T) -> Option<u32> {
        // no `fetch_add`: the counter must stay where it is once it is full
        let place = self.len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |len| len.checked_add(1)).ok()?;
        let (chunk, offset) = locate(place);
        let slots = self.chunks[chunk].get_or_init(|| (0..FIRST_CHUNK << chunk).map(|_| OnceLock::new()).collect());
        // the place was handed to this call alone, so the slot is empty
        slots[offset].set(value).ok()?;
        Some(place)
    }

    /// The value at a place.
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        let (chunk, offset) = locate(place);
        self.chunks[chunk].get()?[offset].get()
    }

    /// How many values there are.
    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Bytes of the chunks so far, what the values own not counted.
    pub(super) fn slot_bytes(&self) -> usize {
        let slots: usize = self.chunks.iter().map_while(OnceLock::get).map(|chunk| chunk.len()).sum();
        slots * size_of::<OnceLock<T>>()
    }
}

/// Chunk and offset of a place: chunk n starts at `FIRST_CHUNK · (2ⁿ − 1)`.
fn locate(place: u32) -> (usize, usize) {
    let shifted = place as usize + FIRST_CHUNK;
    let chunk = (shifted / FIRST_CHUNK).ilog2() as usize;
    (chunk, shifted - (FIRST_CHUNK << chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_without_gaps() {
        let table = AppendTable::new();
        for value in 0..10_000_u32 {
            assert_eq!(table.push(value), Some(value));
        }
        assert!((0..10_000).all(|place| table.get(place) == Some(&place)));
        assert_eq!((table.get(10_000), table.len()), (None, 10_000));
        assert!(table.slot_bytes() >= 10_000 * size_of::<OnceLock<u32>>());
    }

    #[test]
    fn chunks_follow_one_another() {
        assert_eq!([0, 255, 256, 767, 768].map(locate), [(0, 0), (0, 255), (1, 0), (1, 511), (2, 0)]);
        let (chunk, offset) = locate(u32::MAX);
        assert!(chunk < CHUNKS && offset < FIRST_CHUNK << chunk);
    }

    #[test]
    fn threads_get_places_of_their_own() {
        let table = AppendTable::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let table = &table;
                scope.spawn(move || {
                    for value in 0..2_000 {
                        let place = table.push((thread, value)).unwrap();
                        assert_eq!(table.get(place), Some(&(thread, value)));
                    }
                });
            }
        });
        assert_eq!(table.len(), 8_000);
        assert!((0..8_000).all(|place| table.get(place).is_some()));
    }
}
