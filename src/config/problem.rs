//! Findings of all configuration steps → one error that lists each with its place, key, reason and fix.
//!
//! A finding never carries the value of a variable or of a secret, only what the file itself says.

use std::fmt;

use crate::error::ErrorKind;

/// Findings beyond this number are counted, not listed.
const LISTED_PROBLEMS: usize = 200;

/// Where in the input something stands; orders as a reader meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A position in the file, both counted from 1.
    At {
        /// Line.
        line: usize,
        /// Column in characters.
        column: usize,
    },
    /// The file as a whole.
    File,
    /// A `--set` on the command line.
    Override,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// Path of the key, `storage.access_key`; empty if it is not about a key.
    pub path: String,
    /// What is wrong and the fix.
    pub text: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblems {
    file_name: String,
    problems: Vec<Problem>,
}

impl ConfigProblems {
    /// Sorts the findings by place; findings of the same place keep their order.
    pub(super) fn new(file_name: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        Self { file_name: file_name.to_owned(), problems }
    }

    /// Always `Config`: exit code 78.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }

    /// The findings in the order in which they are printed.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigProblems {
    /// One line per finding: `config.yaml:12:3: storage.url: what is wrong; the fix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(LISTED_PROBLEMS).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match problem.place {
                Place::At { line, column } => write!(f, "{}:{line}:{column}: ", self.file_name)?,
                Place::File => write!(f, "{}: ", self.file_name)?,
                Place::Override => f.write_str("--set: ")?,
            }
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.text)?;
        }
        if self.problems.len() > LISTED_PROBLEMS {
            write!(f, "\nand {} more", self.problems.len() - LISTED_PROBLEMS)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}

crate::impl_failure!(ConfigProblems);

/// Collects findings while the steps run.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds one finding.
    pub(super) fn add(&mut self, place: Place, path: &str, text: impl Into<String>) {
        self.list.push(Problem { place, path: shown_path(path), text: text.into() });
    }

    /// Whether nothing was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Gives the findings away.
    pub(super) fn into_list(self) -> Vec<Problem> {
        self.list
    }
}

/// Characters of a path in a message; the longest path of a known key has half of them.
const PATH_CHARS: usize = 100;

/// A path as it may stand in a message. It holds whatever the file, or the command line, has as a key, and inside braces
/// `password:hunter2` without a blank is one key: what follows the first character that no key has is left out (`<<` is YAML's own).
fn shown_path(path: &str) -> String {
    let is_of_key = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '[' | ']' | '?' | '<');
    let mut shown: String = path.chars().take(PATH_CHARS).take_while(is_of_key).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    shown
}
