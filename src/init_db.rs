//! A database → one that gristmill can write to.
//!
//! Empty: schema, summary table with monthly partitions, the small tables it is read together with, and the ledger. One that holds
//! the reference's own tables: the ledger only; nothing of the reference's is touched. Running it again adds what is missing.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::config::{Postgres, Source};
use crate::error::Failure;
use crate::ledger::{self, Layout};
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::PostgresError;
use crate::postgres::partitions::{self, TRACKING_TABLE, table_exists};
use crate::postgres::retry::{retrying, retrying_unless_asked};
use crate::postgres::shape::{TargetShape, sql_type};
use crate::postgres::sql::{TableName, literal, quote};
use crate::reference::tables;
use crate::runtime::stopping::Stopping;
use crate::schema::target::OCP_DAILY_SUMMARY;
use crate::time::BillingMonth;

/// What all of it is called in messages.
const ACTION: &str = "preparing the database";

/// The comment by which a table of our own is told from the reference's.
const OWN_TABLE_COMMENT: &str = "created by gristmill init-db";

/// What is indexed, as on the reference's table.
const INDEXES: [&str; 11] = [
    "(report_period_id)",
    "(cost_category_id)",
    "(usage_start)",
    "(namespace varchar_pattern_ops)",
    "(node varchar_pattern_ops)",
    "(data_source)",
    "(monthly_cost_type)",
    "(cost_model_rate_type)",
    "USING gin (all_labels)",
    "USING gin (pod_labels)",
    "USING gin (volume_labels)",
];

/// What is to be there afterwards.
#[derive(Debug, Clone)]
pub struct InitOptions<'a> {
    /// Schema of the small tables.
    pub reference_schema: &'a str,
    /// Months that get a partition.
    pub months: &'a [BillingMonth],
    /// Sources that get a report period for each of the months, unless the id is configured.
    pub sources: &'a [Source],
}

/// Makes the database ready; returns one line per thing that was done, to be printed. A server that is just starting, or a standby in
/// its place, is tried again: what was done before is there then.
pub async fn init_db(config: &Postgres, options: &InitOptions<'_>, run_id: Uuid) -> Result<Vec<String>, PostgresError> {
    let connector = Connector::new(config, run_id)?;
    retrying(connector.retry_policy(), ACTION, || async {
        let connection = connector.connect().await?;
        make_ready(&connection, config, options).await
    })
    .await
}

/// The same unless it is told to stop. Then the server is told as well: otherwise the statement under way would go on, and
/// hold its locks against the next one.
pub async fn init_db_until(
    config: &Postgres,
    options: &InitOptions<'_>,
    run_id: Uuid,
    stopping: &Stopping,
) -> Result<Vec<String>, Failure> {
    let connector = Connector::new(config, run_id)?;
    let attempt = || async {
        let connection = match stopping.unless_asked(async { Ok(connector.connect().await) }).await {
            Ok(connection) => connection?,
            Err(stopped) => return Ok(Err(stopped)),
        };
        let made = stopping.unless_asked(async { Ok(make_ready(&connection, config, options).await) }).await;
        if stopping.told().is_some() {
            connection.cancel().await;
        }
        match made {
            Ok(made) => made.map(Ok),
            Err(stopped) => Ok(Err(stopped)),
        }
    };
    let done = retrying_unless_asked(connector.retry_policy(), stopping, ACTION, attempt).await;
    match (done, stopping.told()) {
        // It was told between two attempts.
        (Err(_), Some(stopped)) => Err(stopped),
        (done, _) => done?,
    }
}

async fn make_ready(
    connection: &Connection,
    config: &Postgres,
    options: &InitOptions<'_>,
) -> Result<Vec<String>, PostgresError> {
    let target = TableName::new(&config.schema, &config.table);
    let mut done = Vec::new();
    connection.begin(ACTION).await?;
    // Two of these at once would both find nothing and then collide.
    let key = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('gristmill init-db'))";
    connection.query("waiting for another init-db", key, &[]).await?;
    if is_foreign(connection, &target).await? {
        done.push(format!(
            "schema {}: holds tables of another program; nothing is added or changed there",
            config.schema
        ));
    } else {
        create_target(connection, &target, &mut done).await?;
        create_reference_tables(connection, options, &mut done).await?;
    }
    let what = match ledger::create(connection).await? {
        Layout::Missing => "created with the ledger",
        Layout::Older | Layout::Foreign => "the ledger was brought up to date; its rows were kept",
        Layout::Ready => "the ledger is there already",
    };
    done.push(format!("schema {}: {what}", ledger::SCHEMA));
    let foreign = is_foreign(connection, &target).await?;
    connection.commit(ACTION).await?;
    if !foreign {
        let shape = TargetShape::read(connection, &target).await?;
        let created = partitions::ensure_months(connection, &shape, options.months).await?;
        done.extend(created.into_iter().map(|partition| format!("partition {}.{partition}: created", config.schema)));
    }
    Ok(done)
}

/// Whether the schema belongs to the reference: its table of partitions, or a summary table without our comment.
async fn is_foreign(connection: &Connection, target: &TableName) -> Result<bool, PostgresError> {
    let tracking = TableName::new(&target.schema, TRACKING_TABLE);
    if table_exists(connection, &tracking).await? {
        return Ok(true);
    }
    let sql = "SELECT coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    let action = format!("looking for table {target}");
    let rows = connection.query(&action, sql, &[(&target.schema, Type::TEXT), (&target.table, Type::TEXT)]).await?;
    Ok(rows.first().is_some_and(|row| row.get::<_, &str>(0) != OWN_TABLE_COMMENT))
}

async fn create_target(
    connection: &Connection,
    target: &TableName,
    done: &mut Vec<String>,
) -> Result<(), PostgresError> {
    create_schema(connection, &target.schema, done).await?;
    if table_exists(connection, target).await? {
        done.push(format!("table {target}: is there already"));
        return Ok(());
    }
    let columns: Vec<String> = OCP_DAILY_SUMMARY
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            format!("{} {}{not_null}", quote(column.name), sql_type(column.target_type))
        })
        .collect();
    let default = TableName::new(&target.schema, format!("{}_default", target.table));
    let mut statements = vec![
        format!(
            "CREATE TABLE {} ({}, PRIMARY KEY ({}, \"uuid\")) PARTITION BY RANGE ({})",
            target.quoted(),
            columns.join(", "),
            quote(OCP_DAILY_SUMMARY.day_column),
            quote(OCP_DAILY_SUMMARY.day_column)
        ),
        format!("COMMENT ON TABLE {} IS {}", target.quoted(), literal(OWN_TABLE_COMMENT)),
        format!("CREATE TABLE {} PARTITION OF {} DEFAULT", default.quoted(), target.quoted()),
    ];
    // PostgreSQL chooses the names, so they fit whatever the table is called.
    statements.extend(INDEXES.iter().map(|indexed| format!("CREATE INDEX ON {} {indexed}", target.quoted())));
    connection.batch(&format!("creating table {target}"), &statements.join("; ")).await?;
    done.push(format!("table {target}: created, partitioned by month, with {} indexes", INDEXES.len()));
    Ok(())
}

async fn create_reference_tables(
    connection: &Connection,
    options: &InitOptions<'_>,
    done: &mut Vec<String>,
) -> Result<(), PostgresError> {
    let schema = options.reference_schema;
    create_schema(connection, schema, done).await?;
    for table in tables::TABLES {
        let name = TableName::new(schema, table.name);
        if table_exists(connection, &name).await? {
            done.push(format!("table {name}: is there already"));
            continue;
        }
        let sql = format!("CREATE TABLE {} ({})", name.quoted(), table.definition);
        connection.batch(&format!("creating table {name}"), &sql).await?;
        done.push(format!("table {name}: created"));
    }
    tables::insert_system_defaults(connection, schema).await?;
    for source in options.sources.iter().filter(|source| source.report_period_id.is_none()) {
        for month in options.months {
            if tables::insert_report_period(connection, schema, source, *month).await? {
                done.push(format!("report period {month} of cluster {}: added", source.cluster_id));
            }
        }
    }
    Ok(())
}

async fn create_schema(connection: &Connection, schema: &str, done: &mut Vec<String>) -> Result<(), PostgresError> {
    let action = format!("creating schema {schema}");
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
    let row = connection.query_one(&action, sql, &[(&schema, Type::TEXT)]).await?;
    if row.get::<_, bool>(0) {
        return Ok(());
    }
    connection.batch(&action, &format!("CREATE SCHEMA {}", quote(schema))).await?;
    done.push(format!("schema {schema}: created"));
    Ok(())
}
