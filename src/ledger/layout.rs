//! A database → whether the ledger is there in this version's layout; creates it, and brings an older one up to date in place.

use tokio_postgres::types::{ToSql, Type};

use super::{SCHEMA, TABLE, TOKEN_SEQUENCE};
use crate::postgres::connection::Connection;
use crate::postgres::error::{Finding, PostgresError};

/// What there is of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// No table.
    Missing,
    /// A table that lacks columns of this version, or no sequence beside it.
    Older,
    /// Something else by that name: a view, or a table whose columns have other types.
    Foreign,
    /// Every column of this version. Further ones, of a later version, do no harm.
    Ready,
}

impl Layout {
    /// What to do before anything can be written; `None` if nothing.
    pub fn finding(self) -> Option<Finding> {
        let (what, fix) = match self {
            Self::Ready => return None,
            Self::Missing => ("does not exist", "run `gristmill init-db` once as a role that may create a schema"),
            Self::Older => (
                "has the layout of an earlier version",
                "run `gristmill init-db` once as the owner of the ledger; it adds what is missing and keeps what is there",
            ),
            Self::Foreign => (
                "is not the table that `gristmill init-db` makes: it is a view, or columns have other types",
                "rename it away, then run `gristmill init-db`; every day is written once more",
            ),
        };
        Some(Finding::shape(format!("the ledger {SCHEMA}.{TABLE} {what}"), fix))
    }

    /// An error unless the ledger is ready.
    pub fn required(self) -> Result<(), PostgresError> {
        self.finding().map_or(Ok(()), |finding| Err(PostgresError::NotReady(vec![finding])))
    }
}

/// Looks at the ledger's table and sequence.
pub async fn layout(connection: &Connection) -> Result<Layout, PostgresError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE wanted.name IS NOT NULL), \
               count(*) FILTER (WHERE a.atttypid <> wanted.type::regtype), \
               count(*) FILTER (WHERE c.relkind NOT IN ('r', 'p')) FROM pg_catalog.pg_attribute a \
               JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) AS wanted (name, type) \
               ON a.attname = wanted.name WHERE n.nspname = $1 AND c.relname = $2 AND NOT a.attisdropped";
    let sequence_sql = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
                        ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'S'";
    let (names, types): (Vec<&str>, Vec<&str>) = COLUMNS.into_iter().unzip();
    let action = "looking for the ledger";
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&SCHEMA, Type::TEXT), (&TABLE, Type::TEXT), (&names, Type::TEXT_ARRAY), (&types, Type::TEXT_ARRAY)];
    let row = connection.query_one(action, sql, &parameters).await?;
    let [any, known, of_other_type, of_no_table]: [i64; 4] = [0, 1, 2, 3].map(|column| row.get(column));
    if any == 0 {
        return Ok(Layout::Missing);
    }
    if of_other_type + of_no_table > 0 {
        return Ok(Layout::Foreign);
    }
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&SCHEMA, Type::TEXT), (&TOKEN_SEQUENCE, Type::TEXT)];
    let sequences: i64 = connection.query_one(action, sequence_sql, &parameters).await?.get(0);
    let is_ready = usize::try_from(known).is_ok_and(|known| known == COLUMNS.len()) && sequences == 1;
    Ok(if is_ready { Layout::Ready } else { Layout::Older })
}

/// Makes the ledger ready; returns what was there before. Rows of an older layout stay: what they lack is null.
pub async fn create(connection: &Connection) -> Result<Layout, PostgresError> {
    let before = layout(connection).await?;
    match before {
        Layout::Ready => {}
        Layout::Foreign => before.required()?,
        Layout::Missing => connection.batch("creating the ledger", DDL).await?,
        Layout::Older => {
            // What the table lacks is added by name; the sequence may be missing as well.
            connection.batch("bringing the ledger up to date", &[DDL, UPGRADES].join(";\n")).await?;
        }
    }
    Ok(before)
}

/// Columns of this version's layout with their types.
const COLUMNS: [(&str, &str); 18] = [
    ("id", "pg_catalog.int8"),
    ("target_schema", "pg_catalog.text"),
    ("target_table", "pg_catalog.text"),
    ("source_uuid", "pg_catalog.uuid"),
    ("usage_day", "pg_catalog.date"),
    ("status", "pg_catalog.text"),
    ("fingerprint", "pg_catalog.bytea"),
    ("row_count", "pg_catalog.int8"),
    ("deleted_row_count", "pg_catalog.int8"),
    ("sums", "pg_catalog.jsonb"),
    ("made_from", "pg_catalog.jsonb"),
    ("run_id", "pg_catalog.uuid"),
    ("engine_version", "pg_catalog.int4"),
    ("started_at", "pg_catalog.timestamptz"),
    ("finished_at", "pg_catalog.timestamptz"),
    ("claimed_by", "pg_catalog.text"),
    ("token", "pg_catalog.int8"),
    ("expires_at", "pg_catalog.timestamptz"),
];

/// A row is `pending` while a claim made it and nothing is written yet. What a written row says describes the rows in the
/// target, so those columns are there together or not at all.
const DDL: &str = "\
CREATE SCHEMA IF NOT EXISTS gristmill;
CREATE SEQUENCE IF NOT EXISTS gristmill.claim_token;
CREATE TABLE IF NOT EXISTS gristmill.day_ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_schema text NOT NULL,
    target_table text NOT NULL,
    source_uuid uuid NOT NULL,
    usage_day date NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'written')),
    fingerprint bytea,
    row_count bigint,
    deleted_row_count bigint,
    sums jsonb,
    made_from jsonb,
    run_id uuid,
    engine_version integer,
    started_at timestamptz,
    finished_at timestamptz,
    claimed_by text,
    token bigint,
    expires_at timestamptz,
    UNIQUE (target_schema, target_table, source_uuid, usage_day),
    CHECK (status <> 'written' OR (fingerprint IS NOT NULL AND row_count IS NOT NULL AND engine_version IS NOT NULL
        AND run_id IS NOT NULL))
);
COMMENT ON TABLE gristmill.day_ledger IS 'One row per target table, source and day: what gristmill wrote there last, and who holds the claim to write it. Sums are in units of 1e-15.'";

/// Columns that came after the first layout, one statement each; all may be run again.
const UPGRADES: &str = "ALTER TABLE gristmill.day_ledger ADD COLUMN IF NOT EXISTS made_from jsonb";
