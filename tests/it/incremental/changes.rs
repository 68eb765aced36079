//! What changed since the last run, or did not, and which days are written for it.

use chrono::Utc;
use serde_json::json;

use super::{Bed, DAYS, TABLE, days_with, large_object};
use crate::delivery::{self, Delivery, key, pod_key, pod_object};
use crate::usage;

const ALL_UNCHANGED: [&str; 4] = ["unchanged"; 4];

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_with_nothing_changed_writes_nothing_and_reads_no_column() {
    for node_roles in [json!(null), json!("derive")] {
        let mut bed = Bed::new().await;
        bed.settings["reference"]["node_roles"] = node_roles.clone();
        DAYS.iter().for_each(|day| bed.server.put(&pod_key(day), large_object(day, 1)));
        assert_eq!(bed.written_by_run(&[]).await, DAYS);
        let fetched = bed.fetched_since(0);
        assert_eq!(fetched.len(), DAYS.len(), "the first run reads the columns of every object: {fetched:?}");

        let (before, reads) = (bed.everything().await, bed.server.reads().len());
        let ended = bed.run(&[]).await;
        ended.expect(0, &["unchanged"]);
        assert_eq!(days_with(&ended, "status", "unchanged"), DAYS, "{ended:#?}");
        assert_eq!((&ended.report["rows_in"], &ended.report["rows_out"]), (&json!(0), &json!(0)));
        // One read per object, of its end; even where node roles are derived.
        assert_eq!(bed.server.reads().len(), reads + DAYS.len(), "roles: {node_roles}");
        assert_eq!(bed.fetched_since(reads), Vec::<String>::new(), "roles: {node_roles}");
        assert_eq!(bed.everything().await, before);

        // Nor does looking.
        assert!(bed.states().await.values().all(|state| state == "unchanged"));
        assert_eq!(bed.fetched_since(reads), Vec::<String>::new(), "roles: {node_roles}");
        assert_eq!(bed.everything().await, before);

        // Told so, it writes the same again.
        let contents = bed.contents().await;
        let ended = bed.run(&["--force"]).await;
        assert_eq!(days_with(&ended, "status", "written"), DAYS);
        assert_eq!(days_with(&ended, "reason", "unchanged, forced"), DAYS);
        assert_eq!(bed.contents().await, contents);
        assert_ne!(bed.everything().await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_object_and_a_new_one_concern_their_days_only() {
    let bed = Bed::new().await;
    DAYS.iter().for_each(|day| bed.server.put(&pod_key(day), large_object(day, 1)));
    bed.run(&[]).await.expect(0, &[]);
    bed.server.put(&pod_key(DAYS[1]), large_object(DAYS[1], 2));
    let second = pod_key(DAYS[2]).replace("_0.parquet", "_1.parquet");
    bed.server.put(&second, large_object(DAYS[2], 3));

    let ended = bed.command("plan", &[]).await;
    let changed = format!("changed: object `{}` is changed", pod_key(DAYS[1]));
    ended.expect(0, &[&changed, &format!("changed: object `{second}` is new"), "a run reads 1 row groups"]);
    assert_eq!(ended.day(DAYS[1])["reasons"], json!([format!("object `{}` is changed", pod_key(DAYS[1]))]));
    assert_eq!(ended.day(DAYS[0])["state"], "unchanged");

    let reads = bed.server.reads().len();
    let ended = bed.run(&[]).await;
    ended.expect(0, &[]);
    assert_eq!(days_with(&ended, "status", "written"), [DAYS[1], DAYS[2]]);
    assert_eq!(days_with(&ended, "status", "unchanged"), [DAYS[0], DAYS[3]]);
    assert_eq!(bed.fetched_since(reads), [pod_key(DAYS[1]), pod_key(DAYS[2]), second.clone()]);
    let contents = bed.contents().await;
    bed.run(&["--force"]).await.expect(0, &[]);
    assert_eq!(bed.contents().await, contents, "as if everything had been computed");

    // One of several objects gone is a change like any other.
    bed.server.remove(&second);
    bed.command("plan", &[]).await.expect(0, &[&format!("object `{second}` is gone")]);
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[2]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn label_reports_count_for_their_day() {
    let bed = Bed::filled_with_roles().await;
    let label = |labels: &str| usage::LabelRow {
        milliseconds: delivery::milliseconds(DAYS[3]),
        name: Some("namespace-a".to_owned()),
        labels: Some(labels.to_owned()),
    };
    for labels in [r#"{"app": "one"}"#, r#"{"app": "two"}"#] {
        let object = usage::parquet(usage::label_columns("namespace", "namespace_labels", &[label(labels)]), 1);
        bed.server.put(&key("namespace_labels", DAYS[3]), object);
        bed.expect_states(["unchanged", "unchanged", "unchanged", "changed"]).await;
    }
    bed.expect_states(ALL_UNCHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_reference_tables_concern_every_day_and_are_named() {
    let mut bed = Bed::filled().await;
    let tables = [
        (
            "INSERT INTO tenant.reporting_enabledtagkeys (key, enabled, provider_type) VALUES ('app', true, 'OCP')",
            "enabled label keys changed",
        ),
        (
            "INSERT INTO tenant.reporting_ocp_cost_category_namespace (namespace, cost_category_id) VALUES ('n%', 1)",
            "cost categories changed",
        ),
        (
            "INSERT INTO tenant.reporting_ocp_nodes (node, resource_id, node_role) VALUES ('node-a', 'i-a', 'worker')",
            "node roles changed",
        ),
        (
            "UPDATE gristmill.day_ledger SET engine_version = 0, fingerprint = decode(repeat('07', 32), 'hex')",
            "written by engine version 0",
        ),
    ];
    for (sql, reason) in tables {
        bed.execute(sql).await;
        bed.command("plan", &[]).await.expect(0, &[&format!("changed: {reason}")]);
        bed.expect_states(["changed"; 4]).await;
        bed.expect_states(ALL_UNCHANGED).await;
    }
    // A key of another provider is none of ours.
    bed.execute("INSERT INTO tenant.reporting_enabledtagkeys (key, enabled, provider_type) VALUES ('x', true, 'AWS')")
        .await;
    bed.expect_states(ALL_UNCHANGED).await;
    let settings = [
        ("/source/cluster_alias", json!("Another"), "source.cluster_alias changed"),
        ("/semantics", json!("self_hosted"), "semantics changed"),
        ("/labels", json!({"on_malformed": "empty"}), "labels.on_malformed changed"),
        ("/target/postgres/replace", json!("reference"), "target.postgres.replace changed"),
    ];
    bed.settings["semantics"] = json!("balanced");
    bed.settings["labels"] = json!({});
    bed.settings["target"]["postgres"]["replace"] = json!("own");
    for (path, value, reason) in settings {
        let setting = bed.settings.pointer_mut(path).expect("it is there");
        let before = std::mem::replace(setting, value);
        bed.command("plan", &[]).await.expect(0, &[&format!("changed: {reason}")]);
        if path != "/semantics" {
            bed.expect_states(["changed"; 4]).await;
            bed.expect_states(ALL_UNCHANGED).await;
        }
        *bed.settings.pointer_mut(path).expect("it is there") = before;
        bed.run(&[]).await.expect(0, &[]);
    }
    // What reaches no row changes nothing.
    bed.settings["performance"] = json!({"max_workers": 1});
    bed.settings["on_bad_day"] = json!("stop");
    bed.expect_states(ALL_UNCHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_others_touched_are_seen_by_their_number() {
    let bed = Bed::filled().await;
    let contents = bed.contents().await;
    bed.execute(&format!("DELETE FROM {TABLE} WHERE usage_start = '{}' AND namespace = 'namespace-a'", DAYS[0])).await;
    bed.execute(&format!(
        "INSERT INTO {TABLE} (uuid, usage_start, usage_end, source_uuid, report_period_id, cluster_id) \
         SELECT gen_random_uuid(), usage_start, usage_end, source_uuid, report_period_id, cluster_id FROM {TABLE} \
         WHERE usage_start = '{}' LIMIT 1",
        DAYS[2]
    ))
    .await;
    bed.command("plan", &[])
        .await
        .expect(0, &["rows differ: the target has 3 rows, the ledger 4", "the target has 5 rows"]);
    bed.expect_states(["rows differ", "unchanged", "rows differ", "unchanged"]).await;
    assert_eq!(bed.contents().await, contents);

    // Rows of the cost model are not ours.
    bed.execute(&format!("INSERT INTO {TABLE} (uuid, usage_start, usage_end, source_uuid, report_period_id, cluster_id, \
         cost_model_rate_type) SELECT gen_random_uuid(), usage_start, usage_end, source_uuid, report_period_id, cluster_id, \
         'Supplementary' FROM {TABLE}"))
    .await;
    bed.expect_states(ALL_UNCHANGED).await;

    // The same number of rows with other values cannot be seen from outside; the documentation says so, `verify` finds it.
    bed.execute(&format!("UPDATE {TABLE} SET namespace = 'elsewhere' WHERE usage_start = '{}'", DAYS[1])).await;
    bed.expect_states(ALL_UNCHANGED).await;
    bed.run(&["--force"]).await.expect(0, &[]);

    // A table that was emptied, or made anew.
    bed.execute(&format!("TRUNCATE {TABLE}")).await;
    bed.expect_states(["rows differ"; 4]).await;
    assert_eq!(bed.contents().await, contents);
}

#[tokio::test(flavor = "multi_thread")]
async fn days_that_are_only_claimed_or_of_others_are_new() {
    let bed = Bed::filled().await;
    bed.execute(&format!(
        "UPDATE gristmill.day_ledger SET status = 'pending', claimed_by = 'pod-1', token = 7 WHERE usage_day = '{}'; \
         UPDATE gristmill.day_ledger SET source_uuid = gen_random_uuid() WHERE usage_day = '{}'; \
         UPDATE gristmill.day_ledger SET target_table = 'elsewhere' WHERE usage_day = '{}'",
        DAYS[0], DAYS[1], DAYS[2]
    ))
    .await;
    bed.expect_states(["new", "new", "new", "unchanged"]).await;
    bed.expect_states(ALL_UNCHANGED).await;
    let claims = "SELECT count(*) FROM gristmill.day_ledger WHERE num_nonnulls(claimed_by, token, expires_at) > 0";
    let row = bed.client.query_one(claims, &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0, "a day that is written is nobody's any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_not_over_is_written_when_more_of_it_arrives() {
    let mut bed = Bed::new().await;
    let today = Utc::now().date_naive().to_string();
    bed.settings["period"] = json!({"start_date": today, "end_date": today});
    bed.command("init-db", &[]).await.expect(0, &[]);
    bed.server.put(&pod_key(&today), pod_object(&today, 1.0));
    let ended = bed.run(&[]).await;
    // Midnight may pass between the two looks at the clock; then the day is simply over.
    assert_eq!(ended.expect(0, &[]).day(&today)["status"], "written");
    assert_eq!(bed.run(&[]).await.day(&today)["status"], "unchanged");
    let second = pod_key(&today).replace("_0.parquet", "_1.parquet");
    bed.server.put(&second, pod_object(&today, 2.0));
    assert_eq!(bed.run(&[]).await.expect(0, &[]).day(&today)["status"], "written");
    assert_eq!(bed.run(&[]).await.day(&today)["status"], "unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_group_of_two_days_is_read_for_the_changed_one_only() {
    let bed = Bed::new().await;
    // One row group with rows of two days, and an object for each of them.
    let shared = pod_key(DAYS[2]).replace("_0.parquet", "_9.parquet");
    let mut rows = delivery::pod_rows(DAYS[2], 3.0);
    rows.extend(delivery::pod_rows(DAYS[3], 5.0));
    Delivery::of(&DAYS, 1.0).store(&bed.server);
    bed.server.put(&shared, usage::parquet(usage::pod_columns(&rows), rows.len()));
    bed.run(&[]).await.expect(0, &[]);
    for changed in [2, 3] {
        bed.server.put(&pod_key(DAYS[changed]), pod_object(DAYS[changed], 7.0));
        let ended = bed.run(&[]).await;
        ended.expect(0, &[]);
        assert_eq!(days_with(&ended, "status", "written"), [DAYS[changed]]);
        assert_eq!(ended.day(DAYS[changed])["rows_in"], 2 * delivery::ROWS_PER_DAY);
        let contents = bed.contents().await;
        bed.run(&["--force"]).await.expect(0, &[]);
        assert_eq!(bed.contents().await, contents);
    }
    // The shared object concerns both.
    bed.server.put(&shared, usage::parquet(usage::pod_columns(&rows), 10));
    bed.expect_states(["unchanged", "unchanged", "changed", "changed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn derived_roles_concern_the_days_of_their_nodes() {
    let bed = Bed::filled_with_roles().await;
    // A node that only one day has changes the roles of the window, not those of the other days.
    bed.deliver_with_labels(DAYS[3], &["node-a", "node-b", "node-new"]);
    bed.expect_states(["unchanged", "unchanged", "unchanged", "changed"]).await;
    bed.expect_states(ALL_UNCHANGED).await;
    let contents = bed.contents().await;
    bed.run(&["--force"]).await.expect(0, &[]);
    assert_eq!(bed.contents().await, contents);

    // A label that makes a node an infrastructure node reaches every day of the month that has the node.
    let label = usage::LabelRow {
        milliseconds: delivery::milliseconds(DAYS[3]),
        name: Some("node-a".to_owned()),
        labels: Some(r#"{"node_role_kubernetes_io": "infra"}"#.to_owned()),
    };
    let object = usage::parquet(usage::label_columns("node", "node_labels", &[label]), 1);
    bed.server.put(&key("node_labels", DAYS[3]).replace("_0.parquet", "_1.parquet"), object);
    bed.command("plan", &[]).await.expect(0, &["changed: derived node roles changed"]);
    bed.expect_states(["unchanged", "unchanged", "changed", "changed"]).await;
    bed.expect_states(ALL_UNCHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_not_derived_again_after_a_day_was_written_by_itself() {
    let mut bed = Bed::new().await;
    bed.settings["reference"]["node_roles"] = json!("derive");
    DAYS.iter().for_each(|day| bed.server.put(&pod_key(day), large_object(day, 1)));
    bed.run(&[]).await.expect(0, &[]);
    bed.server.put(&pod_key(DAYS[1]), large_object(DAYS[1], 2));
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[1]]);
    let reads = bed.server.reads().len();
    assert_eq!(bed.written_by_run(&[]).await, Vec::<String>::new());
    assert_eq!(
        bed.fetched_since(reads),
        Vec::<String>::new(),
        "the day that was written knows the roles of the others"
    );
    // The window of the other month was not touched at all.
    bed.server.put(&pod_key(DAYS[3]), large_object(DAYS[3], 2));
    let reads = bed.server.reads().len();
    assert_eq!(bed.written_by_run(&[]).await, [DAYS[3]]);
    assert_eq!(bed.fetched_since(reads), [pod_key(DAYS[2]), pod_key(DAYS[3])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_a_bad_object_fails_although_all_else_is_unchanged() {
    let bed = Bed::filled().await;
    let bad = pod_key(DAYS[1]).replace("_0.parquet", "_1.parquet");
    bed.server.put(&bad, Vec::new());
    let before = bed.everything().await;
    bed.command("plan", &[]).await.expect(0, &["unusable", &bad]);
    let ended = bed.run(&[]).await;
    ended.expect(65, &["zero bytes"]);
    assert_eq!(days_with(&ended, "status", "failed"), [DAYS[1]]);
    assert_eq!(days_with(&ended, "status", "unchanged"), [DAYS[0], DAYS[2], DAYS[3]]);
    assert_eq!(bed.everything().await, before);
}
