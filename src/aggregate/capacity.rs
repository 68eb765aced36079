//! Rows as (interval, key) → the maximum per interval and key, dense by key within an interval.

use hashbrown::HashMap;

use super::grouped::Numbers;
use super::odd_numbers::is_odd;
use crate::rollups::sum::greatest;

/// Maxima of one lane.
#[derive(Debug)]
pub struct CapacityPartial {
    measure_count: usize,
    /// Nanoseconds of the day → position in `intervals`.
    index: HashMap<u64, usize>,
    intervals: Vec<Interval>,
    has_odd_numbers: bool,
}

/// Maxima of one interval.
/// Shape: key id × m measures, row by row; `seen` holds one bit per measure.
#[derive(Debug, Default, Clone)]
pub struct Interval {
    maxima: Vec<f64>,
    seen: Vec<u8>,
    has_odd_numbers: bool,
}

impl CapacityPartial {
    /// Nothing seen yet. At most 7 measures.
    pub fn new(measure_count: usize) -> Self {
        assert!(measure_count <= 7, "an interval notes what it saw in 8 bits");
        Self { measure_count, index: HashMap::new(), intervals: Vec::new(), has_odd_numbers: false }
    }

    /// Number of measures.
    pub fn measure_count(&self) -> usize {
        self.measure_count
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        let bytes = |interval: &Interval| interval.maxima.capacity() * 8 + interval.seen.capacity();
        self.intervals.iter().map(bytes).sum::<usize>() + self.index.capacity() * 24
    }

    /// Whether a number was odd since that was asked last.
    pub fn take_odd(&mut self) -> bool {
        std::mem::take(&mut self.has_odd_numbers)
    }

    /// Raises the maxima of rows that share one interval.
    pub fn add(&mut self, nanoseconds_of_day: u64, keys: &[u32], measures: &[Option<Numbers<'_>>]) {
        let measure_count = self.measure_count;
        let interval = self.interval(nanoseconds_of_day);
        interval.add(keys, measures, measure_count);
        let has_odd_numbers = std::mem::take(&mut interval.has_odd_numbers);
        self.has_odd_numbers |= has_odd_numbers;
    }

    /// Adds the maxima of another lane.
    pub fn absorb(&mut self, other: &CapacityPartial) {
        let measure_count = self.measure_count;
        for (nanoseconds_of_day, at) in &other.index {
            let theirs = &other.intervals[*at];
            let interval = self.interval(*nanoseconds_of_day);
            interval.grow(theirs.seen.len(), measure_count);
            for (key, seen) in theirs.seen.iter().enumerate() {
                for position in (0..measure_count).filter(|position| seen & (1 << position) != 0) {
                    interval.raise(key, position, measure_count, theirs.maxima[key * measure_count + position]);
                }
                // A key that was seen with nulls only is a key all the same.
                interval.seen[key] |= seen & KEY_SEEN;
            }
        }
    }

    /// Intervals in the order of time: per interval its keys with their maxima, null where only nulls were seen.
    pub fn ordered(&self) -> impl Iterator<Item = impl Iterator<Item = (u32, Vec<Option<f64>>)> + '_> {
        let mut order: Vec<(&u64, &usize)> = self.index.iter().collect();
        order.sort_unstable();
        order.into_iter().map(|(_, at)| {
            let interval = &self.intervals[*at];
            (0_u32..).zip(&interval.seen).filter(|(_, seen)| **seen != 0).map(|(key, seen)| {
                let value = |position: usize| {
                    let maximum = interval.maxima[key as usize * self.measure_count + position];
                    (seen & (1 << position) != 0).then_some(maximum)
                };
                (key, (0..self.measure_count).map(value).collect())
            })
        })
    }

    fn interval(&mut self, nanoseconds_of_day: u64) -> &mut Interval {
        let next = self.intervals.len();
        let at = *self.index.entry(nanoseconds_of_day).or_insert(next);
        if at == next {
            self.intervals.push(Interval::default());
        }
        &mut self.intervals[at]
    }
}

/// Bit that notes that a key occurred at all.
const KEY_SEEN: u8 = 0x80;

impl Interval {
    fn grow(&mut self, key_count: usize, measure_count: usize) {
        if key_count > self.seen.len() {
            self.seen.resize(key_count, 0);
            self.maxima.resize(key_count * measure_count, 0.0);
        }
    }

    fn add(&mut self, keys: &[u32], measures: &[Option<Numbers<'_>>], measure_count: usize) {
        let key_count = keys.iter().max().map_or(0, |key| *key as usize + 1);
        self.grow(key_count, measure_count);
        if let [Some(Numbers { values: first, nulls: None }), Some(Numbers { values: second, nulls: None })] = measures
        {
            return self.raise_pairs(keys, first, second);
        }
        for key in keys {
            self.seen[*key as usize] |= KEY_SEEN;
        }
        for (position, numbers) in measures.iter().enumerate() {
            let Some(numbers) = numbers else { continue };
            for (row, key) in keys.iter().enumerate() {
                if numbers.nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    self.raise(*key as usize, position, measure_count, numbers.values[row]);
                }
            }
        }
    }

    /// The usual case, two columns without nulls: for most rows one comparison.
    fn raise_pairs(&mut self, keys: &[u32], first: &[f64], second: &[f64]) {
        for ((key, first), second) in keys.iter().zip(first).zip(second) {
            let key = *key as usize;
            let is_known = self.maxima[2 * key..2 * key + 2] == [*first, *second] && self.seen[key] == KEY_SEEN | 0b11;
            if !is_known {
                self.seen[key] |= KEY_SEEN;
                self.raise(key, 0, 2, *first);
                self.raise(key, 1, 2, *second);
            }
        }
    }

    fn raise(&mut self, key: usize, position: usize, measure_count: usize, value: f64) {
        let maximum = &mut self.maxima[key * measure_count + position];
        let bit = 1 << position;
        // All pods of a node report the same capacity.
        if *maximum == value && self.seen[key] & bit != 0 {
            return;
        }
        *maximum = if self.seen[key] & bit == 0 { value + 0.0 } else { greatest(*maximum, value) };
        self.seen[key] |= bit;
        self.has_odd_numbers |= is_odd(value);
    }
}
