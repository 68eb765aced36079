//! A day's rows against the rows that went in: what must be equal, checked before anything is written.
//!
//! Source: table of behaviours, "`balanced` conserves".

use super::capacity::{core_hours, gigabyte_hours};
use super::columns::{COLUMNS, ColumnValue};
use super::pods::{CAPACITY_HOURS, PodRows};
use super::rows::{CapacityRow, FinishError, UsageRow};
use super::unallocated::UsageNamespaces;
use super::{EFFECTIVE, POD_SUMS, PODS};
use crate::rollups::arithmetic::Arithmetic;
use crate::rollups::sum::CompensatedSum;
use crate::rollups::tables::DayTables;
use crate::schema::source::NODE;

/// The summed measures with their names in the target, in the order of the sums.
fn measures() -> impl Iterator<Item = &'static str> {
    let is_summed = |value: &ColumnValue| matches!(value, ColumnValue::Measure(_));
    COLUMNS.iter().filter(move |(_, value)| is_summed(value)).map(|(name, _)| *name)
}

/// Relative to the sum of absolute values: rounding of up to millions of additions stays far below.
const RELATIVE_TOLERANCE: f64 = 1e-9;
/// For sums that are themselves rounding noise.
const ABSOLUTE_TOLERANCE: f64 = 1e-12;

/// Whether two sums over the same terms differ by more than rounding can explain. Sums that are not finite are left to the
/// conversion to decimals, which names their row.
fn differ(left: f64, right: f64, absolute_sum: f64) -> bool {
    let comparable = left.is_finite() && right.is_finite();
    comparable && (left - right).abs() > RELATIVE_TOLERANCE * absolute_sum + ABSOLUTE_TOLERANCE
}

/// A sum, and the sum of the absolute values.
type Sum = (CompensatedSum, f64);

/// Adds the measures of a row; a null adds nothing.
#[inline]
fn add(sums: &mut [Sum; POD_SUMS], row: &UsageRow) {
    for (position, sum) in sums.iter_mut().enumerate() {
        let value = row.measure(position).unwrap_or(0.0);
        sum.0.add(value);
        sum.1 += value.abs();
    }
}

/// Checks the Pod rows against the input, and the unallocated rows against the Pod rows.
pub fn check(tables: &DayTables<'_>, pods: &PodRows, unallocated: &[UsageRow]) -> Result<(), FinishError> {
    let is_usage = UsageNamespaces::new(tables);
    let mut written = [Sum::default(); POD_SUMS];
    let mut used: Vec<[Sum; POD_SUMS]> = vec![Default::default(); tables.names(NODE.name).len()];
    for row in &pods.rows {
        add(&mut written, row);
        if is_usage.contains(row.namespace)
            && let Some(sums) = used.get_mut(row.node.0 as usize)
        {
            add(sums, row);
        }
    }
    check_totals(tables, &written)?;
    for row in unallocated {
        let sums = used.get(row.node.0 as usize).copied().unwrap_or_default();
        check_node(tables, row, &pods.capacities[row.capacity as usize], &sums)?;
    }
    Ok(())
}

/// For every summed pod measure: the total over the Pod rows equals the total over the input rows with a named node.
fn check_totals(tables: &DayTables<'_>, written: &[Sum; POD_SUMS]) -> Result<(), FinishError> {
    let Some(table) = tables.grouped(PODS) else { return Ok(()) };
    let arithmetic = Arithmetic { range_is_checked: false };
    for (position, measure) in measures().enumerate() {
        let convert = if position < POD_SUMS / 2 { core_hours } else { gigabyte_hours };
        let (total, absolute) = table.totals[position];
        let hours = |seconds| convert(seconds, arithmetic).unwrap_or(f64::NAN);
        let (read, written) = (hours(total.value()), written[position].0.value());
        if differ(read, written, hours(absolute)) {
            let (day, expected, found) = (tables.day, read, written);
            return Err(FinishError::NotConserved { day, measure, node: None, expected, found });
        }
    }
    Ok(())
}

/// For a node with an unallocated row: what its pods used plus that row equals the node's capacity.
fn check_node(
    tables: &DayTables<'_>,
    row: &UsageRow,
    capacity: &CapacityRow,
    used: &[Sum; POD_SUMS],
) -> Result<(), FinishError> {
    for (resource, hours) in CAPACITY_HOURS.into_iter().enumerate() {
        for offset in 0..=EFFECTIVE {
            let position = resource * POD_SUMS / 2 + offset;
            let (Some(capacity), Some(rest)) = (capacity[hours], row.measure(position)) else { continue };
            let (mut sum, absolute) = used[position];
            sum.add(rest);
            if differ(capacity, sum.value(), absolute + capacity.abs() + rest.abs()) {
                return Err(FinishError::NotConserved {
                    day: tables.day,
                    measure: measures().nth(position).unwrap_or_default(),
                    node: tables.names(NODE.name).text(row.node).map(str::to_owned),
                    expected: capacity,
                    found: sum.value(),
                });
            }
        }
    }
    Ok(())
}
