//! A plan → a table for people.

use std::fmt::Write;

use super::Plan;
use crate::units::Bytes;

/// Lines per day: objects, row groups, rows, bytes; then the sums, the estimated peak memory and what cannot be used.
pub fn text(plan: &Plan, workers: usize, memory_budget: Bytes) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _infallible = render(plan, workers, memory_budget, &mut out);
    out
}

fn render(plan: &Plan, workers: usize, memory_budget: Bytes, out: &mut String) -> std::fmt::Result {
    writeln!(out, "window {} ({} days)", plan.window, plan.days.len())?;
    writeln!(out, "{:<12} {:>8} {:>11} {:>14} {:>10}", "day", "objects", "row groups", "rows (at most)", "bytes")?;
    for day in &plan.days {
        writeln!(
            out,
            "{:<12} {:>8} {:>11} {:>14} {:>10}",
            day.day.to_string(),
            day.objects.len(),
            day.chunk_count,
            day.row_count,
            day.stored_bytes.to_string()
        )?;
    }
    writeln!(
        out,
        "{:<12} {:>8} {:>11} {:>14} {:>10}",
        "all",
        plan.object_count,
        plan.chunks.len(),
        plan.row_count(),
        plan.stored_bytes().to_string()
    )?;
    let columns: usize = plan.chunks.iter().map(|chunk| chunk.projection.leaves.len()).max().unwrap_or(0);
    writeln!(out, "columns read per row group: at most {columns}")?;
    for (column, objects) in &plan.absent_columns {
        writeln!(out, "column {column} is absent in {objects} objects and reads as null there")?;
    }
    writeln!(
        out,
        "estimated peak memory: at least {} ({workers} workers, budget {memory_budget})",
        // Chunks in memory hold permits for half of the budget.
        floor(plan, workers).min(Bytes(memory_budget.0 / 2))
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
