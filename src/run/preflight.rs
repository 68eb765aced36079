//! Configuration and database → everything that would stop a run, with the fix for each, and what is good to know
//! before it. The same look begins a run and is the larger part of `check`. Nothing is written.

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::config::{Config, Postgres, Replace, Target};
use crate::ledger;
use crate::postgres::actors::actors_before_rows;
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::partitions::{self, TRACKING_TABLE};
use crate::postgres::refusals;
use crate::postgres::retry::retrying;
use crate::postgres::scope::Scope;
use crate::postgres::shape::{Relation, TargetShape};
use crate::postgres::sql::{TableName, quote};
use crate::reference;
use crate::time::{BillingMonth, Window};

/// What the look at the database found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// What would stop a run.
    pub problems: Vec<Finding>,
    /// What may harm its rows without stopping it.
    pub warnings: Vec<String>,
    /// What a run will do that is worth knowing.
    pub notes: Vec<String>,
}

/// The database that a run of this configuration uses; `None` if it uses none.
pub fn database_in_use(config: &Config) -> Option<&Postgres> {
    let is_used = matches!(config.target, Target::Postgres) || !reference::needed(config).is_empty();
    config.postgres.as_ref().filter(|_| is_used)
}

/// Looks at everything a run needs of the target and the small tables, for all sources of the configuration at once. What keeps it from
/// looking is a problem like others.
pub async fn preflight(config: &Config, postgres: &Postgres, windows: &[Window], run_id: Uuid) -> Preflight {
    match look(config, postgres, windows, run_id).await {
        Ok((mut found, connection)) => {
            found.notes.insert(
                0,
                format!(
                    "PostgreSQL: connected to {}:{} database {} as {}",
                    postgres.host, postgres.port, postgres.database, postgres.user
                ),
            );
            let look = Look { config, postgres, connection: &connection, windows };
            let counted = look.at_rows_of_later_steps(&mut found).await;
            found.add_error(counted);
            found
        }
        Err(error) => {
            let mut found = Preflight::default();
            found.add_error(Err(error));
            found
        }
    }
}

/// The same for a run: what needs no look at rows.
/// Errors: no connection; a failure that another attempt may mend, after all attempts.
pub async fn look(
    config: &Config,
    postgres: &Postgres,
    windows: &[Window],
    run_id: Uuid,
) -> Result<(Preflight, Connection), PostgresError> {
    let connector = Connector::new(postgres, run_id)?;
    retrying(connector.retry_policy(), "looking at the database", || async {
        let connection = connector.connect().await?;
        let mut found = Preflight::default();
        Look { config, postgres, connection: &connection, windows }.at_everything(&mut found).await?;
        Ok((found, connection))
    })
    .await
}

impl Preflight {
    /// Takes what a part of the look found. Errors: what another attempt may mend.
    fn add(&mut self, result: Result<Vec<Finding>, PostgresError>) -> Result<(), PostgresError> {
        match result {
            Ok(findings) => self.add_all(findings),
            Err(error) if error.is_worth_retrying() => return Err(error),
            Err(error) => self.add_error(Err(error)),
        }
        Ok(())
    }

    fn add_error(&mut self, result: Result<(), PostgresError>) {
        match result {
            Ok(()) => {}
            Err(PostgresError::NotReady(findings)) => self.add_all(findings),
            Err(error) => {
                let kind = error.kind();
                self.add_all(vec![Finding { kind, what: error.to_string(), fix: kind.fix().to_owned() }]);
            }
        }
    }

    fn add_all(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            if !self.problems.contains(&finding) {
                self.problems.push(finding);
            }
        }
    }
}

/// One look at one database. Every part runs for itself, so that an error in one hides nothing in the others.
struct Look<'a> {
    config: &'a Config,
    postgres: &'a Postgres,
    connection: &'a Connection,
    windows: &'a [Window],
}

impl Look<'_> {
    async fn at_everything(&self, found: &mut Preflight) -> Result<(), PostgresError> {
        let writes_here = matches!(self.config.target, Target::Postgres);
        found.add(self.at_server(writes_here).await)?;
        if writes_here {
            let target = TableName::new(&self.postgres.schema, &self.postgres.table);
            found.add(self.at_privileges(&target, TARGET_PRIVILEGES).await)?;
            match TargetShape::read(self.connection, &target).await {
                Ok(shape) => {
                    found.add_all(shape.problems());
                    let partitions = self.at_partitions(&shape, &mut found.notes).await;
                    found.add(partitions)?;
                    let triggers = self.at_triggers(&target, &mut found.warnings).await;
                    found.add(triggers)?;
                }
                Err(error) => found.add(Err(error))?,
            }
            found.add(self.at_ledger().await)?;
        }
        found.add(self.at_small_tables().await)
    }

    async fn at_server(&self, writes_here: bool) -> Result<Vec<Finding>, PostgresError> {
        let row = self.connection.query_one("asking for the server's state", SERVER_SQL, &[]).await?;
        let (version, encoding, is_read_only): (i32, &str, bool) = (row.get(0), row.get(1), row.get(2));
        let mut findings: Vec<Finding> = refusals::encoding(&self.postgres.database, encoding).into_iter().collect();
        // Partitioned tables with indexes and default partitions, and generated columns in the catalog, came with 12.
        if version < OLDEST_VERSION {
            findings.push(Finding::shape(
                format!("the server is version {}, needed is 12 or newer", version / 10_000),
                "upgrade PostgreSQL",
            ));
        }
        if writes_here && is_read_only {
            findings.push(refusals::read_only(&self.postgres.database, &self.postgres.user));
        }
        Ok(findings)
    }

    /// Missing privileges on a table and its schema, and rows of it that the role may not see. A table that is not there is not reported
    /// here.
    async fn at_privileges(&self, table: &TableName, needed: &[&str]) -> Result<Vec<Finding>, PostgresError> {
        let role = &self.postgres.user;
        let mut findings = Vec::new();
        let action = format!("reading the privileges on {table}");
        let schema = self.connection.query(&action, SCHEMA_PRIVILEGE_SQL, &[(&table.schema, Type::TEXT)]).await?;
        if schema.first().is_some_and(|row| !row.get::<_, bool>(0)) {
            findings.push(Finding::privilege(
                format!("role `{role}` lacks USAGE on schema {}", table.schema),
                format!("GRANT USAGE ON SCHEMA {} TO {}", quote(&table.schema), quote(role)),
            ));
        }
        for privilege in needed {
            let parameters = [
                (&table.schema as &(dyn ToSql + Sync), Type::TEXT),
                (&table.table, Type::TEXT),
                (privilege, Type::TEXT),
            ];
            let held = self.connection.query(&action, TABLE_PRIVILEGE_SQL, &parameters).await?;
            if held.first().is_some_and(|row| !row.get::<_, bool>(0)) {
                findings.push(Finding::privilege(
                    format!("role `{role}` lacks {privilege} on table {table}"),
                    format!("GRANT {privilege} ON {} TO {}", table.quoted(), quote(role)),
                ));
            }
        }
        if findings.is_empty() {
            let names = [(&table.schema as &(dyn ToSql + Sync), Type::TEXT), (&table.table, Type::TEXT)];
            let security = self.connection.query(&action, ROW_SECURITY_SQL, &names).await?;
            if security.first().is_some_and(|row| row.get(0)) {
                findings.push(refusals::hidden_rows(role, table));
            }
        }
        Ok(findings)
    }

    async fn at_partitions(&self, shape: &TargetShape, notes: &mut Vec<String>) -> Result<Vec<Finding>, PostgresError> {
        if shape.relation != Relation::Partitioned {
            return Ok(Vec::new());
        }
        let months: Vec<BillingMonth> = self.windows.iter().map(|window| window.month()).collect();
        let missing = partitions::missing_months(self.connection, &shape.name, &months).await?;
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let mut findings = Vec::new();
        let is_tracked = partitions::is_tracked(self.connection, &shape.name).await?;
        if is_tracked {
            let tracking = TableName::new(&shape.name.schema, TRACKING_TABLE);
            findings.extend(self.at_privileges(&tracking, &["SELECT", "INSERT"]).await?);
        }
        // What a role may not read cannot be looked at for more.
        if findings.is_empty() {
            if !is_tracked || partitions::needs_own_rights(self.connection, &shape.name).await? {
                findings.extend(self.at_right_to_create(shape).await?);
            }
            for month in &missing {
                findings.extend(partitions::obstacles(self.connection, &shape.name, *month, is_tracked).await?);
            }
        }
        for month in &missing {
            notes.push(format!("{}: the partition for {month} is missing; a run creates it", shape.name));
        }
        Ok(findings)
    }

    /// Only the owner of a table may add partitions to it, and only where it may create tables.
    async fn at_right_to_create(&self, shape: &TargetShape) -> Result<Vec<Finding>, PostgresError> {
        let (name, role) = (&shape.name, &self.postgres.user);
        let action = format!("asking for the owner of {name}");
        let names = [(&name.schema as &(dyn ToSql + Sync), Type::TEXT), (&name.table, Type::TEXT)];
        let mut findings = Vec::new();
        for row in self.connection.query(&action, OWNERSHIP_SQL, &names).await? {
            let (is_owner, may_create): (bool, bool) = (row.get(0), row.get(1));
            if !is_owner {
                findings.push(Finding::privilege(
                    format!("role `{role}` does not own {name} and cannot create the missing partitions"),
                    "create the partitions as the owner, or run `gristmill init-db` as the owner",
                ));
            } else if !may_create {
                findings.push(Finding::privilege(
                    format!(
                        "role `{role}` lacks CREATE on schema {} and cannot create the missing partitions",
                        name.schema
                    ),
                    format!("GRANT CREATE ON SCHEMA {} TO {}", quote(&name.schema), quote(role)),
                ));
            }
        }
        Ok(findings)
    }

    /// What they do to rows cannot be seen from outside. Their number and totals are compared after each COPY.
    async fn at_triggers(&self, target: &TableName, warnings: &mut Vec<String>) -> Result<Vec<Finding>, PostgresError> {
        let triggers = actors_before_rows(self.connection, target).await?;
        if !triggers.is_empty() {
            warnings.push(format!(
                "{} may change or drop rows as they are written; a run notices it by the number of rows and the totals only",
                triggers.join(", ")
            ));
        }
        Ok(Vec::new())
    }

    async fn at_rows_of_later_steps(&self, found: &mut Preflight) -> Result<(), PostgresError> {
        let writes_here = matches!(self.config.target, Target::Postgres);
        if self.postgres.replace != Replace::Reference || !writes_here || !found.problems.is_empty() {
            return Ok(());
        }
        let target = TableName::new(&self.postgres.schema, &self.postgres.table);
        for source in self.config.sources() {
            let scope =
                Scope { table: target.clone(), source_uuid: source.uuid, report_period_id: source.report_period_id };
            let whose =
                if self.config.other_sources.is_empty() { String::new() } else { format!("source {}: ", source.uuid) };
            for window in self.windows {
                let row_count = scope.count_of_later_steps(self.connection, *window).await?;
                found.notes.push(format!(
                    "{whose}target.postgres.replace is `reference`: {row_count} cost-model and distribution rows of {window} lie in \
                     the scope and will be deleted"
                ));
            }
        }
        Ok(())
    }

    async fn at_ledger(&self) -> Result<Vec<Finding>, PostgresError> {
        if let Some(finding) = ledger::layout(self.connection).await?.finding() {
            return Ok(vec![finding]);
        }
        let table = TableName::new(ledger::SCHEMA, ledger::TABLE);
        self.at_privileges(&table, &["SELECT", "INSERT", "UPDATE"]).await
    }

    async fn at_small_tables(&self) -> Result<Vec<Finding>, PostgresError> {
        let mut findings = Vec::new();
        for needed in reference::needed(self.config) {
            findings.extend(needed.problem(self.connection).await?);
            findings.extend(self.at_privileges(&needed.table, &["SELECT"]).await?);
        }
        Ok(findings)
    }
}

/// What replacing a day needs.
const TARGET_PRIVILEGES: &[&str] = &["SELECT", "INSERT", "DELETE"];

const OLDEST_VERSION: i32 = 120_000;

const SERVER_SQL: &str = "SELECT pg_catalog.current_setting('server_version_num')::integer, \
     pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('default_transaction_read_only')::boolean";

const SCHEMA_PRIVILEGE_SQL: &str =
    "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1";

/// A privilege on every column is as good as one on the table, except for DELETE, which columns do not have.
const TABLE_PRIVILEGE_SQL: &str = "SELECT pg_catalog.has_table_privilege(c.oid, $3) OR CASE WHEN $3 IN ('SELECT', 'INSERT', 'UPDATE') \
     THEN NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, $3)) ELSE false END FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";

/// Whether policies apply to the role, whatever they say.
const ROW_SECURITY_SQL: &str = "SELECT pg_catalog.row_security_active(c.oid) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";

const OWNERSHIP_SQL: &str = "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
     pg_catalog.has_schema_privilege(n.oid, 'CREATE') FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
