//! The shipped files: up to date, complete, and loadable with the variables that deployments set.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde_json::Value;

use super::{Attempt, noon};
use crate::config::problem::Problems;
use crate::config::tree::{Content, Node, parse_tree};
use crate::config::{
    Location, ReferenceFrom, Target, commented_config, json_schema, json_schema_text, load, load_resolved,
    reference_page, registry,
};

/// The variables that existing deployments set.
const VARIABLES: [(&str, &str); 17] = [
    ("ORG_ID", "1234567"),
    ("OCP_PROVIDER_UUID", "0a1b2c3d-0000-4000-8000-000000000001"),
    ("OCP_CLUSTER_ID", "my-cluster"),
    ("OCP_CLUSTER_ALIAS", "My cluster"),
    ("OCP_START_DATE", "2025-10-01"),
    ("OCP_END_DATE", "2025-10-31"),
    ("S3_ENDPOINT", "https://minio:9000"),
    ("S3_BUCKET", "reports"),
    ("S3_ACCESS_KEY", "ak"),
    ("S3_SECRET_KEY", "sk"),
    ("POSTGRES_HOST", "db"),
    ("POSTGRES_PORT", "5433"),
    ("POSTGRES_DB", "koku"),
    ("POSTGRES_USER", "writer"),
    ("POSTGRES_PASSWORD", "pw"),
    ("POSTGRES_SCHEMA", "org1234567"),
    ("LOG_LEVEL", "INFO"),
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(name: &str) -> String {
    let path = repository().join("config").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn deployment() -> Attempt<'static> {
    VARIABLES.iter().fold(Attempt::new(shipped("config.yaml")), |attempt, (name, value)| attempt.env(name, value))
}

#[track_caller]
fn assert_up_to_date(path: &str, expected: &str) {
    let path = repository().join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, expected).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is out of date; run the tests with UPDATE_GOLDEN=1", path.display());
}

#[test]
fn config_yaml_is_up_to_date() {
    assert_up_to_date("config/config.yaml", &commented_config());
}

#[test]
fn config_schema_json_is_up_to_date() {
    assert_up_to_date("config/config.schema.json", &json_schema_text());
}

#[test]
fn configuration_md_is_up_to_date() {
    assert_up_to_date("docs/configuration.md", &reference_page());
}

#[test]
fn the_shipped_file_reads_the_variables_of_deployments() {
    let config = deployment().config();
    assert_eq!(config.org_id, "1234567");
    assert_eq!(config.source.cluster_alias, "My cluster");
    assert_eq!(format!("{}..{}", config.period.start, config.period.end), "2025-10-01..2025-10-31");
    assert!(matches!(&config.storage.location, Location::S3 { bucket, .. } if bucket == "reports"));
    assert_eq!(config.storage.endpoint.as_deref(), Some("https://minio:9000"));
    assert!(config.storage.path_style);
    let postgres = config.postgres.expect("a connection");
    assert_eq!((postgres.host.as_str(), postgres.port), ("db", 5433));
    assert_eq!(postgres.password.expect("a password").expose_secret(), "pw");
    assert!(matches!(&config.reference.from, ReferenceFrom::Postgres { schema } if schema == "org1234567"));
    assert_eq!(config.logging.level, "info");
}

#[test]
fn each_variable_of_deployments_reaches_the_configuration() {
    let text = deployment().effective();
    for (name, _) in VARIABLES {
        assert!(text.contains(name), "{name} is not read");
    }
}

#[test]
fn the_shipped_file_loads_with_the_fewest_variables() {
    let needless =
        ["S3_ENDPOINT", "OCP_CLUSTER_ALIAS", "S3_ACCESS_KEY", "S3_SECRET_KEY", "POSTGRES_PORT", "POSTGRES_PASSWORD"];
    let needless = needless.iter().chain(&["POSTGRES_SCHEMA", "LOG_LEVEL"]);
    let mut attempt = deployment();
    for name in needless {
        attempt.environment.remove(name);
    }
    let config = attempt.config();
    assert_eq!(config.source.cluster_alias, "my-cluster");
    assert_eq!(config.storage.endpoint, None);
    assert!(config.storage.access_key.is_none() && !config.storage.path_style);
    assert_eq!(config.postgres.expect("a connection").port, 5432);
}

#[test]
fn the_shipped_file_names_each_variable_that_is_missing() {
    let problems = Attempt::new(shipped("config.yaml")).problems();
    let needed =
        ["ORG_ID", "OCP_PROVIDER_UUID", "OCP_CLUSTER_ID", "S3_BUCKET", "POSTGRES_HOST", "POSTGRES_DB", "POSTGRES_USER"];
    for name in needed {
        assert!(problems.contains(name), "{name} is not named:\n{problems}");
    }
    assert_eq!(problems.lines().count(), needed.len() + 1, "{problems}");
}

#[test]
fn the_shipped_file_serves_other_periods_and_targets_too() {
    let mut attempt = deployment();
    for (name, _) in VARIABLES.iter().filter(|(name, _)| name.starts_with("POSTGRES") || name.ends_with("DATE")) {
        attempt.environment.remove(name);
    }
    let attempt = attempt
        .set("period.month=previous")
        .set("target.kind=file")
        .set("target.file.path=out")
        .set("reference.from=inline");
    let config = attempt.config();
    assert!(matches!(config.target, Target::File { .. }));
    assert_eq!(config.period.start.to_string(), "2025-10-01");
}

#[test]
fn the_minimal_file_loads_without_any_variable() {
    let text = shipped("config.minimal.yaml");
    let config = Attempt::new(text.clone()).config();
    assert!(matches!(config.storage.location, Location::Folder(_)));
    assert!(matches!(config.target, Target::File { .. }));
    assert!(config.postgres.is_none());
    // Fewest: each key in it is needed.
    let root = tree(&text);
    for path in leaves(&root) {
        let name = path.rsplit('.').next().expect("a name");
        let without: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with(&format!("{name}:")))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(Attempt::new(without).resolve().is_err(), "{path} is not needed");
    }
}

fn tree(text: &str) -> Node {
    let mut problems = Problems::default();
    let root = parse_tree(text, &mut problems).expect("YAML");
    assert!(problems.is_empty());
    root
}

/// Paths of all keys that the text has.
fn leaves(node: &Node) -> BTreeSet<String> {
    fn collect(node: &Node, path: &str, found: &mut BTreeSet<String>) {
        match &node.content {
            Content::Map(entries) => {
                for entry in entries {
                    collect(&entry.value, &crate::config::tree::join(path, &entry.key), found);
                }
            }
            _ => {
                found.insert(path.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(node, "", &mut found);
    found
}

fn known() -> BTreeSet<String> {
    registry::keys().map(|key| key.path.to_owned()).collect()
}

#[test]
fn the_shipped_file_has_every_key_and_each_with_a_comment() {
    let text = shipped("config.yaml");
    assert_eq!(leaves(&tree(&text)), known());
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let is_key = !line.trim_start().starts_with('#') && !line.is_empty();
        assert!(!is_key || lines[index - 1].trim_start().starts_with('#'), "no comment above: {line}");
    }
    for key in registry::keys() {
        assert!(key.unit.is_empty() || text.contains(&format!("Unit: {}.", key.unit)), "{} lacks its unit", key.path);
    }
}

#[test]
fn the_schema_has_every_key_and_no_other() {
    fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            assert!(schema["description"].as_str().is_some_and(|text| text.contains("Default: ")), "{path}");
            found.insert(path.to_owned());
            return;
        };
        assert_eq!(schema["additionalProperties"], Value::Bool(false), "{path}");
        for (name, child) in properties {
            collect(child, &crate::config::tree::join(path, name), found);
        }
    }
    let mut found = BTreeSet::new();
    collect(&json_schema(), "", &mut found);
    assert_eq!(found, known());
}

#[test]
fn load_reads_a_file_and_reports_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my.yaml");
    std::fs::write(&path, super::FILE).expect("a file");
    let config = load(&path, &["target.file.format=parquet".to_owned()]).expect("a configuration");
    assert!(config.period.today.date() >= noon().date_naive());
    let secret = folder.path().join("password");
    std::fs::write(&secret, "word\n").expect("a file");
    let set = format!("target.postgres.password_file={}", secret.display());
    let resolved = load_resolved(&path, &[set]).expect("a configuration");
    assert!(crate::config::effective_yaml(&resolved.effective).contains("password: <redacted>"));

    std::fs::write(&path, "version: 9\n").expect("a file");
    let problems = load(&path, &[]).expect_err("refused").to_string();
    assert!(problems.starts_with(&format!("{}:1:10: version: ", path.display())), "{problems}");
}

#[test]
fn files_that_cannot_be_read_are_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = |path: &Path| load(path, &[]).expect_err("refused").to_string();
    let missing = text(&folder.path().join("none.yaml"));
    assert!(missing.contains("none.yaml: the configuration cannot be read: No such file"), "{missing}");
    assert!(missing.ends_with("; check --config"), "{missing}");
    assert!(text(folder.path()).contains("cannot be read"));
    let path = folder.path().join("bytes.yaml");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).expect("a file");
    assert!(text(&path).contains("UTF-8"), "{}", text(&path));
    std::fs::write(&path, vec![b'#'; (4 << 20) + 1]).expect("a file");
    assert!(text(&path).contains("more than 4194304 bytes"), "{}", text(&path));
}
