//! What lies in the target × what should lie there → is it right? Two sides are read day by day, their rows matched by what
//! identifies them, and the differences named by the first class that explains them.
//!
//! Nothing is written. One day of both sides is in memory at a time.

mod delimited;
mod drift;
mod error;
mod files;
mod findings;
mod judge;
mod layout;
mod matching;
mod pairing;
mod recorded;
mod rows;
pub mod source;
mod sources;
mod table;
mod tally;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::postgres::reading::Occupied;
use crate::postgres::sql::TableName;
use crate::time::Window;
use layout::Layout;
use rows::Texts;
use source::{Coverage, RowSource};
use tally::{DayRules, Tally};

pub use error::VerifyError;
pub use files::FileSource;
pub use findings::{Class, Finding, Verdict, VerifyReport};
pub use matching::Tolerance;
pub use recorded::{Expected, LedgerDays};
pub use rows::Rows;
pub use sources::{SourceReport, VerifyReports};
pub use table::{Side, TableSource};

/// What the target is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against {
    /// The second engine over the source objects.
    Recompute,
    /// A CSV file, or every `*.csv` of a folder.
    Files(PathBuf),
    /// A table.
    Table(TableName),
}

impl Against {
    /// Reads what the command line says; a path that exists wins over a table of that name.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        if text == "recompute" {
            return Ok(Self::Recompute);
        }
        if Path::new(text).exists() {
            return Ok(Self::Files(PathBuf::from(text)));
        }
        let names_file = text.contains('/') || text.to_ascii_lowercase().ends_with(".csv");
        match text.split_once('.') {
            Some((schema, table)) if !names_file && !schema.is_empty() && !table.is_empty() && !table.contains('.') => {
                Ok(Self::Table(TableName::new(schema, table)))
            }
            _ => Err(VerifyError::Against { text: text.to_owned() }),
        }
    }
}

/// Everything a comparison needs besides its sides.
#[derive(Debug)]
pub struct Terms {
    /// The period, a window per month.
    pub windows: Vec<Window>,
    /// Cluster that all rows must name.
    pub cluster_id: String,
    /// Source that all rows must name.
    pub source_uuid: Uuid,
    /// For decimals.
    pub tolerance: Tolerance,
    /// Whether the semantics promise that the books close, and that a node has one unallocated row.
    pub conserves: bool,
    /// Whether both sides take the numbers of report periods and cost categories from one database.
    pub same_database: bool,
    /// The ledger, where the target has one.
    pub ledger: Option<LedgerDays>,
    /// What a run of today would note.
    pub expected: Expected,
}

/// Compares two sides.
/// Errors: a side cannot be read. Differences are no errors.
pub async fn verify(
    terms: &Terms,
    target: &mut dyn RowSource,
    other: &mut dyn RowSource,
) -> Result<VerifyReport, VerifyError> {
    let mut judge = judge::Judge::new(terms, [target.place(), other.place()]);
    judge.inputs();
    judge.columns(target.column_problems().await?);
    judge.columns(other.column_problems().await?);
    if judge.has_class(Class::SchemaMismatch) {
        return Ok(judge.report(None));
    }
    let coverages = [target.coverage().await?, other.coverage().await?];
    judge.owners(&coverages);
    if judge.has_findings() {
        return Ok(judge.report(None));
    }
    match compare(terms, target, other).await {
        Ok(tally) => {
            judge.rows(&tally, &coverages);
            Ok(judge.report(Some(&tally)))
        }
        Err(error @ VerifyError::ValueType { .. }) => {
            judge.columns(vec![error.to_string()]);
            Ok(judge.report(None))
        }
        Err(error) => Err(error),
    }
}

/// Reads and compares every day of the period.
async fn compare(terms: &Terms, target: &mut dyn RowSource, other: &mut dyn RowSource) -> Result<Tally, VerifyError> {
    let layout = Arc::new(Layout::new(terms.same_database));
    let mut tally = Tally::new(&layout);
    for day in terms.windows.iter().flat_map(|window| window.days()) {
        let fills = [target.day(day).await?, other.day(day).await?];
        let rules = DayRules {
            day,
            tolerance: terms.tolerance,
            conserves: terms.conserves,
            recorded: terms.ledger.as_ref().and_then(|ledger| ledger.row_count(day)),
        };
        let layout = Arc::clone(&layout);
        // Parsing and matching take longer than an async thread may be held.
        let work = tokio::task::spawn_blocking(move || {
            let (mut texts, mut sides) = (Texts::default(), [Rows::default(), Rows::default()]);
            for (fill, rows) in fills.into_iter().zip(&mut sides) {
                fill(rows, &mut texts)?;
            }
            tally.add_day(rules, &layout, [&sides[0], &sides[1]], &texts);
            Ok::<Tally, VerifyError>(tally)
        });
        tally = match work.await {
            Ok(result) => result?,
            Err(error) => return Err(VerifyError::Lost { day: day.to_string(), reason: error.to_string() }),
        };
    }
    Ok(tally)
}

/// Whether a side tells that it has rows outside of the period.
fn rows_outside(coverage: &Coverage, windows: &[Window]) -> Vec<String> {
    let Some(Occupied { days, .. }) = coverage else { return Vec::new() };
    let is_outside = |day| !windows.iter().any(|window| window.contains(day));
    days.iter().filter(|(day, _)| is_outside(**day)).map(|(day, count)| format!("{day}: {count} rows")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn against_is_a_word_a_path_or_a_table() {
        assert_eq!(Against::parse("recompute").unwrap(), Against::Recompute);
        assert_eq!(Against::parse("org1.table").unwrap(), Against::Table(TableName::new("org1", "table")));
        assert_eq!(Against::parse("Cargo.toml").unwrap(), Against::Files(PathBuf::from("Cargo.toml")));
        for text in ["missing.csv", "folder/missing", "table", "a.b.c", ".b", ""] {
            assert!(matches!(Against::parse(text), Err(VerifyError::Against { .. })), "{text}");
        }
    }
}
