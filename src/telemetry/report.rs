//! What a run did → a short table for people and the same as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::units::Bytes;

/// Report of a run.
#[derive(Debug, Default, Clone, Serialize)]
pub struct RunReport {
    /// Id of the run, as it stands in the ledger.
    pub run_id: String,
    /// Version of the program.
    pub version: String,
    /// `balanced`, `self_hosted` or `trino`.
    pub semantics: String,
    /// Which of how many pods that share the days, such as `1/4`; empty for a run by itself.
    pub shard: String,
    /// Windows, one per month.
    pub windows: Vec<String>,
    /// One entry per source and day, source by source, days in order.
    pub days: Vec<DayReport>,
    /// Rows that were read.
    pub rows_in: u64,
    /// Rows that were written, or would have been.
    pub rows_out: u64,
    /// Seconds per stage. Stages overlap; `fetch`, `decode and aggregate` and `close` are sums over chunks and days.
    pub stage_seconds: Vec<StageSeconds>,
    /// Seconds from start to end.
    pub wall_seconds: f64,
    /// The most memory the process had resident.
    pub peak_memory_bytes: u64,
    /// CPUs that the process may use; a quota counts.
    pub cpus: f64,
    /// Who says so: `quota, cgroup v2`, `quota, cgroup v1`, `request, downward API` or `host`.
    pub cpu_source: String,
    /// Threads that computed.
    pub workers: usize,
    /// What the process may hold in all.
    pub memory_limit_bytes: u64,
    /// Who says so; besides the above `configuration`.
    pub memory_source: String,
    /// What chunks and state may take together.
    pub memory_budget_bytes: u64,
    /// The most bytes of chunks that were in memory at once.
    pub peak_chunk_bytes: u64,
    /// The most bytes that footers, open days and rows waiting to be written held.
    pub peak_state_bytes: u64,
    /// Bytes read from storage.
    pub bytes_read: u64,
    /// Requests to storage.
    pub requests: u64,
    /// How each label column was read.
    pub label_columns: BTreeMap<String, LabelColumnReport>,
    /// Label rows of nodes and namespaces before and after de-duplication.
    pub label_rows: BTreeMap<String, LabelRowsReport>,
    /// Distinct pairs of the operator's raw texts that were lost because they hold more than one colon.
    pub operator_pairs_dropped: u64,
    /// Columns that some objects lack.
    pub absent_columns: BTreeMap<String, usize>,
    /// What the reader should know.
    pub warnings: Vec<String>,
    /// Exit code of the process.
    pub exit_code: u8,
    /// Why the run ended early, if it did.
    pub error: Option<String>,
}

/// Time of one stage.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StageSeconds {
    /// Name of the stage.
    pub stage: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// Report of one day.
#[derive(Debug, Clone, Serialize)]
pub struct DayReport {
    /// Uuid of the source.
    pub source: String,
    /// The day.
    pub day: String,
    /// `written`, `unchanged`, `no input rows, left as it was`, `dropped`, `left to others`, `failed` or `skipped`.
    pub status: String,
    /// What was decided about the day before anything was fetched, and why: `new`, `changed: object … is new`, `unchanged`; empty
    /// if the run did not get that far.
    pub reason: String,
    /// Whether the day was over when the run began.
    pub is_complete: bool,
    /// Rows that were read.
    pub rows_in: u64,
    /// Rows that were written.
    pub rows_out: u64,
    /// Rows that were deleted.
    pub rows_deleted: u64,
    /// Name → sum of each summed pod measure over the rows that the run computed for the day, whatever the target did with
    /// them: in the target's units, as decimal text with the 15 places of its columns. Empty if none were computed.
    pub sums: BTreeMap<String, String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// How a label column was read, summed over the days.
#[derive(Debug, Default, Clone, Serialize)]
pub struct LabelColumnReport {
    /// Rows that were maps or lists of entries.
    pub map_rows: u64,
    /// Rows that were structs.
    pub struct_rows: u64,
    /// Rows with text.
    pub text_rows: u64,
    /// Rows without a value.
    pub null_rows: u64,
    /// Malformed rows taken as `{}`.
    pub malformed_rows: u64,
    /// Distinct JSON texts, per day.
    pub json_texts: u64,
    /// Distinct texts in the operator's raw form, per day.
    pub operator_texts: u64,
}

/// Label rows of one report, summed over the days.
#[derive(Debug, Default, Clone, Serialize)]
pub struct LabelRowsReport {
    /// Rows with a key.
    pub before: u64,
    /// Distinct sets that take part in joins.
    pub after: u64,
}

impl RunReport {
    /// Adds to the time of a stage; stages stand in the order in which they were first named.
    pub fn add_seconds(&mut self, stage: &'static str, seconds: f64) {
        match self.stage_seconds.iter_mut().find(|known| known.stage == stage) {
            Some(known) => known.seconds += seconds,
            None => self.stage_seconds.push(StageSeconds { stage, seconds }),
        }
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _infallible = self.render(&mut out);
        out
    }

    fn render(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.day_table())?;
        writeln!(
            out,
            "{} rows in, {} rows out, {:.2} s, peak memory {}, {} read in {} requests",
            self.rows_in,
            self.rows_out,
            self.wall_seconds,
            Bytes(self.peak_memory_bytes),
            Bytes(self.bytes_read),
            self.requests
        )?;
        let stages: Vec<String> =
            self.stage_seconds.iter().map(|stage| format!("{} {:.2} s", stage.stage, stage.seconds)).collect();
        writeln!(out, "stages (they overlap): {}", stages.join(", "))?;
        for (column, labels) in &self.label_columns {
            writeln!(out, "{column}: {}", labels.text())?;
        }
        for (scan, rows) in &self.label_rows {
            writeln!(out, "{scan}: {} label rows, {} after de-duplication", rows.before, rows.after)?;
        }
        if self.operator_pairs_dropped > 0 {
            writeln!(out, "{} label pairs with more than one colon were dropped", self.operator_pairs_dropped)?;
        }
        for (column, objects) in &self.absent_columns {
            writeln!(out, "column {column} is absent in {objects} objects and was read as null there")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        let names_source = self.has_several_sources();
        for day in &self.days {
            if let Some(error) = &day.error {
                let whose = if names_source { format!(" of source {}", day.source) } else { String::new() };
                writeln!(out, "{}{whose} failed: {error}", day.day)?;
            }
        }
        if let Some(error) = &self.error {
            writeln!(out, "failed: {error}")?;
        }
        Ok(())
    }

    /// Whether a day alone does not say which entry is meant.
    pub fn has_several_sources(&self) -> bool {
        self.days.iter().any(|day| day.source != self.days[0].source)
    }

    fn day_table(&self) -> Table {
        let mut table = Table::new();
        let names_source = self.has_several_sources();
        let source = |name: &str| names_source.then(|| name.to_owned());
        let header = source("source").into_iter().chain(["day", "rows in", "rows out", "status"].map(str::to_owned));
        table.load_style(presets::NOTHING).set_header(header);
        for day in &self.days {
            let incomplete = if day.is_complete { "" } else { " (incomplete: the day is not over)" };
            let status = format!("{}{incomplete}", day.status);
            let cells = [day.day.clone(), day.rows_in.to_string(), day.rows_out.to_string(), status];
            table.add_row(source(&day.source).into_iter().chain(cells));
        }
        for column in [1, 2].map(|column| column + usize::from(names_source)) {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl LabelColumnReport {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        let mut part = |count: u64, text: String| {
            if count > 0 {
                parts.push(text);
            }
        };
        part(self.map_rows, format!("{} rows as map", self.map_rows));
        part(self.struct_rows, format!("{} rows as struct", self.struct_rows));
        let (json, operator) = (self.json_texts, self.operator_texts);
        let form = match (json, operator) {
            (_, 0) => format!("{} rows as JSON text, {json} distinct texts", self.text_rows),
            (0, _) => format!("{} rows as operator text, {operator} distinct texts", self.text_rows),
            _ => format!("{} rows as text, {json} distinct JSON and {operator} operator texts", self.text_rows),
        };
        part(self.text_rows, form);
        part(self.null_rows, format!("{} rows null", self.null_rows));
        part(self.malformed_rows, format!("{} malformed rows taken as {{}}", self.malformed_rows));
        if parts.is_empty() { "no rows".to_owned() } else { parts.join("; ") }
    }
}
