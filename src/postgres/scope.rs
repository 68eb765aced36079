//! A source, a day and `replace` → the rows of the target table that belong to them: deleted, counted and summed by
//! the same predicates.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::config::Replace;
use crate::postgres::connection::Connection;
use crate::postgres::error::PostgresError;
use crate::postgres::sql::{TableName, quote};
use crate::schema::target::{OCP_DAILY_SUMMARY, USAGE_MARK};
use crate::time::{UsageDay, Window};

/// Columns that tell this rollup's rows from those of the cost model, the distribution and the clouds.
pub const ROW_OWNER_COLUMNS: [&str; 4] =
    ["cost_model_rate_type", "monthly_cost_type", "distributed_cost", BACK_POPULATED_MARK];
/// The one of them in which zero is as good as null.
pub const BACK_POPULATED_MARK: &str = "infrastructure_raw_cost";

/// Rows that no cloud has priced; what the reference's own delete spares are the others.
const NOT_BACK_POPULATED: &str = "(\"infrastructure_raw_cost\" IS NULL OR \"infrastructure_raw_cost\" = 0)";
/// Rows that no later step of the reference added. A count and not three tests, because before the first ANALYZE PostgreSQL takes
/// null for rare and reads the index of such a column, whose every row qualifies: a scan of the month for each day.
const NOT_OF_A_LATER_STEP: &str =
    "num_nulls(\"cost_model_rate_type\", \"monthly_cost_type\", \"distributed_cost\") = 3";

/// Fixed-point units in one: 10^15, the scale of the decimals.
const UNITS: &str = "1000000000000000::numeric";

/// Whose rows of which table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The target table.
    pub table: TableName,
    /// The source.
    pub source_uuid: Uuid,
    /// Its report period; where there is none, the source itself bounds the scope.
    pub report_period_id: Option<i32>,
}

/// Count and sums of rows in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Rows.
    pub row_count: u64,
    /// Sums in units of 1e-15 in the order of the columns asked for, as text because the table may hold `NaN`.
    pub sums: Vec<String>,
}

impl Scope {
    /// Deletes the old rows of a day; returns how many there were.
    pub async fn delete_day(
        &self,
        connection: &Connection,
        day: UsageDay,
        replace: Replace,
        action: &str,
    ) -> Result<u64, PostgresError> {
        let rows = match replace {
            Replace::Own => format!("{NOT_OF_A_LATER_STEP} AND {NOT_BACK_POPULATED}"),
            Replace::Reference => NOT_BACK_POPULATED.to_owned(),
        };
        let sql = format!("DELETE FROM {} WHERE {} AND {rows}", self.table.quoted(), self.day_clause());
        connection.execute(action, &sql, &self.parameters(day, day).as_slice()).await
    }

    /// Counts this rollup's rows of a day and sums the named columns: the first ones over all rows, then those of `of_usage` over the
    /// rows that are no unallocated capacity.
    pub async fn totals(
        &self,
        connection: &Connection,
        day: UsageDay,
        [columns, of_usage]: [&[&'static str]; 2],
        action: &str,
    ) -> Result<Totals, PostgresError> {
        let is_usage = format!(" FILTER (WHERE {} IS NOT NULL)", quote(USAGE_MARK));
        let sum = |column: &str, filter: &str| {
            let column = quote(column);
            format!("trunc(coalesce(sum({column}){filter}, 0) * {UNITS})::text")
        };
        let mut selected = vec!["count(*)".to_owned()];
        selected.extend(columns.iter().map(|column| sum(column, "")));
        selected.extend(of_usage.iter().map(|column| sum(column, &is_usage)));
        let sql = format!(
            "SELECT {} FROM {} WHERE {} AND {NOT_OF_A_LATER_STEP} AND {NOT_BACK_POPULATED}",
            selected.join(", "),
            self.table.quoted(),
            self.day_clause()
        );
        let row = connection.query_one(action, &sql, &self.parameters(day, day).as_slice()).await?;
        let sums = (0..columns.len() + of_usage.len()).map(|index| row.get(index + 1)).collect();
        Ok(Totals { row_count: row.get::<_, i64>(0).unsigned_abs(), sums })
    }

    /// Counts this rollup's rows of each of some days, in one query. A day without any is not among the results.
    pub async fn row_counts(
        &self,
        connection: &Connection,
        days: &[UsageDay],
    ) -> Result<BTreeMap<UsageDay, u64>, PostgresError> {
        let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) else { return Ok(BTreeMap::new()) };
        let day = quote(OCP_DAILY_SUMMARY.day_column);
        let sql = format!(
            "SELECT {day}::date, count(*) FROM {} WHERE {} AND {day} = ANY ($4) AND {NOT_OF_A_LATER_STEP} \
             AND {NOT_BACK_POPULATED} GROUP BY 1",
            self.table.quoted(),
            self.days_clause()
        );
        let dates: Vec<NaiveDate> = days.iter().map(|day| day.date()).collect();
        let parameters = self.parameters(*first, *last);
        let [first, last, owner] = parameters.as_slice();
        let parameters = [first, last, owner, (&dates as &(dyn ToSql + Sync), Type::DATE_ARRAY)];
        let action = format!("counting the rows of {} days in {}", days.len(), self.table);
        let rows = connection.query(&action, &sql, &parameters).await?;
        let counts = rows.iter().map(|row| (UsageDay::from_date(row.get(0)), row.get::<_, i64>(1).unsigned_abs()));
        Ok(counts.collect())
    }

    /// Counts the rows in a window that `replace: reference` would delete although another step wrote them.
    pub async fn count_of_later_steps(&self, connection: &Connection, window: Window) -> Result<u64, PostgresError> {
        let sql = format!(
            "SELECT count(*) FROM {} WHERE {} AND NOT ({NOT_OF_A_LATER_STEP}) AND {NOT_BACK_POPULATED}",
            self.table.quoted(),
            self.days_clause()
        );
        let action = format!("counting rows of later steps in {}", self.table);
        let parameters = self.parameters(window.start, window.end);
        let counted = connection.query_one(&action, &sql, &parameters.as_slice()).await?;
        Ok(counted.get::<_, i64>(0).unsigned_abs())
    }

    /// Day $1, which is $2 as well, of the report period or source $3. Saying both makes its index the cheapest way also before the first
    /// ANALYZE, when each comparison is taken to leave one row in two hundred; the owner's index leaves a whole month.
    fn day_clause(&self) -> String {
        format!("{} = $1 AND {}", quote(OCP_DAILY_SUMMARY.day_column), self.days_clause())
    }

    /// Days $1 to $2 of the report period or source $3. The day is compared twice so that partitions are pruned.
    fn days_clause(&self) -> String {
        let owner = if self.report_period_id.is_some() { "report_period_id" } else { "source_uuid" };
        let day = quote(OCP_DAILY_SUMMARY.day_column);
        format!("{day} >= $1 AND {day} <= $2 AND \"{owner}\" = $3")
    }

    fn parameters(&self, first: UsageDay, last: UsageDay) -> DayParameters {
        DayParameters { first: first.date(), last: last.date(), owner: self.clone() }
    }
}

/// Values for `days_clause`.
struct DayParameters {
    first: NaiveDate,
    last: NaiveDate,
    owner: Scope,
}

impl DayParameters {
    fn as_slice(&self) -> [(&(dyn ToSql + Sync), Type); 3] {
        let owner: (&(dyn ToSql + Sync), Type) = match &self.owner.report_period_id {
            Some(id) => (id, Type::INT4),
            None => (&self.owner.source_uuid, Type::UUID),
        };
        [(&self.first, Type::DATE), (&self.last, Type::DATE), owner]
    }
}
