//! The reference's small tables in PostgreSQL → enabled keys, cost categories, node roles and the report period.

use tokio_postgres::types::Type;

use crate::config::Source;
use crate::postgres::connection::Connection;
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::shape::{Relation, relation};
use crate::postgres::sql::TableName;
use crate::reference::tables::{COST_CATEGORY_NAMESPACES, ENABLED_KEYS, NODES, REPORT_PERIODS};
use crate::reference::{Needed, ReferenceError};
use crate::rollups::facts::{CostCategory, NodeRole};
use crate::time::BillingMonth;

/// Keys that are enabled for OpenShift; order undefined.
pub(super) async fn enabled_tag_keys(connection: &Connection, schema: &str) -> Result<Vec<String>, ReferenceError> {
    let table = existing(connection, schema, ENABLED_KEYS).await?;
    let sql =
        format!("SELECT key::text FROM {} WHERE enabled AND provider_type = 'OCP' AND key IS NOT NULL", table.quoted());
    let rows = connection.query(&format!("reading the enabled keys from {table}"), &sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Namespace patterns with their category; order undefined.
pub(super) async fn cost_categories(
    connection: &Connection,
    schema: &str,
) -> Result<Vec<CostCategory>, ReferenceError> {
    let table = existing(connection, schema, COST_CATEGORY_NAMESPACES).await?;
    let sql = format!(
        "SELECT namespace::text, cost_category_id::integer FROM {} \
         WHERE namespace IS NOT NULL AND cost_category_id IS NOT NULL",
        table.quoted()
    );
    let rows = connection.query(&format!("reading the cost categories from {table}"), &sql, &[]).await?;
    Ok(rows.iter().map(|row| CostCategory { namespace_pattern: row.get(0), cost_category_id: row.get(1) }).collect())
}

/// The greatest role (in byte order) of each node and resource id of the tenant; order undefined.
pub(super) async fn node_roles(connection: &Connection, schema: &str) -> Result<Vec<NodeRole>, ReferenceError> {
    let table = existing(connection, schema, NODES).await?;
    let sql = format!(
        "SELECT node::text COLLATE \"C\", resource_id::text COLLATE \"C\", max(node_role::text COLLATE \"C\") FROM {} \
         WHERE node IS NOT NULL GROUP BY 1, 2",
        table.quoted()
    );
    let rows = connection.query(&format!("reading the node roles from {table}"), &sql, &[]).await?;
    Ok(rows.iter().map(|row| NodeRole { node: row.get(0), resource_id: row.get(1), role: row.get(2) }).collect())
}

/// The id of the source's month; `None` if the database keeps no report periods.
/// Errors: `ReportPeriodMissing` if it keeps them, but not this one.
pub(super) async fn report_period_id(
    connection: &Connection,
    schema: &str,
    source: &Source,
    month: BillingMonth,
) -> Result<Option<i32>, ReferenceError> {
    let needed = Needed { table: TableName::new(schema, REPORT_PERIODS), is_required: false };
    let there = look(connection, &needed).await?.map_err(|finding| PostgresError::NotReady(vec![finding]))?;
    let Some(table) = there else { return Ok(None) };
    let sql = format!(
        "SELECT id::integer FROM {} WHERE cluster_id = $1 AND report_period_start = $2::timestamp AT TIME ZONE 'UTC' \
         AND provider_id = $3 AND id IS NOT NULL LIMIT 1",
        table.quoted()
    );
    let first = month.first_day().date().and_time(chrono::NaiveTime::MIN);
    let rows = connection
        .query(
            &format!("looking up the report period in {table}"),
            &sql,
            &[(&source.cluster_id, Type::TEXT), (&first, Type::TIMESTAMP), (&source.uuid, Type::UUID)],
        )
        .await?;
    match rows.first() {
        Some(row) => Ok(Some(row.get(0))),
        None => Err(ReferenceError::ReportPeriodMissing {
            table: table.to_string(),
            cluster_id: source.cluster_id.clone(),
            month,
            source_uuid: source.uuid,
        }),
    }
}

/// The table, or an error that says how to do without it.
async fn existing(connection: &Connection, schema: &str, name: &str) -> Result<TableName, PostgresError> {
    let needed = Needed { table: TableName::new(schema, name), is_required: true };
    let there = look(connection, &needed).await?.map_err(|finding| PostgresError::NotReady(vec![finding]))?;
    Ok(there.unwrap_or(needed.table))
}

/// The table if it is there; a finding if it should be, or is none: a view or a foreign table gives what somebody chose, and a row
/// that it leaves out looks like one that does not exist.
pub(super) async fn look(
    connection: &Connection,
    needed: &Needed,
) -> Result<Result<Option<TableName>, Finding>, PostgresError> {
    let table = &needed.table;
    Ok(match relation(connection, table).await? {
        Some(Relation::Plain | Relation::Partitioned) => Ok(Some(table.clone())),
        Some(Relation::Unusable) => Err(Finding::shape(
            format!("{table} is not a table, but a view or the like, which may leave rows out"),
            "let reference.schema name the schema of the tables themselves; or set `reference.from: inline` and \
             source.report_period_id",
        )),
        None if needed.is_required => Err(Finding::shape(
            format!("table {table} does not exist"),
            "check reference.schema; or set `reference.from: inline`; `gristmill init-db` creates it on an empty database",
        )),
        None => Ok(None),
    })
}
