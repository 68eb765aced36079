//! Days that were written → rows of a ledger in our own schema, in the transaction of the rows themselves. The columns
//! for claims between several writers are part of its layout; locks that keep two writers of one day apart are here.

mod claims;
mod last_write;
mod layout;
mod lock;
mod made_from;

use std::collections::BTreeMap;

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::sql::TableName;
use crate::time::UsageDay;

pub use claims::{
    Basis, Claim, Claimant, Standing, Verdict, claim, expect_days, lock_day_and_look, look, release, renew,
};
pub use last_write::{LastWrite, last_write};
pub use layout::{Layout, create, layout};
pub use lock::{lock_day, lock_like_the_reference, take_writer_slot};
pub use made_from::{Extent, MadeFrom, NotedRoles};

/// Our own schema; nothing of the reference's is changed by it.
pub const SCHEMA: &str = "gristmill";
/// One row per target table, source and day.
pub const TABLE: &str = "day_ledger";
/// Where the tokens of claims come from.
pub const TOKEN_SEQUENCE: &str = "claim_token";

/// Raised by hand whenever the same input gives other rows, so that days written before are not taken as unchanged.
pub const ENGINE_VERSION: i32 = 2;

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
    /// What the fingerprint is over, by name.
    pub made_from: MadeFrom,
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
    /// What the fingerprint is over, by name; `None` for a row of an earlier version.
    pub made_from: Option<MadeFrom>,
}

/// Writes the row of a day, within the caller's transaction. Times are the database's.
pub async fn record(connection: &Connection, key: &DayKey, entry: &Entry) -> Result<(), PostgresError> {
    let sums: serde_json::Map<String, serde_json::Value> =
        entry.sums.iter().map(|(column, sum)| ((*column).to_owned(), sum.to_string().into())).collect();
    let sums = serde_json::Value::Object(sums).to_string();
    let counts = [entry.row_count, entry.deleted_row_count].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let day = key.day.date();
    let fingerprint = entry.fingerprint.as_slice();
    let made_from = entry.made_from.to_json();
    let parameters: [(&(dyn ToSql + Sync), Type); 11] = [
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
        (&made_from, Type::TEXT),
    ];
    let action = format!("recording day {} in the ledger", key.day);
    match connection.execute(&action, RECORD_SQL, &parameters).await? {
        1 => Ok(()),
        count => Err(PostgresError::RowsAltered {
            day: key.day,
            table: format!("{SCHEMA}.{TABLE}"),
            difference: format!("day {}: {count} rows of the ledger were written instead of 1", key.day),
            causes: "a trigger or a rule".to_owned(),
        }),
    }
}

/// Reads the row of a day that was written; `None` if it never was.
pub async fn read(connection: &Connection, key: &DayKey) -> Result<Option<Recorded>, PostgresError> {
    let mut days = read_days(connection, &key.target, key.source_uuid, [key.day, key.day]).await?;
    Ok(days.remove(&key.day))
}

/// Reads the rows of days that were written, from a first to a last day, in one query. A day that was only claimed so far is not
/// among them.
pub async fn read_days(
    connection: &Connection,
    target: &TableName,
    source_uuid: Uuid,
    [first, last]: [UsageDay; 2],
) -> Result<BTreeMap<UsageDay, Recorded>, PostgresError> {
    let sql = "SELECT usage_day, fingerprint, row_count, engine_version, run_id, sums::text, made_from::text \
               FROM gristmill.day_ledger WHERE target_schema = $1 AND target_table = $2 AND source_uuid = $3 \
               AND usage_day BETWEEN $4 AND $5 AND status = 'written'";
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&target.schema, Type::TEXT),
        (&target.table, Type::TEXT),
        (&source_uuid, Type::UUID),
        (&first.date(), Type::DATE),
        (&last.date(), Type::DATE),
    ];
    let rows = connection.query(&format!("reading {first} to {last} in the ledger"), sql, &parameters).await?;
    let days = rows.iter().map(|row| {
        let recorded = Recorded {
            fingerprint: row.get(1),
            row_count: row.get(2),
            engine_version: row.get(3),
            run_id: row.get(4),
            sums: sums_of(row.get(5)),
            made_from: row.get::<_, Option<&str>>(6).and_then(MadeFrom::from_json),
        };
        (UsageDay::from_date(row.get(0)), recorded)
    });
    Ok(days.collect())
}

/// What `record` wrote; an entry that is no whole number is left out.
fn sums_of(text: Option<&str>) -> BTreeMap<String, i128> {
    let sums: BTreeMap<String, String> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    sums.into_iter().filter_map(|(column, sum)| Some((column, sum.parse().ok()?))).collect()
}

/// now() is the start of the transaction, clock_timestamp() this moment. A day that is written is nobody's any more.
const RECORD_SQL: &str = "\
INSERT INTO gristmill.day_ledger AS ledger (target_schema, target_table, source_uuid, usage_day, status, fingerprint, \
row_count, deleted_row_count, sums, run_id, engine_version, made_from, started_at, finished_at) \
VALUES ($1, $2, $3, $4, 'written', $5, $6, $7, $8::text::jsonb, $9, $10, $11::text::jsonb, now(), clock_timestamp()) \
ON CONFLICT (target_schema, target_table, source_uuid, usage_day) DO UPDATE SET status = 'written', \
fingerprint = excluded.fingerprint, row_count = excluded.row_count, \
deleted_row_count = excluded.deleted_row_count, sums = excluded.sums, run_id = excluded.run_id, \
engine_version = excluded.engine_version, made_from = excluded.made_from, started_at = excluded.started_at, finished_at = excluded.finished_at, \
claimed_by = NULL, token = NULL, expires_at = NULL";
