//! Rows and totals of a day, those that are there and those that would replace them → how far each of them moves.

use crate::enrich::decimal::decimal_text;
use crate::postgres::scope::Totals;

/// How one figure of a day moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// `rows`; a column that is summed over all rows; or one over the rows of pods, `column of pods`.
    pub total: String,
    /// Over the rows that are there.
    pub old: String,
    /// Over the rows that would replace them.
    pub new: String,
    /// Difference relative to the old figure, with its sign; `None` where there is nothing to relate it to: the old figure is 0
    /// and the new one is not, or the old one is no number.
    pub percent: Option<f64>,
}

impl Change {
    /// The figure as it is printed.
    pub fn percent_text(&self) -> String {
        self.percent.map_or("from nothing".to_owned(), |percent| format!("{percent:+.2} %"))
    }

    /// What would happen.
    pub fn sentence(&self) -> String {
        format!("{} would go from {} to {} ({})", self.total, self.old, self.new, self.percent_text())
    }

    /// Whether the figure stays as it is, to the last digit.
    pub fn is_none(&self) -> bool {
        self.old == self.new
    }

    /// Whether it moves by more than so many percent.
    pub fn exceeds(&self, max_percent: f64) -> bool {
        !self.is_none() && self.percent.is_none_or(|percent| percent.abs() > max_percent)
    }
}

/// Sums of a day by column: over all of its rows, and over those of pods alone.
pub type DaySums<'a> = [&'a [(&'static str, i128)]; 2];

/// The columns of both kinds, as `Scope::totals` takes them.
pub fn columns(sums: DaySums<'_>) -> [Vec<&'static str>; 2] {
    sums.map(|sums| sums.iter().map(|(column, _)| *column).collect())
}

/// Every figure of a day: rows first, then the sums in their order. `old` has sums of the same columns.
pub fn changes(old: &Totals, row_count: u64, [all, of_pods]: DaySums<'_>) -> Vec<Change> {
    let rows = Change {
        total: "rows".to_owned(),
        old: old.row_count.to_string(),
        new: row_count.to_string(),
        percent: percent(Some(i128::from(old.row_count)), i128::from(row_count)),
    };
    let all = all.iter().map(|(column, sum)| ((*column).to_owned(), sum));
    let of_pods = of_pods.iter().map(|(column, sum)| (format!("{column} of pods"), sum));
    let sums = all.chain(of_pods).zip(&old.sums).map(|((total, new), old)| {
        let number: Option<i128> = old.parse().ok();
        let old = number.map_or_else(|| old.clone(), text);
        Change { total, old, new: text(*new), percent: percent(number, *new) }
    });
    std::iter::once(rows).chain(sums).collect()
}

/// The first figure that moves by more than allowed. A day without old rows may become anything.
pub fn too_large(old: &Totals, changes: &[Change], max_percent: Option<f64>) -> Option<Change> {
    let max_percent = max_percent.filter(|_| old.row_count > 0)?;
    changes.iter().find(|change| change.exceeds(max_percent)).cloned()
}

fn percent(old: Option<i128>, new: i128) -> Option<f64> {
    match old? {
        old if old == new => Some(0.0),
        0 => None,
        // Doubles are exact enough for a ratio; the difference itself is taken exactly.
        old => Some((new - old) as f64 * 100.0 / old.unsigned_abs() as f64),
    }
}

/// A sum as the target would print it.
fn text(sum: i128) -> String {
    let mut out = String::new();
    decimal_text(sum, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: i128 = 1_000_000_000_000_000;

    fn moved(old_rows: u64, old: &str, rows: u64, new: i128) -> (Totals, Vec<Change>) {
        let old = Totals { row_count: old_rows, sums: vec![old.to_owned(), "0".to_owned()] };
        let changes = changes(&old, rows, [&[("measure", new)], &[("measure", 0)]]);
        assert_eq!(changes.last().map(|change| change.total.as_str()), Some("measure of pods"));
        (old, changes)
    }

    #[test]
    fn figures_move_by_percent_of_the_old_one() {
        let (old, found) = moved(4, &(10 * UNIT).to_string(), 5, 11 * UNIT);
        assert_eq!((found[0].total.as_str(), found[0].percent), ("rows", Some(25.0)));
        assert_eq!((found[1].old.as_str(), found[1].new.as_str()), ("10.000000000000000", "11.000000000000000"));
        assert_eq!(found[1].percent, Some(10.0));
        assert_eq!(found[1].percent_text(), "+10.00 %");
        assert_eq!(too_large(&old, &found, None), None);
        assert_eq!(too_large(&old, &found, Some(25.0)), None, "as much as allowed is allowed");
        assert_eq!(too_large(&old, &found, Some(24.9)).map(|change| change.total), Some("rows".to_owned()));
        let (old, found) = moved(4, &(10 * UNIT).to_string(), 4, 8 * UNIT);
        assert_eq!(
            too_large(&old, &found, Some(10.0)).map(|change| change.percent_text()),
            Some("-20.00 %".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_related_to_anything_is_too_large_unless_the_day_is_new() {
        for old_sum in ["0", "NaN"] {
            let (old, found) = moved(4, old_sum, 4, UNIT);
            assert_eq!(found[1].percent, None);
            assert_eq!(
                too_large(&old, &found, Some(1e6)).map(|change| change.percent_text()),
                Some("from nothing".to_owned())
            );
        }
        let (old, found) = moved(0, "0", 4, UNIT);
        assert_eq!(too_large(&old, &found, Some(0.0)), None);
        let (old, found) = moved(4, "0", 4, 0);
        assert_eq!(too_large(&old, &found, Some(0.0)), None, "nothing moves");
    }
}
