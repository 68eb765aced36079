//! Why reports cannot be converted: which file, which line, what to do.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use super::content::Foreign;
use crate::error::{ErrorKind, Failure};

/// Names of other files that a message lists.
const NAMED_FILES: usize = 3;

/// Why nothing was converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// An argument is out of its range.
    #[error("convert: argument `--{argument}` {rule}")]
    Argument {
        /// Its name on the command line.
        argument: &'static str,
        /// What holds for it.
        rule: String,
    },
    /// The input cannot be opened or read.
    #[error("convert: `{}` cannot be read", path.display())]
    InputUnreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system or the decompressor says.
        #[source]
        source: io::Error,
    },
    /// Nothing to convert.
    #[error("convert: {place} holds no CSV file{}", beside(others))]
    NoReports {
        /// The folder or payload.
        place: String,
        /// Names of what it holds.
        others: Vec<String>,
    },
    /// Something else than reports was named.
    #[error("convert: {what} is {found}; {}", found.advice())]
    Foreign {
        /// The file.
        what: String,
        /// What it is by its first bytes.
        found: Foreign,
    },
    /// A compressed file that is no archive.
    #[error("convert: `{}` is a file compressed with gzip, but no payload: {}; {advice}", path.display(), held(*found))]
    NoArchive {
        /// The file.
        path: PathBuf,
        /// What is in it, if it is no text that could be a report.
        found: Option<Foreign>,
        /// What to give in its place.
        advice: &'static str,
    },
    /// A device, a pipe, or a folder where a file is needed.
    #[error("convert: `{}` is {kind}; name a folder of CSV files, one of them, or the operator's payload (.tar.gz)", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// There are CSV files, and nothing is in any of them.
    #[error("convert: {place}: nothing is in any of the {count} CSV files, first `{first}`")]
    AllEmpty {
        /// The folder or payload.
        place: String,
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// More files than a delivery can have.
    #[error("convert: {place} holds more than {most} files")]
    TooManyFiles {
        /// The folder or payload.
        place: String,
        /// The limit.
        most: usize,
    },
    /// A payload that unpacks to far more than reports do.
    #[error("convert: payload `{}` unpacks to more than {factor} times its size, as no report does", path.display())]
    Bomb {
        /// The payload.
        path: PathBuf,
        /// The limit.
        factor: u64,
    },
    /// The columns are those of no report.
    #[error("convert: file `{file}`: its {found} columns are those of no known report")]
    ReportUnknown {
        /// The file.
        file: String,
        /// Number of columns.
        found: usize,
    },
    /// A header names a column twice.
    #[error("convert: file `{file}`: the header names column `{column}` twice")]
    ColumnTwice {
        /// The file.
        file: String,
        /// The column's normalised name.
        column: String,
    },
    /// A record cannot be converted.
    #[error("convert: file `{file}`, line {line}: {problem}")]
    Row {
        /// The file.
        file: String,
        /// The line in which the record begins; the header is line 1.
        line: u64,
        /// What is wrong with it.
        problem: RowProblem,
    },
    /// A payload without `manifest.json`.
    #[error("convert: payload `{}` has no manifest.json", path.display())]
    ManifestMissing {
        /// The payload.
        path: PathBuf,
    },
    /// A manifest that is none.
    #[error("convert: manifest.json in {place} {problem}")]
    ManifestUnusable {
        /// The folder or payload.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest names files that did not come along.
    #[error("convert: the manifest of {place} names {count} missing files, first `{first}`")]
    FilesMissing {
        /// The folder or payload.
        place: String,
        /// How many are missing.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// Two files of a delivery have one name.
    #[error("convert: {place} holds two files named `{file}`")]
    NameTwice {
        /// The folder or payload.
        place: String,
        /// The name.
        file: String,
    },
    /// The delivery is another cluster's.
    #[error("convert: the manifest of {place} is of cluster `{found}`, expected `{expected}`")]
    WrongCluster {
        /// The folder or payload.
        place: String,
        /// Cluster id of the manifest.
        found: String,
        /// Cluster id of the command line or configuration.
        expected: String,
    },
    /// The input changed between the look at it and the reading.
    #[error("convert: file `{file}` changed while it was read")]
    Changed {
        /// The file.
        file: String,
    },
    /// Objects of this delivery and day are already there.
    #[error(
        "convert: `{place}` is already there; `--replace` replaces the objects of a delivery, `--manifest-id` tells deliveries apart"
    )]
    OutputExists {
        /// The object.
        place: String,
    },
    /// A file or folder cannot be written.
    #[error("convert: cannot write `{}`", path.display())]
    FileUnwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Files that should have been removed are still there.
    #[error("convert: {} files could not be removed, first `{}`", paths.len(), paths.first().map_or(Path::new(""), PathBuf::as_path).display())]
    FilesLeft {
        /// All of them.
        paths: Vec<PathBuf>,
        /// What the system says of the first.
        #[source]
        source: io::Error,
    },
    /// Everything was converted, but what it replaces is not gone.
    #[error("convert: the new objects are there, and so are older ones of the delivery, whose rows now count twice")]
    OlderLeft {
        /// Which ones, and why.
        #[source]
        source: Box<Failure>,
    },
    /// The Parquet library refuses rows that we made.
    #[error("convert: object `{key}` cannot be encoded")]
    Encode {
        /// The object.
        key: String,
        /// What the library says.
        #[source]
        source: ParquetError,
    },
    /// A thread of ours ended early.
    #[error("convert: {what} ended early")]
    WorkerLost {
        /// Which one.
        what: &'static str,
    },
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// Its fields are not those of the header.
    #[error("{found} fields, the header has {expected}")]
    FieldCount {
        /// Fields of the record.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// A date that is none.
    #[error("column `{column}` holds no readable date between 1970 and 9999")]
    TimeUnreadable {
        /// The column.
        column: &'static str,
    },
    /// Rows of more days than any report has.
    #[error("the rows around it belong to more than {most} days")]
    TooManyDays {
        /// The limit.
        most: usize,
    },
    /// Bytes that are no text.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// The file ends inside a quoted field.
    #[error("a quoted field is not closed before the end of the file")]
    QuoteOpen,
    /// A record that is longer than any report's.
    #[error("a record is longer than {most_bytes} bytes")]
    TooLong {
        /// The limit.
        most_bytes: usize,
    },
}

/// What a compressed file holds that is no archive.
fn held(found: Option<Foreign>) -> String {
    match found {
        Some(Foreign::Empty) => "nothing is in it".to_owned(),
        Some(found) => format!("in it is {found}"),
        None => "in it is a single text".to_owned(),
    }
}

/// What a folder without reports holds instead.
fn beside(others: &[String]) -> String {
    let named: Vec<String> = others.iter().take(NAMED_FILES).map(|name| format!("`{name}`")).collect();
    match others.len() {
        0 => String::new(),
        count if count > named.len() => format!("; it holds {} and {} more", named.join(", "), count - named.len()),
        _ => format!("; it holds {}", named.join(", ")),
    }
}

impl ConvertError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        use ConvertError as E;
        match self {
            E::Argument { .. } | E::OutputExists { .. } => ErrorKind::Usage,
            E::ReportUnknown { .. }
            | E::NoReports { .. }
            | E::Foreign { .. }
            | E::NoArchive { .. }
            | E::NoFile { .. } => ErrorKind::ReportUnknown,
            E::InputUnreadable { .. }
            | E::AllEmpty { .. }
            | E::TooManyFiles { .. }
            | E::Bomb { .. }
            | E::ColumnTwice { .. }
            | E::Row { .. }
            | E::Changed { .. } => ErrorKind::ReportUnreadable,
            E::ManifestMissing { .. }
            | E::ManifestUnusable { .. }
            | E::FilesMissing { .. }
            | E::NameTwice { .. }
            | E::WrongCluster { .. } => ErrorKind::PayloadUnusable,
            E::FileUnwritable { .. } | E::FilesLeft { .. } => ErrorKind::FileUnwritable,
            E::OlderLeft { source } => source.kind,
            E::Encode { .. } | E::WorkerLost { .. } => ErrorKind::Bug,
        }
    }
}

crate::impl_failure!(ConvertError);
