//! A table → the triggers and rules that act on rows as they are written or deleted. None of them is an error by itself; where the
//! rows are not those that were sent, they are named.

use tokio_postgres::types::{ToSql, Type};

use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::sql::TableName;

/// Everything that acts on new or deleted rows of a table or of one of its partitions, as `trigger x on y`, sorted.
pub async fn actors(connection: &Connection, table: &TableName) -> Result<Vec<String>, PostgresError> {
    read(connection, table, ACTORS_SQL).await
}

/// The triggers among them that see each row before it is stored or deleted, and may put another or none in its place.
pub async fn actors_before_rows(connection: &Connection, table: &TableName) -> Result<Vec<String>, PostgresError> {
    let sql = format!("SELECT named FROM ({ACTORS_SQL}) AS actors WHERE is_before_row");
    read(connection, table, &sql).await
}

async fn read(connection: &Connection, table: &TableName, sql: &str) -> Result<Vec<String>, PostgresError> {
    let action = format!("looking at the triggers and rules of {table}");
    let names: [(&(dyn ToSql + Sync), Type); 2] = [(&table.schema, Type::TEXT), (&table.table, Type::TEXT)];
    let rows = connection.query(&action, sql, &names).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Bits of a trigger's type: 1 each row, 2 before, 4 INSERT, 8 DELETE. Events of a rule: 3 INSERT, 4 DELETE. What a partition has from its
/// table is named once; servers before 13 do not say whose it is.
const ACTORS_SQL: &str = "WITH named AS (SELECT c.oid, n.nspname || '.' || c.relname AS name \
     FROM pg_catalog.pg_class root JOIN pg_catalog.pg_namespace rn ON rn.oid = root.relnamespace \
     CROSS JOIN LATERAL (SELECT root.oid UNION SELECT relid FROM pg_catalog.pg_partition_tree(root.oid)) AS tree (id) \
     JOIN pg_catalog.pg_class c ON c.oid = tree.id JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE rn.nspname = $1 AND root.relname = $2) \
     SELECT 'trigger ' || t.tgname || ' on ' || named.name AS named, t.tgtype & 3 = 3 AS is_before_row \
     FROM named JOIN pg_catalog.pg_trigger t ON t.tgrelid = named.oid \
     WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 12 <> 0 \
     AND coalesce(pg_catalog.to_jsonb(t) ->> 'tgparentid', '0') = '0' \
     UNION ALL SELECT 'rule ' || r.rulename || ' on ' || named.name, false \
     FROM named JOIN pg_catalog.pg_rewrite r ON r.ev_class = named.oid WHERE r.ev_type IN ('3', '4') ORDER BY 1";
