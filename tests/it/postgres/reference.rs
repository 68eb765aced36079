//! The small tables as facts of a window.

use std::sync::Arc;

use gristmill::config::{NodeRoles, ReferenceFrom};
use gristmill::error::ErrorKind;
use gristmill::init_db::{InitOptions, init_db};
use gristmill::reference::load;
use gristmill::rollups::facts::{CostCategory, NodeRole};
use uuid::Uuid;

use super::preparation::{WINDOW, config_for};
use super::{OCTOBER, ready_database};

#[tokio::test]
async fn facts_come_sorted_from_the_small_tables() {
    let (postgres, client) = ready_database().await;
    let config = config_for(&postgres);
    client
        .batch_execute(&format!(
            "INSERT INTO tenant.reporting_enabledtagkeys (key, enabled, provider_type) VALUES ('team', true, 'OCP'), \
             ('app', true, 'OCP'), ('off', false, 'OCP'), ('cloud', true, 'AWS'); \
             INSERT INTO tenant.reporting_ocp_nodes (node, resource_id, node_role) VALUES ('n2', 'i-2', 'worker'), \
             ('n1', 'i-1', 'infra'), ('n1', 'i-1', 'worker'), ('n1', null, null), (null, 'i-3', 'worker'); \
             INSERT INTO tenant.reporting_ocpusagereportperiod (id, cluster_id, report_period_start, report_period_end, \
             provider_id) VALUES (17, 'cluster-1', '2025-10-01 00:00+00', '2025-11-01 00:00+00', '{0}'), \
             (18, 'cluster-1', '2025-11-01 00:00+00', '2025-12-01 00:00+00', '{0}')",
            config.source.uuid
        ))
        .await
        .unwrap();
    client.batch_execute(&format!("ALTER DATABASE {} SET timezone = 'Asia/Tokyo'", postgres.database)).await.unwrap();
    let data = load(&config, WINDOW(), Uuid::nil()).await.unwrap();
    assert_eq!(data.enabled_tag_keys, ["app", "team"]);
    let patterns: Vec<&str> = data.cost_categories.iter().map(|category| category.namespace_pattern.as_str()).collect();
    assert_eq!(patterns, ["Platform unallocated", "kube-%", "openshift", "openshift-%"]);
    let role = |node: &str, id: Option<&str>, role: Option<&str>| NodeRole {
        node: node.to_owned(),
        resource_id: id.map(str::to_owned),
        role: role.map(str::to_owned),
    };
    assert_eq!(
        data.node_roles,
        [role("n1", None, None), role("n1", Some("i-1"), Some("worker")), role("n2", Some("i-2"), Some("worker"))]
    );
    assert_eq!(data.report_period_id, Some(17));
}

#[tokio::test]
async fn a_missing_report_period_names_the_three_values() {
    let (postgres, client) = ready_database().await;
    let mut config = config_for(&postgres);
    let error = load(&config, WINDOW(), Uuid::nil()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReportPeriodMissing);
    let text = error.to_string();
    for part in ["cluster-1", "2025-10", &config.source.uuid.to_string()] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    config.source.report_period_id = Some(5);
    assert_eq!(load(&config, WINDOW(), Uuid::nil()).await.unwrap().report_period_id, Some(5));

    config.source.report_period_id = None;
    client.batch_execute("DROP TABLE tenant.reporting_ocpusagereportperiod").await.unwrap();
    assert_eq!(load(&config, WINDOW(), Uuid::nil()).await.unwrap().report_period_id, None);
}

#[tokio::test]
async fn init_db_adds_the_report_periods_of_a_source() {
    let (postgres, _client) = ready_database().await;
    let config = config_for(&postgres);
    let options =
        InitOptions { reference_schema: "tenant", months: &[OCTOBER], sources: std::slice::from_ref(&config.source) };
    let done = init_db(&postgres, &options, Uuid::nil()).await.unwrap();
    assert!(done.iter().any(|line| line.contains("report period 2025-10 of cluster cluster-1: added")), "{done:?}");
    assert!(load(&config, WINDOW(), Uuid::nil()).await.unwrap().report_period_id.is_some());
}

#[tokio::test]
async fn another_missing_table_is_a_problem_with_a_fix() {
    let (postgres, client) = ready_database().await;
    let config = config_for(&postgres);
    client.batch_execute("DROP TABLE tenant.reporting_ocp_nodes").await.unwrap();
    let error = load(&config, WINDOW(), Uuid::nil()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TargetShape);
    assert!(error.to_string().contains("tenant.reporting_ocp_nodes does not exist"), "{error}");

    let mut derived = config;
    Arc::make_mut(&mut derived.reference).node_roles = NodeRoles::Derive;
    derived.source.report_period_id = Some(1);
    assert!(load(&derived, WINDOW(), Uuid::nil()).await.unwrap().node_roles.is_empty());
}

#[tokio::test]
async fn inline_facts_need_no_table() {
    let (postgres, client) = ready_database().await;
    client
        .batch_execute("DROP TABLE tenant.reporting_ocpusagereportperiod, tenant.reporting_enabledtagkeys")
        .await
        .unwrap();
    let mut config = config_for(&postgres);
    let category = |pattern: &str| CostCategory { namespace_pattern: pattern.to_owned(), cost_category_id: 4 };
    let reference = Arc::make_mut(&mut config.reference);
    reference.from = ReferenceFrom::Inline {
        enabled_tag_keys: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
        cost_categories: vec![category("z%"), category("a%")],
    };
    reference.node_roles = NodeRoles::Inline(Vec::new());
    let data = load(&config, WINDOW(), Uuid::nil()).await.unwrap();
    assert_eq!(data.enabled_tag_keys, ["a", "b"]);
    assert_eq!(data.cost_categories, [category("a%"), category("z%")]);
    assert_eq!(data.report_period_id, None);
}
