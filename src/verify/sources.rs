//! Comparisons of single sources → one outcome: lines for people, a report for programs, an exit code.

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::findings::VerifyReport;
use crate::error::Failure;

/// The comparisons of all sources, in the order in which they are listed.
#[derive(Debug, Clone, Default)]
pub struct VerifyReports {
    sources: Vec<SourceReport>,
}

/// The comparison of one source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceReport {
    /// Uuid of the source.
    pub source: String,
    /// What was found, if it could be looked for.
    #[serde(flatten)]
    pub report: Option<VerifyReport>,
    /// Why it could not be compared.
    pub error: Option<String>,
    /// 0, 1 or 2, or the exit code of the error.
    #[serde(skip)]
    exit_code: u8,
}

impl VerifyReports {
    /// Adds what was found.
    pub fn add(&mut self, source: Uuid, report: VerifyReport) {
        let exit_code = report.exit_code;
        self.sources.push(SourceReport { source: source.to_string(), report: Some(report), error: None, exit_code });
    }

    /// Adds a source that could not be compared.
    pub fn fail(&mut self, source: Uuid, failure: &Failure) {
        let (error, exit_code) = (Some(failure.full_text()), failure.kind.exit_code());
        self.sources.push(SourceReport { source: source.to_string(), report: None, error, exit_code });
    }

    /// 0 if every source was compared and is equal, 1 if any differs; else the first reason why one could not be compared.
    pub fn exit_code(&self) -> u8 {
        let codes = || self.sources.iter().map(|source| source.exit_code);
        if codes().any(|code| code == 1) {
            return 1;
        }
        codes().find(|code| *code != 0).unwrap_or(0)
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        if let [SourceReport { report: Some(report), .. }] = &self.sources[..] {
            return report.text();
        }
        let of_source = |source: &SourceReport| {
            let found = match &source.report {
                Some(report) => report.text(),
                None => format!("not compared: {}\n", source.error.as_deref().unwrap_or_default()),
            };
            format!("source   {}\n{found}", source.source)
        };
        self.sources.iter().map(of_source).collect::<Vec<_>>().join("\n")
    }
}

/// A single source is told as it always was, with the source; several in a list.
impl Serialize for VerifyReports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Several<'a> {
            exit_code: u8,
            sources: &'a [SourceReport],
        }
        match &self.sources[..] {
            [only] => only.serialize(serializer),
            sources => Several { exit_code: self.exit_code(), sources }.serialize(serializer),
        }
    }
}
