//! The PostgreSQL target by itself against a real server: what is stored, what is replaced, what is refused.

mod altered;
mod faults;
mod faults_under_way;
mod preparation;
mod reference;
mod replace;
mod round_trip;
mod tls;

use gristmill::config::Postgres;
use gristmill::init_db::{InitOptions, init_db};
use gristmill::runtime::stopping::Stopping;
use gristmill::sink::postgres::{PostgresSink, PostgresSinkOptions, encode_on_blocking_threads};
use gristmill::time::BillingMonth;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::database;

const OCTOBER: BillingMonth = BillingMonth { year: 2025, month: 10 };
const NOVEMBER: BillingMonth = BillingMonth { year: 2025, month: 11 };

/// A database with our own tables and a partition for October 2025.
pub async fn ready_database() -> (Postgres, Client) {
    let config = database::database().await;
    init(&config, &[OCTOBER]).await;
    let client = database::client(&config).await;
    (config, client)
}

async fn init(config: &Postgres, months: &[BillingMonth]) -> Vec<String> {
    let options = InitOptions { reference_schema: &config.schema, months, sources: &[] };
    init_db(config, &options, Uuid::new_v4()).await.expect("init-db works")
}

pub fn sink(config: &Postgres, source_uuid: Uuid) -> PostgresSink {
    sink_with(config, source_uuid, false)
}

fn sink_with(config: &Postgres, source_uuid: Uuid, delete_empty_days: bool) -> PostgresSink {
    let options = PostgresSinkOptions {
        source_uuid,
        cluster_id: "cluster-1".to_owned(),
        run_id: Uuid::new_v4(),
        delete_empty_days,
        stopping: Stopping::default(),
        max_change_percent: None,
    };
    PostgresSink::new(config, options, encode_on_blocking_threads()).expect("no ca_file is configured")
}

/// `"schema"."table"` of the target.
pub fn target(config: &Postgres) -> String {
    gristmill::postgres::sql::TableName::new(&config.schema, &config.table).quoted()
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}
