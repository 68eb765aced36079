//! Rows as ids and numbers → sums and maxima per distinct key.

use arrow_buffer::NullBuffer;
use hashbrown::HashTable;

use super::key_trail::KeyTrail;
use super::names::NameIds;
use super::odd_numbers::is_odd;
use crate::rollups::sum::{CompensatedSum, greatest};
use crate::rollups::tables::{GroupedTable, NameId};

/// A column of numbers for some rows; null where `is_valid` says so.
#[derive(Clone, Copy)]
pub struct Numbers<'a> {
    pub values: &'a [f64],
    pub nulls: Option<&'a NullBuffer>,
}

/// Rows that are not grouped.
pub const NO_GROUP: u32 = u32::MAX;

/// Groups of one lane.
/// Shape: g groups × (k keys, s sums, m maxima, t text maxima), row by row.
#[derive(Debug)]
pub struct GroupedPartial {
    key_count: usize,
    sum_count: usize,
    maximum_count: usize,
    text_maximum_count: usize,
    index: HashTable<u32>,
    trail: KeyTrail,
    /// By the first part of the key: the group that was found last. Other parts may follow from that one, as a node's resource id does.
    latest: Vec<u32>,
    keys: Vec<u32>,
    /// Per group its s leading parts, then its s rounding errors: the measures of a row lie side by side.
    sums: Vec<f64>,
    maxima: Vec<f64>,
    /// One bit per sum and then per maximum: whether a value was seen.
    seen: Vec<u32>,
    text_maxima: Vec<NameId>,
    totals: Vec<(CompensatedSum, f64)>,
    /// Groups for which room is made when the first one comes.
    expected_group_count: usize,
    has_odd_numbers: bool,
}

/// One group of a partial result.
pub struct Group<'a> {
    pub keys: &'a [u32],
    pub sums: &'a [f64],
    pub maxima: &'a [f64],
    pub seen: u32,
    pub text_maxima: &'a [NameId],
}

impl GroupedPartial {
    /// No groups yet. At most 32 sums and maxima together.
    pub fn new(key_count: usize, sum_count: usize, maximum_count: usize, text_maximum_count: usize) -> Self {
        assert!(sum_count + maximum_count <= 32, "a group notes what it saw in 32 bits");
        Self {
            key_count,
            sum_count,
            maximum_count,
            text_maximum_count,
            index: HashTable::new(),
            trail: KeyTrail::new(key_count),
            latest: Vec::new(),
            keys: Vec::new(),
            sums: Vec::new(),
            maxima: Vec::new(),
            seen: Vec::new(),
            text_maxima: Vec::new(),
            totals: vec![(CompensatedSum::default(), 0.0); sum_count],
            expected_group_count: 0,
            has_odd_numbers: false,
        }
    }

    /// The same with a guess at the number of groups, so that tables need not grow step by step.
    pub fn expecting(self, group_count: usize) -> Self {
        Self { expected_group_count: group_count, ..self }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The groups as a table; nothing is copied.
    pub fn into_table(self) -> GroupedTable {
        GroupedTable {
            key_count: self.key_count,
            keys: self.keys,
            sum_count: self.sum_count,
            sums: self.sums,
            maximum_count: self.maximum_count,
            maxima: self.maxima,
            seen: self.seen,
            text_maximum_count: self.text_maximum_count,
            text_maxima: self.text_maxima,
            totals: self.totals,
        }
    }

    /// Keys of all groups.
    pub fn keys(&self) -> impl Iterator<Item = &[u32]> {
        self.keys.chunks_exact(self.key_count)
    }

    /// One group.
    pub fn group(&self, group: usize) -> Group<'_> {
        let slice = |count: usize| group * count..(group + 1) * count;
        Group {
            keys: &self.keys[slice(self.key_count)],
            sums: &self.sums[slice(2 * self.sum_count)],
            maxima: &self.maxima[slice(self.maximum_count)],
            seen: self.seen[group],
            text_maxima: &self.text_maxima[slice(self.text_maximum_count)],
        }
    }

    /// Whether a number was odd since that was asked last.
    pub fn take_odd(&mut self) -> bool {
        std::mem::take(&mut self.has_odd_numbers)
    }

    /// Totals per sum over all grouped rows, and of their absolute values.
    pub fn totals(&self) -> &[(CompensatedSum, f64)] {
        &self.totals
    }

    /// Approximate size in bytes.
    pub fn state_bytes(&self) -> usize {
        // Room that was made and is not used yet hardly takes memory: pages come when they are touched.
        self.keys.len() * 4
            + self.sums.len() * 8
            + self.maxima.len() * 8
            + self.seen.len() * 4
            + self.text_maxima.len() * 4
            + self.index.allocation_size()
            + self.trail.state_bytes()
            + self.latest.len() * 4
    }

    /// Group of each row; rows whose `only_named` id is null or empty get `NO_GROUP`.
    pub fn find_groups(&mut self, keys: &[&[u32]], only_named: Option<&[u32]>, groups: &mut Vec<u32>) {
        groups.clear();
        match keys {
            [a, b, c] => self.find_groups_of(&[a, b, c], only_named, groups),
            [a, b] => self.find_groups_of(&[a, b], only_named, groups),
            [a, b, c, d, e, f, g, h] => self.find_groups_of(&[a, b, c, d, e, f, g, h], only_named, groups),
            _ => self.find_groups_of_any_width(keys, only_named, groups),
        }
    }

    /// The same for a width known to the compiler.
    fn find_groups_of<const WIDTH: usize>(
        &mut self,
        keys: &[&[u32]; WIDTH],
        only_named: Option<&[u32]>,
        groups: &mut Vec<u32>,
    ) {
        let row_count = keys[0].len();
        let keys = keys.map(|ids| &ids[..row_count]);
        let next_unnamed = |row: usize| {
            let place = only_named.and_then(|ids| ids[row..row_count].iter().position(|id| !NameId(*id).is_named()));
            place.map_or(row_count, |place| row + place)
        };
        let mut unnamed = next_unnamed(0);
        groups.reserve(row_count);
        loop {
            let row = groups.len();
            groups.extend_from_slice(self.trail.follow(&keys, row..unnamed));
            let row = groups.len();
            if row < unnamed {
                let key: [u32; WIDTH] = std::array::from_fn(|part| keys[part][row]);
                groups.push(self.look_up(&key));
            } else if row < row_count {
                groups.push(NO_GROUP);
                unnamed = next_unnamed(row + 1);
            } else {
                break;
            }
        }
    }

    /// The group of a key, guessed if the rows come in the order of the rows before.
    fn group_of(&mut self, key: &[u32]) -> u32 {
        match self.trail.guess() {
            Some(guess) if self.is_key_of(guess, key) => {
                self.trail.guessed();
                guess
            }
            _ => self.look_up(key),
        }
    }

    fn look_up(&mut self, key: &[u32]) -> u32 {
        if let Some(guess) = self.trail.further_guess()
            && self.is_key_of(guess, key)
        {
            self.trail.guessed_further(&self.keys);
            return guess;
        }
        if let Some(guess) = self.trail.second_guess()
            && self.is_key_of(guess, key)
        {
            self.trail.guessed_second();
            return guess;
        }
        let latest = key.first().and_then(|first| self.latest.get(*first as usize)).copied();
        let group = match latest {
            Some(latest) if self.is_key_of(latest, key) => latest,
            _ => self.find_or_add(key),
        };
        self.trail.missed(group, key);
        group
    }

    #[inline]
    fn is_key_of(&self, group: u32, key: &[u32]) -> bool {
        let start = group as usize * key.len();
        let known = self.keys.get(start..start + key.len());
        known.is_some_and(|known| known.iter().zip(key).all(|(known, part)| known == part))
    }

    fn find_groups_of_any_width(&mut self, keys: &[&[u32]], only_named: Option<&[u32]>, groups: &mut Vec<u32>) {
        let mut key = vec![0; self.key_count];
        for row in 0..keys.first().map_or(0, |ids| ids.len()) {
            if only_named.is_some_and(|ids| !NameId(ids[row]).is_named()) {
                groups.push(NO_GROUP);
                continue;
            }
            key.iter_mut().zip(keys).for_each(|(part, ids)| *part = ids[row]);
            groups.push(self.group_of(&key));
        }
    }

    /// Adds the measures of all rows to their groups.
    pub fn add_sums(&mut self, groups: &[u32], measures: &[Option<Numbers<'_>>]) {
        // Columns without nulls are added row by row, so that a group's sums are touched once: 4,096 rows reach more groups
        // than fit into the first-level cache.
        let mut dense: Vec<(usize, &[f64])> = Vec::with_capacity(measures.len());
        let mut dense_bits = 0;
        for (position, numbers) in measures.iter().enumerate() {
            match numbers {
                Some(Numbers { values, nulls: None }) => {
                    dense.push((position, values));
                    dense_bits |= 1 << position;
                }
                Some(Numbers { values, nulls: Some(nulls) }) => self.add_sparse(groups, position, values, nulls),
                None => {}
            }
        }
        if dense.is_empty() {
            return;
        }
        let columns: Vec<&[f64]> = dense.iter().map(|(_, values)| &values[..groups.len()]).collect();
        match <[&[f64]; 8]>::try_from(columns) {
            // The usual case, eight measures and all of them dense: the compiler unrolls the inner loop.
            Ok(columns) if self.sum_count == columns.len() => self.add_rows(groups, &columns, dense_bits),
            _ => {
                for (row, group) in groups.iter().enumerate().filter(|(_, group)| **group != NO_GROUP) {
                    self.seen[*group as usize] |= dense_bits;
                    dense.iter().for_each(|(position, values)| self.add(*group as usize, *position, values[row]));
                }
            }
        }
        let mut row = 0;
        for grouped in groups.split(|group| *group == NO_GROUP) {
            for (position, values) in &dense {
                let (sum, absolute) = lane_sums(&values[row..row + grouped.len()]);
                self.add_total(*position, sum, absolute);
            }
            row += grouped.len() + 1;
        }
    }

    fn add_rows<const MEASURES: usize>(&mut self, groups: &[u32], columns: &[&[f64]; MEASURES], bits: u32) {
        for (row, group) in groups.iter().enumerate() {
            if *group == NO_GROUP {
                continue;
            }
            let group = *group as usize;
            self.seen[group] |= bits;
            let (high, low) = self.sums[2 * group * MEASURES..2 * (group + 1) * MEASURES].split_at_mut(MEASURES);
            let values: [f64; MEASURES] = std::array::from_fn(|position| columns[position][row]);
            for ((high, low), value) in high.iter_mut().zip(low).zip(values) {
                let mut sum = CompensatedSum { high: *high, low: *low };
                sum.add(value);
                (*high, *low) = (sum.high, sum.low);
            }
        }
    }

    fn add(&mut self, group: usize, position: usize, value: f64) {
        self.add_sum(group, position, CompensatedSum { high: value, low: 0.0 });
    }

    fn add_sum(&mut self, group: usize, position: usize, other: CompensatedSum) {
        let high = 2 * group * self.sum_count + position;
        let low = high + self.sum_count;
        let mut sum = CompensatedSum { high: self.sums[high], low: self.sums[low] };
        sum.add_sum(other);
        (self.sums[high], self.sums[low]) = (sum.high, sum.low);
    }

    fn add_sparse(&mut self, groups: &[u32], position: usize, values: &[f64], nulls: &NullBuffer) {
        let present = || {
            let rows = groups.iter().zip(values).enumerate();
            rows.filter(|(row, (group, _))| **group != NO_GROUP && nulls.is_valid(*row))
        };
        for (_, (group, value)) in present() {
            self.add(*group as usize, position, *value);
            self.seen[*group as usize] |= 1 << position;
        }
        self.add_totals(position, present().map(|(_, (_, value))| *value));
    }

    /// Totals only serve a check with a tolerance of 1e-9: within a batch plain addition is exact enough.
    fn add_totals(&mut self, position: usize, values: impl Iterator<Item = f64>) {
        let (sum, absolute) = values.fold((0.0, 0.0), |(sum, absolute), value| (sum + value, absolute + value.abs()));
        self.add_total(position, sum, absolute);
    }

    fn add_total(&mut self, position: usize, sum: f64, absolute: f64) {
        self.has_odd_numbers |= is_odd(absolute);
        self.totals[position].0.add(sum);
        self.totals[position].1 += absolute;
    }

    /// Raises the maxima of the rows' groups.
    pub fn add_maxima(&mut self, groups: &[u32], columns: &[Option<Numbers<'_>>]) {
        if let [Some(Numbers { values: first, nulls: None }), Some(Numbers { values: second, nulls: None })] = columns {
            return self.raise_pairs(groups, first, second);
        }
        for (position, numbers) in columns.iter().enumerate() {
            let Some(numbers) = numbers else { continue };
            for (row, group) in groups.iter().enumerate() {
                if *group == NO_GROUP || numbers.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                    continue;
                }
                self.raise(*group as usize, position, numbers.values[row]);
            }
        }
    }

    /// The usual case, two columns without nulls: one pass, and for most rows one comparison, since capacities hardly ever
    /// change.
    fn raise_pairs(&mut self, groups: &[u32], first: &[f64], second: &[f64]) {
        let bits = 0b11 << self.sum_count;
        for ((group, first), second) in
            groups.iter().zip(first).zip(second).filter(|((group, _), _)| **group != NO_GROUP)
        {
            let group = *group as usize;
            let is_known =
                self.maxima[2 * group..2 * group + 2] == [*first, *second] && self.seen[group] & bits == bits;
            if !is_known {
                self.raise(group, 0, *first);
                self.raise(group, 1, *second);
            }
        }
    }

    /// Raises one text maximum of the rows' groups.
    pub fn add_text_maxima(&mut self, groups: &[u32], position: usize, ids: &[u32], names: &NameIds<'_>) {
        for (group, id) in groups.iter().zip(ids) {
            if *group == NO_GROUP {
                continue;
            }
            let at = *group as usize * self.text_maximum_count + position;
            raise_text(&mut self.text_maxima[at], NameId(*id), names);
        }
    }

    /// Adds a group of another lane.
    pub fn absorb(&mut self, other: &Group<'_>, names: &[NameIds<'_>]) {
        let group = self.group_of(other.keys) as usize;
        let (high, low) = other.sums.split_at(self.sum_count);
        for (position, (high, low)) in high.iter().zip(low).enumerate() {
            self.add_sum(group, position, CompensatedSum { high: *high, low: *low });
        }
        self.seen[group] |= other.seen & ((1_u32 << self.sum_count) - 1);
        for (position, value) in other.maxima.iter().enumerate() {
            if other.seen & (1 << (self.sum_count + position)) != 0 {
                self.raise(group, position, *value);
            }
        }
        for (position, id) in other.text_maxima.iter().enumerate() {
            raise_text(&mut self.text_maxima[group * self.text_maximum_count + position], *id, &names[position]);
        }
    }

    /// Adds the totals of another lane.
    pub fn absorb_totals(&mut self, other: &[(CompensatedSum, f64)]) {
        for (total, other) in self.totals.iter_mut().zip(other) {
            total.0.add_sum(other.0);
            total.1 += other.1;
        }
    }

    fn raise(&mut self, group: usize, position: usize, value: f64) {
        let bit = 1 << (self.sum_count + position);
        let maximum = &mut self.maxima[group * self.maximum_count + position];
        // Capacities hardly ever change.
        if *maximum == value && self.seen[group] & bit != 0 {
            return;
        }
        *maximum = if self.seen[group] & bit == 0 { value + 0.0 } else { greatest(*maximum, value) };
        self.seen[group] |= bit;
        self.has_odd_numbers |= is_odd(value);
    }

    #[inline]
    fn find_or_add(&mut self, key: &[u32]) -> u32 {
        let hash = hash_key(key);
        let (keys, width) = (&self.keys, self.key_count);
        // Keys are a few words long: a loop is faster than a call to compare memory.
        let is_key = |group: &u32| keys[*group as usize * width..].iter().zip(key).all(|(known, part)| known == part);
        if let Some(group) = self.index.find(hash, is_key).copied() {
            self.note_latest(key, group);
            return group;
        }
        if self.seen.is_empty() {
            self.make_room();
        }
        let group = u32::try_from(self.seen.len()).expect("fewer than 2^32 groups fit into memory");
        self.keys.extend_from_slice(key);
        self.sums.resize(self.sums.len() + 2 * self.sum_count, 0.0);
        self.maxima.resize(self.maxima.len() + self.maximum_count, 0.0);
        self.text_maxima.resize(self.text_maxima.len() + self.text_maximum_count, NameId::NULL);
        self.seen.push(0);
        let keys = &self.keys;
        self.index.insert_unique(hash, group, |group| {
            hash_key(&keys[*group as usize * width..(*group as usize + 1) * width])
        });
        self.note_latest(key, group);
        group
    }

    fn note_latest(&mut self, key: &[u32], group: u32) {
        let Some(first) = key.first().map(|first| *first as usize) else { return };
        if first >= self.latest.len() {
            self.latest.resize(first + 1, NO_GROUP);
        }
        self.latest[first] = group;
    }

    fn make_room(&mut self) {
        let count = self.expected_group_count;
        self.keys.reserve(count * self.key_count);
        self.sums.reserve(count * 2 * self.sum_count);
        self.maxima.reserve(count * self.maximum_count);
        self.text_maxima.reserve(count * self.text_maximum_count);
        self.seen.reserve(count);
        self.trail.reserve(count);
        let keys = &self.keys;
        let width = self.key_count;
        self.index.reserve(count, |group| hash_key(&keys[*group as usize * width..(*group as usize + 1) * width]));
    }
}

/// The sum of some values and of their absolute values: several partial sums side by side, since one chain of additions
/// would wait for each of its links.
fn lane_sums(values: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut sums, mut absolutes) = ([0.0; LANES], [0.0; LANES]);
    let (rounds, rest) = values.as_chunks::<LANES>();
    for round in rounds {
        for lane in 0..LANES {
            sums[lane] += round[lane];
            absolutes[lane] += round[lane].abs();
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        sums[lane] += value;
        absolutes[lane] += value.abs();
    }
    (sums.iter().sum(), absolutes.iter().sum())
}

/// The greater text; null is less than any text.
fn raise_text(maximum: &mut NameId, id: NameId, names: &NameIds<'_>) {
    if *maximum != id && names.text(id) > names.text(*maximum) {
        *maximum = id;
    }
}

/// Multiplicative hash over the ids (odd constant from the golden ratio); ids are small and dense.
pub fn hash_key(key: &[u32]) -> u64 {
    let mix = |hash: u64, id: &u32| (hash ^ u64::from(*id)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let hash = key.iter().fold(0x51_7C_C1_B7_27_22_0A_95, mix);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests;
