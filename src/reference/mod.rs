//! Small tables (enabled keys, cost categories, node roles, report period), from PostgreSQL or the configuration → the
//! facts of one window as plain, sorted values.

mod postgres;
pub mod tables;

use uuid::Uuid;

use crate::config::{self, Config, NodeRoles, ReferenceFrom, Target};
use crate::error::ErrorKind;
use crate::impl_failure;
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::PostgresError;
use crate::postgres::retry::retrying;
use crate::rollups::facts::ReferenceData;
use crate::time::{BillingMonth, Window};

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
    if let Some(plan) = Lookup::of(config) {
        // A server that is just starting, or goes away in between, does not end the run.
        let connector = Connector::new(plan.postgres, run_id)?;
        data = retrying(connector.retry_policy(), "reading the reference data", || async {
            let connection = connector.connect().await?;
            let mut data = data.clone();
            let filled = plan.fill(&mut data, &connection, config, window).await;
            match filled {
                Ok(()) => Ok(Ok(data)),
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
    fn of(config: &'a Config) -> Option<Self> {
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
            report_period: config.source.report_period_id.is_none() && (keys_and_categories || writes_there),
        };
        (lookup.keys_and_categories || lookup.node_roles || lookup.report_period).then_some(lookup)
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
