//! A plan → a table for people, in parts: what becomes of a day is added to its line by whoever knows.

use std::fmt::Write;

use super::{DayPlan, Plan};
use crate::time::UsageDay;
use crate::units::Bytes;

/// Window and headings.
pub fn head(plan: &Plan) -> String {
    let titles = line("day", ["objects", "row groups", "rows (at most)", "bytes"].map(str::to_owned));
    format!("window {} ({} days)\n{titles}", plan.window, plan.days.len())
}

/// A line per day: objects, row groups, rows, bytes.
pub fn day_lines(plan: &Plan) -> Vec<(UsageDay, String)> {
    let figures = |day: &DayPlan| {
        [
            day.objects.len().to_string(),
            day.chunk_count.to_string(),
            day.row_count.to_string(),
            day.stored_bytes.to_string(),
        ]
    };
    plan.days.iter().map(|day| (day.day, line(&day.day.to_string(), figures(day)))).collect()
}

/// The sums, the estimated peak memory and what cannot be used; `memory` is the budget and what of it is for chunks.
pub fn tail(plan: &Plan, workers: usize, memory: [Bytes; 2]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = render_tail(plan, workers, memory, &mut out);
    out
}

fn line(day: &str, [objects, row_groups, rows, bytes]: [String; 4]) -> String {
    format!("{day:<12} {objects:>8} {row_groups:>11} {rows:>14} {bytes:>10}")
}

fn render_tail(
    plan: &Plan,
    workers: usize,
    [memory_budget, chunk_budget]: [Bytes; 2],
    out: &mut String,
) -> std::fmt::Result {
    let figures = [
        plan.object_count.to_string(),
        plan.chunks.len().to_string(),
        plan.row_count().to_string(),
        plan.stored_bytes().to_string(),
    ];
    writeln!(out, "{}", line("all", figures))?;
    let columns: usize = plan.chunks.iter().map(|chunk| chunk.projection.leaves.len()).max().unwrap_or(0);
    writeln!(out, "columns read per row group: at most {columns}")?;
    for (column, objects) in &plan.absent_columns {
        writeln!(out, "column {column} is absent in {objects} objects and reads as null there")?;
    }
    writeln!(
        out,
        "estimated peak memory: at least {} ({workers} workers, budget {memory_budget})",
        // Chunks in memory hold permits.
        floor(plan, workers).min(chunk_budget)
    )?;
    for bad in &plan.bad_objects {
        let days: Vec<String> = bad.days.iter().map(ToString::to_string).collect();
        writeln!(out, "unusable, gives up {}: {}", days.join(", "), bad.failure.full_text())?;
    }
    Ok(())
}

/// The largest chunks that may be in memory at once, one per worker. Groups are not known before rows are read.
fn floor(plan: &Plan, workers: usize) -> Bytes {
    let mut sizes: Vec<Bytes> = plan.chunks.iter().map(|chunk| chunk.decoded_bytes + chunk.stored_bytes).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes.into_iter().take(workers).sum()
}
