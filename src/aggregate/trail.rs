//! The order in which groups came so far → a guess at the group of the next row.
//!
//! Reports repeat the same pods in nearly the same order hour by hour. A guess costs one comparison with a key that lies
//! next to the previous one, asking the index costs a hash and a random access. Pods come and go, and are replaced: the order is
//! corrected as it is met. Guesses only save time: each is checked.

use std::ops::Range;

/// Not part of the trail.
const NOWHERE: u32 = u32::MAX;
/// Rows in a row that left the trail before it is taken up again elsewhere.
const MAX_STRAYS: usize = 3;

/// Groups in the order of the rows of one pass over the day's pods, and where the last row stood.
#[derive(Debug, Default)]
pub struct Trail {
    steps: Vec<u32>,
    /// Per group its first place among the steps.
    places: Vec<u32>,
    /// Place of the expected group; the number of steps where nothing is expected, since the pass is still being learned.
    next: usize,
    /// Place after the one where the last group also stands.
    other: usize,
    /// Groups of the last rows, which left the trail, as far as there is room.
    strays: [u32; MAX_STRAYS],
    stray_count: usize,
    /// Whether the last step repeats an earlier one, which may turn out to be the beginning of the next pass.
    ends_in_repetition: bool,
}

impl Trail {
    /// The group that followed last time.
    #[inline]
    pub fn guess(&self) -> Option<u32> {
        self.steps.get(self.next).copied()
    }

    /// The guess was right.
    #[inline]
    pub fn guessed(&mut self) {
        self.followed(1);
    }

    /// So many guesses one after the other were right.
    #[inline]
    pub fn followed(&mut self, row_count: usize) {
        if row_count > 0 {
            self.next += row_count;
            self.stray_count = 0;
        }
    }

    /// The groups in order.
    pub fn steps(&self) -> &[u32] {
        &self.steps
    }

    /// Place of the expected group among the steps; their number where none is expected.
    pub fn next(&self) -> usize {
        self.next
    }

    /// The group that is expected if one pod of the last pass is gone, or if the last rows are those of pods that took the places of
    /// others, as the pods of a new version do.
    pub fn further_guess(&self) -> Option<u32> {
        self.steps.get(self.next + self.strays().len().max(1)).copied()
    }

    /// The further guess was right. Returns the steps that were replaced by the groups of the last rows.
    pub fn guessed_further(&mut self) -> Range<usize> {
        let count = self.strays().len();
        let replaced = self.next..self.next + count;
        for (step, group) in replaced.clone().zip(self.strays) {
            self.steps[step] = group;
            let place = &mut self.places[group as usize];
            if *place == NOWHERE {
                *place = u32::try_from(step).unwrap_or(NOWHERE);
            }
        }
        self.next += count.max(1) + 1;
        self.forget();
        replaced
    }

    /// The group that followed the last group elsewhere, if the last row had to be looked up.
    pub fn second_guess(&self) -> Option<u32> {
        self.steps.get(self.other).copied()
    }

    /// The second guess was right.
    pub fn guessed_second(&mut self) {
        if self.next == self.steps.len() && self.ends_in_repetition {
            self.steps.pop();
        }
        self.next = self.other + 1;
        self.forget();
    }

    /// All guesses were wrong: the row belongs to `group`.
    pub fn missed(&mut self, group: u32) {
        let at = group as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
        let place = self.places[at];
        if self.next >= self.steps.len() {
            return self.learn(group);
        }
        if let Some(stray) = self.strays.get_mut(self.stray_count) {
            *stray = group;
        }
        self.stray_count += 1;
        let is_lost = self.stray_count > MAX_STRAYS;
        if place != NOWHERE {
            self.other = place as usize + 1;
            self.next = if is_lost { self.other } else { self.next };
        } else if is_lost {
            self.next = self.steps.len();
            self.learn(group);
        }
    }

    /// Groups of the last rows that left the trail; none once it is taken up elsewhere.
    fn strays(&self) -> &[u32] {
        self.strays.get(..self.stray_count).unwrap_or_default()
    }

    /// Makes room for a pass over so many groups.
    pub fn reserve(&mut self, group_count: usize) {
        self.steps.reserve(group_count);
        self.places.reserve(group_count);
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        (self.steps.len() + self.places.len()) * 4
    }

    /// Adds a step at the end. Repetitions of a group are steps too, as replicas on one node share it; rows in no order at
    /// all must not make the trail grow with their number.
    fn learn(&mut self, group: u32) {
        self.forget();
        let place = self.places[group as usize];
        let is_new = place == NOWHERE;
        if !is_new {
            self.other = place as usize + 1;
        }
        if is_new || self.steps.len() < 2 * self.places.len() {
            if is_new {
                // A few steps per group, and groups are numbered in 32 bits.
                self.places[group as usize] = u32::try_from(self.steps.len()).unwrap_or(NOWHERE);
            }
            self.steps.push(group);
            self.ends_in_repetition = !is_new;
        }
        self.next = self.steps.len();
    }

    fn forget(&mut self) {
        self.other = usize::MAX;
        self.stray_count = 0;
        self.ends_in_repetition = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of some rows had to be looked up.
    fn misses(trail: &mut Trail, rows: &[u32]) -> usize {
        let mut misses = 0;
        for group in rows {
            if trail.guess() == Some(*group) {
                trail.guessed();
            } else if trail.further_guess() == Some(*group) {
                trail.guessed_further();
            } else if trail.second_guess() == Some(*group) {
                trail.guessed_second();
            } else {
                trail.missed(*group);
                misses += 1;
            }
        }
        misses
    }

    #[test]
    fn a_repeated_pass_is_looked_up_once() {
        let mut trail = Trail::default();
        let pass: Vec<u32> = (0..1000).collect();
        assert_eq!(misses(&mut trail, &pass), 1000);
        assert_eq!(misses(&mut trail, &pass), 1, "the first row tells that the pass begins again");
        for _ in 0..5 {
            assert!(misses(&mut trail, &pass) <= 1);
        }
        assert!(misses(&mut trail, &pass[400..]) <= 5, "a chunk may begin anywhere");
    }

    #[test]
    fn replicas_that_share_a_group_are_part_of_the_pass() {
        let mut trail = Trail::default();
        let pass: Vec<u32> = (0..1000).map(|row| if row % 7 == 3 { row / 2 } else { row }).collect();
        misses(&mut trail, &pass);
        misses(&mut trail, &pass);
        let missed = misses(&mut trail, &pass);
        assert!(missed <= 5, "{missed}");
    }

    #[test]
    fn pods_that_come_and_go_cost_a_look_up_each() {
        let mut trail = Trail::default();
        let pass: Vec<u32> = (0..1000).collect();
        misses(&mut trail, &pass);
        misses(&mut trail, &pass);
        let mut changed = pass.clone();
        changed.remove(900);
        changed.remove(500);
        changed.insert(100, 1000);
        changed.insert(300, 1001);
        assert!(misses(&mut trail, &changed) <= 6);
        assert!(misses(&mut trail, &changed) <= 6);
    }

    #[test]
    fn pods_that_take_the_place_of_others_are_looked_up_once() {
        let mut trail = Trail::default();
        let mut pass: Vec<u32> = (0..1000).collect();
        misses(&mut trail, &pass);
        misses(&mut trail, &pass);
        pass[100] = 1000;
        pass[300] = 700;
        pass.splice(500..503, [1001, 1002, 1003]);
        pass.remove(900);
        let first_row = 1;
        assert_eq!(misses(&mut trail, &pass), first_row + 5);
        assert_eq!(misses(&mut trail, &pass), first_row);
        assert_eq!(trail.steps().len(), 1000);
    }

    #[test]
    fn rows_in_no_order_do_not_make_it_grow() {
        let mut trail = Trail::default();
        let mut group: u32 = 1;
        let rows: Vec<u32> = (0..50_000)
            .map(|_| {
                group = group.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                (group >> 16) % 100
            })
            .collect();
        misses(&mut trail, &rows);
        // Repetitions end at two steps per group; groups that come later still get their step.
        assert!(trail.steps.len() <= 300, "{}", trail.steps.len());
        assert_eq!(trail.places.len(), 100);
    }
}
