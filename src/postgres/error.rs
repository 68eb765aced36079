//! What PostgreSQL, its driver or its TLS report → one error type whose kind decides exit code and fix.
//!
//! Texts of PostgreSQL's DETAIL and HINT are left out, because they quote values of rows.

use std::fmt;

use tokio_postgres::error::DbError;

use crate::error::ErrorKind;
use crate::impl_failure;
use crate::postgres::copy::EncodeError;
use crate::time::UsageDay;

/// Something that has to be mended before rows can be written, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Decides the exit code if nothing worse is found.
    pub kind: ErrorKind,
    /// What is wrong, with the names of the objects.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl Finding {
    /// A finding about the shape of the database.
    pub fn shape(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind: ErrorKind::TargetShape, what: what.into(), fix: fix.into() }
    }

    /// A finding about a missing privilege.
    pub fn privilege(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind: ErrorKind::PrivilegeMissing, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (fix: {})", self.what, self.fix)
    }
}

/// Everything that can go wrong between this process and PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No connection.
    #[error("cannot reach PostgreSQL at {place}: {reason}")]
    Unreachable {
        /// Host and port.
        place: String,
        /// What the network or the server said.
        reason: String,
    },
    /// The server follows another one and takes no writes, as right after a failover.
    #[error(
        "PostgreSQL at {place} is a hot standby (in recovery), not the primary; if it stays one, let target.postgres.host \
         and port lead to the primary"
    )]
    Standby {
        /// Host and port.
        place: String,
    },
    /// The server answers but does not let us in.
    #[error("PostgreSQL at {place} refuses the login of role `{user}` to database `{database}`: {reason}")]
    LoginRefused {
        /// Host and port.
        place: String,
        /// Role.
        user: String,
        /// Database.
        database: String,
        /// What the server said.
        reason: String,
    },
    /// No TLS session as asked for.
    #[error("TLS to PostgreSQL at {place} fails under target.postgres.ssl_mode {mode}: {reason}")]
    Tls {
        /// Host and port.
        place: String,
        /// Name of the mode.
        mode: &'static str,
        /// What the TLS library said.
        reason: String,
    },
    /// The server's certificate is not good here.
    #[error("no trust in PostgreSQL at {place} under target.postgres.ssl_mode {mode}: {fault}")]
    CertificateRefused {
        /// Host and port.
        place: String,
        /// Name of the mode.
        mode: &'static str,
        /// What is wrong with it, and what to do.
        fault: String,
    },
    /// The file with certificate authorities is of no use.
    #[error("target.postgres.ca_file `{path}`: {reason}")]
    CaFile {
        /// The configured path.
        path: String,
        /// Why not.
        reason: String,
    },
    /// PostgreSQL refuses a statement.
    #[error("{action}: PostgreSQL answers {message} (SQLSTATE {code})")]
    Refused {
        /// What we were doing.
        action: String,
        /// SQLSTATE.
        code: String,
        /// The primary message without quoted values.
        message: String,
    },
    /// The connection broke under a statement.
    #[error("{action}: the connection to PostgreSQL broke: {reason}")]
    Broken {
        /// What we were doing.
        action: String,
        /// What the driver said.
        reason: String,
    },
    /// Neither an answer nor progress within our own deadline.
    #[error("{action}: no progress for {seconds} s")]
    NoProgress {
        /// What we were doing.
        action: String,
        /// The deadline.
        seconds: u64,
    },
    /// The connection broke between COMMIT and its answer.
    #[error("{action}: whether it took place is unknown: {reason}")]
    CommitUnknown {
        /// What was committed.
        action: String,
        /// How the connection ended.
        reason: String,
    },
    /// The run was told to stop; the transaction is rolled back.
    #[error("day {day} was given up and rolled back because the run was stopped")]
    Stopped {
        /// The day.
        day: UsageDay,
    },
    /// Somebody else holds a lock that we need.
    #[error("{action}: another session holds the lock; waited {seconds} s")]
    LockBusy {
        /// What we were doing.
        action: String,
        /// The configured time.
        seconds: u64,
    },
    /// As many days as may be written at once were being written all that time.
    #[error("day {day} in {table}: all {max_writers} slots of target.postgres.max_writers were taken for {seconds} s")]
    WritersBusy {
        /// The day.
        day: UsageDay,
        /// Schema and table.
        table: String,
        /// Number of slots.
        max_writers: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// The claim on the day expired and was taken by another pod.
    #[error("day {day} in {table}: another pod took the claim over; rolled back")]
    ClaimLost {
        /// The day.
        day: UsageDay,
        /// Schema and table.
        table: String,
    },
    /// The target table or its surroundings are not as needed; all problems at once.
    #[error("{}", list(.0))]
    NotReady(Vec<Finding>),
    /// COPY or the count afterwards disagree with what was sent.
    #[error("day {day} in {table}: {sent} rows were sent, {found} rows are there ({place}); rolled back")]
    RowsDiffer {
        /// The day.
        day: UsageDay,
        /// Schema and table.
        table: String,
        /// Where it was counted.
        place: &'static str,
        /// Rows of the day.
        sent: u64,
        /// Rows counted.
        found: u64,
    },
    /// The sum of a measure in the table is not the sum of what was computed.
    #[error(
        "day {day} in {table}: column `{column}` sums to {found}, expected {expected} (in units of 1e-15); rolled back"
    )]
    SumDiffers {
        /// The day.
        day: UsageDay,
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// Sum of the rows sent.
        expected: i128,
        /// Sum in the table, as text because it may be `NaN`.
        found: String,
    },
    /// The rows in the table are not those that were sent, and something there acts on rows.
    #[error("{difference}; what acts on rows of {table}: {causes}")]
    RowsAltered {
        /// The day.
        day: UsageDay,
        /// Schema and table.
        table: String,
        /// What does not agree.
        difference: String,
        /// Triggers and rules by name.
        causes: String,
    },
    /// The day's rows or a total of theirs differ too much from those that they would replace.
    #[error(
        "day {day} in {table}: {change}; target.guard.max_change_percent allows {limit}; the day is left as it was"
    )]
    ChangeTooLarge {
        /// The day.
        day: UsageDay,
        /// Schema and table.
        table: String,
        /// Which figure would go from what to what.
        change: String,
        /// The configured limit.
        limit: f64,
    },
    /// Rows that cannot be expressed in the target's types.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl_failure!(PostgresError);

impl PostgresError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            PostgresError::Unreachable { .. }
            | PostgresError::Standby { .. }
            | PostgresError::Broken { .. }
            | PostgresError::NoProgress { .. }
            | PostgresError::CommitUnknown { .. } => ErrorKind::DatabaseUnavailable,
            PostgresError::Stopped { .. } => ErrorKind::Interrupted,
            PostgresError::LoginRefused { .. } => ErrorKind::LoginRefused,
            PostgresError::Tls { .. } | PostgresError::CaFile { .. } => ErrorKind::Config,
            PostgresError::CertificateRefused { .. } => ErrorKind::CertificateRefused,
            PostgresError::Refused { code, .. } => kind_of_sqlstate(code),
            PostgresError::LockBusy { .. } | PostgresError::WritersBusy { .. } => ErrorKind::LockBusy,
            PostgresError::ClaimLost { .. } => ErrorKind::HeldByOthers,
            PostgresError::NotReady(findings) => {
                findings.first().map_or(ErrorKind::TargetShape, |finding| finding.kind)
            }
            PostgresError::ChangeTooLarge { .. } => ErrorKind::ChangeTooLarge,
            PostgresError::RowsDiffer { .. } | PostgresError::SumDiffers { .. } => ErrorKind::NotConserved,
            PostgresError::RowsAltered { .. } => ErrorKind::RowsAltered,
            PostgresError::Encode(error) => error.kind(),
        }
    }

    /// Whether the same work may succeed in a moment: lost connections, serialisation failures, deadlocks, lack of
    /// resources, restarts, a standby in the place of the primary. A busy lock has been waited for already, and a statement that ran out of time would again.
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            PostgresError::Unreachable { .. }
            | PostgresError::Standby { .. }
            | PostgresError::Broken { .. }
            | PostgresError::NoProgress { .. }
            | PostgresError::CommitUnknown { .. } => true,
            PostgresError::Refused { code, .. } => is_transient_sqlstate(code),
            _ => false,
        }
    }

    /// Whether the server may still be at work for a connection that failed like this.
    pub fn may_leave_work_behind(&self) -> bool {
        matches!(self, PostgresError::Broken { .. } | PostgresError::NoProgress { .. })
    }

    /// The error of a COMMIT: a refusal says that nothing took place, a lost connection says nothing.
    pub(crate) fn of_commit(error: Self) -> Self {
        match error {
            PostgresError::Broken { action, reason } => PostgresError::CommitUnknown { action, reason },
            PostgresError::NoProgress { action, seconds } => {
                PostgresError::CommitUnknown { action, reason: format!("no answer for {seconds} s") }
            }
            PostgresError::Refused { action, code, message } if code.starts_with("08") || code.starts_with("57P0") => {
                PostgresError::CommitUnknown { action, reason: format!("{message} (SQLSTATE {code})") }
            }
            refused => refused,
        }
    }

    /// The error of a statement; `lock_seconds` is what `lock_timeout` was set to.
    pub(crate) fn of_statement(action: &str, lock_seconds: u64, error: &tokio_postgres::Error) -> Self {
        let action = action.to_owned();
        match error.as_db_error() {
            Some(refusal) if refusal.code().code() == LOCK_NOT_AVAILABLE => {
                PostgresError::LockBusy { action, seconds: lock_seconds }
            }
            Some(refusal) => PostgresError::Refused {
                action,
                code: refusal.code().code().to_owned(),
                message: message_without_values(refusal),
            },
            None => PostgresError::Broken { action, reason: chain_of(error) },
        }
    }
}

const LOCK_NOT_AVAILABLE: &str = "55P03";
const DISK_FULL: &str = "53100";

/// SQLSTATEs after which the same transaction may succeed.
pub(crate) fn is_transient_sqlstate(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "57P01" | "57P02" | "57P03") || code.starts_with("08") || code.starts_with("53")
}

/// SQLSTATE → kind of failure.
pub(crate) fn kind_of_sqlstate(code: &str) -> ErrorKind {
    match code {
        DISK_FULL => ErrorKind::DatabaseFull,
        _ if is_transient_sqlstate(code) => ErrorKind::DatabaseUnavailable,
        // query_canceled: our statement_timeout, or an administrator.
        "57014" => ErrorKind::DatabaseUnavailable,
        LOCK_NOT_AVAILABLE => ErrorKind::LockBusy,
        "3D000" => ErrorKind::LoginRefused,
        _ if code.starts_with("28") => ErrorKind::LoginRefused,
        "42501" => ErrorKind::PrivilegeMissing,
        // Undefined table, schema, column, type, function; wrong type of a column; no partition for the row.
        "42P01" | "3F000" | "42703" | "42704" | "42883" | "42804" | "23514" => ErrorKind::TargetShape,
        _ => ErrorKind::DatabaseRefused,
    }
}

/// The primary message and the place in a COPY, without anything that quotes a value.
fn message_without_values(error: &DbError) -> String {
    let mut message = cut_quoted_value(error.code().code(), error.message());
    if let Some(position) = error.where_().and_then(|context| context.lines().find(|line| line.starts_with("COPY "))) {
        // `COPY table, line 3, column name` may go on with `: "value"`.
        let position = position.split(": \"").next().unwrap_or_default();
        message.push_str(" at ");
        message.push_str(position);
    }
    message
}

/// Messages of class 22 (data exception) and 23 (constraint) end with the value they dislike: `…: "value"`.
fn cut_quoted_value(code: &str, message: &str) -> String {
    let may_quote_values = code.starts_with("22");
    let kept = if may_quote_values { message.split(": \"").next().unwrap_or_default() } else { message };
    format!("\"{}\"", kept.lines().next().unwrap_or_default())
}

/// An error and its causes on one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let part = inner.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = inner.source();
    }
    text
}

fn list(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_the_documented_kinds() {
        let cases = [
            ("08006", ErrorKind::DatabaseUnavailable),
            ("53100", ErrorKind::DatabaseFull),
            ("53300", ErrorKind::DatabaseUnavailable),
            ("57P01", ErrorKind::DatabaseUnavailable),
            ("57P03", ErrorKind::DatabaseUnavailable),
            ("40001", ErrorKind::DatabaseUnavailable),
            ("40P01", ErrorKind::DatabaseUnavailable),
            ("55P03", ErrorKind::LockBusy),
            ("28P01", ErrorKind::LoginRefused),
            ("3D000", ErrorKind::LoginRefused),
            ("42501", ErrorKind::PrivilegeMissing),
            ("42P01", ErrorKind::TargetShape),
            ("3F000", ErrorKind::TargetShape),
            ("42703", ErrorKind::TargetShape),
            ("22001", ErrorKind::DatabaseRefused),
            ("XX000", ErrorKind::DatabaseRefused),
        ];
        for (code, kind) in cases {
            assert_eq!(kind_of_sqlstate(code), kind, "{code}");
        }
    }

    #[test]
    fn only_transient_states_are_retried() {
        let refused = |code: &str| PostgresError::Refused {
            action: "test".to_owned(),
            code: code.to_owned(),
            message: String::new(),
        };
        assert!(refused("40P01").is_worth_retrying());
        assert!(!refused("57014").is_worth_retrying());
        assert!(!refused("42501").is_worth_retrying());
        assert!(!PostgresError::LockBusy { action: String::new(), seconds: 1 }.is_worth_retrying());
    }

    #[test]
    fn a_commit_without_an_answer_is_unknown_and_a_refused_one_is_not() {
        let action = || "day 2025-10-01 in a.b: commit".to_owned();
        let lost = PostgresError::of_commit(PostgresError::Broken { action: action(), reason: "closed".to_owned() });
        assert!(matches!(lost, PostgresError::CommitUnknown { .. }), "{lost:?}");
        assert!(lost.is_worth_retrying() && lost.kind() == ErrorKind::DatabaseUnavailable);
        let refusal =
            |code: &str| PostgresError::Refused { action: action(), code: code.to_owned(), message: String::new() };
        assert!(matches!(PostgresError::of_commit(refusal("40001")), PostgresError::Refused { .. }));
        assert!(matches!(PostgresError::of_commit(refusal("57P01")), PostgresError::CommitUnknown { .. }));
    }

    #[test]
    fn values_are_cut_from_data_exceptions() {
        let text = cut_quoted_value("22P02", "invalid input syntax for type integer: \"secret\"");
        assert_eq!(text, "\"invalid input syntax for type integer\"");
        let text = cut_quoted_value("42P01", "relation \"a\" does not exist");
        assert_eq!(text, "\"relation \"a\" does not exist\"");
    }
}
