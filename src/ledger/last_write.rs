//! The ledger of a target → when a run last wrote a day of some sources, and how many rows that run wrote.

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::sql::TableName;

/// The run that wrote last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LastWrite {
    /// When it wrote its last day, by the database's clock: seconds since 1970.
    pub finished_at_seconds: f64,
    /// Rows of the days that it wrote and that no later run wrote again.
    pub row_count: u64,
}

/// Looks for the run that wrote a day of these sources last; `None` if none ever did.
pub async fn last_write(
    connection: &Connection,
    target: &TableName,
    sources: &[Uuid],
) -> Result<Option<LastWrite>, PostgresError> {
    let sql = "SELECT extract(epoch FROM max(finished_at))::double precision, sum(row_count)::bigint \
               FROM gristmill.day_ledger WHERE target_schema = $1 AND target_table = $2 AND source_uuid = ANY ($3) \
               AND status = 'written' GROUP BY run_id ORDER BY max(finished_at) DESC LIMIT 1";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&target.schema, Type::TEXT), (&target.table, Type::TEXT), (&sources, Type::UUID_ARRAY)];
    let rows = connection.query("looking for the last run in the ledger", sql, &parameters).await?;
    Ok(rows.first().map(|row| LastWrite {
        finished_at_seconds: row.get(0),
        row_count: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
    }))
}
