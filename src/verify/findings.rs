//! What a comparison found → lines for people, a report for programs, an exit code.

use std::fmt::{self, Write};

use serde::Serialize;

/// What is wrong with the target. Each has its own line in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Class {
    /// The rows are not those of the inputs that lie there now, or of the run that the ledger names.
    StaleData,
    /// A column is missing or has another type than the contract's.
    SchemaMismatch,
    /// Rows name another cluster or source.
    WrongCluster,
    /// The sides have rows on different days.
    WrongPeriod,
    /// Rows are the same but for one of the columns that identify them.
    KeyMismatch,
    /// Rows are there more than once.
    Duplicates,
    /// Rows of the other side are not in the target.
    Missing,
    /// Rows of the target are not on the other side.
    Extra,
    /// Values differ.
    ValueDrift,
    /// Totals do not add up.
    NotConserved,
    /// One of the sides has no rows.
    NothingToCompare,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::StaleData => "STALE_DATA",
            Class::SchemaMismatch => "SCHEMA_MISMATCH",
            Class::WrongCluster => "WRONG_CLUSTER",
            Class::WrongPeriod => "WRONG_PERIOD",
            Class::KeyMismatch => "KEY_MISMATCH",
            Class::Duplicates => "DUPLICATES",
            Class::Missing => "MISSING",
            Class::Extra => "EXTRA",
            Class::ValueDrift => "VALUE_DRIFT",
            Class::NotConserved => "NOT_CONSERVED",
            Class::NothingToCompare => "NOTHING_TO_COMPARE",
        })
    }
}

/// One class with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The class.
    pub class: Class,
    /// One line.
    pub summary: String,
    /// Rows, columns or days; a bounded number of them.
    pub details: Vec<String>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything was compared and is equal.
    Equal,
    /// Something differs.
    Different,
    /// Nothing could be compared.
    NothingCompared,
}

/// The whole comparison.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// How it went.
    pub verdict: Verdict,
    /// 0, 1 or 2.
    pub exit_code: u8,
    /// Where the rows under test lie.
    pub target: String,
    /// What they were compared with.
    pub against: String,
    /// First and last day.
    pub period: [String; 2],
    /// Relative tolerance of decimals.
    pub relative_tolerance: f64,
    /// Absolute tolerance of decimals.
    pub absolute_tolerance: f64,
    /// Rows in the target within the period; unknown if the comparison ended before they were read.
    pub rows_in_target: Option<u64>,
    /// Rows on the other side within the period.
    pub rows_on_other_side: Option<u64>,
    /// Pairs of rows that are equal in every column.
    pub equal_rows: u64,
    /// Days of the period of which neither side has rows; nothing of them was compared.
    pub days_without_rows: Vec<String>,
    /// What differs, by class.
    pub findings: Vec<Finding>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Decides verdict and exit code from the findings.
    pub fn decided(mut self) -> Self {
        let is_nothing = |finding: &Finding| finding.class == Class::NothingToCompare;
        (self.verdict, self.exit_code) = match &self.findings[..] {
            // Nothing found on nothing compared is no success.
            [] if self.equal_rows > 0 => (Verdict::Equal, 0),
            [] => (Verdict::NothingCompared, 2),
            findings if findings.iter().all(is_nothing) => (Verdict::NothingCompared, 2),
            _ => (Verdict::Different, 1),
        };
        self
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let [first, last] = &self.period;
        let mut line = |content: &str| {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{content}");
        };
        let rows =
            |count: Option<u64>| count.map_or_else(|| "rows not read".to_owned(), |count| format!("{count} rows"));
        line(&format!("target   {}: {}", self.target, rows(self.rows_in_target)));
        line(&format!("against  {}: {}", self.against, rows(self.rows_on_other_side)));
        line(&format!("period   {first} to {last} (UTC)"));
        line(&format!(
            "equality decimals within {:e} relative and {:e} absolute; labels as JSON values; all else exactly; null equals \
             null only",
            self.relative_tolerance, self.absolute_tolerance
        ));
        if !self.days_without_rows.is_empty() {
            line(&format!("note     not compared: no rows: {}", self.days_without_rows.join(", ")));
        }
        for note in &self.notes {
            line(&format!("note     {note}"));
        }
        for finding in &self.findings {
            line(&format!("{}  {}", finding.class, finding.summary));
            finding.details.iter().for_each(|detail| line(&format!("    {detail}")));
        }
        match self.verdict {
            Verdict::Equal => line(&format!("equal: all {} rows in every column", self.equal_rows)),
            Verdict::Different => line("different"),
            Verdict::NothingCompared => line("nothing was compared"),
        }
        text
    }
}
