//! What was converted and what was left out → text for the terminal, JSON for programs.

use std::fmt::Write;

use serde::Serialize;

use super::block::Counts;
use crate::units::Bytes;

/// What a conversion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConvertReport {
    /// Part of the objects' names.
    pub manifest_id: String,
    /// Cluster that the manifest names.
    pub cluster_id: Option<String>,
    /// Every report, by name.
    pub files: Vec<ConvertedFile>,
    /// All of them together.
    pub total: Counts,
    /// Every object, by key.
    pub objects: Vec<ConvertedObject>,
    /// Reports of the delivery in which nothing is, not even a header, and which were passed over.
    pub empty: Vec<String>,
    /// Files of the input that are no reports of the delivery.
    pub ignored: Vec<String>,
    /// Older objects of the delivery that the new ones did not overwrite and that were removed.
    pub removed: Vec<String>,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConvertedFile {
    /// Its name.
    pub name: String,
    /// Folder of its kind.
    pub report: &'static str,
    /// Its rows, and what was left out.
    #[serde(flatten)]
    pub counts: Counts,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ConvertedObject {
    /// Where it is.
    pub key: String,
    /// Number of rows.
    pub row_count: usize,
    /// Size.
    pub bytes: u64,
}

impl ConvertReport {
    /// A line per file, what was left out, and the sums.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            append_line(&mut text, &format!("{} ({})", file.name, file.report), file.counts);
        }
        append_line(&mut text, "in all", self.total);
        for name in &self.empty {
            append(&mut text, format_args!("warning: {name} is empty and was passed over\n"));
        }
        for name in &self.ignored {
            append(&mut text, format_args!("ignored: {name}\n"));
        }
        for key in &self.removed {
            append(&mut text, format_args!("removed, of an earlier conversion: {key}\n"));
        }
        let size: Bytes = self.objects.iter().map(|object| Bytes(object.bytes)).sum();
        append(&mut text, format_args!("{} objects, {size}\n", self.objects.len()));
        text
    }
}

fn append_line(text: &mut String, name: &str, counts: Counts) {
    append(text, format_args!("{name}: {} of {} rows", counts.rows_written, counts.rows_read));
    for (count, what) in [
        (counts.anomalies, "rows dropped as anomalies"),
        (counts.label_pairs_dropped, "label pairs with several colons dropped"),
        (counts.unreadable_numbers, "unreadable numbers taken as 0"),
    ] {
        if count > 0 {
            append(text, format_args!(", {count} {what}"));
        }
    }
    text.push('\n');
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes any text");
}
