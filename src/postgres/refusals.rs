//! What makes a server, a database or a role unfit for a run → a finding with its fix: the same words wherever it is noticed,
//! before a run or under a statement.

use tokio_postgres::error::DbError;

use crate::error::ErrorKind;
use crate::postgres::error::Finding;
use crate::postgres::sql::{TableName, quote};

/// The only encoding in which every text of a report can be stored.
const ENCODING: &str = "UTF8";

/// A database that stores texts in another encoding, by the name that the server gives it; `None` for the right one.
pub fn encoding(database: &str, name: &str) -> Option<Finding> {
    (name != ENCODING).then(|| {
        Finding::shape(
            format!("database {database} has the encoding {name}, needed is {ENCODING}"),
            format!(
                "an encoding cannot be changed: CREATE DATABASE … ENCODING '{ENCODING}' TEMPLATE template0, and move the tables \
                 there"
            ),
        )
    })
}

/// A database or role whose transactions are read-only although the server is no standby.
pub fn read_only(database: &str, role: &str) -> Finding {
    Finding {
        kind: ErrorKind::DatabaseRefused,
        what: format!(
            "transactions of role `{role}` in database {database} are read-only: default_transaction_read_only is on"
        ),
        fix: format!(
            "find out who set it (a provider does when the disk is full, an administrator before a move); then ALTER ROLE {} \
             RESET default_transaction_read_only, the same for ALTER DATABASE {}, or the server's configuration",
            quote(role),
            quote(database)
        ),
    }
}

/// A table of which the role would see a part only.
pub fn hidden_rows(role: &str, table: &TableName) -> Finding {
    Finding {
        kind: ErrorKind::RowsHidden,
        what: format!("row-level security on table {table} may hide rows from role `{role}`"),
        fix: format!(
            "ALTER ROLE {} BYPASSRLS, or make it the owner of the table without FORCE ROW LEVEL SECURITY, or ALTER TABLE {} \
             DISABLE ROW LEVEL SECURITY; a policy does not do",
            quote(role),
            table.quoted()
        ),
    }
}

/// The finding behind a refused statement, if there is one that says more than PostgreSQL does. The server's routine is looked at and not
/// its message, which comes in its own language.
pub(super) fn of_statement(action: &str, error: &DbError, database: &str, role: &str) -> Option<Finding> {
    match (error.code().code(), error.routine()) {
        ("42501", Some("check_enable_rls")) => Some(Finding {
            kind: ErrorKind::RowsHidden,
            what: format!(
                "{action}: PostgreSQL answers \"{}\": rows may be hidden from role `{role}`",
                error.message()
            ),
            fix: format!(
                "ALTER ROLE {} BYPASSRLS, or make it the owner of the table without FORCE ROW LEVEL SECURITY, or disable row-level \
                 security there; a policy does not do",
                quote(role)
            ),
        }),
        ("25006", _) => {
            let finding = read_only(database, role);
            Some(Finding { what: format!("{action}: {}", finding.what), ..finding })
        }
        _ => None,
    }
}

/// Whether a statement failed because the server follows another one.
pub(super) fn is_standby(error: &DbError) -> bool {
    // `cannot execute … during recovery`, `cannot set transaction read-write mode during recovery`
    let routines = ["PreventCommandDuringRecovery", "check_transaction_read_only", "check_XactReadOnly"];
    matches!(error.code().code(), "25006" | "0A000")
        && error.routine().is_some_and(|routine| routines.contains(&routine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_encoding_but_one_is_a_finding() {
        assert_eq!(encoding("d", "UTF8"), None);
        for name in ["SQL_ASCII", "LATIN1", ""] {
            let finding = encoding("d", name).unwrap();
            assert_eq!(finding.kind, ErrorKind::TargetShape);
            assert!(finding.what.contains("database d") && finding.what.contains(name), "{finding}");
        }
    }

    #[test]
    fn fixes_quote_names() {
        let finding = hidden_rows("a b", &TableName::new("s", "T"));
        assert!(finding.fix.contains("ALTER ROLE \"a b\" BYPASSRLS"), "{finding}");
        assert!(finding.fix.contains("ALTER TABLE \"s\".\"T\""), "{finding}");
        assert!(read_only("d e", "r").fix.contains("\"d e\""));
    }
}
