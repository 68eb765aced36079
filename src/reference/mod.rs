//! Small tables (enabled keys, cost categories, node roles, report period), from PostgreSQL or the configuration → the
//! facts of one window as plain, sorted values.

mod postgres;
pub mod tables;

use uuid::Uuid;

use crate::config::{self, Config, NodeRoles, ReferenceFrom, Source, Target};
use crate::error::ErrorKind;
use crate::impl_failure;
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::{Finding, PostgresError};
use crate::postgres::retry::retrying;
use crate::postgres::sql::TableName;
use crate::rollups::facts::ReferenceData;
use crate::time::{BillingMonth, Window};

/// What all of it is called in messages.
const ACTION: &str = "reading the reference data";

/// Why the facts of a window are not known.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// PostgreSQL refuses or cannot be reached, or a table is missing.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The reference keeps report periods, but none for this source and month.
    #[error("{table} has no row for cluster_id `{cluster_id}`, month {month} and source {source_uuid}")]
    ReportPeriodMissing {
        /// Schema and table.
        table: String,
        /// `source.cluster_id`.
        cluster_id: String,
        /// Month of the window.
        month: BillingMonth,
        /// `source.uuid`.
        source_uuid: Uuid,
    },
}

impl_failure!(ReferenceError);

impl ReferenceError {
    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ReferenceError::Postgres(error) => error.kind(),
            ReferenceError::ReportPeriodMissing { .. } => ErrorKind::ReportPeriodMissing,
        }
    }
}

/// Reads the facts of a window. Node roles stay empty where they are to be derived.
/// Order: keys, categories and roles are sorted and distinct.
pub async fn load(config: &Config, window: Window, run_id: Uuid) -> Result<ReferenceData, ReferenceError> {
    let mut data = inline_part(config);
    data.report_period_id = config.source.report_period_id;
    if let Some(plan) = Lookup::of(config, &config.source) {
        // A server that is just starting, or goes away in between, does not end the run.
        let connector = Connector::new(plan.postgres, run_id)?;
        data = retrying(connector.retry_policy(), ACTION, || async {
            let connection = connector.connect().await?;
            connection.begin_reading(ACTION).await?;
            let mut data = data.clone();
            let filled = plan.fill(&mut data, &connection, config, window).await;
            match filled {
                Ok(()) => connection.commit(ACTION).await.map(|()| Ok(data)),
                Err(ReferenceError::Postgres(error)) => Err(error),
                Err(missing) => Ok(Err(missing)),
            }
        })
        .await??;
    }
    data.enabled_tag_keys.sort();
    data.enabled_tag_keys.dedup();
    data.cost_categories.sort();
    data.cost_categories.dedup();
    data.node_roles.sort();
    data.node_roles.dedup();
    Ok(data)
}

/// A table that `load` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// Schema and name.
    pub table: TableName,
    /// Whether it has to be there. A database without report periods is in order.
    pub is_required: bool,
}

impl Needed {
    /// Why the table cannot be read, rights aside; `None` if it can, or need not be there.
    pub async fn problem(&self, connection: &Connection) -> Result<Option<Finding>, PostgresError> {
        Ok(postgres::look(connection, self).await?.err())
    }
}

/// The tables that `load` reads for the sources of a configuration; empty if nothing is asked of PostgreSQL.
pub fn needed(config: &Config) -> Vec<Needed> {
    let mut needed: Vec<Needed> = Vec::new();
    for lookup in config.sources().filter_map(|source| Lookup::of(config, source)) {
        for table in lookup.needed() {
            if !needed.contains(&table) {
                needed.push(table);
            }
        }
    }
    needed
}

/// What the configuration itself says.
fn inline_part(config: &Config) -> ReferenceData {
    let mut data = ReferenceData::default();
    if let ReferenceFrom::Inline { enabled_tag_keys, cost_categories } = &config.reference.from {
        data.enabled_tag_keys.clone_from(enabled_tag_keys);
        data.cost_categories.clone_from(cost_categories);
    }
    if let NodeRoles::Inline(roles) = &config.reference.node_roles {
        data.node_roles.clone_from(roles);
    }
    data
}

/// What has to be asked of PostgreSQL.
struct Lookup<'a> {
    postgres: &'a config::Postgres,
    schema: &'a str,
    keys_and_categories: bool,
    node_roles: bool,
    report_period: bool,
}

impl<'a> Lookup<'a> {
    /// `None` if nothing has to be asked.
    fn of(config: &'a Config, source: &Source) -> Option<Self> {
        let postgres = config.postgres.as_ref()?;
        let writes_there = matches!(config.target, Target::Postgres);
        let (schema, keys_and_categories) = match &config.reference.from {
            ReferenceFrom::Postgres { schema } => (schema.as_str(), true),
            ReferenceFrom::Inline { .. } => (postgres.schema.as_str(), false),
        };
        let lookup = Self {
            postgres,
            schema,
            keys_and_categories,
            node_roles: matches!(config.reference.node_roles, NodeRoles::Postgres),
            report_period: source.report_period_id.is_none() && (keys_and_categories || writes_there),
        };
        (lookup.keys_and_categories || lookup.node_roles || lookup.report_period).then_some(lookup)
    }

    fn needed(&self) -> Vec<Needed> {
        let tables = [
            (self.keys_and_categories, tables::ENABLED_KEYS, true),
            (self.keys_and_categories, tables::COST_CATEGORY_NAMESPACES, true),
            (self.node_roles, tables::NODES, true),
            (self.report_period, tables::REPORT_PERIODS, false),
        ];
        let wanted = tables.into_iter().filter(|(is_read, _, _)| *is_read);
        wanted.map(|(_, name, is_required)| Needed { table: TableName::new(self.schema, name), is_required }).collect()
    }

    async fn fill(
        &self,
        data: &mut ReferenceData,
        connection: &Connection,
        config: &Config,
        window: Window,
    ) -> Result<(), ReferenceError> {
        if self.keys_and_categories {
            data.enabled_tag_keys = postgres::enabled_tag_keys(connection, self.schema).await?;
            data.cost_categories = postgres::cost_categories(connection, self.schema).await?;
        }
        if self.node_roles {
            data.node_roles = postgres::node_roles(connection, self.schema).await?;
        }
        if self.report_period {
            data.report_period_id =
                postgres::report_period_id(connection, self.schema, &config.source, window.month()).await?;
        }
        Ok(())
    }
}
