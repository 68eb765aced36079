//! Texts that come without a dictionary → ids; each distinct text is resolved once, and most rows cost one comparison.
//!
//! A label column whose dictionary overflowed has its text in every row. Pods come in nearly the same order hour by hour, and so
//! do their texts: the text of the next row is guessed from that order, and comparing it costs less than a hash of it.

use hashbrown::HashTable;

use super::trail::Trail;

/// The most bytes of texts that are remembered, however much memory there is; beyond them, or fewer where memory is short,
/// everything is forgotten, and remembered anew.
const MOST_BYTES: usize = 32 << 20;

/// Texts of one column of a lane, with their ids.
#[derive(Debug)]
pub struct KnownTexts {
    /// All texts, one after the other.
    texts: String,
    /// Per text where it ends, and its id.
    known: Vec<(usize, u32)>,
    index: HashTable<u32>,
    trail: Trail,
    most_bytes: usize,
}

impl KnownTexts {
    /// None yet, and never more than so many bytes of them.
    pub fn new(most_bytes: usize) -> Self {
        Self {
            texts: String::new(),
            known: Vec::new(),
            index: HashTable::new(),
            trail: Trail::default(),
            most_bytes: most_bytes.min(MOST_BYTES),
        }
    }

    /// The id of a text, resolved if it is new.
    pub fn id_of<E>(&mut self, text: &str, resolve: impl FnOnce(&str) -> Result<u32, E>) -> Result<u32, E> {
        if let Some(guess) = self.trail.guess()
            && self.text(guess) == text
        {
            self.trail.guessed();
            return Ok(self.id(guess));
        }
        if let Some(guess) = self.trail.second_guess()
            && self.text(guess) == text
        {
            self.trail.guessed_second();
            return Ok(self.id(guess));
        }
        let hash = hash_of(text);
        let found = self.index.find(hash, |number| self.text(*number) == text).copied();
        let number = match found {
            Some(number) => number,
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
        self.texts.capacity()
            + self.known.capacity() * size_of::<(usize, u32)>()
            + self.index.allocation_size()
            + self.trail.state_bytes()
    }

    fn add(&mut self, hash: u64, text: &str, id: u32) -> u32 {
        if self.texts.len() + text.len() > self.most_bytes {
            *self = Self::new(self.most_bytes);
        }
        let number = u32::try_from(self.known.len()).expect("bounded bytes hold fewer than 2^32 distinct texts");
        self.texts.push_str(text);
        self.known.push((self.texts.len(), id));
        let (texts, known) = (&self.texts, &self.known);
        self.index.insert_unique(hash, number, |number| hash_of(text_of(texts, known, *number)));
        number
    }

    fn text(&self, number: u32) -> &str {
        text_of(&self.texts, &self.known, number)
    }

    fn id(&self, number: u32) -> u32 {
        self.known[number as usize].1
    }
}

fn text_of<'a>(texts: &'a str, known: &[(usize, u32)], number: u32) -> &'a str {
    let number = number as usize;
    let start = if number == 0 { 0 } else { known[number - 1].0 };
    &texts[start..known[number].0]
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
            assert!(known.texts.len() <= most_bytes);
        }
    }
}
