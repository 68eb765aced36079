//! What a correct configuration comes to.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::{Attempt, FILE, POSTGRES, with};
use crate::config::{
    FileFormat, Location, NodeRoles, OnBadDay, OnMalformedLabel, OnTwoManifests, ReferenceFrom, Replace, SslMode,
    Target,
};
use crate::rollups::facts::{CostCategory, NodeRole};
use crate::rollups::semantics::Semantics;
use crate::units::Bytes;

#[test]
fn defaults_are_the_documented_ones() {
    let config = Attempt::new(POSTGRES).config();
    assert_eq!(config.org_id, "org1234567");
    assert_eq!(config.source.uuid.to_string(), "0a1b2c3d-0000-4000-8000-000000000001");
    assert_eq!(config.source.cluster_alias, "my-cluster");
    assert_eq!(config.source.report_period_id, None);
    assert_eq!(config.semantics, Semantics::Balanced);
    assert_eq!(config.on_malformed_label, OnMalformedLabel::Error);
    assert_eq!(config.on_bad_day, OnBadDay::Continue);
    assert_eq!(config.on_two_manifests, OnTwoManifests::Warn);
    assert!(matches!(config.target, Target::Postgres));
    assert!(matches!(&config.reference.from, ReferenceFrom::Postgres { schema } if schema == "org1234567"));
    assert!(matches!(config.reference.node_roles, NodeRoles::Postgres));
    assert_eq!((config.performance.max_workers, config.performance.memory_budget), (None, None));
    assert_eq!((config.logging.json, config.logging.level.as_str()), (false, "info"));
    let storage = config.storage;
    assert_eq!((storage.endpoint, storage.region.as_str()), (None, "us-east-1"));
    assert!(storage.access_key.is_none() && storage.secret_key.is_none() && storage.ca_file.is_none());
    assert!(!storage.allow_http && !storage.path_style);
    assert_eq!((storage.concurrent_requests, storage.retries, storage.retry_seconds), (64, 5, 240));
    assert_eq!((storage.connect_timeout_seconds, storage.request_timeout_seconds), (5, 60));
    let postgres = config.postgres.expect("a connection");
    assert_eq!((postgres.host.as_str(), postgres.port), ("db", 5432));
    assert_eq!((postgres.database.as_str(), postgres.user.as_str()), ("koku", "writer"));
    assert_eq!(postgres.schema, "org1234567");
    assert_eq!(postgres.table, "reporting_ocpusagelineitem_daily_summary");
    assert_eq!((postgres.replace, postgres.ssl_mode), (Replace::Own, SslMode::VerifyFull));
    assert!(postgres.password.is_none() && postgres.ca_file.is_none() && !postgres.reference_locks);
    assert_eq!((postgres.connections, postgres.connect_timeout_seconds), (2, 5));
    assert_eq!((postgres.statement_timeout_seconds, postgres.lock_timeout_seconds), (600, 60));
    assert_eq!((postgres.retries, postgres.retry_seconds, config.stopping_grace_seconds), (6, 1200, 90));
}

#[test]
fn the_file_target_needs_no_database() {
    let config = Attempt::new(FILE).config();
    assert!(config.postgres.is_none());
    let Target::File { path, format } = config.target else { panic!("not a file target") };
    assert_eq!((path, format), (PathBuf::from("out"), FileFormat::Csv));
    assert!(matches!(&config.storage.location, Location::Folder(path) if path == &PathBuf::from("/reports")));
    let ReferenceFrom::Inline { enabled_tag_keys, cost_categories } = &config.reference.from else {
        panic!("not inline")
    };
    assert!(enabled_tag_keys.is_empty() && cost_categories.is_empty());
    assert!(matches!(&config.reference.node_roles, NodeRoles::Inline(roles) if roles.is_empty()));
}

#[test]
fn a_file_target_may_read_its_tables_from_a_database() {
    let text = format!("{FILE}reference: {{from: postgres, node_roles: derive}}\n");
    let attempt = Attempt::new(text)
        .set("target.postgres.host=/run/postgresql")
        .set("target.postgres.database=koku")
        .set("target.postgres.user=reader")
        .set("target.postgres.schema=acme");
    let config = attempt.config();
    assert!(matches!(config.target, Target::File { .. }));
    assert_eq!(config.postgres.expect("a connection").host, "/run/postgresql");
    assert!(matches!(&config.reference.from, ReferenceFrom::Postgres { schema } if schema == "acme"));
    assert!(matches!(config.reference.node_roles, NodeRoles::Derive));
}

#[test]
fn inline_tables_are_taken_as_written() {
    let text = format!(
        "{FILE}reference:
  enabled_tag_keys: [app, 007, true, '', '${{KEY}}', '~']
  cost_categories: [{{namespace: 'a-%', cost_category_id: 42}}]
  node_roles:
    - {{node: n1, resource_id: i-1, role: master}}
    - {{node: n2, resource_id: '', role: null}}
    - {{node: n3}}
"
    );
    let config = Attempt::new(text).env("KEY", "null").config();
    let ReferenceFrom::Inline { enabled_tag_keys, cost_categories } = &config.reference.from else {
        panic!("not inline")
    };
    assert_eq!(*enabled_tag_keys, ["app", "007", "true", "", "null", "~"]);
    assert_eq!(*cost_categories, [CostCategory { namespace_pattern: "a-%".to_owned(), cost_category_id: 42 }]);
    let role = |node: &str, resource_id: Option<&str>, role: Option<&str>| NodeRole {
        node: node.to_owned(),
        resource_id: resource_id.map(str::to_owned),
        role: role.map(str::to_owned),
    };
    let NodeRoles::Inline(roles) = &config.reference.node_roles else { panic!("not inline") };
    assert_eq!(*roles, [role("n1", Some("i-1"), Some("master")), role("n2", Some(""), None), role("n3", None, None)]);
}

#[test]
fn the_account_prefix_belongs_to_the_schema_only() {
    for (written, org_id) in [("acct10001", "10001"), ("org1234567", "org1234567"), ("0042", "0042"), ("1e3", "1e3")] {
        let config = Attempt::new(with(POSTGRES, "org_id: org1234567", &format!("org_id: {written}"))).config();
        assert_eq!(config.org_id, org_id);
        assert_eq!(config.postgres.expect("a connection").schema, written);
    }
}

#[test]
fn periods_resolve_in_utc() {
    let section = "period:\n  start_date: 2025-10-01\n  end_date: 2025-10-31\n";
    let cases = [
        (
            "{start_date: 2025-12-30, end_date: 2026-01-02}",
            "2025-11-15T00:00:00Z",
            "2025-12-30..2026-01-02, 2025-11-15",
        ),
        (
            "{start_date: 2025-10-01, end_date: 2025-10-01}",
            "2025-11-15T00:00:00Z",
            "2025-10-01..2025-10-01, 2025-11-15",
        ),
        ("{month: current}", "2025-11-15T23:59:59Z", "2025-11-01..2025-11-15, 2025-11-15"),
        ("{month: current}", "2025-11-30T23:30:00-02:00", "2025-12-01..2025-12-01, 2025-12-01"),
        ("{month: previous}", "2026-01-01T00:00:00Z", "2025-12-01..2025-12-31, 2026-01-01"),
        ("{month: 2024-02}", "2026-01-01T00:00:00Z", "2024-02-01..2024-02-29, 2026-01-01"),
        ("{month: 2025-11}", "2025-11-15T00:00:00Z", "2025-11-01..2025-11-15, 2025-11-15"),
        ("{month: 2026-02}", "2025-11-15T00:00:00Z", "2026-02-01..2026-02-28, 2025-11-15"),
        ("{month: 9999-12}", "2025-11-15T00:00:00Z", "9999-12-01..9999-12-31, 2025-11-15"),
        ("{last_days: 1}", "2025-11-15T00:00:00Z", "2025-11-15..2025-11-15, 2025-11-15"),
        ("{last_days: '20'}", "2025-11-15T00:00:00Z", "2025-10-27..2025-11-15, 2025-11-15"),
        (
            "{start_date: '', end_date: , month: ~, last_days: 2}",
            "2024-03-01T00:00:00Z",
            "2024-02-29..2024-03-01, 2024-03-01",
        ),
    ];
    for (period, now, expected) in cases {
        let attempt = Attempt::new(with(POSTGRES, section, &format!("period: {period}\n"))).at(now);
        let period = attempt.config().period;
        assert_eq!(format!("{}..{}, {}", period.start, period.end, period.today), expected);
    }
}

#[test]
fn locations_are_taken_apart() {
    let s3 = |bucket: &str, prefix: &str| format!("S3 {{ bucket: {bucket:?}, prefix: {prefix:?} }}");
    let cases = [
        ("s3://b", s3("b", "")),
        ("s3://b/", s3("b", "")),
        ("s3://b.c-d_e/x/y/", s3("b.c-d_e", "x/y")),
        ("file:///", "Folder(\"/\")".to_owned()),
        ("file:///a b/%20/", "Folder(\"/a b/%20\")".to_owned()),
    ];
    for (url, expected) in cases {
        let config = Attempt::new(POSTGRES).set(&format!("storage.url={url}")).config();
        assert_eq!(format!("{:?}", config.storage.location), expected);
    }
}

#[test]
fn an_endpoint_means_path_style() {
    let attempt = Attempt::new(POSTGRES).set("storage.endpoint=http://minio:9000/").set("storage.allow_http=true");
    let storage = attempt.config().storage;
    assert_eq!(storage.endpoint.as_deref(), Some("http://minio:9000"));
    assert!(storage.path_style);
    let attempt = Attempt::new(POSTGRES).set("storage.endpoint=https://s3.example").set("storage.path_style=false");
    assert!(!attempt.config().storage.path_style);
}

#[test]
fn an_endpoint_is_ignored_for_a_local_folder() {
    let storage = Attempt::new(FILE).set("storage.endpoint=http://minio:9000").config().storage;
    assert_eq!(storage.endpoint, None);
    let problems = Attempt::new(FILE).set("storage.endpoint=http://me:word@minio").problems();
    assert!(problems.contains("holds a user name or password"), "{problems}");
    let problems = Attempt::new(FILE).set("target.postgres.host=postgres://me:word@db/koku").problems();
    assert!(problems.contains("is a URL or names a user"), "{problems}");
}

#[test]
fn secrets_come_from_text_environment_or_file() {
    let text =
        with(POSTGRES, "  url: s3://reports/cost", "  url: s3://b\n  access_key: ${KEY}\n  secret_key_file: /key");
    let attempt =
        Attempt::new(format!("{text}    password: 'p # w'\n")).env("KEY", "ak").secret_file("/key", "s k\r\n");
    let config = attempt.config();
    let exposed =
        |secret: &Option<secrecy::SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
    assert_eq!(exposed(&config.storage.access_key).as_deref(), Some("ak"));
    assert_eq!(exposed(&config.storage.secret_key).as_deref(), Some("s k"));
    assert_eq!(exposed(&config.postgres.as_ref().expect("a connection").password).as_deref(), Some("p # w"));
    let debug = format!("{config:?}");
    assert!(!debug.contains("p # w") && !debug.contains("\"ak\""), "{debug}");
    let attempt = Attempt::new(POSTGRES).set("target.postgres.password_file=/p").secret_file("/p", "x\n\n");
    assert_eq!(exposed(&attempt.config().postgres.expect("a connection").password).as_deref(), Some("x\n"));
}

#[test]
fn variables_are_replaced_inside_texts() {
    let cases = [
        ("${A}", "value"),
        ("x-${A}-${A}-y", "x-value-value-y"),
        ("${A:-b}", "value"),
        ("${EMPTY:-b}", "b"),
        ("${NO:-b}", "b"),
        ("${NO:-b:-c}", "b:-c"),
        ("$A $$ $", "$A $$ $"),
        ("$${A}", "${A}"),
        ("$$${A}", "$${A}"),
        ("${NULL}", "null"),
    ];
    for (written, expected) in cases {
        let text = format!("{POSTGRES}    table: \"{written}\"\n");
        let attempt = Attempt::new(text).env("A", "value").env("EMPTY", "").env("NULL", "null");
        assert_eq!(attempt.config().postgres.expect("a connection").table, expected, "{written}");
    }
}

#[test]
fn empty_values_count_as_not_set() {
    for value in ["", "~", "null", "''", "${NO:-}", "${EMPTY}"] {
        let text = with(POSTGRES, "  url: s3://reports/cost", &format!("  url: s3://b\n  endpoint: {value}"));
        let attempt = Attempt::new(format!("{text}logging:\n  level: {value}\nperformance:\n")).env("EMPTY", "");
        let config = attempt.config();
        assert_eq!(config.storage.endpoint, None, "{value}");
        assert_eq!(config.logging.level, "info", "{value}");
    }
}

#[test]
fn levels_of_python_are_understood() {
    for (written, expected) in [("INFO", "info"), ("WARNING", "warn"), ("Debug", "debug"), ("CRITICAL", "error")] {
        let attempt =
            Attempt::new(format!("{POSTGRES}logging: {{level: '${{LOG_LEVEL}}'}}\n")).env("LOG_LEVEL", written);
        assert_eq!(attempt.config().logging.level, expected);
    }
}

#[test]
fn sizes_have_binary_units() {
    let cases = [
        ("1", 1),
        ("4096", 4096),
        ("12B", 12),
        ("4KiB", 4096),
        ("256 MiB", 256 << 20),
        ("1GiB", 1 << 30),
        ("2TiB", 2 << 40),
    ];
    for (written, bytes) in cases {
        let config = Attempt::new(POSTGRES).set(&format!("performance.memory_budget={written}")).config();
        assert_eq!(config.performance.memory_budget, Some(Bytes(bytes)), "{written}");
    }
    assert_eq!(Attempt::new(POSTGRES).set("performance.memory_budget=auto").config().performance.memory_budget, None);
    assert_eq!(Attempt::new(POSTGRES).set("performance.max_workers=3").config().performance.max_workers, Some(3));
}

#[test]
fn overrides_replace_what_the_file_says() {
    let attempt = Attempt::new(POSTGRES)
        .set("period={last_days: 2}")
        .set("target.postgres.host=first")
        .set("target.postgres.host=second #1")
        .set("source.cluster_alias='quoted: alias'")
        .set("reference.from=inline")
        .set("reference.enabled_tag_keys=[app, \"b\"]")
        .set("reference.node_roles=derive")
        .set("target.postgres.user=");
    let problems = attempt.problems();
    assert!(problems.contains("target.postgres.host: is not a host name"), "{problems}");
    assert!(problems.contains("target.postgres.user: missing"), "{problems}");
    let attempt = attempt.set("target.postgres.host=second").set("target.postgres.user=u");
    let config = attempt.config();
    assert_eq!(config.postgres.expect("a connection").host, "second");
    assert_eq!(config.period.start.to_string(), "2025-11-14");
    assert_eq!(config.source.cluster_alias, "quoted: alias");
    let ReferenceFrom::Inline { enabled_tag_keys, .. } = &config.reference.from else { panic!("not inline") };
    assert_eq!(*enabled_tag_keys, ["app", "b"]);
    assert!(matches!(config.reference.node_roles, NodeRoles::Derive));
}

#[test]
fn an_override_makes_a_missing_variable_harmless() {
    let text = with(POSTGRES, "  url: s3://reports/cost", "  url: s3://${S3_BUCKET}");
    let config = Attempt::new(text).set("storage.url=file:///x").config();
    assert!(matches!(config.storage.location, Location::Folder(_)));
}

#[test]
fn every_choice_has_its_own_meaning() {
    let cases = [
        ("semantics", 3),
        ("on_bad_day", 2),
        ("labels.on_malformed", 2),
        ("input.on_two_manifests", 2),
        ("input.on_disappeared", 2),
        ("target.kind", 3),
        ("target.postgres.replace", 2),
        ("target.postgres.ssl_mode", 4),
        ("reference.from", 2),
        ("logging.format", 2),
        ("logging.level", 5),
    ];
    for (path, count) in cases {
        let crate::config::registry::Kind::Choice { names, .. } =
            crate::config::registry::find(path).expect("a key").kind
        else {
            panic!("{path} is no choice")
        };
        let mut meanings: Vec<String> = names
            .iter()
            .map(|name| Attempt::new(POSTGRES).set("target.file.path=out").set(&format!("{path}={name}")).config())
            .map(|config| format!("{config:?}"))
            .collect();
        meanings.sort();
        meanings.dedup();
        assert_eq!(meanings.len(), count, "{path}");
        assert_eq!(names.len(), count, "{path}");
    }
}

#[test]
fn the_guard_is_a_plain_number_of_percent() {
    const PATH: &str = "target.guard.max_change_percent";
    let attempt = |value: &str| Attempt::new(POSTGRES).set(&format!("{PATH}={value}"));
    for (value, percent) in [("", None), ("0", Some(0.0)), ("12.5", Some(12.5)), ("300", Some(300.0))] {
        assert_eq!(attempt(value).config().max_change_percent, percent, "{value}");
    }
    let form = "write a number such as 12.5, 0 to 1000000";
    for word in ["-1", "1e3", "inf", "NaN", "20%", "."] {
        assert_eq!(attempt(word).problems(), format!("--set: {PATH}: `{word}` is not a number; {form}"));
    }
    assert_eq!(attempt("1000001").problems(), format!("--set: {PATH}: `1000001` is out of range; {form}"));
}
