//! Days that were written → rows of a ledger in our own schema, in the transaction of the rows themselves. The columns
//! for claims between several writers are part of its layout; locks that keep two writers of one day apart are here.

mod lock;

use std::collections::BTreeMap;

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::postgres::connection::Connection;
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::sql::TableName;
use crate::time::UsageDay;

pub use lock::{lock_day, lock_like_the_reference};

/// Our own schema; nothing of the reference's is changed by it.
pub const SCHEMA: &str = "gristmill";
/// One row per target table, source and day.
pub const TABLE: &str = "day_ledger";
/// Where the tokens of claims come from.
pub const TOKEN_SEQUENCE: &str = "claim_token";

/// Raised by hand whenever the same input gives other rows, so that days written before are not taken as unchanged.
pub const ENGINE_VERSION: i32 = 1;

/// Which day of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayKey {
    /// The target table.
    pub target: TableName,
    /// The source.
    pub source_uuid: Uuid,
    /// The day.
    pub day: UsageDay,
}

/// A day that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// SHA-256 over everything that reaches the rows.
    pub fingerprint: [u8; 32],
    /// Rows that are there.
    pub row_count: u64,
    /// Rows that went.
    pub deleted_row_count: u64,
    /// Column → sum in units of 1e-15.
    pub sums: Vec<(&'static str, i128)>,
    /// The run that wrote it.
    pub run_id: Uuid,
}

/// What the ledger says about a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// SHA-256 over everything that reached the rows.
    pub fingerprint: Vec<u8>,
    /// Rows that were there at the end of the transaction.
    pub row_count: i64,
    /// Engine that computed them.
    pub engine_version: i32,
    /// The run that wrote them.
    pub run_id: Uuid,
    /// Column → sum in units of 1e-15.
    pub sums: BTreeMap<String, i128>,
}

/// Creates schema and tables unless they are there; returns whether anything was missing.
pub async fn create(connection: &Connection) -> Result<bool, PostgresError> {
    if is_present(connection).await? {
        return Ok(false);
    }
    connection.batch("creating the ledger", DDL).await?;
    Ok(true)
}

/// Whether the ledger's table and sequence exist with every column of this version's layout.
pub async fn is_present(connection: &Connection) -> Result<bool, PostgresError> {
    let sql = "SELECT count(*) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 \
               AND a.attname::text = ANY ($3) AND NOT a.attisdropped";
    let sequence_sql = "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
                        ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'S'";
    let columns: Vec<&str> = COLUMNS.to_vec();
    let action = "looking for the ledger";
    let names: [(&(dyn ToSql + Sync), Type); 3] =
        [(&SCHEMA, Type::TEXT), (&TABLE, Type::TEXT), (&columns, Type::TEXT_ARRAY)];
    let found: i64 = connection.query_one(action, sql, &names).await?.get(0);
    let names: [(&(dyn ToSql + Sync), Type); 2] = [(&SCHEMA, Type::TEXT), (&TOKEN_SEQUENCE, Type::TEXT)];
    let sequences: i64 = connection.query_one(action, sequence_sql, &names).await?.get(0);
    Ok(usize::try_from(found).is_ok_and(|found| found == COLUMNS.len()) && sequences == 1)
}

/// What to do where the ledger is missing.
pub fn missing() -> Finding {
    Finding::shape(
        format!("the ledger {SCHEMA}.{TABLE} does not exist or is of another version"),
        "run `gristmill init-db` once as a role that may create a schema",
    )
}

/// Writes the row of a day, within the caller's transaction. Times are the database's.
pub async fn record(connection: &Connection, key: &DayKey, entry: &Entry) -> Result<(), PostgresError> {
    let sums: serde_json::Map<String, serde_json::Value> =
        entry.sums.iter().map(|(column, sum)| ((*column).to_owned(), sum.to_string().into())).collect();
    let sums = serde_json::Value::Object(sums).to_string();
    let counts = [entry.row_count, entry.deleted_row_count].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let day = key.day.date();
    let fingerprint = entry.fingerprint.as_slice();
    let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
        (&key.target.schema, Type::TEXT),
        (&key.target.table, Type::TEXT),
        (&key.source_uuid, Type::UUID),
        (&day, Type::DATE),
        (&fingerprint, Type::BYTEA),
        (&counts[0], Type::INT8),
        (&counts[1], Type::INT8),
        (&sums, Type::TEXT),
        (&entry.run_id, Type::UUID),
        (&ENGINE_VERSION, Type::INT4),
    ];
    connection.execute(&format!("recording day {} in the ledger", key.day), RECORD_SQL, &parameters).await?;
    Ok(())
}

/// Reads the row of a day that was written; `None` if it never was.
pub async fn read(connection: &Connection, key: &DayKey) -> Result<Option<Recorded>, PostgresError> {
    let sql = "SELECT fingerprint, row_count, engine_version, run_id, sums::text FROM gristmill.day_ledger \
               WHERE target_schema = $1 AND target_table = $2 AND source_uuid = $3 AND usage_day = $4 \
               AND status = 'written'";
    let day = key.day.date();
    let rows = connection
        .query(
            &format!("reading day {} in the ledger", key.day),
            sql,
            &[
                (&key.target.schema, Type::TEXT),
                (&key.target.table, Type::TEXT),
                (&key.source_uuid, Type::UUID),
                (&day, Type::DATE),
            ],
        )
        .await?;
    Ok(rows.first().map(|row| Recorded {
        fingerprint: row.get(0),
        row_count: row.get(1),
        engine_version: row.get(2),
        run_id: row.get(3),
        sums: sums_of(row.get(4)),
    }))
}

/// What `record` wrote; an entry that is no whole number is left out.
fn sums_of(text: Option<&str>) -> BTreeMap<String, i128> {
    let sums: BTreeMap<String, String> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    sums.into_iter().filter_map(|(column, sum)| Some((column, sum.parse().ok()?))).collect()
}

/// Columns of this version's layout.
const COLUMNS: [&str; 17] = [
    "id",
    "target_schema",
    "target_table",
    "source_uuid",
    "usage_day",
    "status",
    "fingerprint",
    "row_count",
    "deleted_row_count",
    "sums",
    "run_id",
    "engine_version",
    "started_at",
    "finished_at",
    "claimed_by",
    "token",
    "expires_at",
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

/// now() is the start of the transaction, clock_timestamp() this moment. A claim on the row is left as it is.
const RECORD_SQL: &str = "\
INSERT INTO gristmill.day_ledger AS ledger (target_schema, target_table, source_uuid, usage_day, status, fingerprint, \
row_count, deleted_row_count, sums, run_id, engine_version, started_at, finished_at) \
VALUES ($1, $2, $3, $4, 'written', $5, $6, $7, $8::text::jsonb, $9, $10, now(), clock_timestamp()) \
ON CONFLICT (target_schema, target_table, source_uuid, usage_day) DO UPDATE SET status = 'written', \
fingerprint = excluded.fingerprint, row_count = excluded.row_count, \
deleted_row_count = excluded.deleted_row_count, sums = excluded.sums, run_id = excluded.run_id, \
engine_version = excluded.engine_version, started_at = excluded.started_at, finished_at = excluded.finished_at";
