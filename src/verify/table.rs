//! A table of PostgreSQL → the rows of a day, all in text, each day from one state of the database.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::delimited::{NullStyle, Record};
use super::error::VerifyError;
use super::rows::{Rows, Texts};
use super::source::{Coverage, DAYS_AROUND, Fill, RowSource, bad_value};
use crate::config::{Postgres, Source};
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::PostgresError;
use crate::postgres::reading::Readable;
use crate::postgres::retry::retrying;
use crate::postgres::shape::{TargetShape, holds, sql_type};
use crate::postgres::sql::TableName;
use crate::schema::target::{OCP_DAILY_SUMMARY, TargetColumn, Writer};
use crate::time::{UsageDay, Window};

/// Which side of a comparison a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The table under test: all columns of the contract must be there, those that others fill as well.
    Target,
    /// What it is compared with: only the columns that are compared.
    Other,
    /// The same in a database with a configuration of its own. Nothing is ever written there, so it may be a standby.
    Elsewhere,
}

/// A table with the rollup's rows.
pub struct TableSource {
    side: Side,
    place: String,
    /// Server, database and relation.
    origin: String,
    connector: Connector,
    shape: Arc<TargetShape>,
    readable: Readable,
    windows: Vec<Window>,
}

impl TableSource {
    /// Reads the shape of the table.
    /// Errors: no connection, no such table.
    pub async fn open(
        side: Side,
        postgres: &Postgres,
        table: TableName,
        source: &Source,
        windows: &[Window],
    ) -> Result<Self, VerifyError> {
        let connector = Connector::new(postgres, Uuid::new_v4())?;
        let connector = if side == Side::Elsewhere { connector.taking_standbys() } else { connector };
        let found = retrying(connector.retry_policy(), "reading the table's columns", || async {
            let connection = connector.connect().await?;
            let Some(shape) = TargetShape::read_if_there(&connection, &table).await? else { return Ok(None) };
            let names: [(&(dyn ToSql + Sync), Type); 2] = [(&table.schema, Type::TEXT), (&table.table, Type::TEXT)];
            let origin = connection.query_one("identifying the table", ORIGIN_SQL, &names).await?.get(0);
            Ok::<_, PostgresError>(Some((shape, origin)))
        })
        .await?;
        let no_table = || VerifyError::NoTable { table: table.to_string() };
        let (shape, origin): (TargetShape, String) = found.ok_or_else(no_table)?;
        Ok(Self {
            side,
            origin,
            place: format!("table {table} in database {}", postgres.database),
            connector,
            readable: Readable::new(&shape, source.uuid, &source.cluster_id),
            shape: Arc::new(shape),
            windows: windows.to_vec(),
        })
    }

    /// A connection to the same database.
    pub async fn connect(&self) -> Result<Connection, PostgresError> {
        self.connector.connect().await
    }

    async fn read(&self, day: UsageDay) -> Result<Fill, VerifyError> {
        let columns: Vec<&str> = OCP_DAILY_SUMMARY.rollup_columns().map(|column| column.name).collect();
        let patience = self.connector.statement_timeout();
        let text = retrying(self.connector.retry_policy(), &format!("reading day {day}"), || async {
            let connection = self.connector.connect().await?;
            connection.begin_reading("beginning to read").await?;
            let text = self.readable.day(&connection, day, &columns, patience).await?;
            connection.commit("end of reading").await?;
            Ok(text)
        })
        .await?;
        let place = self.place.clone();
        Ok(Box::new(move |rows: &mut Rows, texts: &mut Texts| {
            // PostgreSQL sends the encoding of the connection, which the driver sets to UTF-8.
            let text = String::from_utf8_lossy(&text);
            let mut record = Record::default();
            for line in text.lines() {
                record.read_copy_text(line);
                let cells = (0..record.len()).map(|position| record.value(position, NullStyle::BackslashN));
                rows.push(cells, texts).map_err(|bad| bad_value(&place, day, bad))?;
            }
            Ok(())
        }))
    }
}

/// One table however it is reached: hosts have several names, and a partition holds rows of its root.
const ORIGIN_SQL: &str = "SELECT concat_ws('/', 'table', (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint, d.oid, \
     coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid)) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() \
     WHERE n.nspname = $1 AND c.relname = $2";

impl RowSource for TableSource {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn origins(&self) -> Vec<String> {
        vec![self.origin.clone()]
    }

    fn column_problems(&mut self) -> BoxFuture<'_, Result<Vec<String>, VerifyError>> {
        let table = &self.shape.name;
        let mut problems = Vec::new();
        let is_needed = |column: &&TargetColumn| self.side == Side::Target || column.writer == Writer::Rollup;
        for column in OCP_DAILY_SUMMARY.columns.iter().filter(is_needed) {
            let needed = sql_type(column.target_type);
            match self.shape.kind_of(column.name) {
                None => problems.push(format!("{table} has no column `{}` ({needed})", column.name)),
                Some(kind) if !holds(kind, column.target_type) => {
                    problems.push(format!("{table}: column `{}` is {kind}, the contract says {needed}", column.name));
                }
                Some(_) => {}
            }
        }
        async move { Ok(problems) }.boxed()
    }

    fn coverage(&mut self) -> BoxFuture<'_, Result<Coverage, VerifyError>> {
        async move {
            let (Some(first), Some(last)) = (self.windows.first(), self.windows.last()) else { return Ok(None) };
            let around = [UsageDay(first.start.0 - DAYS_AROUND), UsageDay(last.end.0 + DAYS_AROUND)];
            let is_in_period = |day: UsageDay| self.windows.iter().any(|window| window.contains(day));
            let occupied = retrying(self.connector.retry_policy(), "counting rows", || async {
                let connection = self.connector.connect().await?;
                self.readable.occupied(&connection, around, is_in_period).await
            })
            .await?;
            Ok(Some(occupied))
        }
        .boxed()
    }

    fn day(&mut self, day: UsageDay) -> BoxFuture<'_, Result<Fill, VerifyError>> {
        self.read(day).boxed()
    }
}
