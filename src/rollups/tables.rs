//! The merged result of each kernel for one day: what a rollup's finish receives.

use crate::labels::{LabelSetId, LabelStore};
use crate::rollups::sum::CompensatedSum;
use crate::time::UsageDay;

/// Id of a name within its column's dictionary of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameId(pub u32);

impl NameId {
    /// The null name.
    pub const NULL: NameId = NameId(0);
    /// The empty name.
    pub const EMPTY: NameId = NameId(1);

    /// Neither null nor empty.
    pub fn is_named(self) -> bool {
        self > Self::EMPTY
    }
}

/// The distinct names of one column on one day; id 0 is null, id 1 the empty text.
#[derive(Debug, Default)]
pub struct NameTable {
    texts: Vec<Option<std::sync::Arc<str>>>,
}

impl NameTable {
    /// A table from texts in the order of their ids; the first two must be null and empty.
    pub fn new(texts: Vec<Option<std::sync::Arc<str>>>) -> Self {
        debug_assert!(texts.len() < 2 || (texts[0].is_none() && texts[1].as_deref() == Some("")));
        Self { texts }
    }

    /// The text of an id; null for the null id.
    pub fn text(&self, id: NameId) -> Option<&str> {
        self.texts.get(id.0 as usize).and_then(|text| text.as_deref())
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is no id at all.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// For each id its position in byte order of the texts; null comes last.
    pub fn ranks(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..u32::try_from(self.texts.len()).unwrap_or(u32::MAX)).collect();
        ids.sort_unstable_by(|a, b| {
            let (a, b) = (&self.texts[*a as usize], &self.texts[*b as usize]);
            a.is_none().cmp(&b.is_none()).then_with(|| a.cmp(b))
        });
        let mut ranks = vec![0; self.texts.len()];
        for (rank, id) in (0_u32..).zip(ids) {
            ranks[id as usize] = rank;
        }
        ranks
    }
}

/// Groups with their sums and maxima.
/// Shape: g groups × (k keys, s sums, m maxima, t text maxima), row by row.
/// Nulls: one bit per sum and then per maximum says whether any value was seen; without one the number is null.
#[derive(Debug, Default)]
pub struct GroupedTable {
    /// Keys per group.
    pub key_count: usize,
    /// g × k ids: names, label sets, or 0/1, as the declaration says.
    pub keys: Vec<u32>,
    /// Sums per group.
    pub sum_count: usize,
    /// g × (s leading parts, s rounding errors).
    pub sums: Vec<f64>,
    /// Maxima per group.
    pub maximum_count: usize,
    /// g × m maxima.
    pub maxima: Vec<f64>,
    /// g sets of bits: what was seen.
    pub seen: Vec<u32>,
    /// Text maxima per group.
    pub text_maximum_count: usize,
    /// g × t names.
    pub text_maxima: Vec<NameId>,
    /// Totals of the summed measures over all rows that entered a group, and of their absolute values; s each.
    pub totals: Vec<(CompensatedSum, f64)>,
}

impl GroupedTable {
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// The keys of a group.
    pub fn keys_of(&self, group: usize) -> &[u32] {
        &self.keys[group * self.key_count..(group + 1) * self.key_count]
    }

    /// A sum of a group.
    pub fn sum(&self, group: usize, position: usize) -> Option<CompensatedSum> {
        let is_seen = self.seen[group] & (1 << position) != 0;
        let high = 2 * group * self.sum_count + position;
        is_seen.then(|| CompensatedSum { high: self.sums[high], low: self.sums[high + self.sum_count] })
    }

    /// The sums of a group, leading parts first, and its bits of what was seen.
    #[inline]
    pub fn sums_of(&self, group: usize) -> (&[f64], u32) {
        (&self.sums[2 * group * self.sum_count..2 * (group + 1) * self.sum_count], self.seen[group])
    }

    /// A maximum of a group.
    pub fn maximum(&self, group: usize, position: usize) -> Option<f64> {
        let is_seen = self.seen[group] & (1 << (self.sum_count + position)) != 0;
        is_seen.then(|| self.maxima[group * self.maximum_count + position])
    }

    /// The text maxima of a group.
    pub fn text_maxima_of(&self, group: usize) -> &[NameId] {
        &self.text_maxima[group * self.text_maximum_count..(group + 1) * self.text_maximum_count]
    }
}

/// Capacity per key: the sum over intervals of the maximum per interval, one value per measure, null if never seen.
#[derive(Debug, Default)]
pub struct CapacityTable {
    /// Key and one value per measure, ordered by key id.
    pub rows: Vec<(NameId, Vec<Option<CompensatedSum>>)>,
}

/// Distinct (pair, place, attribute) tuples.
#[derive(Debug, Default)]
pub struct MembersTable {
    /// `[pair 0, pair 1, place, attribute]`, sorted by id.
    pub rows: Vec<[NameId; 4]>,
}

/// Label sets per key, sorted by id.
#[derive(Debug, Default)]
pub struct LabelSetsTable {
    /// Key and its sets; at least one.
    pub rows: Vec<(NameId, Vec<LabelSetId>)>,
}

/// The result of one kernel.
#[derive(Debug)]
pub enum KernelTable {
    /// Of `Kernel::Grouped`.
    Grouped(GroupedTable),
    /// Of `Kernel::Capacity`.
    Capacity(CapacityTable),
    /// Of `Kernel::Members`.
    Members(MembersTable),
    /// Of `Kernel::LabelSets`.
    LabelSets(LabelSetsTable),
}

/// Everything a rollup's finish gets to see of one day.
pub struct DayTables<'a> {
    /// The day.
    pub day: UsageDay,
    /// Scan name and kernel position → result.
    pub kernels: Vec<(&'static str, Vec<KernelTable>)>,
    /// Column name → its names of the day.
    pub names: Vec<(&'static str, NameTable)>,
    /// The label sets of the day.
    pub labels: &'a LabelStore,
}

impl DayTables<'_> {
    /// The first grouped result of a scan; empty if the scan was not part of the run.
    pub fn grouped(&self, scan: &str) -> Option<&GroupedTable> {
        self.find(scan, |table| match table {
            KernelTable::Grouped(grouped) => Some(grouped),
            _ => None,
        })
    }

    /// The first capacity result of a scan.
    pub fn capacity(&self, scan: &str) -> Option<&CapacityTable> {
        self.find(scan, |table| match table {
            KernelTable::Capacity(capacity) => Some(capacity),
            _ => None,
        })
    }

    /// The first members result of a scan.
    pub fn members(&self, scan: &str) -> Option<&MembersTable> {
        self.find(scan, |table| match table {
            KernelTable::Members(members) => Some(members),
            _ => None,
        })
    }

    /// The first label-set result of a scan.
    pub fn label_sets(&self, scan: &str) -> Option<&LabelSetsTable> {
        self.find(scan, |table| match table {
            KernelTable::LabelSets(sets) => Some(sets),
            _ => None,
        })
    }

    /// The names of a column; an empty table if no row of the day has it.
    pub fn names(&self, column: &str) -> &NameTable {
        static NO_NAMES: NameTable = NameTable { texts: Vec::new() };
        self.names.iter().find(|(name, _)| *name == column).map_or(&NO_NAMES, |(_, names)| names)
    }

    fn find<T>(&self, scan: &str, pick: impl Fn(&KernelTable) -> Option<&T>) -> Option<&T> {
        self.kernels.iter().filter(|(name, _)| *name == scan).flat_map(|(_, tables)| tables).find_map(pick)
    }
}
