//! Months that will be written → partitions that exist for them, made once per run.
//!
//! Where the reference's `partitioned_tables` exists, a row there makes its trigger run the DDL; on a table of our own the
//! partition is created directly; an unpartitioned table needs nothing. Rows are never moved.

use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use tokio_postgres::types::{ToSql, Type};

use crate::postgres::connection::Connection;
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::shape::{Relation, TargetShape};
use crate::postgres::sql::{IDENTIFIER_BYTES, TableName, quote};
use crate::schema::target::OCP_DAILY_SUMMARY;
use crate::time::BillingMonth;

/// The reference's table of partitions.
pub const TRACKING_TABLE: &str = "partitioned_tables";

/// Creates what is missing, in one transaction; returns the names of the new partitions.
/// Errors: `NotReady` if something stands in the way of one, or the partitioning is of another sort.
pub async fn ensure_months(
    connection: &Connection,
    shape: &TargetShape,
    months: &[BillingMonth],
) -> Result<Vec<String>, PostgresError> {
    if shape.relation != Relation::Partitioned {
        return Ok(Vec::new());
    }
    // Most runs find everything in place and take no lock.
    if missing_months(connection, &shape.name, months).await?.is_empty() {
        return Ok(Vec::new());
    }
    let action = format!("creating partitions of {}", shape.name);
    connection.begin(&action).await?;
    lock_ddl(connection, &shape.name).await?;
    // Another run may have created them while we waited for the lock.
    let missing = missing_months(connection, &shape.name, months).await?;
    let is_tracked = is_tracked(connection, &shape.name).await?;
    let mut created = Vec::new();
    for month in missing {
        let obstacles = obstacles(connection, &shape.name, month, is_tracked).await?;
        if !obstacles.is_empty() {
            return Err(PostgresError::NotReady(obstacles));
        }
        let partition = partition_name(&shape.name, month)?;
        if is_tracked {
            track_partition(connection, &shape.name, &partition, month).await?;
        } else {
            create_partition(connection, &shape.name, &partition, month).await?;
        }
        created.push(partition);
    }
    let still_missing = missing_months(connection, &shape.name, months).await?;
    if let Some(month) = still_missing.first() {
        return Err(PostgresError::NotReady(vec![not_attached(&shape.name, *month, is_tracked)]));
    }
    connection.commit(&action).await?;
    Ok(created)
}

/// Whether the reference's table of partitions makes those of this table.
pub async fn is_tracked(connection: &Connection, table: &TableName) -> Result<bool, PostgresError> {
    table_exists(connection, &TableName::new(&table.schema, TRACKING_TABLE)).await
}

/// The months that no partition of the table covers, in order; the default partition does not count.
/// Errors: `NotReady` if the table is not partitioned by its day, or partitions cover some days of a month only.
pub async fn missing_months(
    connection: &Connection,
    table: &TableName,
    months: &[BillingMonth],
) -> Result<Vec<BillingMonth>, PostgresError> {
    let action = format!("reading the partitions of {table}");
    let day_column = OCP_DAILY_SUMMARY.day_column;
    let name: [(&(dyn ToSql + Sync), Type); 2] = [(&table.schema, Type::TEXT), (&table.table, Type::TEXT)];
    let [schema, relation] = name.clone();
    for row in connection.query(&action, KEY_SQL, &[schema, relation, (&day_column, Type::TEXT)]).await? {
        let (key, is_by_day): (&str, bool) = (row.get(0), row.get(1));
        if !is_by_day {
            return Err(PostgresError::NotReady(vec![Finding::shape(
                format!("table {table} is partitioned by {key}, not by RANGE ({day_column})"),
                "partition it by month over the day column, or use an unpartitioned table",
            )]));
        }
    }
    let mut missing = Vec::new();
    for month in months {
        let (first, next) = bounds(*month);
        let [schema, relation] = name.clone();
        let parameters = [schema, relation, (&first, Type::DATE), (&next, Type::DATE)];
        let days = connection.query_one(&action, COVERED_SQL, &parameters).await?;
        match (days.get::<_, i64>(0), days.get::<_, i64>(1)) {
            (0, _) => missing.push(*month),
            (covered, all) if covered == all => {}
            (covered, all) => {
                return Err(PostgresError::NotReady(vec![Finding::shape(
                    format!("the partitions of {table} cover {covered} of the {all} days of {month}"),
                    "add partitions for its other days",
                )]));
            }
        }
    }
    missing.sort();
    missing.dedup();
    Ok(missing)
}

/// What keeps a run from adding the partition of a month, privileges aside.
pub async fn obstacles(
    connection: &Connection,
    table: &TableName,
    month: BillingMonth,
    is_tracked: bool,
) -> Result<Vec<Finding>, PostgresError> {
    let partition = TableName::new(&table.schema, partition_name(table, month)?);
    let action = format!("looking for what keeps partition {partition} from being created");
    let names: [(&(dyn ToSql + Sync), Type); 2] = [(&partition.schema, Type::TEXT), (&partition.table, Type::TEXT)];
    let mut findings = Vec::new();
    if connection.query_one(&action, NAME_TAKEN_SQL, &names).await?.get(0) {
        findings.push(Finding::shape(
            format!("{partition} exists, but is no partition of {table}"),
            "drop or rename it, or attach it to the table",
        ));
    } else if is_tracked {
        findings.extend(untracked(connection, table, &partition, &action).await?);
    }
    findings.extend(rows_in_default(connection, table, month).await?);
    Ok(findings)
}

/// Why a row in the reference's table of partitions would not make this one.
async fn untracked(
    connection: &Connection,
    table: &TableName,
    partition: &TableName,
    action: &str,
) -> Result<Option<Finding>, PostgresError> {
    let tracking = TableName::new(&table.schema, TRACKING_TABLE);
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE schema_name = $1 AND table_name = $2)", tracking.quoted());
    let names = [(&partition.schema as &(dyn ToSql + Sync), Type::TEXT), (&partition.table, Type::TEXT)];
    let is_noted: bool = connection.query_one(action, &sql, &names).await?.get(0);
    if is_noted {
        return Ok(Some(Finding::shape(
            format!("{tracking} has a row for {partition}, which is no partition of {table}"),
            "look at that row: it may be inactive or detached",
        )));
    }
    let triggers = triggers(connection, &tracking).await?;
    Ok(triggers.is_empty().then(|| {
        Finding::shape(
            format!("{tracking} has no trigger that would create partition {partition}"),
            "enable the reference's trigger there, or create the partition",
        )
    }))
}

/// Whether the role itself needs the rights to make partitions, because no trigger does it with its owner's.
pub async fn needs_own_rights(connection: &Connection, table: &TableName) -> Result<bool, PostgresError> {
    let triggers = triggers(connection, &TableName::new(&table.schema, TRACKING_TABLE)).await?;
    Ok(!triggers.contains(&true))
}

/// Triggers that act on new rows of a table: whether each has the rights of its owner.
async fn triggers(connection: &Connection, table: &TableName) -> Result<Vec<bool>, PostgresError> {
    let action = format!("looking at the triggers of {table}");
    let names: [(&(dyn ToSql + Sync), Type); 2] = [(&table.schema, Type::TEXT), (&table.table, Type::TEXT)];
    let rows = connection.query(&action, TRIGGER_SQL, &names).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The finding about a default partition that already holds rows of a month, if it does.
async fn rows_in_default(
    connection: &Connection,
    table: &TableName,
    month: BillingMonth,
) -> Result<Option<Finding>, PostgresError> {
    let action = format!("looking for rows of {month} in the default partition of {table}");
    let day = quote(OCP_DAILY_SUMMARY.day_column);
    // No partition covers the month, so rows of it can lie nowhere but in the default partition.
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {day} >= $1 AND {day} < $2)", table.quoted());
    let (first, next) = bounds(month);
    let found = connection.query_one(&action, &sql, &[(&first, Type::DATE), (&next, Type::DATE)]).await?;
    let holds_rows: bool = found.get(0);
    Ok(holds_rows.then(|| {
        Finding::shape(
            format!("the default partition of {table} already holds rows of {month}, so no partition can be added"),
            format!(
                "in one transaction: detach the default partition, create the partition for {month}, move the rows of \
                 that month into it, attach the default partition again"
            ),
        )
    }))
}

/// Whether a table or partitioned table exists.
pub(crate) async fn table_exists(connection: &Connection, name: &TableName) -> Result<bool, PostgresError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
               ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'f'))";
    let action = format!("looking for table {name}");
    let row = connection.query_one(&action, sql, &[(&name.schema, Type::TEXT), (&name.table, Type::TEXT)]).await?;
    Ok(row.get(0))
}

/// `table_2025_10`. Errors: a name that PostgreSQL would cut.
pub(crate) fn partition_name(table: &TableName, month: BillingMonth) -> Result<String, PostgresError> {
    let name = format!("{}_{:04}_{:02}", table.table, month.year, month.month);
    if name.len() > IDENTIFIER_BYTES {
        return Err(PostgresError::NotReady(vec![Finding::shape(
            format!("the partition name `{name}` is longer than {IDENTIFIER_BYTES} bytes"),
            "choose a shorter target.postgres.table",
        )]));
    }
    Ok(name)
}

/// Creates a monthly partition unless it exists.
async fn create_partition(
    connection: &Connection,
    table: &TableName,
    partition: &str,
    month: BillingMonth,
) -> Result<(), PostgresError> {
    let (first, next) = bounds(month);
    let partition = TableName::new(&table.schema, partition);
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ('{first}') TO ('{next}')",
        partition.quoted(),
        table.quoted()
    );
    connection.batch(&format!("creating partition {partition}"), &sql).await
}

/// One creator of partitions per table at a time, until the end of the transaction.
async fn lock_ddl(connection: &Connection, table: &TableName) -> Result<(), PostgresError> {
    let mut hash = Sha256::new();
    hash.update(b"gristmill partitions\0");
    hash.update(table.quoted().as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let key = i64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    let action = format!("locking the partitions of {table}");
    connection.query(&action, "SELECT pg_catalog.pg_advisory_xact_lock($1)", &[(&key, Type::INT8)]).await?;
    Ok(())
}

/// Inserts the row whose trigger creates and attaches the partition.
async fn track_partition(
    connection: &Connection,
    table: &TableName,
    partition: &str,
    month: BillingMonth,
) -> Result<(), PostgresError> {
    let tracking = TableName::new(&table.schema, TRACKING_TABLE);
    let sql = format!(
        "INSERT INTO {} (schema_name, table_name, partition_of_table_name, partition_type, partition_col, \
         partition_parameters, active) VALUES ($1, $2, $3, 'range', $4, $5::text::jsonb, true) ON CONFLICT DO NOTHING",
        tracking.quoted()
    );
    let (first, next) = bounds(month);
    let parameters = format!("{{\"default\": false, \"from\": \"{first}\", \"to\": \"{next}\"}}");
    let action = format!("adding partition {partition} through {tracking}");
    connection
        .execute(
            &action,
            &sql,
            &[
                (&table.schema, Type::TEXT),
                (&partition, Type::TEXT),
                (&table.table, Type::TEXT),
                (&OCP_DAILY_SUMMARY.day_column, Type::TEXT),
                (&parameters, Type::TEXT),
            ],
        )
        .await?;
    Ok(())
}

fn not_attached(table: &TableName, month: BillingMonth, is_tracked: bool) -> Finding {
    let fix = if is_tracked {
        format!("look at the row of this month in {}.{TRACKING_TABLE}: it may be inactive or detached", table.schema)
    } else {
        "drop or rename the table that has the partition's name, or attach it".to_owned()
    };
    Finding::shape(format!("no partition of {table} covers {month} after creating it"), fix)
}

/// First day of the month and of the next one.
fn bounds(month: BillingMonth) -> (NaiveDate, NaiveDate) {
    (month.first_day().date(), month.next().first_day().date())
}

/// The partition key of the table, for people, and whether it is the day: that is read from the catalog's numbers, since settings of
/// the session reach its text.
const KEY_SQL: &str = "SELECT pg_catalog.pg_get_partkeydef(c.oid), \
     coalesce(p.partstrat = 'r' AND p.partnatts = 1 AND a.attname = $3, false) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid \
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] AND a.attnum > 0 \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'p'";

/// How many of the days from $3 to before $4 partitions cover, and how many there are. The bounds are text in the transaction's date
/// style, so the server reads back what it wrote. The default partition has no such bound and never matches.
const COVERED_SQL: &str = "SELECT count(*) FILTER (WHERE EXISTS (SELECT 1 FROM (SELECT pg_catalog.regexp_match( \
     pg_catalog.pg_get_expr(p.relpartbound, p.oid), '^FOR VALUES FROM [(](.*)[)] TO [(](.*)[)]$') AS ends \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid JOIN pg_catalog.pg_class p ON p.oid = i.inhrelid \
     WHERE n.nspname = $1 AND c.relname = $2) AS bound WHERE ends IS NOT NULL \
     AND CASE ends[1] WHEN 'MINVALUE' THEN '-infinity'::date ELSE btrim(ends[1], '''')::date END <= day \
     AND CASE ends[2] WHEN 'MAXVALUE' THEN 'infinity'::date ELSE btrim(ends[2], '''')::date END > day)), count(*) \
     FROM (SELECT $3::date + number AS day FROM pg_catalog.generate_series(0, $4::date - $3::date - 1) AS number) AS days";

/// Whether anything has the name of a partition.
const NAME_TAKEN_SQL: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)";

/// Triggers that act on new rows of a table, and whether each acts with the rights of its owner. 4 is the bit of INSERT.
const TRIGGER_SQL: &str = "SELECT f.prosecdef FROM pg_catalog.pg_trigger t \
     JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid WHERE n.nspname = $1 AND c.relname = $2 \
     AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgtype & 4 <> 0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        let month = BillingMonth { year: 2025, month: 3 };
        assert_eq!(partition_name(&TableName::new("s", "t"), month).unwrap(), "t_2025_03");
        assert!(partition_name(&TableName::new("s", "t".repeat(60)), month).is_err());
    }
}
