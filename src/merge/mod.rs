//! The lanes' partial results of a day → one table per kernel, whatever the order of arrival was.

use std::collections::BTreeMap;

use crate::aggregate::{
    CapacityPartial, CompiledKernel, CompiledScan, DayState, KernelPartial, LabelSetsPartial, MembersPartial,
};
use crate::labels::LabelSetId;
use crate::rollups::sum::CompensatedSum;
use crate::rollups::tables::{CapacityTable, DayTables, KernelTable, LabelSetsTable, MembersTable, NameId};

/// Label rows of a day before and after de-duplication, per scan.
pub type LabelRowCounts = Vec<(&'static str, u64, u64)>;

/// Merges a day.
/// Shape: k partials of g_i groups → one table of at most Σ g_i groups per kernel.
/// Units: as in the report; no conversion here.
pub fn merge(day: &DayState) -> (DayTables<'_>, LabelRowCounts) {
    let mut kernels = Vec::new();
    let mut label_rows = Vec::new();
    for (scan, partials) in day.scans().iter().zip(day.take_partials()) {
        let mut tables = Vec::new();
        for (kernel, lanes) in scan.kernels.iter().zip(partials) {
            let merged = merge_lanes(day, scan, kernel, lanes);
            if let KernelPartial::LabelSets(sets) = &merged {
                label_rows.push((scan.name, sets.row_count, sets.pairs().len() as u64));
            }
            tables.push(table(merged));
        }
        kernels.push((scan.name, tables));
    }
    let tables = DayTables { day: day.day, kernels, names: day.name_tables(), labels: &day.labels };
    (tables, label_rows)
}

/// Folds the lanes' partial results of one kernel into the largest one.
fn merge_lanes(
    day: &DayState,
    scan: &CompiledScan,
    kernel: &CompiledKernel,
    mut lanes: Vec<KernelPartial>,
) -> KernelPartial {
    // The first one where none has groups: mostly the others are empty.
    let largest = (0..lanes.len()).rev().max_by_key(|lane| lanes[*lane].group_count());
    let mut merged = lanes.swap_remove(largest.expect("a day has at least one lane"));
    for other in lanes {
        match (kernel, &mut merged, other) {
            (
                CompiledKernel::Grouped { text_maxima, .. },
                KernelPartial::Grouped(merged),
                KernelPartial::Grouped(other),
            ) => {
                let names: Vec<_> = text_maxima.iter().map(|id| day.names(scan.ids[*id].name).lock()).collect();
                (0..other.len()).for_each(|group| merged.absorb(&other.group(group), &names));
                merged.absorb_totals(other.totals());
            }
            (_, KernelPartial::Capacity(merged), KernelPartial::Capacity(other)) => merged.absorb(&other),
            (
                CompiledKernel::Members { attribute, .. },
                KernelPartial::Members(merged),
                KernelPartial::Members(other),
            ) => {
                let names = day.names(scan.ids[*attribute].name).lock();
                other.tuples().into_iter().for_each(|tuple| merged.add_tuple(tuple, &names));
            }
            (_, KernelPartial::LabelSets(merged), KernelPartial::LabelSets(other)) => {
                merged.absorb(&other, &day.labels);
            }
            _ => unreachable!("all lanes have the same kernels"),
        }
    }
    merged
}

fn table(merged: KernelPartial) -> KernelTable {
    match merged {
        KernelPartial::Grouped(partial) => KernelTable::Grouped(partial.into_table()),
        KernelPartial::Capacity(partial) => KernelTable::Capacity(capacity_table(&partial)),
        KernelPartial::Members(partial) => KernelTable::Members(members_table(&partial)),
        KernelPartial::LabelSets(partial) => KernelTable::LabelSets(label_sets_table(&partial)),
    }
}

/// Sums the maxima over the intervals, in the order of time.
fn capacity_table(partial: &CapacityPartial) -> CapacityTable {
    let mut sums: BTreeMap<u32, Vec<Option<CompensatedSum>>> = BTreeMap::new();
    for interval in partial.ordered() {
        for (key, maxima) in interval {
            let totals = sums.entry(key).or_insert_with(|| vec![None; partial.measure_count()]);
            for (total, maximum) in totals.iter_mut().zip(maxima) {
                if let Some(value) = maximum {
                    total.get_or_insert_default().add(value);
                }
            }
        }
    }
    CapacityTable { rows: sums.into_iter().map(|(key, totals)| (NameId(key), totals)).collect() }
}

fn members_table(partial: &MembersPartial) -> MembersTable {
    let mut rows: Vec<[NameId; 4]> = partial.tuples().into_iter().map(|tuple| tuple.map(NameId)).collect();
    rows.sort_unstable();
    MembersTable { rows }
}

fn label_sets_table(partial: &LabelSetsPartial) -> LabelSetsTable {
    let mut pairs = partial.pairs();
    pairs.sort_unstable();
    let mut rows: Vec<(NameId, Vec<LabelSetId>)> = Vec::new();
    for (key, set) in pairs {
        match rows.last_mut() {
            Some((last, sets)) if last.0 == key => sets.push(set),
            _ => rows.push((NameId(key), vec![set])),
        }
    }
    LabelSetsTable { rows }
}
