//! The PostgreSQL target against a real server: what is stored, what is replaced, what is refused.

#[path = "support/day_rows.rs"]
mod day_rows;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "postgres/preparation.rs"]
mod preparation;
#[path = "postgres/reference.rs"]
mod reference;
#[path = "postgres/replace.rs"]
mod replace;
#[path = "postgres/round_trip.rs"]
mod round_trip;
#[path = "postgres/tls.rs"]
mod tls;

use gristmill::config::Postgres;
use gristmill::init_db::{InitOptions, init_db};
use gristmill::sink::postgres::{PostgresSink, PostgresSinkOptions, encode_on_blocking_threads};
use gristmill::time::BillingMonth;
use tokio_postgres::Client;
use uuid::Uuid;

const OCTOBER: BillingMonth = BillingMonth { year: 2025, month: 10 };
const NOVEMBER: BillingMonth = BillingMonth { year: 2025, month: 11 };

/// A database with our own tables and a partition for October 2025.
async fn ready_database() -> (Postgres, Client) {
    let config = postgres::database().await;
    init(&config, &[OCTOBER]).await;
    let client = postgres::client(&config).await;
    (config, client)
}

async fn init(config: &Postgres, months: &[BillingMonth]) -> Vec<String> {
    let options = InitOptions { reference_schema: &config.schema, months, source: None };
    init_db(config, &options, Uuid::new_v4()).await.expect("init-db works")
}

fn sink(config: &Postgres, source_uuid: Uuid) -> PostgresSink {
    sink_with(config, source_uuid, false)
}

fn sink_with(config: &Postgres, source_uuid: Uuid, delete_empty_days: bool) -> PostgresSink {
    let options = PostgresSinkOptions {
        source_uuid,
        cluster_id: "cluster-1".to_owned(),
        run_id: Uuid::new_v4(),
        delete_empty_days,
    };
    PostgresSink::new(config, options, encode_on_blocking_threads()).expect("no ca_file is configured")
}

/// `"schema"."table"` of the target.
fn target(config: &Postgres) -> String {
    gristmill::postgres::sql::TableName::new(&config.schema, &config.table).quoted()
}

async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a count").get(0)
}
