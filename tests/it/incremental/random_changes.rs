//! A law: after any sequence of changes, a run that leaves out what did not change leaves what a run over everything leaves.

use serde_json::json;

use super::{Bed, DAYS};
use crate::delivery::{self, key, pod_key};
use crate::usage::{self, LabelRow, PodRow, Random};

/// Sequences, each with its own seed.
const SEQUENCES: u64 = 3;
/// Changes in a sequence, with a run after each.
const STEPS: usize = 8;

/// Objects of a day: the first of them always stays, so that no day disappears.
fn object_key(random: &mut Random, day: &str) -> String {
    let file = random.below(3);
    pod_key(day).replace("_0.parquet", &format!("_{file}.parquet"))
}

/// Pod rows of one day or of two neighbours, in row groups of any size.
fn pod_object(random: &mut Random, day: usize) -> Vec<u8> {
    let mut rows: Vec<PodRow> = Vec::new();
    let last = if random.below(3) == 0 { (day + 1).min(DAYS.len() - 1) } else { day };
    for day in &DAYS[day..=last] {
        let node = random.pick(&["node-a", "node-b", "node-c"]);
        let cores = 1.0 + random.below(7) as f64 / 7.0;
        rows.extend(delivery::pod_rows(day, cores).into_iter().map(|row| PodRow {
            node: Some(node.to_owned()),
            resource_id: Some(format!("i-{node}")),
            ..row
        }));
    }
    let row_group_rows = 1 + random.below(rows.len());
    usage::parquet(usage::pod_columns(&rows), row_group_rows)
}

fn label_object(random: &mut Random, day: &str, report: &'static str) -> Vec<u8> {
    let (name, texts) = match report {
        "node_labels" => ("node", [r#"{"node_role_kubernetes_io": "infra"}"#, r#"{"app": "n"}"#, "{}"]),
        _ => ("namespace", [r#"{"app": "x"}"#, r#"{"app": "y", "other": "1"}"#, "{}"]),
    };
    let names =
        if name == "node" { ["node-a", "node-b", "node-c"] } else { ["namespace-a", "namespace-b", "elsewhere"] };
    let row = |random: &mut Random| LabelRow {
        milliseconds: delivery::milliseconds(day),
        name: Some(random.pick(&names).to_owned()),
        labels: Some(random.pick(&texts).to_owned()),
    };
    let rows: Vec<LabelRow> = (0..1 + random.below(3)).map(|_| row(random)).collect();
    usage::parquet(usage::label_columns(name, report, &rows), rows.len())
}

async fn change(bed: &Bed, random: &mut Random) {
    let day = random.below(DAYS.len());
    match random.below(7) {
        0 | 1 => {
            let key = object_key(random, DAYS[day]);
            bed.server.put(&key, pod_object(random, day));
        }
        2 => {
            let key = object_key(random, DAYS[day]);
            if key != pod_key(DAYS[day]) {
                bed.server.remove(&key);
            }
        }
        3 | 4 => {
            let report = random.pick(&["node_labels", "namespace_labels"]);
            bed.server.put(&key(report, DAYS[day]), label_object(random, DAYS[day], report));
        }
        5 => {
            let enabled = random.below(2) == 0;
            let sql = format!(
                "INSERT INTO tenant.reporting_enabledtagkeys (key, enabled, provider_type) VALUES ('app', {enabled}, 'OCP') \
                 ON CONFLICT (key, provider_type) DO UPDATE SET enabled = {enabled}"
            );
            bed.execute(&sql).await;
        }
        _ => bed.execute(&format!("DELETE FROM {} WHERE usage_start = '{}'", super::TABLE, DAYS[day])).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_out_what_did_not_change_changes_no_result() {
    let (mut left_out, mut written) = (0, 0);
    for seed in 0..SEQUENCES {
        let mut random = Random(seed);
        let mut bed = Bed::new().await;
        bed.settings["reference"]["node_roles"] = json!("derive");
        for (number, day) in DAYS.iter().enumerate() {
            bed.server.put(&pod_key(day), pod_object(&mut random, number));
        }
        bed.run(&[]).await.expect(0, &[]);
        for step in 0..STEPS {
            for _ in 0..=random.below(2) {
                change(&bed, &mut random).await;
            }
            let ended = bed.run(&[]).await;
            ended.expect(0, &[]);
            written += super::days_with(&ended, "status", "written").len();
            left_out += super::days_with(&ended, "status", "unchanged").len();
            let incremental = bed.contents().await;
            bed.run(&["--force"]).await.expect(0, &[]);
            assert_eq!(bed.contents().await, incremental, "seed {seed}, step {step}");
        }
    }
    // It is no law about nothing.
    assert!(left_out >= 20 && written >= 20, "{left_out} days left out, {written} written");
}
