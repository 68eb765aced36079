//! What keeps rows from being compared at all → one error type. Differences are no errors: they are findings.

use crate::error::{ErrorKind, Failure};
use crate::impl_failure;
use crate::postgres::error::PostgresError;

/// Why a comparison cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// `--against` is none of the things it may be.
    #[error("--against `{text}` is neither `recompute`, nor a CSV file or folder that exists, nor schema.table")]
    Against {
        /// What was given.
        text: String,
    },
    /// The target keeps nothing that could be looked at.
    #[error("target.kind {kind} keeps no rows that can be compared")]
    Target {
        /// What the configuration says.
        kind: &'static str,
    },
    /// Both sides read the same rows, so they would be equal whatever they are.
    #[error("--against names what the target is: {place}; compare it with something else")]
    Itself {
        /// Table or file.
        place: String,
    },
    /// The table of the other side does not exist.
    #[error("--against: table {table} does not exist, or its schema may not be looked into")]
    NoTable {
        /// Schema and table.
        table: String,
    },
    /// A file cannot be opened or read.
    #[error("`{path}` cannot be read")]
    File {
        /// The path.
        path: String,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A file is not CSV with a header and equally long lines.
    #[error("`{path}`, record {record}: {problem}")]
    Record {
        /// The path.
        path: String,
        /// Records from 1, the header included.
        record: u64,
        /// What is wrong.
        problem: String,
    },
    /// A value does not have the type of its column; the comparison turns it into a finding.
    #[error("{place}: column `{column}`, row {row} of day {day}: not of type {expected}")]
    ValueType {
        /// Table or file.
        place: String,
        /// Column.
        column: &'static str,
        /// Rows of the day from 1.
        row: u64,
        /// Day that was read.
        day: String,
        /// Type of the column.
        expected: String,
    },
    /// A day has more distinct texts than can be numbered.
    #[error("{place}: day {day} has more than {limit} distinct texts")]
    TooMany {
        /// Table or file.
        place: String,
        /// Day that was read.
        day: String,
        /// The limit.
        limit: u32,
    },
    /// PostgreSQL refuses or cannot be reached.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// Reading the source objects, or computing from them, failed.
    #[error("{}", .0.message_with_causes())]
    Source(Failure),
    /// The work was lost to a panic.
    #[error("comparing day {day} broke down: {reason}")]
    Lost {
        /// The day.
        day: String,
        /// What the runtime says.
        reason: String,
    },
}

impl_failure!(VerifyError);

impl VerifyError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            VerifyError::Against { .. } => ErrorKind::Usage,
            VerifyError::Target { .. }
            | VerifyError::Itself { .. }
            | VerifyError::NoTable { .. }
            | VerifyError::File { .. }
            | VerifyError::Record { .. }
            | VerifyError::TooMany { .. }
            | VerifyError::ValueType { .. } => ErrorKind::NotComparable,
            VerifyError::Postgres(error) => error.kind(),
            VerifyError::Source(failure) => failure.kind,
            VerifyError::Lost { .. } => ErrorKind::Bug,
        }
    }
}
