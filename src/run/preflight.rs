//! Configuration and database → everything that would stop a run, with the fix for each, and what is good to know
//! before it. Only a connection that cannot be made ends the search early. Nothing is written.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::config::{Config, NodeRoles, Postgres, ReferenceFrom, Replace};
use crate::error::ErrorKind;
use crate::ledger;
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::partitions::{self, TRACKING_TABLE, table_exists};
use crate::postgres::scope::Scope;
use crate::postgres::shape::{Relation, TargetShape};
use crate::postgres::sql::{TableName, quote};
use crate::reference::tables::{COST_CATEGORY_NAMESPACES, ENABLED_KEYS, NODES, REPORT_PERIODS};
use crate::time::{BillingMonth, Window};

/// What the look at the database found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// What would stop a run.
    pub problems: Vec<Finding>,
    /// What a run will do that is worth knowing.
    pub notes: Vec<String>,
}

/// Looks at everything a run needs of the target and the small tables, for all sources of the configuration at once.
pub async fn preflight(config: &Config, postgres: &Postgres, windows: &[Window], run_id: Uuid) -> Preflight {
    let mut found = Preflight::default();
    let connection = match Connector::new(postgres, run_id) {
        Ok(connector) => connector.connect().await,
        Err(error) => Err(error),
    };
    match connection {
        Ok(connection) => {
            found.notes.push(format!(
                "PostgreSQL: connected to {}:{} database {} as {}",
                postgres.host, postgres.port, postgres.database, postgres.user
            ));
            let look = Look { config, postgres, connection: &connection, windows };
            look.at_everything(&mut found).await;
        }
        Err(error) => found.add_error(error),
    }
    found
}

/// Privileges that a run into PostgreSQL lacks: looked for before anything is read, since PostgreSQL itself names them one
/// by one, and the last only after a day was computed.
pub async fn missing_privileges(
    config: &Config,
    postgres: &Postgres,
    run_id: Uuid,
) -> Result<Vec<Finding>, PostgresError> {
    let connection = Connector::new(postgres, run_id)?.connect().await?;
    let look = Look { config, postgres, connection: &connection, windows: &[] };
    let target = TableName::new(&postgres.schema, &postgres.table);
    let mut findings = look.at_privileges(&target, TARGET_PRIVILEGES).await?;
    findings.extend(look.at_ledger().await?);
    findings.extend(look.at_small_tables().await?);
    // What is missing altogether is told, with more words, where it is opened.
    findings.retain(|finding| finding.kind == ErrorKind::PrivilegeMissing);
    findings.dedup();
    Ok(findings)
}

impl Preflight {
    fn add_error(&mut self, error: PostgresError) {
        match error {
            PostgresError::NotReady(findings) => self.problems.extend(findings),
            error => {
                let kind = error.kind();
                self.problems.push(Finding { kind, what: error.to_string(), fix: kind.fix().to_owned() });
            }
        }
    }

    fn add(&mut self, result: Result<Vec<Finding>, PostgresError>) {
        match result {
            Ok(findings) => self.problems.extend(findings),
            Err(error) => self.add_error(error),
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
    async fn at_everything(&self, found: &mut Preflight) {
        found.add(self.at_server().await);
        let writes_here = matches!(self.config.target, crate::config::Target::Postgres);
        if writes_here {
            let target = TableName::new(&self.postgres.schema, &self.postgres.table);
            found.add(self.at_privileges(&target, TARGET_PRIVILEGES).await);
            match TargetShape::read(self.connection, &target).await {
                Ok(shape) => {
                    found.problems.extend(shape.problems());
                    let result = self.at_partitions(&shape, &mut found.notes).await;
                    found.add(result);
                    let result = self.at_rows_of_later_steps(&target, &mut found.notes).await;
                    found.add(result);
                }
                Err(error) => found.add_error(error),
            }
            found.add(self.at_ledger().await);
        }
        found.add(self.at_small_tables().await);
    }

    async fn at_server(&self) -> Result<Vec<Finding>, PostgresError> {
        let row = self.connection.query_one("asking for the server's state", SERVER_SQL, &[]).await?;
        let (in_recovery, version): (bool, i32) = (row.get(0), row.get(1));
        let mut findings = Vec::new();
        if in_recovery {
            findings
                .push(Finding::shape("the server is a read-only standby", "set target.postgres.host to the primary"));
        }
        // Partitioned tables with indexes and default partitions, and generated columns in the catalog, came with 12.
        if version < OLDEST_VERSION {
            findings.push(Finding::shape(
                format!("the server is version {}, needed is 12 or newer", version / 10_000),
                "upgrade PostgreSQL",
            ));
        }
        Ok(findings)
    }

    /// Missing privileges on a table and its schema. A table that is not there is not reported here.
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
                (&table.schema as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT),
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
        let tracking = TableName::new(&shape.name.schema, TRACKING_TABLE);
        if table_exists(self.connection, &tracking).await? {
            findings.extend(self.at_privileges(&tracking, &["INSERT"]).await?);
        } else {
            findings.extend(self.at_ownership(shape).await?);
        }
        for month in &missing {
            notes.push(format!("{}: the partition for {month} is missing; a run creates it", shape.name));
            partitions::partition_name(&shape.name, *month)?;
            findings.extend(partitions::rows_in_default(self.connection, &shape.name, *month).await?);
        }
        Ok(findings)
    }

    /// Only the owner of a table may add partitions to it.
    async fn at_ownership(&self, shape: &TargetShape) -> Result<Vec<Finding>, PostgresError> {
        let name = &shape.name;
        let action = format!("asking for the owner of {name}");
        let parameters =
            [(&name.schema as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT), (&name.table, Type::TEXT)];
        let rows = self.connection.query(&action, OWNERSHIP_SQL, &parameters).await?;
        let is_owner = rows.first().is_none_or(|row| row.get(0));
        let finding = Finding::privilege(
            format!("role `{}` does not own {name} and cannot create the missing partitions", self.postgres.user),
            "create the partitions as the owner, or run `gristmill init-db` as the owner",
        );
        Ok(if is_owner { Vec::new() } else { vec![finding] })
    }

    async fn at_rows_of_later_steps(
        &self,
        target: &TableName,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Finding>, PostgresError> {
        if self.postgres.replace != Replace::Reference {
            return Ok(Vec::new());
        }
        for source in self.config.sources() {
            let scope =
                Scope { table: target.clone(), source_uuid: source.uuid, report_period_id: source.report_period_id };
            let whose =
                if self.config.other_sources.is_empty() { String::new() } else { format!("source {}: ", source.uuid) };
            for window in self.windows {
                let row_count = scope.count_of_later_steps(self.connection, *window).await?;
                notes.push(format!(
                    "{whose}target.postgres.replace is `reference`: {row_count} cost-model and distribution rows of {window} lie in \
                     the scope and will be deleted"
                ));
            }
        }
        Ok(Vec::new())
    }

    async fn at_ledger(&self) -> Result<Vec<Finding>, PostgresError> {
        if let Some(finding) = ledger::layout(self.connection).await?.finding() {
            return Ok(vec![finding]);
        }
        let table = TableName::new(ledger::SCHEMA, ledger::TABLE);
        self.at_privileges(&table, &["SELECT", "INSERT", "UPDATE"]).await
    }

    async fn at_small_tables(&self) -> Result<Vec<Finding>, PostgresError> {
        let ReferenceFrom::Postgres { schema } = &self.config.reference.from else { return Ok(Vec::new()) };
        let mut needed = vec![(ENABLED_KEYS, true), (COST_CATEGORY_NAMESPACES, true)];
        if matches!(self.config.reference.node_roles, NodeRoles::Postgres) {
            needed.push((NODES, true));
        }
        if self.config.sources().any(|source| source.report_period_id.is_none()) {
            // A database without report periods is in order.
            needed.push((REPORT_PERIODS, false));
        }
        let mut findings = Vec::new();
        for (name, is_required) in needed {
            let table = TableName::new(schema, name);
            if table_exists(self.connection, &table).await? {
                findings.extend(self.at_privileges(&table, &["SELECT"]).await?);
            } else if is_required {
                findings.push(Finding::shape(
                    format!("table {table} does not exist"),
                    "check reference.schema, or set `reference.from: inline`",
                ));
            }
        }
        findings.dedup();
        Ok(findings)
    }
}

/// What replacing a day needs.
const TARGET_PRIVILEGES: &[&str] = &["SELECT", "INSERT", "DELETE"];

const OLDEST_VERSION: i32 = 120_000;

const SERVER_SQL: &str =
    "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version_num')::integer";

const SCHEMA_PRIVILEGE_SQL: &str =
    "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1";

const TABLE_PRIVILEGE_SQL: &str = "SELECT pg_catalog.has_table_privilege(c.oid, $3) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";

const OWNERSHIP_SQL: &str = "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
