//! What goes wrong in the second engine → a kind, with the place where it went wrong.

use datafusion::error::DataFusionError;

use super::label_text::LabelProblem;
use crate::error::{ErrorKind, Failure};
use crate::impl_failure;
use crate::store::StoreError;
use crate::time::UsageDay;

/// Why the reference SQL gives no rows.
#[derive(Debug, thiserror::Error)]
pub enum RecomputeError {
    /// The bytes of a row group cannot be read.
    #[error("object `{object}`, row group {row_group}: its bytes cannot be read")]
    Store {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// What the storage says.
        #[source]
        source: StoreError,
    },
    /// The pages of a row group cannot be decoded.
    #[error("object `{object}`, row group {row_group}: {reason}")]
    Undecodable {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// What the Parquet library says.
        reason: String,
    },
    /// A column without which the report is none.
    #[error("object `{object}`: required column `{column}` is missing")]
    Missing {
        /// Key of the object.
        object: String,
        /// Name of the column.
        column: &'static str,
    },
    /// Several columns that may be meant.
    #[error("object `{object}`: `{names}` may all be column `{column}`")]
    Ambiguous {
        /// Key of the object.
        object: String,
        /// Name of the column.
        column: &'static str,
        /// Names in the file.
        names: String,
    },
    /// A column of a type that nothing can be made of.
    #[error("object `{object}`, row group {row_group}: column `{column}` is {found}")]
    Unusable {
        /// Key of the object.
        object: String,
        /// Position of the row group.
        row_group: usize,
        /// Name of the column.
        column: &'static str,
        /// Its type.
        found: String,
    },
    /// A label that cannot be used.
    #[error("a text of label column `{column}` {problem}")]
    Label {
        /// Name of the column.
        column: String,
        /// What is wrong with it.
        problem: &'static str,
        /// Whether it is no object at all.
        is_malformed: bool,
    },
    /// A volume whose pods all lack a node.
    #[error("division by zero: all pods of a volume lack a node")]
    ZeroDivisor,
    /// A number that became 0.
    #[error("value out of range: underflow of a product or quotient")]
    Underflow,
    /// A number that no decimal is.
    #[error("{day}: {column} of namespace `{namespace}` on node `{node}` is not finite")]
    NotFinite {
        /// Day of the row.
        day: UsageDay,
        /// Column of the target.
        column: String,
        /// Namespace of the row.
        namespace: String,
        /// Node of the row.
        node: String,
    },
    /// The memory pool is too small.
    #[error("the second engine needs more memory than it may take: {0}")]
    Memory(String),
    /// The memory pool is used up and its rest cannot be written to temporary files.
    #[error(
        "the second engine needs more memory than it may take, and cannot write temporary files (TMPDIR) instead: {0}"
    )]
    Spill(String),
    /// The SQL and its tables do not fit each other.
    #[error("the reference SQL failed: {0}")]
    Engine(String),
}

impl RecomputeError {
    /// The kind that decides exit code and fix.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } => source.kind(),
            Self::Undecodable { .. } => ErrorKind::ObjectUnreadable,
            Self::Missing { .. } => ErrorKind::ColumnMissing,
            Self::Ambiguous { .. } | Self::Unusable { .. } => ErrorKind::ColumnUnusable,
            Self::Label { is_malformed: true, .. } => ErrorKind::LabelMalformed,
            Self::Label { .. } => ErrorKind::LabelRefused,
            Self::ZeroDivisor | Self::Underflow | Self::NotFinite { .. } => ErrorKind::ValueUnusable,
            Self::Memory(_) | Self::Spill(_) => ErrorKind::MemoryBudget,
            Self::Engine(_) => ErrorKind::Bug,
        }
    }

    pub(super) fn label(column: &str, problem: LabelProblem) -> Self {
        let text = match problem {
            LabelProblem::Malformed => "is not a JSON object",
            LabelProblem::Blank => "is blank",
            LabelProblem::Nested => "holds a nested value",
            LabelProblem::Nul => "holds the character U+0000, which jsonb cannot store",
            LabelProblem::Number => "holds a number outside the range of numeric",
        };
        Self::Label { column: column.to_owned(), problem: text, is_malformed: problem == LabelProblem::Malformed }
    }
}

impl_failure!(RecomputeError);

impl From<RecomputeError> for DataFusionError {
    fn from(error: RecomputeError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Our own error out of whatever DataFusion wrapped it in; otherwise what DataFusion itself says.
pub(super) fn failure(error: &DataFusionError) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(own) = current.downcast_ref::<RecomputeError>() {
            return Failure::of(own);
        }
        cause = current.source();
    }
    match error.find_root() {
        DataFusionError::ResourcesExhausted(text) => RecomputeError::Memory(text.clone()).into(),
        // Objects are read by our own store, whose errors were found above.
        DataFusionError::IoError(error) => RecomputeError::Spill(error.to_string()).into(),
        root => RecomputeError::Engine(root.to_string()).into(),
    }
}
