//! A row that cannot be stored → day, column, namespace and node of it, and the kind of failure.

use arrow_schema::ArrowError;

use super::decimal::DecimalError;
use crate::error::{ErrorKind, Failure};
use crate::impl_failure;
use crate::time::UsageDay;

/// Why rows cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EnrichError {
    /// A number that is no decimal.
    #[error("{day}: {column} of {place} {source}")]
    Decimal {
        /// Day of the row.
        day: UsageDay,
        /// Column of the target.
        column: &'static str,
        /// Names of the report's own row, never of a computed one.
        place: String,
        /// What is wrong with the number.
        #[source]
        source: DecimalError,
    },
    /// Arrow refuses the columns: a promise of ours was broken.
    #[error("{day}: the rows do not form a batch")]
    Arrow {
        /// Day of the rows.
        day: UsageDay,
        /// What Arrow says.
        #[source]
        source: ArrowError,
    },
}

impl EnrichError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Decimal { .. } => ErrorKind::ValueUnusable,
            Self::Arrow { .. } => ErrorKind::Bug,
        }
    }
}

impl EnrichError {
    /// The same failure, with what the report holds in the place of what it became, if that is known.
    pub fn because_of(self, found: impl FnOnce(&'static str) -> Option<String>) -> Failure {
        match &self {
            Self::Decimal { day, column, .. } => match found(column) {
                Some(found) => Failure::new(self.kind(), format!("{day}: {found}; {column} cannot be made of it")),
                None => self.into(),
            },
            Self::Arrow { .. } => self.into(),
        }
    }
}

impl_failure!(EnrichError);
