//! Laws that hold for every key of the list.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Attempt, POSTGRES};
use crate::config::registry::{self, Fallback, Kind};
use crate::config::value::parse_scalar;
use crate::config::without_line_end;

/// Every key, another value than that of the base below, and other keys that go with it.
const CHANGES: &[(&str, &str, &[&str])] = &[
    // The only value there is.
    ("version", "1", &[]),
    ("organization.org_id", "acct7", &[]),
    ("source.uuid", "0a1b2c3d-0000-4000-8000-000000000002", &[]),
    ("source.cluster_id", "other", &[]),
    ("source.cluster_alias", "Other", &[]),
    ("source.report_period_id", "7", &[]),
    (
        "sources",
        "[{uuid: 0a1b2c3d-0000-4000-8000-000000000002, cluster_id: other, cluster_alias: 'a: b', report_period_id: 7}]",
        &["source.uuid=", "source.cluster_id="],
    ),
    ("period.start_date", "2025-10-02", &[]),
    ("period.end_date", "2025-10-30", &[]),
    ("period.month", "current", &["period.start_date=", "period.end_date="]),
    ("period.last_days", "3", &["period.start_date=", "period.end_date="]),
    ("storage.url", "s3://other", &[]),
    ("storage.endpoint", "https://minio", &[]),
    ("storage.region", "eu-west-1", &[]),
    ("storage.access_key", "", &[]),
    ("storage.access_key_file", "/ak", &["storage.secret_key_file=/sk"]),
    ("storage.secret_key", "", &[]),
    ("storage.secret_key_file", "/sk", &["storage.access_key_file=/ak"]),
    ("storage.allow_http", "true", &[]),
    ("storage.path_style", "true", &[]),
    ("storage.ca_file", "/ca", &[]),
    ("storage.compare_objects_by", "size_and_time", &[]),
    ("storage.concurrent_requests", "3", &[]),
    ("storage.connect_timeout_seconds", "3", &[]),
    ("storage.request_timeout_seconds", "3", &[]),
    ("storage.retries", "0", &[]),
    ("storage.retry_seconds", "3", &[]),
    ("input.on_two_manifests", "error", &[]),
    ("input.on_disappeared", "accept", &[]),
    ("labels.on_malformed", "empty", &[]),
    ("semantics", "trino", &[]),
    ("on_bad_day", "stop", &[]),
    ("target.kind", "none", &[]),
    ("target.file.path", "out", &["target.kind=file"]),
    ("target.file.format", "parquet", &["target.kind=file", "target.file.path=out"]),
    ("target.guard.max_change_percent", "12.5", &[]),
    ("target.guard.min_objects_percent", "12.5", &[]),
    ("target.postgres.host", "other", &[]),
    ("target.postgres.port", "5433", &[]),
    ("target.postgres.database", "other", &[]),
    ("target.postgres.user", "other", &[]),
    ("target.postgres.password", "", &[]),
    ("target.postgres.password_file", "/pw", &[]),
    ("target.postgres.schema", "other", &[]),
    ("target.postgres.table", "other", &[]),
    ("target.postgres.replace", "reference", &[]),
    ("target.postgres.ssl_mode", "require", &[]),
    ("target.postgres.ca_file", "/ca", &[]),
    ("target.postgres.connections", "3", &[]),
    ("target.postgres.connect_timeout_seconds", "3", &[]),
    ("target.postgres.statement_timeout_seconds", "3", &[]),
    ("target.postgres.lock_timeout_seconds", "3", &[]),
    ("target.postgres.retries", "0", &[]),
    ("target.postgres.retry_seconds", "3", &[]),
    ("target.postgres.reference_locks", "true", &[]),
    ("target.postgres.max_writers", "3", &[]),
    ("claims.lease_seconds", "9", &[]),
    ("claims.wait_seconds", "7", &[]),
    ("reference.from", "inline", &[]),
    ("reference.schema", "other", &[]),
    ("reference.enabled_tag_keys", "[app]", &["reference.from=inline"]),
    ("reference.cost_categories", "[{namespace: a, cost_category_id: 2}]", &["reference.from=inline"]),
    ("reference.node_roles", "derive", &[]),
    ("performance.max_workers", "3", &[]),
    ("performance.memory_limit", "256MiB", &[]),
    ("performance.memory_budget", "64MiB", &[]),
    ("stopping.grace_seconds", "0", &[]),
    ("logging.format", "json", &[]),
    ("logging.level", "debug", &[]),
    ("logging.termination_log", "/tmp/last-words", &[]),
    ("metrics.listen", "0.0.0.0:9090", &[]),
];

/// The base with further keys; secrets go into the text because `--set` refuses them.
fn changed(path: &str, value: &str, others: &[&str]) -> Attempt<'static> {
    let mut text = POSTGRES.to_owned();
    let set = match path {
        "storage.access_key" | "storage.secret_key" => {
            text = text.replace("storage:\n", "storage:\n  access_key: a\n  secret_key: b\n");
            None
        }
        "target.postgres.password" => {
            text.push_str("    password: c\n");
            None
        }
        _ => Some(format!("{path}={value}")),
    };
    let attempt = Attempt::new(text).secret_file("/ak", "a").secret_file("/sk", "b").secret_file("/pw", "c");
    others.iter().map(|other| (*other).to_owned()).chain(set).fold(attempt, |attempt, text| attempt.set(&text))
}

#[test]
fn every_key_changes_the_configuration() {
    let listed: BTreeSet<&str> = CHANGES.iter().map(|(path, _, _)| *path).collect();
    let known: BTreeSet<&str> = registry::keys().map(|key| key.path).collect();
    assert_eq!(listed, known);
    for (path, value, others) in CHANGES.iter().filter(|(path, _, _)| *path != "version") {
        let with_key = changed(path, value, others);
        let mut without_key = changed(path, value, others);
        without_key.overrides.retain(|text| !text.starts_with(&format!("{path}=")));
        if with_key.overrides.len() == without_key.overrides.len() {
            without_key = Attempt::new(POSTGRES);
        }
        let (with_key, without_key) = (with_key.resolve(), without_key.resolve());
        let resolved = with_key.unwrap_or_else(|problems| panic!("{path}: {problems}"));
        let Ok(other) = without_key else {
            // Without the key there is no configuration at all: that is a difference.
            continue;
        };
        let text = |resolved: &crate::config::Resolved| {
            let text = crate::config::effective_yaml(&resolved.effective);
            text.lines().map(|line| line.split("  #").next().unwrap_or(line).to_owned()).collect::<Vec<_>>()
        };
        assert_ne!(text(&resolved), text(&other), "{path} does not show");
        let shows_only = ["target.file.format"];
        let debug = |resolved: &crate::config::Resolved| format!("{:?}", resolved.config);
        assert!(debug(&resolved) != debug(&other) || shows_only.contains(path), "{path} changes nothing");
    }
}

#[test]
fn the_list_is_well_formed() {
    let mut seen = BTreeSet::new();
    for key in registry::keys() {
        assert!(seen.insert(key.path), "{} twice", key.path);
        if let Some((section, _)) = key.path.rsplit_once('.') {
            assert!(registry::find_section(section).is_some(), "{} has no section", key.path);
        }
        for text in [key.doc, key.reason] {
            assert!(text.ends_with('.') && !text.contains("  "), "{}: {text}", key.path);
        }
        assert!(!key.path.ends_with("_seconds") || key.unit == "seconds", "{} has another unit", key.path);
        if let Fallback::Fixed(text) = key.default {
            assert!(parse_scalar(key.kind, text).is_ok(), "{}: default {text}", key.path);
        }
        let file = registry::find(&format!("{}_file", key.path));
        let has_file = file.is_some_and(|file| file.kind == Kind::SecretFile);
        assert_eq!(key.kind.is_secret(), has_file, "{} and its file", key.path);
    }
    for section in registry::SECTIONS {
        assert!(seen.insert(section.path), "{} twice", section.path);
    }
}

#[test]
fn aliases_of_choices_lead_to_a_choice() {
    for key in registry::keys() {
        if let Kind::Choice { names, aliases } = key.kind {
            assert!(aliases.iter().all(|(_, name)| names.contains(name)), "{}", key.path);
        }
    }
}

#[test]
fn the_effective_configuration_shows_every_key_once_and_its_origin() {
    let text = Attempt::new(POSTGRES)
        .env("PORT", "5433")
        .set("target.postgres.port=${PORT}")
        .set("period={month: previous}")
        .set("target.postgres.password_file=/pw")
        .secret_file("/pw", "hunter2")
        .effective();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert_eq!(names.len(), registry::keys().count() + registry::SECTIONS.len());
    let expected = "\
version: 1
organization:
  org_id: org1234567
source:
  uuid: 0a1b2c3d-0000-4000-8000-000000000001
  cluster_id: my-cluster
  cluster_alias: my-cluster  # from source.cluster_id
  report_period_id: null
sources: null
period:
  start_date: 2025-10-01  # from period.month, today is 2025-11-15 (UTC)
  end_date: 2025-10-31  # from period.month, today is 2025-11-15 (UTC)
  month: null  # given as previous, see the dates above
  last_days: null
storage:
  url: \"s3://reports/cost\"
  endpoint: null
  region: us-east-1  # default
";
    assert!(text.starts_with(expected), "{text}");
    let postgres = "\
target:
  kind: postgres  # default
  file:
    path: null
    format: csv  # default
  guard:
    max_change_percent: null
    min_objects_percent: 50  # default
  postgres:
    host: db
    port: 5433  # from --set
    database: koku
    user: writer
    password: <redacted>  # from target.postgres.password_file
    password_file: /pw  # from --set
    schema: org1234567  # from organization.org_id
";
    assert!(text.contains(postgres), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

/// The text without comments: the meaning, not its origin.
fn values(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.split("  #").next().unwrap_or(line))).collect()
}

#[test]
fn the_effective_configuration_means_the_same_when_read_again() {
    for (path, value, others) in CHANGES {
        let text = changed(path, value, others).effective();
        if text.contains("<redacted>") {
            continue;
        }
        assert_eq!(values(&Attempt::new(text.clone()).effective()), values(&text), "{path}");
    }
}

proptest! {
    #[test]
    fn any_text_survives_printing_and_reading(
        alias in "[^\\x00]{1,40}|\\PC{1,40}|[$\\\\\"'{}a:# \t\r\n-]{1,20}",
        role in "[^\\x00]{0,9}",
    ) {
        let base = Attempt::new(POSTGRES)
            .set("reference.from=inline")
            .set("source.cluster_alias=${ALIAS}")
            .set("reference.node_roles=[{node: '${ALIAS}', role: '${ROLE}'}]")
            .env("ALIAS", &alias)
            .env("ROLE", &role)
            .resolve();
        let resolved = base.expect("any text is an alias");
        let text = crate::config::effective_yaml(&resolved.effective);
        let again = Attempt::new(text.clone()).resolve();
        let again = again.map_err(|problems| TestCaseError::fail(format!("{problems}\n{text}")))?;
        // Of what a variable holds one line end is no part; without anything else the alias is not given.
        let expected = match without_line_end(&alias) {
            "" => "my-cluster",
            alias => alias,
        };
        prop_assert_eq!(&again.config.source.cluster_alias, expected);
        prop_assert_eq!(format!("{:?}", again.config), format!("{:?}", resolved.config));
    }
}
