//! Texts that come without a dictionary → ids; each distinct text is resolved once, and most rows cost one comparison.
//!
//! A label column whose dictionary overflowed has its text in every row. Pods come in nearly the same order hour by hour, and so
//! do their texts: the text of the next row is guessed from that order, and comparing it costs less than a hash of it.

use hashbrown::HashTable;

use super::trail::Trail;

/// The most bytes of texts that are remembered, however much memory there is; beyond them, or fewer where memory is short,
/// everything is forgotten, and remembered anew.
const MOST_BYTES: usize = 32 << 20;
/// Bytes of texts for which room is made at once.
const BLOCK_BYTES: usize = 256 << 10;

/// Texts of one column of a lane, with their ids.
#[derive(Debug)]
pub struct KnownTexts {
    /// All texts, one after the other, in blocks: what is there stays where it is.
    blocks: Vec<Vec<u8>>,
    text_bytes: usize,
    known: Vec<Known>,
    index: HashTable<Place>,
    trail: Trail,
    most_bytes: usize,
}

/// One text: where it is, and its id.
#[derive(Debug, Clone, Copy)]
struct Known {
    block: u32,
    start: u32,
    end: u32,
    id: u32,
}

/// The place of a text among the known. Its hash lies beside it, so that a table that grows need not read the texts again.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    number: u32,
}

impl KnownTexts {
    /// None yet, and never more than so many bytes of them.
    pub fn new(most_bytes: usize) -> Self {
        Self {
            blocks: Vec::new(),
            text_bytes: 0,
            known: Vec::new(),
            index: HashTable::new(),
            trail: Trail::default(),
            most_bytes: most_bytes.min(MOST_BYTES),
        }
    }

    /// The id of a text, resolved if it is new.
    pub fn id_of<E>(&mut self, text: &str, resolve: impl FnOnce(&str) -> Result<u32, E>) -> Result<u32, E> {
        if let Some(guess) = self.trail.guess()
            && self.text(guess) == text.as_bytes()
        {
            self.trail.guessed();
            return Ok(self.id(guess));
        }
        if let Some(guess) = self.trail.further_guess()
            && self.text(guess) == text.as_bytes()
        {
            self.trail.guessed_further();
            return Ok(self.id(guess));
        }
        if let Some(guess) = self.trail.second_guess()
            && self.text(guess) == text.as_bytes()
        {
            self.trail.guessed_second();
            return Ok(self.id(guess));
        }
        let hash = (hash_of(text) >> 32) as u32;
        let is_text = |place: &Place| place.hash == hash && self.text(place.number) == text.as_bytes();
        let number = match self.index.find(spread(hash), is_text) {
            Some(place) => place.number,
            None => {
                let id = resolve(text)?;
                self.add(hash, text, id)
            }
        };
        self.trail.missed(number);
        Ok(self.id(number))
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        self.text_bytes
            + self.known.capacity() * size_of::<Known>()
            + self.index.allocation_size()
            + self.trail.state_bytes()
    }

    fn add(&mut self, hash: u32, text: &str, id: u32) -> u32 {
        if self.text_bytes + text.len() > self.most_bytes {
            *self = Self::new(self.most_bytes);
        }
        let number = position(self.known.len());
        let has_room = |block: &Vec<u8>| block.capacity() - block.len() >= text.len();
        if !self.blocks.last().is_some_and(has_room) {
            self.blocks.push(Vec::with_capacity(text.len().max(BLOCK_BYTES.min(self.most_bytes))));
        }
        let last = self.blocks.len() - 1;
        let block = &mut self.blocks[last];
        let start = block.len();
        block.extend_from_slice(text.as_bytes());
        self.known.push(Known { block: position(last), start: position(start), end: position(block.len()), id });
        self.text_bytes += text.len();
        self.index.insert_unique(spread(hash), Place { hash, number }, |place| spread(place.hash));
        number
    }

    #[inline]
    fn text(&self, number: u32) -> &[u8] {
        let Known { block, start, end, .. } = self.known[number as usize];
        &self.blocks[block as usize][start as usize..end as usize]
    }

    fn id(&self, number: u32) -> u32 {
        self.known[number as usize].id
    }
}

/// Bytes are bounded, and Parquet has no text of more than 2^31 bytes.
fn position(at: usize) -> u32 {
    u32::try_from(at).expect("bounded bytes hold fewer than 2^32 of anything")
}

/// The table looks at the lowest and the highest bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Hash of a text, the same in each process.
pub fn hash_of(text: &str) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn each_text_is_resolved_once_in_whatever_order_it_comes() {
        let mut known = KnownTexts::new(usize::MAX);
        let texts: Vec<String> = (0..500).map(|number| format!("{{\"pod\": \"{}\"}}", number % 400)).collect();
        let mut resolved = 0;
        for _ in 0..3 {
            for text in texts.iter().chain(texts.iter().rev()).chain(texts.iter().step_by(7)) {
                let expected: u32 = text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
                let id = known.id_of(text, |text| {
                    resolved += 1;
                    assert!(text.starts_with("{\"pod\""));
                    Ok::<u32, Infallible>(expected)
                });
                assert_eq!(id, Ok(expected));
            }
        }
        assert_eq!(resolved, 400);
    }

    #[test]
    fn the_empty_text_is_one_like_any_other_and_a_refused_one_is_asked_again() {
        let mut known = KnownTexts::new(usize::MAX);
        assert_eq!(known.id_of("", |_| Err("no")), Err("no"));
        assert_eq!(known.id_of("", |_| Ok::<u32, &str>(7)), Ok(7));
        assert_eq!(known.id_of("a", |_| Ok::<u32, &str>(8)), Ok(8));
        assert_eq!(known.id_of("", |_| Err("not asked")), Ok(7));
    }

    #[test]
    fn texts_of_all_blocks_are_known() {
        let mut known = KnownTexts::new(usize::MAX);
        let texts: Vec<String> = (0..20).map(|number| number.to_string().repeat(BLOCK_BYTES / 10)).collect();
        for (id, text) in (0..20).zip(&texts) {
            assert_eq!(known.id_of(text, |_| Ok::<u32, Infallible>(id)), Ok(id));
        }
        assert!(known.blocks.len() > 2);
        for (id, text) in (0..20_u32).zip(&texts).rev() {
            assert_eq!(known.id_of(text, |_| Err("asked again")), Ok(id));
        }
    }

    #[test]
    fn more_than_fits_is_forgotten_and_resolved_anew() {
        forgets(KnownTexts::new(usize::MAX), MOST_BYTES);
        forgets(KnownTexts::new(3_000), 3_000);
    }

    fn forgets(mut known: KnownTexts, most_bytes: usize) {
        let long = "x".repeat(most_bytes / 3);
        for (round, ending) in ["a", "b", "c", "d", "a"].iter().enumerate() {
            let text = format!("{long}{ending}");
            let mut asked = false;
            let id = known.id_of(&text, |_| {
                asked = true;
                Ok::<u32, Infallible>(u32::try_from(round).unwrap())
            });
            assert_eq!((id, asked), (Ok(u32::try_from(round).unwrap()), true), "{round}");
            assert!(known.text_bytes <= most_bytes);
            assert_eq!(known.blocks.iter().map(Vec::len).sum::<usize>(), known.text_bytes);
        }
    }
}
