//! Pairs of unequal values → per column what the differences have in common: one factor, a factor per month, some
//! namespaces only.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use super::rows::{NOT_A_NUMBER, NULL_NUMBER};
use super::values::double;
use crate::time::BillingMonth;

/// Ratios this close are one factor: values are stored with fifteen places, so small ones have few digits.
const SAME_FACTOR: f64 = 1e-8;
/// From here on rounding at fifteen places does not reach the ratio's ninth digit. Unit: 10^-15.
const PRECISE: i128 = 1_000_000_000;
/// Namespaces that are named in a line.
const NAMED: usize = 8;
/// Upper bounds of relative differences in the distribution.
const BOUNDS: [f64; 6] = [1e-9, 1e-6, 1e-4, 1e-2, 1e-1, 1.0];

/// Smallest and largest ratio of some pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratios {
    least: f64,
    greatest: f64,
    /// Only of values that are large enough to tell.
    is_precise: bool,
}

impl Ratios {
    fn add(ratios: &mut Option<Self>, ratio: f64, is_precise: bool) {
        match ratios {
            // The first value that is large enough replaces what small ones said.
            Some(known) if known.is_precise && !is_precise => {}
            Some(known) if known.is_precise == is_precise => {
                known.least = known.least.min(ratio);
                known.greatest = known.greatest.max(ratio);
            }
            _ => *ratios = Some(Self { least: ratio, greatest: ratio, is_precise }),
        }
    }

    fn factor(self) -> Option<f64> {
        let spread = (self.greatest - self.least).abs();
        (spread <= SAME_FACTOR * self.least.abs().max(self.greatest.abs())).then_some(self.greatest)
    }
}

/// What was seen of a column in one namespace.
#[derive(Debug, Clone, Copy, Default)]
struct InNamespace {
    compared: u64,
    differing: u64,
    ratios: Option<Ratios>,
}

/// What was seen of a column.
#[derive(Debug, Clone, Default)]
pub struct ColumnDrift {
    /// Pairs of which at least one has a value.
    pub compared: u64,
    /// Pairs that differ.
    pub differing: u64,
    /// Pairs of which only the target has no value.
    pub null_in_target: u64,
    /// Pairs of which only the other side has no value.
    pub null_in_other: u64,
    /// Pairs of which one is zero, or no number.
    pub without_ratio: u64,
    /// Greatest absolute difference.
    pub greatest_difference: f64,
    /// Greatest relative difference.
    pub greatest_relative: f64,
    /// Pairs per bound of relative difference; the last are beyond all bounds.
    pub distribution: [u64; BOUNDS.len() + 1],
    /// Identity of the first row that differs.
    pub example: Option<String>,
    months: BTreeMap<BillingMonth, Ratios>,
    /// By the side's own text; a bounded number of them.
    namespaces: BTreeMap<Option<String>, InNamespace>,
}

/// Namespaces that are kept apart per column: far more than a cluster has.
const MOST_NAMESPACES: usize = 20_000;

/// The differences of a day, namespaces by number until the day is over.
#[derive(Debug, Default)]
pub struct DayDrift {
    columns: HashMap<usize, ColumnDrift>,
    namespaces: HashMap<(usize, u32), InNamespace>,
}

/// A pair of unequal values.
#[derive(Debug, Clone, Copy)]
pub enum Unequal {
    /// Texts, or one of them null.
    Texts {
        /// Whether the target's is null.
        target_is_null: bool,
        /// Whether the other side's is null.
        other_is_null: bool,
    },
    /// Decimals: target, other side.
    Numbers(i128, i128),
}

impl DayDrift {
    /// Notes that a column was compared in a row of a namespace.
    pub fn compared(&mut self, column: usize, namespace: u32) {
        self.namespaces.entry((column, namespace)).or_default().compared += 1;
    }

    /// Notes a pair that differs. `tells_factor`: not of an unallocated row, which is a difference itself.
    pub fn add(
        &mut self,
        column: usize,
        namespace: u32,
        month: BillingMonth,
        pair: Unequal,
        tells_factor: bool,
        example: impl FnOnce() -> String,
    ) {
        let drift = self.columns.entry(column).or_default();
        let in_namespace = self.namespaces.entry((column, namespace)).or_default();
        drift.differing += 1;
        in_namespace.differing += 1;
        drift.example.get_or_insert_with(example);
        let (target, other) = match pair {
            Unequal::Texts { target_is_null, other_is_null } => {
                drift.null_in_target += u64::from(target_is_null);
                drift.null_in_other += u64::from(other_is_null);
                return;
            }
            Unequal::Numbers(target, other) => (target, other),
        };
        if target == NULL_NUMBER || other == NULL_NUMBER {
            drift.null_in_target += u64::from(target == NULL_NUMBER);
            drift.null_in_other += u64::from(other == NULL_NUMBER);
            return;
        }
        if target == NOT_A_NUMBER || other == NOT_A_NUMBER {
            drift.without_ratio += 1;
            return;
        }
        let difference = double(target.saturating_sub(other)).abs();
        let relative = difference / double(target.abs().max(other.abs()));
        drift.greatest_difference = drift.greatest_difference.max(difference);
        drift.greatest_relative = drift.greatest_relative.max(relative);
        drift.distribution[BOUNDS.iter().position(|bound| relative <= *bound).unwrap_or(BOUNDS.len())] += 1;
        if target == 0 || other == 0 {
            drift.without_ratio += 1;
            return;
        }
        let ratio = double(target) / double(other);
        let is_precise = target.abs().min(other.abs()) >= PRECISE;
        Ratios::add(&mut in_namespace.ratios, ratio, is_precise);
        if tells_factor {
            let mut of_month = drift.months.get(&month).copied();
            Ratios::add(&mut of_month, ratio, is_precise);
            drift.months.extend(of_month.map(|ratios| (month, ratios)));
        }
    }

    /// Adds the day to what the period has so far; `name` turns the number of a namespace into its text.
    pub fn merge_into(self, period: &mut [ColumnDrift], name: impl Fn(u32) -> Option<String>) {
        for ((column, namespace), seen) in self.namespaces {
            let drift = &mut period[column];
            drift.compared += seen.compared;
            let key = name(namespace);
            if drift.namespaces.len() >= MOST_NAMESPACES && !drift.namespaces.contains_key(&key) {
                continue;
            }
            let known = drift.namespaces.entry(key).or_default();
            known.compared += seen.compared;
            known.differing += seen.differing;
            merge_ratios(&mut known.ratios, seen.ratios);
        }
        for (column, day) in self.columns {
            let drift = &mut period[column];
            drift.differing += day.differing;
            drift.null_in_target += day.null_in_target;
            drift.null_in_other += day.null_in_other;
            drift.without_ratio += day.without_ratio;
            drift.greatest_difference = drift.greatest_difference.max(day.greatest_difference);
            drift.greatest_relative = drift.greatest_relative.max(day.greatest_relative);
            drift.distribution.iter_mut().zip(day.distribution).for_each(|(known, new)| *known += new);
            if drift.example.is_none() {
                drift.example = day.example;
            }
            for (month, ratios) in day.months {
                let mut known = drift.months.get(&month).copied();
                merge_ratios(&mut known, Some(ratios));
                drift.months.extend(known.map(|ratios| (month, ratios)));
            }
        }
    }
}

fn merge_ratios(known: &mut Option<Ratios>, new: Option<Ratios>) {
    if let Some(new) = new {
        Ratios::add(known, new.least, new.is_precise);
        Ratios::add(known, new.greatest, new.is_precise);
    }
}

impl ColumnDrift {
    /// One line: how many values differ, and what that looks like.
    pub fn text(&self, column: &str) -> String {
        let mut text = format!("{column}: {} of {} values differ", self.differing, self.compared);
        for (count, what) in [
            (self.null_in_target, "null only in the target"),
            (self.null_in_other, "null only on the other side"),
            (self.without_ratio, "zero or no number on one side"),
        ] {
            if count > 0 {
                // Writing to a string cannot fail.
                let _infallible = write!(text, "; {count} {what}");
            }
        }
        if let Some(cause) = self.factors() {
            text.push_str("; ");
            text.push_str(&cause);
        }
        if self.greatest_difference > 0.0 {
            let _infallible = write!(
                text,
                "; greatest difference {:e} absolute, {:e} relative; relative differences: {}",
                self.greatest_difference,
                self.greatest_relative,
                self.distribution_text()
            );
        }
        if let Some(namespaces) = self.namespaces_text() {
            text.push_str("; ");
            text.push_str(&namespaces);
        }
        if let Some(example) = &self.example {
            let _infallible = write!(text, "; first: {example}");
        }
        text
    }

    /// The one factor between all values that differ, if there is one.
    pub fn constant_factor(&self) -> Option<f64> {
        let factors: Option<Vec<f64>> = self.months.values().map(|ratios| ratios.factor()).collect();
        let factors = factors?;
        let first = *factors.first()?;
        let is_one = factors.iter().all(|factor| (factor - first).abs() <= SAME_FACTOR * first.abs());
        is_one.then_some(first)
    }

    fn factors(&self) -> Option<String> {
        if let Some(factor) = self.constant_factor() {
            let where_from = origin(factor).map_or_else(|| "units?".to_owned(), |origin| format!("{origin}?"));
            return Some(format!("constant factor {} ({where_from})", rounded(factor)));
        }
        let months: Option<Vec<String>> = self
            .months
            .iter()
            .map(|(month, ratios)| ratios.factor().map(|factor| format!("{month}: {}", rounded(factor))))
            .collect();
        let months = months.filter(|months| months.len() > 1)?;
        Some(format!("a factor per month, {} (month length?)", months.join(", ")))
    }

    fn namespaces_text(&self) -> Option<String> {
        let differing: Vec<_> = self.namespaces.iter().filter(|(_, seen)| seen.differing > 0).collect();
        let compared = self.namespaces.values().filter(|seen| seen.compared > 0).count();
        if differing.is_empty() || differing.len() >= compared && compared > NAMED {
            return None;
        }
        let mut named: Vec<String> = differing
            .iter()
            .take(NAMED)
            .map(|(name, seen)| {
                let name = name.as_deref().unwrap_or("null");
                let factor = seen.ratios.and_then(Ratios::factor);
                let factor = factor.map_or_else(String::new, |factor| format!(", factor {}", rounded(factor)));
                format!("{name} ({} of {}{factor})", seen.differing, seen.compared)
            })
            .collect();
        if differing.len() > NAMED {
            named.push(format!("{} more", differing.len() - NAMED));
        }
        let named = named.join(", ");
        let only_some = differing.len() < compared;
        Some(if only_some {
            format!("only in {} of {compared} namespaces (a join?): {named}", differing.len())
        } else {
            format!("in namespaces {named}")
        })
    }

    fn distribution_text(&self) -> String {
        let labels = BOUNDS.iter().map(|bound| format!("≤{bound:e}")).chain(["more".to_owned()]);
        let parts: Vec<String> = labels
            .zip(self.distribution)
            .filter(|(_, count)| *count > 0)
            .map(|(label, count)| format!("{label}: {count}"))
            .collect();
        parts.join(", ")
    }
}

/// Nine digits are what values with fifteen places can tell.
fn rounded(factor: f64) -> String {
    let digits = format!("{factor:.8e}");
    digits.parse::<f64>().map_or(digits, |value| value.to_string())
}

/// What a factor is known from.
fn origin(factor: f64) -> Option<String> {
    let is = |known: f64| (factor / known - 1.0).abs() <= SAME_FACTOR;
    let gibi = 1_073_741_824.0;
    let units = [
        (3_600.0, "hours for seconds"),
        (24.0, "days for hours"),
        (86_400.0, "days for seconds"),
        (gibi / 1e9, "GiB for GB"),
        (gibi, "GiB for bytes"),
        (1_024.0, "one step of binary units"),
        (1_000.0, "one step of decimal units"),
    ];
    for (known, name) in units {
        if is(known) || is(1.0 / known) {
            return Some(format!("units: {name}"));
        }
    }
    let lengths = [28.0, 29.0, 30.0, 31.0];
    for (left, right) in lengths.into_iter().flat_map(|left| lengths.map(|right| (left, right))) {
        if left != right && is(left / right) {
            return Some(format!("month length: {left}/{right}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i128 = 1_000_000_000_000_000;

    fn month(month: u32) -> BillingMonth {
        BillingMonth { year: 2025, month }
    }

    /// Pairs of (namespace, month, target, other side) as one column.
    fn drift(pairs: &[(u32, u32, i128, i128)]) -> ColumnDrift {
        let (mut day, mut period) = (DayDrift::default(), vec![ColumnDrift::default()]);
        for (namespace, of_month, target, other) in pairs {
            day.compared(0, *namespace);
            if target != other {
                let pair = Unequal::Numbers(*target, *other);
                day.add(0, *namespace, month(*of_month), pair, true, || "row".to_owned());
            }
        }
        day.merge_into(&mut period, |namespace| Some(format!("ns-{namespace}")));
        period.remove(0)
    }

    #[test]
    fn a_constant_factor_is_named_with_its_likely_cause() {
        let pairs: Vec<_> = (1..50).map(|n| (n % 5, 10, n as i128 * 10_001 * ONE / 10_000, n as i128 * ONE)).collect();
        let text = drift(&pairs).text("column");
        assert!(text.contains("49 of 49 values differ; constant factor 1.0001 (units?)"), "{text}");
        let text = drift(&[(1, 10, 3_600 * ONE, ONE), (2, 10, 7_200 * ONE, 2 * ONE)]).text("column");
        assert!(text.contains("constant factor 3600 (units: hours for seconds?)"), "{text}");
    }

    #[test]
    fn a_factor_per_month_points_to_its_length() {
        let text = drift(&[(1, 10, 31 * ONE, 30 * ONE), (1, 10, 62 * ONE, 60 * ONE)]).text("column");
        assert!(text.contains("(month length: 31/30?)"), "{text}");
        let text = drift(&[(1, 10, 31 * ONE, 30 * ONE), (1, 2, 28 * ONE, 30 * ONE)]).text("column");
        assert!(text.contains("a factor per month, 2025-02: 0.933333333, 2025-10: 1.03333333"), "{text}");
    }

    #[test]
    fn some_namespaces_only_point_to_a_join() {
        let text = drift(&[(1, 10, 2 * ONE, ONE), (2, 10, ONE, ONE), (3, 10, ONE, ONE)]).text("column");
        assert!(text.contains("only in 1 of 3 namespaces (a join?): ns-1 (1 of 1, factor 2)"), "{text}");
    }

    #[test]
    fn null_and_zero_have_no_factor() {
        let text = drift(&[(1, 10, NULL_NUMBER, 0), (1, 10, 0, ONE), (1, 10, ONE, NULL_NUMBER)]).text("column");
        assert!(text.contains("1 null only in the target; 1 null only on the other side; 1 zero"), "{text}");
        assert!(!text.contains("factor"), "{text}");
    }

    #[test]
    fn small_values_do_not_blur_the_factor() {
        let text = drift(&[(1, 10, 20_002 * ONE, 20_000 * ONE), (1, 10, 11, 10), (1, 10, 5, 3)]).text("column");
        assert!(text.contains("constant factor 1.0001"), "{text}");
    }
}
