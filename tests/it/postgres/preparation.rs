//! init-db, partitions and the preflight.

use std::path::PathBuf;
use std::sync::Arc;

use gristmill::config::{
    Claims, Config, Location, Logging, NodeRoles, OnBadDay, OnDisappeared, OnMalformedLabel, OnTwoManifests,
    Performance, Period, Postgres, Reference, ReferenceFrom, Replace, Source, Storage, Target,
};
use gristmill::error::ErrorKind;
use gristmill::rollups::semantics::Semantics;
use gristmill::run::preflight::preflight;
use gristmill::sink::Sink;
use gristmill::time::Window;
use secrecy::SecretString;
use uuid::Uuid;

use super::{NOVEMBER, OCTOBER, count, init, ready_database, sink, target};
use crate::database;
use crate::day_rows::{day, pod_rows};

/// A configuration that writes October 2025 into the database.
pub fn config_for(postgres: &Postgres) -> Config {
    Config {
        org_id: "1".to_owned(),
        source: Source {
            uuid: Uuid::from_u128(42),
            cluster_id: "cluster-1".to_owned(),
            cluster_alias: "Cluster One".to_owned(),
            report_period_id: None,
        },
        other_sources: Vec::new(),
        period: Period { start: day("2025-10-01"), end: day("2025-10-31"), today: day("2025-11-05") },
        storage: Storage {
            location: Location::Folder(PathBuf::from("/nowhere")),
            endpoint: None,
            region: String::new(),
            access_key: None,
            secret_key: None,
            allow_http: false,
            path_style: false,
            ca_file: None,
            compare_objects_by: gristmill::config::CompareObjectsBy::Etag,
            concurrent_requests: 1,
            connect_timeout_seconds: 1,
            request_timeout_seconds: 1,
            retries: 0,
            retry_seconds: 60,
        },
        target: Target::Postgres,
        postgres: Some(postgres.clone()),
        semantics: Semantics::Balanced,
        on_malformed_label: OnMalformedLabel::Error,
        on_bad_day: OnBadDay::Stop,
        on_two_manifests: OnTwoManifests::Warn,
        on_disappeared: OnDisappeared::Error,
        max_change_percent: None,
        min_objects_percent: 50.0,
        reference: Arc::new(Reference {
            from: ReferenceFrom::Postgres { schema: postgres.schema.clone() },
            node_roles: NodeRoles::Postgres,
        }),
        performance: Performance { max_workers: None, memory_budget: None, memory_limit: None },
        claims: Claims { lease_seconds: 60, wait_seconds: 3_600 },
        stopping_grace_seconds: 90,
        logging: Logging { json: false, level: "info".to_owned(), termination_log: "/nowhere".into() },
        metrics_listen: None,
    }
}

pub const WINDOW: fn() -> Window = || Window { start: day("2025-10-01"), end: day("2025-10-31") };

/// The reference's table with its tracking table, as its migrations leave them.
async fn koku_like_database() -> (Postgres, tokio_postgres::Client) {
    let (config, client) = ready_database().await;
    let table = target(&config);
    client
        .batch_execute(&format!(
            r#"DROP SCHEMA gristmill CASCADE; COMMENT ON TABLE {table} IS NULL;
            DROP TABLE tenant.reporting_ocpusagelineitem_daily_summary_2025_10;
            CREATE TABLE tenant.partitioned_tables (id serial PRIMARY KEY, schema_name text NOT NULL, table_name text
                NOT NULL, partition_of_table_name text NOT NULL, partition_type text NOT NULL, partition_col text
                NOT NULL, partition_parameters jsonb NOT NULL, active boolean NOT NULL DEFAULT true,
                subpartition_type text, subpartition_col text, UNIQUE (schema_name, table_name));
            CREATE FUNCTION tenant.make_partition() RETURNS trigger LANGUAGE plpgsql AS $body$
            BEGIN
                EXECUTE format('CREATE TABLE %I.%I PARTITION OF %I.%I FOR VALUES FROM (%L) TO (%L)',
                    new.schema_name, new.table_name, new.schema_name, new.partition_of_table_name,
                    new.partition_parameters->>'from', new.partition_parameters->>'to');
                RETURN new;
            END $body$;
            CREATE TRIGGER make_partition AFTER INSERT ON tenant.partitioned_tables
                FOR EACH ROW EXECUTE FUNCTION tenant.make_partition()"#
        ))
        .await
        .expect("tables like the reference's");
    (config, client)
}

const OBJECTS: &str = "SELECT coalesce(string_agg(n.nspname || '.' || c.relname || c.relkind::text, ' ' ORDER BY \
     n.nspname, c.relname), '') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname NOT LIKE 'pg%' AND n.nspname NOT IN ('information_schema', 'gristmill')";

async fn objects(client: &tokio_postgres::Client) -> String {
    client.query_one(OBJECTS, &[]).await.expect("the list of objects").get(0)
}

#[tokio::test]
async fn init_db_twice_changes_nothing_the_second_time() {
    let config = database::database().await;
    let done = init(&config, &[OCTOBER]).await;
    assert!(done.iter().any(|line| line.contains("schema tenant: created")), "{done:?}");
    assert!(done.iter().any(|line| line.contains("2025_10: created")), "{done:?}");
    let client = database::client(&config).await;
    let before = objects(&client).await;
    let done = init(&config, &[OCTOBER]).await;
    assert!(done.iter().all(|line| line.contains("already")), "{done:?}");
    assert_eq!(objects(&client).await, before);
    let patterns = "SELECT count(*) FROM tenant.reporting_ocp_cost_category_namespace n \
                    JOIN tenant.reporting_ocp_cost_category c ON c.id = n.cost_category_id WHERE c.name = 'Platform'";
    assert_eq!(count(&client, patterns).await, 4);
    let done = init(&config, &[OCTOBER, NOVEMBER]).await;
    assert!(done.iter().any(|line| line.contains("2025_11: created")), "{done:?}");
}

#[tokio::test]
async fn init_db_at_the_same_time_from_two_places_works() {
    let config = database::database().await;
    let months = [OCTOBER];
    let (first, second) = tokio::join!(init(&config, &months), init(&config, &months));
    assert!(first.len() > 2 && second.len() > 2);
}

#[tokio::test]
async fn on_the_references_database_only_our_own_schema_is_added() {
    let (config, client) = koku_like_database().await;
    let before = objects(&client).await;
    let done = init(&config, &[OCTOBER]).await;
    assert_eq!(objects(&client).await, before);
    assert!(done.iter().any(|line| line.contains("nothing is added or changed there")), "{done:?}");
    assert!(done.iter().any(|line| line.contains("schema gristmill: created")), "{done:?}");

    // A run then gets its partition through the reference's own trigger.
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    assert_eq!(
        sink.prepare(&[OCTOBER, NOVEMBER]).await.unwrap(),
        ["reporting_ocpusagelineitem_daily_summary_2025_10", "reporting_ocpusagelineitem_daily_summary_2025_11"]
    );
    assert!(sink.prepare(&[OCTOBER]).await.unwrap().is_empty());
    sink.replace(pod_rows(day("2025-10-01"), source, 3, 1, None)).await.unwrap();
    let row = client
        .query_one(
            "SELECT partition_parameters::text, active FROM tenant.partitioned_tables ORDER BY table_name LIMIT 1",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), r#"{"to": "2025-11-01", "from": "2025-10-01", "default": false}"#);
    assert!(row.get::<_, bool>(1));
    let inside = "SELECT count(*) FROM tenant.reporting_ocpusagelineitem_daily_summary_2025_10";
    assert_eq!(count(&client, inside).await, 3);
}

#[tokio::test]
async fn rows_in_the_default_partition_stop_the_run_with_a_fix() {
    let (config, client) = ready_database().await;
    let source = Uuid::new_v4();
    sink(&config, source).replace(pod_rows(day("2025-11-01"), source, 1, 1, None)).await.unwrap();
    let error = sink(&config, source).prepare(&[NOVEMBER]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetShape);
    assert!(error.to_string().contains("already holds rows of 2025-11"), "{error}");
    assert!(error.to_string().contains("detach the default partition"), "{error}");
    let partitions = "SELECT count(*) FROM pg_class WHERE relname LIKE '%2025_11'";
    assert_eq!(count(&client, partitions).await, 0);
}

#[tokio::test]
async fn partitions_are_made_by_many_runs_at_once_and_in_any_date_style() {
    let (config, client) = ready_database().await;
    client.batch_execute(&format!("ALTER DATABASE {} SET datestyle = 'SQL, DMY'", config.database)).await.unwrap();
    let sinks: Vec<_> = (0..4).map(|_| sink(&config, Uuid::new_v4())).collect();
    let results = futures::future::join_all(sinks.iter().map(|sink| sink.prepare(&[OCTOBER, NOVEMBER]))).await;
    let created: usize = results.into_iter().map(|result| result.unwrap().len()).sum();
    assert_eq!(created, 1);
}

#[tokio::test]
async fn an_unpartitioned_table_needs_no_partitions() {
    let (mut config, client) = ready_database().await;
    client.batch_execute(&format!("CREATE TABLE tenant.flat (LIKE {} INCLUDING ALL)", target(&config))).await.unwrap();
    config.table = "flat".to_owned();
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    assert!(sink.prepare(&[NOVEMBER]).await.unwrap().is_empty());
    sink.replace(pod_rows(day("2025-11-02"), source, 2, 1, None)).await.unwrap();
    assert_eq!(count(&client, "SELECT count(*) FROM tenant.flat").await, 2);
}

#[tokio::test]
async fn without_the_ledger_a_run_is_told_to_run_init_db() {
    let (config, client) = ready_database().await;
    client.batch_execute("DROP SCHEMA gristmill CASCADE").await.unwrap();
    let error = sink(&config, Uuid::new_v4()).prepare(&[OCTOBER]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetShape);
    assert!(error.to_string().contains("gristmill init-db"), "{error}");
}

#[tokio::test]
async fn names_with_quotes_are_names() {
    let mut config = database::database().await;
    config.schema = "a\"; drop".to_owned();
    config.table = "daily 'summary' \\ \"x\"".to_owned();
    init(&config, &[OCTOBER]).await;
    init(&config, &[OCTOBER]).await;
    let source = Uuid::new_v4();
    let sink = sink(&config, source);
    sink.prepare(&[OCTOBER, NOVEMBER]).await.unwrap();
    sink.replace(pod_rows(day("2025-11-02"), source, 2, 1, None)).await.unwrap();
    let client = database::client(&config).await;
    assert_eq!(count(&client, &format!("SELECT count(*) FROM {}", target(&config))).await, 2);
    let found = preflight(&config_for(&config), &config, &[WINDOW()], Uuid::nil()).await;
    assert_eq!(found.problems, []);
}

#[tokio::test]
async fn preflight_finds_nothing_on_a_ready_database() {
    let (mut postgres, client) = ready_database().await;
    postgres.replace = Replace::Reference;
    let config = config_for(&postgres);
    client
        .batch_execute(&format!(
            "INSERT INTO {} (uuid, source_uuid, usage_start, usage_end, monthly_cost_type) VALUES \
             (gen_random_uuid(), '{}', '2025-10-31', '2025-10-31', 'Node')",
            target(&postgres),
            config.source.uuid
        ))
        .await
        .unwrap();
    let found = preflight(&config, &postgres, &[WINDOW()], Uuid::nil()).await;
    assert_eq!(found.problems, []);
    assert!(found.notes.iter().any(|note| note.contains("`reference`: 1 cost-model")), "{:?}", found.notes);
}

#[tokio::test]
async fn preflight_lists_all_problems_at_once() {
    let (mut postgres, client) = koku_like_database().await;
    let role = format!("r_{}", Uuid::new_v4().simple());
    client
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA tenant TO {role}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA tenant TO {role}; \
             REVOKE SELECT ON tenant.reporting_ocp_nodes FROM {role}; \
             DROP TABLE tenant.reporting_enabledtagkeys; \
             ALTER TABLE {} ALTER namespace TYPE varchar(10)",
            target(&postgres)
        ))
        .await
        .unwrap();
    postgres.user = role;
    postgres.password = Some(SecretString::from("pw".to_owned()));
    let found = preflight(&config_for(&postgres), &postgres, &[WINDOW()], Uuid::nil()).await;
    let text: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    for part in [
        "lacks INSERT on table tenant.reporting_ocpusagelineitem_daily_summary",
        "lacks DELETE on table tenant.reporting_ocpusagelineitem_daily_summary",
        "lacks INSERT on table tenant.partitioned_tables",
        "lacks SELECT on table tenant.reporting_ocp_nodes",
        "is varchar(10), needed is varchar(253)",
        "the ledger gristmill.day_ledger does not exist",
        "table tenant.reporting_enabledtagkeys does not exist",
    ] {
        assert!(text.iter().any(|line| line.contains(part)), "{part} is not in {text:#?}");
    }
    assert_eq!(text.len(), 7, "{text:#?}");
    assert!(found.problems.iter().all(|finding| !finding.fix.is_empty()));
}

#[tokio::test]
async fn preflight_of_an_unreachable_server_is_one_problem() {
    let (mut postgres, _client) = ready_database().await;
    postgres.password = Some(SecretString::from("wrong".to_owned()));
    let found = preflight(&config_for(&postgres), &postgres, &[WINDOW()], Uuid::nil()).await;
    assert_eq!(found.problems.len(), 1);
    assert_eq!(found.problems[0].kind, ErrorKind::LoginRefused);
}
