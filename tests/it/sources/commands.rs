//! The commands beside `run` over several sources.

use serde_json::{Value, json};

use super::{DAYS, Folders, NOBODY, OTHER, SOURCE, bed, both, cluster, data_below, listing};
use crate::binary::Invocation;
use crate::delivery::into_csv;

const TABLE: &str = "tenant.reporting_ocpusagelineitem_daily_summary";

#[tokio::test(flavor = "multi_thread")]
async fn plan_says_what_becomes_of_the_days_of_each_source() {
    let bed = bed().await;
    let before = bed.command("plan", &[]).await;
    before.expect(0, &[&format!("source {SOURCE}\n"), &format!("source {OTHER}\n")]);
    let states = |report: &Value| {
        let days = report["windows"].as_array().unwrap().iter().flat_map(|window| {
            assert_eq!(window["source"], window["days"][0]["source"]);
            window["days"].as_array().unwrap().clone()
        });
        days.map(|day| [&day["source"], &day["day"], &day["state"]].map(|text| text.as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let expected = |of_first: &str, of_second: &str| {
        [
            [SOURCE, DAYS[0], of_first],
            [SOURCE, DAYS[1], of_first],
            [OTHER, DAYS[0], of_second],
            [OTHER, DAYS[1], of_second],
        ]
        .map(|entry| entry.map(str::to_owned))
    };
    assert_eq!(states(&before.report), expected("new", "new"));
    Invocation::with("run", &super::alone(&bed.settings, 1)).run().await.expect(0, &[]);
    let after = bed.command("plan", &["--diff"]).await;
    assert_eq!(states(&after.expect(0, &[]).report), expected("new", "unchanged"));
    let compared = |window: &Value| window["days"].as_array().unwrap().iter().any(|day| !day["difference"].is_null());
    let windows = after.report["windows"].as_array().unwrap();
    assert_eq!(windows.iter().map(compared).collect::<Vec<_>>(), [true, true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_every_source() {
    let mut bed = bed().await;
    bed.settings["target"]["postgres"]["replace"] = json!("reference");
    let row = format!(
        "INSERT INTO {TABLE} (uuid, source_uuid, usage_start, usage_end, monthly_cost_type) VALUES \
         (gen_random_uuid(), '{OTHER}', '{0}', '{0}', 'Node')",
        DAYS[0]
    );
    bed.client.batch_execute(&row).await.unwrap();
    let ended = bed.command("check", &[]).await;
    ended.expect(0, &["nothing stands in the way of a run"]);
    for (source, count) in [(SOURCE, 0), (OTHER, 1)] {
        ended.expect(
            0,
            &[
                &format!("source {source}: storage: window 2025-11-01..2025-11-01 has 1 objects"),
                &format!("source {source}: target.postgres.replace is `reference`: {count} cost-model"),
            ],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_compares_the_rows_of_each_source() {
    let bed = bed().await;
    bed.command("run", &[]).await.expect(0, &[]);
    bed.client.batch_execute(&format!("CREATE TABLE tenant.copy AS SELECT * FROM {TABLE}")).await.unwrap();
    let equal = bed.command("verify", &["--against", "tenant.copy"]).await;
    equal.expect(0, &[&format!("source   {SOURCE}\n"), &format!("source   {OTHER}\n"), "equal: all 8 rows"]);

    let report = bed.folder.path().join("verify.json");
    let arguments = ["--against", "tenant.copy", "--report", report.to_str().unwrap()];
    let drift = "UPDATE tenant.copy SET pod_usage_cpu_core_hours = pod_usage_cpu_core_hours + 1 \
                 WHERE source_uuid::text = '00000000-0000-0000-0000-00000000beef' AND namespace = 'namespace-a'";
    bed.client.batch_execute(drift).await.unwrap();
    bed.command("verify", &arguments).await.expect(1, &["VALUE_DRIFT", "equal: all 8 rows"]);
    let found: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let verdict = |position: usize| [&found["sources"][position]["source"], &found["sources"][position]["verdict"]];
    assert_eq!((verdict(0), verdict(1)), ([&json!(SOURCE), &json!("equal")], [&json!(OTHER), &json!("different")]));
    assert_eq!(found["exit_code"], 1);

    let nothing = format!("DELETE FROM tenant.copy WHERE source_uuid = '{OTHER}'");
    bed.client.batch_execute(&nothing).await.unwrap();
    let ended = bed.command("verify", &["--against", "tenant.copy"]).await;
    ended.expect(2, &["NOTHING_TO_COMPARE", "equal: all 8 rows"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_takes_the_folder_of_each_source() {
    let bed = bed().await;
    bed.command("run", &[]).await.expect(0, &[]);
    let output = tempfile::tempdir().unwrap();
    let mut into_files = bed.settings.clone();
    into_files["target"]["kind"] = json!("file");
    into_files["target"]["file"] = json!({"path": output.path()});
    Invocation::with("run", &into_files).run().await.expect(0, &[]);
    let folder = output.path().to_str().unwrap();
    bed.command("verify", &["--against", folder]).await.expect(0, &["equal: all 8 rows"]);
    // The files are the target as well.
    let itself = Invocation::with("verify", &into_files).arguments(&["--against", folder]).run().await;
    itself.expect(2, &["--against names what the target is"]);
    let against_table = Invocation::with("verify", &into_files).arguments(&["--against", TABLE]).run().await;
    against_table.expect(0, &[&format!("source={OTHER}"), "equal: all 8 rows"]);

    let file = output.path().join(format!("source={OTHER}/{}.csv", DAYS[0]));
    let ended = bed.command("verify", &["--against", file.to_str().unwrap()]).await;
    ended.expect(64, &["--against FILE.csv is for one source"]);
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let ended = bed.command("verify", &["--against", folder]).await;
    ended.expect(2, &["equal: all 8 rows", "not compared: ", &format!("source={OTHER}")]);

    let other = bed.folder.path().join("other.yaml");
    let listed = listing(bed.settings.clone(), &[cluster(OTHER, "cluster-8"), cluster(NOBODY, "nobody")]);
    std::fs::write(&other, listed.to_string()).unwrap();
    bed.client.batch_execute(&format!("CREATE TABLE tenant.copy AS SELECT * FROM {TABLE}")).await.unwrap();
    let arguments = ["--against", "tenant.copy", "--against-config", other.to_str().unwrap()];
    let ended = bed.command("verify", &arguments).await;
    ended.expect(2, &[&format!("--against-config does not list source {SOURCE}"), "equal: all 8 rows"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_one_source_ask_which() {
    let folders = Folders::new();
    let settings = folders.settings();
    let generate = ["--rows", "200"];
    let several = ["generate works for one source and the configuration lists 2", "--source-uuid"];
    Invocation::with("generate", &settings).arguments(&generate).run().await.expect(64, &several);
    let with_uuid = |uuid| [generate[0], generate[1], "--source-uuid", uuid];
    let unlisted = Invocation::with("generate", &settings).arguments(&with_uuid(NOBODY)).run().await;
    unlisted.expect(64, &[NOBODY, "none of the sources"]);
    assert_eq!(data_below(folders.input.path()), Vec::<String>::new());
    Invocation::with("generate", &settings).arguments(&with_uuid(OTHER)).run().await.expect(0, &["objects"]);
    let keys = data_below(folders.input.path());
    let of_other = format!("/source={OTHER}/");
    assert!(!keys.is_empty() && keys.iter().all(|key| key.contains(&of_other)), "{keys:?}");

    let reports = tempfile::tempdir().unwrap();
    let input = ["--in", reports.path().to_str().unwrap()];
    let several = ["convert works for one source and the configuration lists 2", "--source-uuid"];
    Invocation::with("convert", &settings).arguments(&input).run().await.expect(64, &several);
    // With the source it gets as far as the reports.
    let named = Invocation::with("convert", &settings).arguments(&input).arguments(&["--source-uuid", OTHER]).run();
    named.await.expect(65, &["--in"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_list_are_refused_by_every_command() {
    let folders = Folders::new();
    both().write(folders.input.path());
    let list = [cluster(SOURCE, "one"), cluster(SOURCE, " "), json!({"uuid": "x"})];
    let mut settings = listing(into_csv(folders.settings(), folders.output.path()), &list);
    for command in ["run", "plan", "check", "config", "init-db"] {
        let ended = Invocation::with(command, &settings).run().await;
        ended.expect(
            78,
            &[
                "sources[1].uuid: the same uuid as sources[0]",
                "sources[1].cluster_id: is blank",
                "sources[2].uuid: `x` is not a uuid",
                "sources[2].cluster_id: missing",
            ],
        );
    }
    settings["sources"] = json!([cluster(SOURCE, "one")]);
    settings["source"] = cluster(OTHER, "two");
    Invocation::with("run", &settings)
        .run()
        .await
        .expect(78, &["sources: source is given as well; keep one of the two"]);
    assert!(folders.files().is_empty());
}
