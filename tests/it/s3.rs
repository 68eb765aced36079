//! Golden cases from a bucket over HTTP into files and into PostgreSQL, by the library and by the program.
//!
//! All of these run against `S3_ENDPOINT` if it is set.

use std::path::{Path, PathBuf};

use gristmill::config::{Config, Location, Postgres};
use gristmill::rollups::semantics::Semantics;
use gristmill::run::{RunOptions, run};
use gristmill::telemetry::progress::Progress;
use gristmill::telemetry::report::RunReport;
use secrecy::ExposeSecret;

use crate::binary::Invocation;
use crate::bucket::{TestBucket, files_below};
use crate::case::{Case, Expected};
use crate::csv::Row;
use crate::{case_postgres, compare, database};

/// Several reports, several days, several files per day, other types, labels as JSON and as maps.
const CASES: [(&str, &str); 6] = [
    ("02-storage-volume", "input"),
    ("15-label-precedence", "input"),
    ("25-several-days", "input"),
    ("28-split-files", "input"),
    ("01-basic-pod", "input-map"),
    ("h12-zero-row-file", "input-map"),
];

fn case(name: &str, input: &'static str) -> Case {
    Case::open(&repository().join("tests/golden").join(name), input)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

async fn bucket_of(case: &Case) -> TestBucket {
    TestBucket::with(files_below(&case.folder.join(case.input))).await
}

fn expected_rows(case: &Case) -> Vec<Row> {
    match case.expected(Semantics::Balanced) {
        Expected::Rows(rows) => rows,
        Expected::Error(_) => panic!("{} has rows", case.name()),
    }
}

async fn run_well(case: &Case, config: &Config) -> RunReport {
    let report = run(config, &RunOptions::default(), &Progress::hidden()).await;
    assert_eq!(report.exit_code, 0, "{}: {report:#?}", case.name());
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gives_the_same_files_as_a_folder() {
    for (name, input) in CASES {
        let case = case(name, input);
        let bucket = bucket_of(&case).await;
        let (from_bucket, from_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = case.csv_config(Semantics::Balanced, from_bucket.path());
        config.storage = bucket.storage.clone();
        let report = run_well(&case, &config).await;
        assert!(report.requests > 0 && report.bytes_read > 0, "{report:#?}");
        let rows = case.csv_rows(from_bucket.path());
        compare::same_rows(&expected_rows(&case), &rows).unwrap_or_else(|text| panic!("{}: {text}", case.name()));

        run_well(&case, &case.csv_config(Semantics::Balanced, from_folder.path())).await;
        let sorted = |folder: &Path| {
            let mut files = files_below(folder);
            files.sort();
            files
        };
        assert_eq!(sorted(from_bucket.path()), sorted(from_folder.path()), "{}: byte for byte", case.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_into_postgresql() {
    let server = database::database().await;
    for (name, input) in CASES {
        let case = case(name, input);
        let bucket = bucket_of(&case).await;
        let postgres = Postgres { schema: name.replace('-', "_"), ..server.clone() };
        let mut config = case.postgres_config(Semantics::Balanced, &postgres);
        config.storage = bucket.storage.clone();
        let client = case_postgres::prepare(&case, &postgres, config.period.start.month()).await;
        run_well(&case, &config).await;
        let rows = case_postgres::rows(&client, &postgres).await;
        compare::same_rows(&expected_rows(&case), &rows).unwrap_or_else(|text| panic!("{}: {text}", case.name()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_configuration_runs_with_the_variables_of_existing_deployments() {
    let case = case("25-several-days", "input");
    let bucket = bucket_of(&case).await;
    let postgres = Postgres { schema: case.text("schema").to_owned(), ..database::database().await };
    let config = case.postgres_config(Semantics::Balanced, &postgres);
    let client = case_postgres::prepare(&case, &postgres, config.period.start.month()).await;

    let shipped = std::fs::read_to_string(repository().join("config/config.yaml")).unwrap();
    let (access_key, secret_key) = bucket.keys();
    let Location::S3 { bucket: bucket_name, prefix } = &bucket.storage.location else { panic!("a bucket") };
    let password = postgres.password.as_ref().map_or("", ExposeSecret::expose_secret).to_owned();
    let ended = Invocation::new("run", &shipped)
        // The deployments have `data/` at the top of the bucket; the test has a prefix of its own.
        .variable("S3_BUCKET", &format!("{bucket_name}/{prefix}"))
        .variable("S3_ENDPOINT", bucket.endpoint())
        .variable("S3_ACCESS_KEY", access_key)
        .variable("S3_SECRET_KEY", secret_key)
        .variable("S3_ALLOW_HTTP", "true")
        .variable("ORG_ID", case.text("org"))
        .variable("OCP_PROVIDER_UUID", case.text("source_uuid"))
        .variable("OCP_CLUSTER_ID", case.text("cluster_id"))
        .variable("OCP_CLUSTER_ALIAS", case.text("cluster_alias"))
        .variable("OCP_START_DATE", case.text("start_date"))
        .variable("OCP_END_DATE", case.text("end_date"))
        .variable("POSTGRES_HOST", &postgres.host)
        .variable("POSTGRES_PORT", &postgres.port.to_string())
        .variable("POSTGRES_DB", &postgres.database)
        .variable("POSTGRES_USER", &postgres.user)
        .variable("POSTGRES_PASSWORD", &password)
        .variable("POSTGRES_SCHEMA", &postgres.schema)
        .variable("POSTGRES_SSL_MODE", "disable")
        .variable("LOG_LEVEL", "INFO")
        .run()
        .await;
    ended.expect(0, &["rows in", "rows out", "status", "peak memory", "pod_labels:", "day written", "2025-03-12"]);
    let rows = case_postgres::rows(&client, &postgres).await;
    compare::same_rows(&expected_rows(&case), &rows).unwrap();

    let report = &ended.report;
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["semantics"], "balanced");
    assert_eq!(report["error"], serde_json::Value::Null);
    assert_eq!(report["rows_out"], rows.len());
    for (day, number) in [("2025-03-10", 0), ("2025-03-11", 1), ("2025-03-12", 2)] {
        assert_eq!(report["days"][number]["day"], day);
        assert_eq!(report["days"][number]["status"], "written");
        assert_eq!(report["days"][number]["rows_in"], 48);
        assert_eq!(report["days"][number]["is_complete"], true);
    }
    assert_eq!(report["days"].as_array().map(Vec::len), Some(3));
    for figure in ["peak_memory_bytes", "peak_chunk_bytes", "bytes_read", "requests", "wall_seconds"] {
        assert!(report[figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report:#}");
    }
    assert_eq!(report["stage_seconds"][0]["stage"], "discover", "{report:#}");
    assert_eq!(report["label_columns"]["pod_labels"]["text_rows"], 72);
    // The table that a person reads says the same.
    let line = ended.stdout.lines().find(|line| line.contains("2025-03-11")).unwrap();
    assert!(line.contains("48") && line.contains("written"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_writes_the_files_of_a_map_case_from_a_bucket() {
    let case = case("01-basic-pod", "input-map");
    let bucket = bucket_of(&case).await;
    let output: PathBuf = tempfile::tempdir().unwrap().keep();
    let mut settings = crate::delivery::into_csv(case.settings(Semantics::Balanced), &output);
    settings["source"]["report_period_id"] = case.facts["report_period_id"].clone();
    settings["reference"] = serde_json::json!({
        "from": "inline", "enabled_tag_keys": case.facts["enabled_tag_keys"], "node_roles": "derive",
    });
    let (access_key, secret_key) = bucket.keys();
    settings["storage"] = serde_json::json!({
        "url": bucket.url(), "endpoint": bucket.endpoint(), "allow_http": true,
        "access_key": "${KEY}", "secret_key": "${SECRET}",
    });
    let ended =
        Invocation::with("run", &settings).variable("KEY", access_key).variable("SECRET", secret_key).run().await;
    ended.expect(0, &["24 rows as map"]);
    compare::same_rows(&expected_rows(&case), &case.csv_rows(&output)).unwrap();
    std::fs::remove_dir_all(output).unwrap();
}
