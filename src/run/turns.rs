//! A plan → the order in which its chunks begin.

use std::collections::BTreeMap;

use crate::aggregate::CompiledScan;
use crate::plan::Plan;
use crate::time::UsageDay;

/// The order in which chunks begin: those of our own share of the days before all others. The first day comes alone: it tells how large a day is, and the target soon has something to
/// do. After it as many days as there are workers take turns, scan by scan, so that each worker fills the tables of one day instead of a part
/// of every day's. Among days that take turns, chunks that wait for others come last, as they do in the plan.
pub fn in_turns(
    plan: &Plan,
    scans: &[CompiledScan],
    days_at_once: usize,
    is_ours: impl Fn(UsageDay) -> bool,
) -> Vec<usize> {
    // In whatever order days come: what others wait for stands at the first of its days, what waits at the last of them.
    let rank = |day: &UsageDay| (!is_ours(*day), *day);
    let waits = |chunk: usize| scans[plan.chunks[chunk].scan].after.is_some();
    let place = |chunk: usize| {
        let days = plan.chunks[chunk].days.iter().map(rank);
        if waits(chunk) { days.max() } else { days.min() }
    };
    let mut of_days: BTreeMap<Option<(bool, UsageDay)>, Vec<usize>> = BTreeMap::new();
    (0..plan.chunks.len()).for_each(|chunk| of_days.entry(place(chunk)).or_default().push(chunk));
    let mut of_days: Vec<Vec<usize>> = of_days.into_values().collect();
    let others = of_days.split_off(of_days.len().min(1));
    let mut order: Vec<usize> = of_days.into_iter().flatten().collect();
    for days in others.chunks(days_at_once.max(1)) {
        // Scan by scan, so that days which differ in the number of small objects keep step in the large ones.
        let of_scans = (0..scans.len()).flat_map(|scan| taking_turns(days, |chunk| plan.chunks[chunk].scan == scan));
        let (waiting, others): (Vec<usize>, Vec<usize>) = of_scans.partition(|chunk| waits(*chunk));
        order.extend(others);
        order.extend(waiting);
    }
    order
}

/// The first chunk of each day, the second of each day, and so on, of those that are wanted.
fn taking_turns(days: &[Vec<usize>], is_wanted: impl Fn(usize) -> bool) -> Vec<usize> {
    let wanted = |day: &Vec<usize>| day.iter().copied().filter(|chunk| is_wanted(*chunk)).collect();
    let days: Vec<Vec<usize>> = days.iter().map(wanted).collect();
    let turns = days.iter().map(Vec::len).max().unwrap_or(0);
    (0..turns).flat_map(|turn| days.iter().filter_map(move |day| day.get(turn).copied())).collect()
}
