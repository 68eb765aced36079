//! A table, a source and days → the rows of this rollup that belong to them, as text of PostgreSQL's own COPY. Wider than
//! the scope of a delete: a row counts if it names the source or the cluster, so that rows under a wrong name are seen.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use chrono::NaiveDate;
use futures::StreamExt;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::scope::ROW_OWNER_COLUMNS;
use crate::postgres::shape::TargetShape;
use crate::postgres::sql::{TableName, literal, quote};
use crate::schema::identity::{CLUSTER_ID, DAY, SOURCE};
use crate::time::UsageDay;

/// Whose rows of which table are read.
#[derive(Debug, Clone)]
pub struct Readable {
    table: TableName,
    source_uuid: Uuid,
    cluster_id: String,
    /// What tells this rollup's rows from those of others, as far as the table has the columns for it.
    is_ours: String,
}

/// What lies on some days, and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupied {
    /// Rows per day.
    pub days: BTreeMap<UsageDay, u64>,
    /// Clusters that the rows of the period name.
    pub clusters: BTreeSet<Option<String>>,
    /// Sources that the rows of the period name.
    pub sources: BTreeSet<Option<String>>,
}

impl Readable {
    /// Rows of a table of this shape.
    pub fn new(shape: &TargetShape, source_uuid: Uuid, cluster_id: &str) -> Self {
        let [rate_type, monthly_type, distributed, raw_cost] = ROW_OWNER_COLUMNS;
        let mut conditions = Vec::new();
        for column in [rate_type, monthly_type, distributed] {
            if shape.kind_of(column).is_some() {
                conditions.push(format!("{} IS NULL", quote(column)));
            }
        }
        if shape.kind_of(raw_cost).is_some() {
            conditions.push(format!("({0} IS NULL OR {0} = 0)", quote(raw_cost)));
        }
        conditions.push("true".to_owned());
        Self {
            table: shape.name.clone(),
            source_uuid,
            cluster_id: cluster_id.to_owned(),
            is_ours: conditions.join(" AND "),
        }
    }

    /// Days with rows between two days, both included; clusters and sources of those within the period.
    pub async fn occupied(
        &self,
        connection: &Connection,
        [first, last]: [UsageDay; 2],
        is_in_period: impl Fn(UsageDay) -> bool,
    ) -> Result<Occupied, PostgresError> {
        let day = quote(DAY);
        let (cluster, source) = (quote(CLUSTER_ID), quote(SOURCE));
        let sql = format!(
            "SELECT {day}::date, {cluster}::text, {source}::text, count(*) FROM {} WHERE {day} >= $1 AND {day} <= $2 AND {} \
             GROUP BY 1, 2, 3",
            self.table.quoted(),
            self.of_source()
        );
        let dates = [first.date(), last.date()];
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&dates[0], Type::DATE), (&dates[1], Type::DATE)];
        let action = format!("counting the rows of {}", self.table);
        let mut occupied = Occupied::default();
        for row in connection.query(&action, &sql, &parameters).await? {
            let day = UsageDay::from_date(row.get::<_, NaiveDate>(0));
            *occupied.days.entry(day).or_default() += row.get::<_, i64>(3).unsigned_abs();
            if is_in_period(day) {
                occupied.clusters.insert(row.get(1));
                occupied.sources.insert(row.get(2));
            }
        }
        Ok(occupied)
    }

    /// The rows of a day: lines of COPY's text format.
    /// Errors: `NoProgress` if the server is silent for longer than `patience`.
    pub async fn day(
        &self,
        connection: &Connection,
        day: UsageDay,
        columns: &[&str],
        patience: Duration,
    ) -> Result<Vec<u8>, PostgresError> {
        let action = format!("reading day {day} of {}", self.table);
        let selected: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let sql = format!(
            "COPY (SELECT {} FROM {} WHERE {} = {}::date AND {}) TO STDOUT (FORMAT text)",
            selected.join(", "),
            self.table.quoted(),
            quote(DAY),
            literal(&day.to_string()),
            self.of_source()
        );
        // A COPY is one long statement; what counts is that it goes on.
        connection.lift_statement_timeout(&action).await?;
        let mut text = Vec::new();
        let mut stream = pin!(connection.copy_out(&action, &sql).await?);
        loop {
            match timeout(patience, stream.next()).await {
                Ok(Some(Ok(frame))) => text.extend_from_slice(&frame),
                Ok(Some(Err(error))) => return Err(connection.error(&action, &error)),
                Ok(None) => return Ok(text),
                Err(_) => return Err(PostgresError::NoProgress { action, seconds: patience.as_secs() }),
            }
        }
    }

    fn of_source(&self) -> String {
        let source = literal(&self.source_uuid.to_string());
        let cluster = literal(&self.cluster_id);
        format!("({} = {source}::uuid OR {} = {cluster}) AND {}", quote(SOURCE), quote(CLUSTER_ID), self.is_ours)
    }
}
