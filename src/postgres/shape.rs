//! The catalog's description of the target table → what it can hold, and everything that is wrong with it at once.

use std::fmt;

use tokio_postgres::types::{ToSql, Type};

use crate::postgres::connection::Connection;
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::scope::{BACK_POPULATED_MARK, ROW_OWNER_COLUMNS};
use crate::postgres::sql::TableName;
use crate::schema::target::{DECIMAL_PRECISION, DECIMAL_SCALE, OCP_DAILY_SUMMARY, TargetColumn, TargetType, Writer};

/// A column type as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// `uuid`
    Uuid,
    /// `integer`
    Integer,
    /// `bigint`
    BigInteger,
    /// `varchar(n)` or, without a limit, `varchar`.
    Varchar(Option<u32>),
    /// `text`
    Text,
    /// `date`
    Date,
    /// `jsonb`
    Jsonb,
    /// `json`
    Json,
    /// `numeric(precision, scale)` or, without limits, `numeric`.
    Numeric(Option<(u32, u32)>),
    /// Anything else, by its name.
    Other(String),
}

/// One column of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeColumn {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: ColumnKind,
    /// `NOT NULL`.
    pub not_null: bool,
    /// Has a default, is an identity, or is generated.
    pub fills_itself: bool,
    /// `GENERATED ALWAYS`: refuses values.
    pub is_generated: bool,
}

/// What sort of relation the target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// An ordinary table.
    Plain,
    /// A partitioned table.
    Partitioned,
    /// A view, a foreign table, …: what it leaves out cannot be told from what is not there.
    Unusable,
}

/// What sort of relation a name is; `None` if schema or relation do not exist.
pub async fn relation(connection: &Connection, name: &TableName) -> Result<Option<Relation>, PostgresError> {
    let action = format!("looking for table {name}");
    let names: [(&(dyn ToSql + Sync), Type); 2] = [(&name.schema, Type::TEXT), (&name.table, Type::TEXT)];
    let rows = connection.query(&action, RELATION_SQL, &names).await?;
    Ok(rows.first().map(|row| match row.get::<_, &str>(0) {
        "r" => Relation::Plain,
        "p" => Relation::Partitioned,
        _ => Relation::Unusable,
    }))
}

/// The target table as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetShape {
    /// Schema and name.
    pub name: TableName,
    /// Sort of relation.
    pub relation: Relation,
    /// Columns in table order.
    pub columns: Vec<ShapeColumn>,
}

impl TargetShape {
    /// Reads the shape. Errors: `NotReady` if schema or table do not exist.
    pub async fn read(connection: &Connection, name: &TableName) -> Result<Self, PostgresError> {
        let shape = Self::read_if_there(connection, name).await?;
        shape.ok_or_else(|| PostgresError::NotReady(vec![missing_table(name)]))
    }

    /// The same; `None` if schema or table do not exist.
    pub async fn read_if_there(connection: &Connection, name: &TableName) -> Result<Option<Self>, PostgresError> {
        let action = format!("reading the columns of {name}");
        let Some(relation) = relation(connection, name).await? else { return Ok(None) };
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&name.schema, Type::TEXT), (&name.table, Type::TEXT)];
        let rows = connection.query(&action, COLUMNS_SQL, &parameters).await?;
        let columns = rows
            .iter()
            .map(|row| ShapeColumn {
                name: row.get(0),
                kind: column_kind(row.get(1), row.get(2), row.get(3)),
                not_null: row.get(4),
                fills_itself: row.get(5),
                is_generated: row.get(6),
            })
            .collect();
        Ok(Some(Self { name: name.clone(), relation, columns }))
    }

    /// The type of a column, if it exists.
    pub fn kind_of(&self, column: &str) -> Option<&ColumnKind> {
        self.column(column).map(|column| &column.kind)
    }

    /// Everything that keeps this rollup from being written here; empty if nothing does.
    pub fn problems(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.relation == Relation::Unusable {
            findings.push(Finding::shape(
                format!("{} is not a table, but a view or the like", self.name),
                "set target.postgres.schema and table to the summary table itself",
            ));
        }
        for wanted in OCP_DAILY_SUMMARY.columns {
            let decides_ownership = ROW_OWNER_COLUMNS.contains(&wanted.name);
            if wanted.writer != Writer::Reference || decides_ownership {
                findings.extend(self.problem_of(wanted));
            }
        }
        findings.extend(self.columns.iter().filter_map(|column| self.problem_of_unfilled(column)));
        findings
    }

    /// The shape itself if it has no problems.
    pub fn checked(self) -> Result<Self, PostgresError> {
        let findings = self.problems();
        if findings.is_empty() { Ok(self) } else { Err(PostgresError::NotReady(findings)) }
    }

    fn column(&self, name: &str) -> Option<&ShapeColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn problem_of(&self, wanted: &TargetColumn) -> Option<Finding> {
        let table = self.name.quoted();
        let Some(found) = self.column(wanted.name) else {
            return Some(Finding::shape(
                format!("table {} has no column `{}`", self.name, wanted.name),
                format!("ALTER TABLE {table} ADD COLUMN \"{}\" {}", wanted.name, sql_type(wanted.target_type)),
            ));
        };
        let column = format!("column `{}` of {}", wanted.name, self.name);
        if found.is_generated {
            return Some(Finding::shape(format!("{column} is generated"), "make it an ordinary column"));
        }
        if !holds(&found.kind, wanted.target_type) {
            let needed = sql_type(wanted.target_type);
            return Some(Finding::shape(
                format!("{column} is {}, needed is {needed}", found.kind),
                format!("ALTER TABLE {table} ALTER COLUMN \"{}\" TYPE {needed}", wanted.name),
            ));
        }
        // Rows of ours are known by a null there.
        if wanted.writer == Writer::Reference && found.fills_itself && wanted.name != BACK_POPULATED_MARK {
            return Some(Finding::shape(
                format!("{column} has a default, so that rows written here would pass for those of a later step"),
                format!("ALTER TABLE {table} ALTER COLUMN \"{}\" DROP DEFAULT", wanted.name),
            ));
        }
        let refuses_our_nulls = wanted.writer == Writer::Rollup && found.not_null && !wanted.not_null;
        refuses_our_nulls.then(|| {
            Finding::shape(
                format!("{column} is NOT NULL, but some rows have no value there"),
                format!("ALTER TABLE {table} ALTER COLUMN \"{}\" DROP NOT NULL", wanted.name),
            )
        })
    }

    /// A column that must have a value and gets none from us.
    fn problem_of_unfilled(&self, column: &ShapeColumn) -> Option<Finding> {
        let is_ours =
            OCP_DAILY_SUMMARY.columns.iter().any(|ours| ours.name == column.name && ours.writer != Writer::Reference);
        let must_be_filled = column.not_null && !column.fills_itself;
        (must_be_filled && !is_ours).then(|| {
            Finding::shape(
                format!("column `{}` of {} is NOT NULL without a default and not filled here", column.name, self.name),
                format!("ALTER TABLE {} ALTER COLUMN \"{}\" DROP NOT NULL", self.name.quoted(), column.name),
            )
        })
    }
}

const RELATION_SQL: &str = "SELECT c.relkind::text FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 \
     AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// A domain is taken as the type that it is over; what it adds, NOT NULL and a default, counts as the column's.
const COLUMNS_SQL: &str = "WITH RECURSIVE spelt AS (SELECT a.attnum AS position, a.attname::text AS name, a.atttypid AS type, \
     a.atttypmod AS modifier, pg_catalog.format_type(a.atttypid, a.atttypmod) AS spelling, a.attnotnull AS not_null, \
     (a.atthasdef OR a.attidentity <> '') AS fills_itself, (a.attgenerated <> '' OR a.attidentity = 'a') AS is_generated \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
     UNION ALL SELECT position, name, d.typbasetype, d.typtypmod, spelling, not_null OR d.typnotnull, \
     fills_itself OR d.typdefault IS NOT NULL, is_generated \
     FROM spelt JOIN pg_catalog.pg_type d ON d.oid = spelt.type WHERE d.typtype = 'd') \
     SELECT spelt.name, \
     CASE WHEN tn.nspname = 'pg_catalog' THEN t.typname::text ELSE tn.nspname::text || '.' || t.typname::text END, \
     modifier, spelling, not_null, fills_itself, is_generated \
     FROM spelt JOIN pg_catalog.pg_type t ON t.oid = spelt.type \
     JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace WHERE t.typtype <> 'd' ORDER BY position";

/// The SQL spelling of a type.
pub fn sql_type(target_type: TargetType) -> String {
    match target_type {
        TargetType::Uuid => "uuid".to_owned(),
        TargetType::Integer => "integer".to_owned(),
        TargetType::Varchar(limit) => format!("varchar({limit})"),
        TargetType::Text => "text".to_owned(),
        TargetType::Date => "date".to_owned(),
        TargetType::Json => "jsonb".to_owned(),
        TargetType::Decimal => format!("numeric({DECIMAL_PRECISION},{DECIMAL_SCALE})"),
    }
}

/// The finding about a table that is not there.
pub(crate) fn missing_table(name: &TableName) -> Finding {
    Finding::shape(
        format!("table {name} does not exist, or its schema may not be looked into"),
        "check target.postgres.schema and table; `gristmill init-db` creates them on an empty database",
    )
}

/// Whether every value of the wanted type fits.
pub fn holds(found: &ColumnKind, wanted: TargetType) -> bool {
    match (wanted, found) {
        (TargetType::Uuid, ColumnKind::Uuid)
        | (TargetType::Integer, ColumnKind::Integer | ColumnKind::BigInteger)
        | (TargetType::Varchar(_), ColumnKind::Text | ColumnKind::Varchar(None))
        | (TargetType::Text, ColumnKind::Text | ColumnKind::Varchar(None))
        | (TargetType::Date, ColumnKind::Date)
        | (TargetType::Json, ColumnKind::Jsonb | ColumnKind::Json)
        | (TargetType::Decimal, ColumnKind::Numeric(None)) => true,
        (TargetType::Varchar(needed), ColumnKind::Varchar(Some(limit))) => *limit >= needed,
        (TargetType::Decimal, ColumnKind::Numeric(Some((precision, scale)))) => {
            let needed_scale = u32::from(DECIMAL_SCALE.unsigned_abs());
            let needed_whole_digits = u32::from(DECIMAL_PRECISION) - needed_scale;
            *scale >= needed_scale && precision.saturating_sub(*scale) >= needed_whole_digits
        }
        _ => false,
    }
}

/// `name` is qualified unless it lies in pg_catalog; `modifier` is atttypmod; `spelling` is for people.
fn column_kind(name: &str, modifier: i32, spelling: String) -> ColumnKind {
    // varchar and numeric store their limits in atttypmod with 4 added; -1 means none.
    let limit = u32::try_from(modifier.saturating_sub(4)).ok();
    match name {
        "uuid" => ColumnKind::Uuid,
        "int4" => ColumnKind::Integer,
        "int8" => ColumnKind::BigInteger,
        "varchar" => ColumnKind::Varchar(limit),
        "text" => ColumnKind::Text,
        "date" => ColumnKind::Date,
        "jsonb" => ColumnKind::Jsonb,
        "json" => ColumnKind::Json,
        "numeric" => ColumnKind::Numeric(limit.map(|packed| (packed >> 16, packed & 0x7ff))),
        _ => ColumnKind::Other(spelling),
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnKind::Uuid => f.write_str("uuid"),
            ColumnKind::Integer => f.write_str("integer"),
            ColumnKind::BigInteger => f.write_str("bigint"),
            ColumnKind::Varchar(Some(limit)) => write!(f, "varchar({limit})"),
            ColumnKind::Varchar(None) => f.write_str("varchar"),
            ColumnKind::Text => f.write_str("text"),
            ColumnKind::Date => f.write_str("date"),
            ColumnKind::Jsonb => f.write_str("jsonb"),
            ColumnKind::Json => f.write_str("json"),
            ColumnKind::Numeric(Some((precision, scale))) => write!(f, "numeric({precision},{scale})"),
            ColumnKind::Numeric(None) => f.write_str("numeric"),
            ColumnKind::Other(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_type_modifier() {
        assert_eq!(column_kind("varchar", 54, String::new()), ColumnKind::Varchar(Some(50)));
        assert_eq!(column_kind("varchar", -1, String::new()), ColumnKind::Varchar(None));
        // (33 << 16 | 15) + 4
        assert_eq!(column_kind("numeric", 2_162_707, String::new()), ColumnKind::Numeric(Some((33, 15))));
        assert_eq!(column_kind("numeric", -1, String::new()), ColumnKind::Numeric(None));
    }

    #[test]
    fn wider_columns_hold_narrower_values() {
        assert!(holds(&ColumnKind::Varchar(Some(300)), TargetType::Varchar(253)));
        assert!(!holds(&ColumnKind::Varchar(Some(252)), TargetType::Varchar(253)));
        assert!(holds(&ColumnKind::Numeric(Some((33, 15))), TargetType::Decimal));
        assert!(holds(&ColumnKind::Numeric(Some((38, 18))), TargetType::Decimal));
        assert!(!holds(&ColumnKind::Numeric(Some((33, 14))), TargetType::Decimal));
        assert!(!holds(&ColumnKind::Numeric(Some((33, 16))), TargetType::Decimal));
        assert!(!holds(&ColumnKind::Other("double precision".to_owned()), TargetType::Decimal));
    }
}
