//! Sums of the batches of a day → the sums of the day, with the names of their columns.

use crate::rollups::ocp_daily_summary::{COLUMNS, ColumnValue, POD_SUMS};

/// The day's sum of each summed pod measure, as a count of 10^-15.
pub type Sums = Vec<(&'static str, i128)>;

/// The sums over one batch.
#[derive(Debug, Default)]
pub struct BatchSums(pub(super) [i128; POD_SUMS]);

impl BatchSums {
    /// The sums over all batches, with their names.
    pub fn total(batches: impl IntoIterator<Item = BatchSums>) -> Sums {
        let mut totals = [0_i128; POD_SUMS];
        for batch in batches {
            totals.iter_mut().zip(batch.0).for_each(|(total, sum)| *total = total.saturating_add(sum));
        }
        let named = COLUMNS.iter().filter_map(|(name, value)| match value {
            ColumnValue::Measure(position) => Some((*name, totals[*position])),
            _ => None,
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_has_its_name_and_its_total() {
        let totals = BatchSums::total([BatchSums([1, 2, 3, 4, 5, 6, 7, 8]), BatchSums([10; POD_SUMS])]);
        assert_eq!(totals.len(), POD_SUMS);
        assert_eq!(totals[0], (COLUMNS[11].0, 11));
        assert_eq!(totals[7], (COLUMNS[18].0, 18));
    }
}
