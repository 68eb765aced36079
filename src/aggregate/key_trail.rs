//! The trail with the keys of its steps beside it, a list per part of the key: so many rows are compared with it at once.

use std::ops::Range;

use super::trail::Trail;

/// Rows that are compared at a time: long enough to be worth a call, short enough to be done again row by row where they differ.
const BLOCK: usize = 32;

/// Groups in the order of their rows, and the keys that the rows had.
/// Shape: k parts × steps of the trail.
#[derive(Debug)]
pub struct KeyTrail {
    trail: Trail,
    keys: Vec<Vec<u32>>,
}

impl KeyTrail {
    /// No steps yet, for keys of so many parts.
    pub fn new(key_count: usize) -> Self {
        Self { trail: Trail::default(), keys: vec![Vec::new(); key_count] }
    }

    /// The groups of some rows from the first one on, as far as they follow the trail. `ids` are those of each part of the key.
    #[inline]
    pub fn follow<const WIDTH: usize>(&mut self, ids: &[&[u32]; WIDTH], rows: Range<usize>) -> &[u32] {
        let from = self.trail.next();
        let most = self.trail.steps().len().saturating_sub(from).min(rows.len());
        // Rows in no order follow nothing: they must not pay for more than one comparison.
        let follows = most > 0 && (0..WIDTH).all(|part| self.keys[part][from] == ids[part][rows.start]);
        let count = if follows {
            self.count_of_followers(&ids.map(|ids| &ids[rows.start..rows.start + most]), from)
        } else {
            0
        };
        self.trail.followed(count);
        // Where nothing is expected, `from` may lie behind the last step.
        self.trail.steps().get(from..from + count).unwrap_or_default()
    }

    /// How many rows have the keys of the steps from one on.
    fn count_of_followers<const WIDTH: usize>(&self, ids: &[&[u32]; WIDTH], from: usize) -> usize {
        let row_count = ids[0].len();
        let steps: [&[u32]; WIDTH] = std::array::from_fn(|part| &self.keys[part][from..from + row_count]);
        let differs = |row: &usize| (0..WIDTH).any(|part| ids[part][*row] != steps[part][*row]);
        let mut count = 0;
        while count < row_count {
            let block = count..row_count.min(count + BLOCK);
            if (0..WIDTH).any(|part| ids[part][block.clone()] != steps[part][block.clone()]) {
                return block.clone().find(differs).unwrap_or(block.end);
            }
            count = block.end;
        }
        count
    }

    /// The group that followed last time.
    #[inline]
    pub fn guess(&self) -> Option<u32> {
        self.trail.guess()
    }

    /// The guess was right.
    #[inline]
    pub fn guessed(&mut self) {
        self.trail.guessed();
    }

    /// The group that is expected if the last rows took the places of others, or if one is gone.
    pub fn further_guess(&self) -> Option<u32> {
        self.trail.further_guess()
    }

    /// The further guess was right. `keys` are those of all groups, one after the other.
    pub fn guessed_further(&mut self, keys: &[u32]) {
        let width = self.keys.len();
        for step in self.trail.guessed_further() {
            let group = self.trail.steps()[step] as usize;
            for (steps, id) in self.keys.iter_mut().zip(&keys[group * width..(group + 1) * width]) {
                steps[step] = *id;
            }
        }
    }

    /// The group that followed the last group elsewhere, if the last row had to be looked up.
    pub fn second_guess(&self) -> Option<u32> {
        self.trail.second_guess()
    }

    /// The second guess was right.
    pub fn guessed_second(&mut self) {
        self.trail.guessed_second();
        let step_count = self.trail.steps().len();
        self.keys.iter_mut().for_each(|part| part.truncate(step_count));
    }

    /// All guesses were wrong: the row with this key belongs to `group`.
    pub fn missed(&mut self, group: u32, key: &[u32]) {
        let step_count = self.trail.steps().len();
        self.trail.missed(group);
        if self.trail.steps().len() > step_count {
            self.keys.iter_mut().zip(key).for_each(|(part, id)| part.push(*id));
        }
    }

    /// Makes room for a pass over so many groups.
    pub fn reserve(&mut self, group_count: usize) {
        self.trail.reserve(group_count);
        self.keys.iter_mut().for_each(|part| part.reserve(group_count));
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        self.trail.state_bytes() + self.keys.iter().map(|part| part.len() * 4).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places on the trail after each row: found row by row, and by many rows at once.
    fn both_ways(rows: &[u32]) -> [Vec<usize>; 2] {
        let key_of = |group: u32| [group / 7, group];
        let keys: Vec<u32> = (0..2_000).flat_map(key_of).collect();
        let (mut trail, mut one_by_one) = (KeyTrail::new(2), Vec::new());
        for group in rows {
            if trail.guess() == Some(*group) {
                trail.guessed();
            } else if trail.further_guess() == Some(*group) {
                trail.guessed_further(&keys);
            } else if trail.second_guess() == Some(*group) {
                trail.guessed_second();
            } else {
                trail.missed(*group, &key_of(*group));
            }
            one_by_one.push(trail.trail.next());
        }
        let (mut trail, mut at_once) = (KeyTrail::new(2), Vec::new());
        let [first, second] = [0, 1].map(|part| rows.iter().map(|group| key_of(*group)[part]).collect::<Vec<u32>>());
        let mut row = 0;
        while row < rows.len() {
            let before = trail.trail.next();
            let followed = trail.follow(&[&first, &second], row..rows.len()).to_vec();
            assert_eq!(followed, rows[row..row + followed.len()]);
            at_once.extend((1..).take(followed.len()).map(|step| before + step));
            row += followed.len();
            let Some(group) = rows.get(row) else { break };
            assert_ne!(trail.guess(), Some(*group), "a row that follows was not taken");
            if trail.further_guess() == Some(*group) {
                trail.guessed_further(&keys);
            } else if trail.second_guess() == Some(*group) {
                trail.guessed_second();
            } else {
                trail.missed(*group, &key_of(*group));
            }
            at_once.push(trail.trail.next());
            row += 1;
            for (part, steps) in trail.keys.iter().enumerate() {
                let expected: Vec<u32> = trail.trail.steps().iter().map(|group| key_of(*group)[part]).collect();
                assert_eq!(*steps, expected);
            }
        }
        [one_by_one, at_once]
    }

    #[test]
    fn many_rows_at_once_take_the_way_that_single_rows_take() {
        let pass: Vec<u32> = (0..1000).map(|row| if row % 7 == 3 { row / 2 } else { row }).collect();
        let mut rows = [pass.clone(), pass.clone()].concat();
        let mut changed = pass;
        changed.remove(900);
        changed.remove(500);
        changed.insert(100, 1000);
        changed.insert(300, 1001);
        rows.extend(&changed);
        // Pods in the place of others.
        changed[200] = 1002;
        changed.splice(400..403, [1003, 1004, 7]);
        changed.splice(600..610, 1005..1015);
        rows.extend(changed.repeat(3));
        // Rows in no order.
        let mut group: u32 = 1;
        rows.extend((0..5_000).map(|_| {
            group = group.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (group >> 16) % 100
        }));
        let [one_by_one, at_once] = both_ways(&rows);
        assert_eq!(one_by_one, at_once);
    }
}
