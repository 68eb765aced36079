//! A day's rows against the rows that went in: what must be equal, checked before anything is written.
//!
//! Source: table of behaviours, "`balanced` conserves".

use std::collections::BTreeMap;

use super::capacity::{core_hours, gigabyte_hours};
use super::columns::{COLUMNS, ColumnValue};
use super::rows::{FinishError, RowKind, SummaryRow};
use super::unallocated::is_usage;
use super::{EFFECTIVE, POD_SUMS, PODS};
use crate::rollups::arithmetic::Arithmetic;
use crate::rollups::sum::CompensatedSum;
use crate::rollups::tables::{DayTables, NameId};
use crate::schema::source::NODE;

/// The summed measures with their names in the target, in the order of the sums.
fn measures() -> impl Iterator<Item = &'static str> {
    let is_summed = |value: &ColumnValue| matches!(value, ColumnValue::Number { is_summed: true, .. });
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

/// For every summed pod measure: the total over the Pod rows equals the total over the input rows with a named node.
pub fn check_totals(tables: &DayTables<'_>, rows: &[SummaryRow]) -> Result<(), FinishError> {
    let Some(table) = tables.grouped(PODS) else { return Ok(()) };
    let arithmetic = Arithmetic { range_is_checked: false };
    for (position, measure) in measures().enumerate() {
        let convert = if position < POD_SUMS / 2 { core_hours } else { gigabyte_hours };
        let mut written = CompensatedSum::default();
        let pods = rows.iter().filter(|row| row.kind == RowKind::Pod);
        pods.filter_map(|row| row.pod[position]).for_each(|value| written.add(value));
        let (total, absolute) = table.totals[position];
        let hours = |seconds| convert(seconds, arithmetic).unwrap_or(f64::NAN);
        let (read, written) = (hours(total.value()), written.value());
        if differ(read, written, hours(absolute)) {
            return Err(FinishError::NotConserved {
                day: tables.day,
                measure,
                node: None,
                expected: read,
                found: written,
            });
        }
    }
    Ok(())
}

/// For every node with an unallocated row: what its pods used plus that row equals the node's capacity.
pub fn check_nodes(tables: &DayTables<'_>, rows: &[SummaryRow]) -> Result<(), FinishError> {
    let mut used: BTreeMap<NameId, [(CompensatedSum, f64); POD_SUMS]> = BTreeMap::new();
    for row in rows.iter().filter(|row| is_usage(tables, row)) {
        let sums = used.entry(row.node).or_default();
        for (sum, value) in sums.iter_mut().zip(row.pod) {
            let value = value.unwrap_or(0.0);
            sum.0.add(value);
            sum.1 += value.abs();
        }
    }
    for row in rows.iter().filter(|row| row.kind == RowKind::Unallocated) {
        let sums = used.get(&row.node).copied().unwrap_or_default();
        for resource in 0..2 {
            for offset in 0..=EFFECTIVE {
                let position = resource * POD_SUMS / 2 + offset;
                let (Some(capacity), Some(rest)) = (row.node_capacity[1 + 2 * resource], row.pod[position]) else {
                    continue;
                };
                let (mut sum, absolute) = sums[position];
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
    }
    Ok(())
}
