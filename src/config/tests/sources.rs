//! The list `sources`: several clusters, and every mistake in one.

use std::sync::Arc;

use super::messages::assert_problems;
use super::{Attempt, FILE, POSTGRES, with};
use crate::config::{Config, Target, json_schema};

/// The last group of a uuid differs.
fn uuid(number: u32) -> String {
    format!("0a1b2c3d-0000-4000-8000-{number:012}")
}

const SINGLE: &str = "source: {uuid: 0a1b2c3d-0000-4000-8000-000000000001, cluster_id: my-cluster}\n";

/// `FILE` with a list instead of its source.
fn listed(entries: &str) -> Attempt<'static> {
    Attempt::new(with(FILE, SINGLE, &format!("sources:\n{entries}")))
}

fn two() -> Attempt<'static> {
    listed(
        "  - {uuid: 0A1B2C3D-0000-4000-8000-000000000001, cluster_id: one, cluster_alias: 'Cluster: One', report_period_id: 7}\n  \
         - uuid: 0a1b2c3d-0000-4000-8000-000000000002\n    cluster_id: ${SECOND}\n    cluster_alias: ${ALIAS:-}\n",
    )
    .env("SECOND", "two")
}

fn ids(config: &Config) -> Vec<(String, &str, &str, Option<i32>)> {
    let id = |source: &'_ crate::config::Source| source.uuid.to_string();
    let of = config.sources();
    of.map(|source| (id(source), &*source.cluster_id, &*source.cluster_alias, source.report_period_id)).collect()
}

#[test]
fn several_sources_are_read_with_the_defaults_of_one() {
    let config = two().config();
    let expected = [(uuid(1), "one", "Cluster: One", Some(7)), (uuid(2), "two", "two", None)];
    assert_eq!(ids(&config), expected);
    assert_eq!(config.source.cluster_id, "one");
    assert_eq!(config.other_sources.len(), 1);
    let one = listed(&format!("  - {{uuid: {}, cluster_id: one}}\n", uuid(1))).config();
    let single = Attempt::new(with(FILE, "my-cluster", "one")).config();
    assert_eq!(format!("{one:?}"), format!("{single:?}"), "a list of one is that one");
}

#[test]
fn each_source_has_a_view_and_files_of_its_own() {
    let config = two().config();
    let views = config.per_source();
    let folders: Vec<String> = views
        .iter()
        .map(|view| match &view.target {
            Target::File { path, .. } => path.display().to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(folders, [format!("out/source={}", uuid(1)), format!("out/source={}", uuid(2))]);
    for (view, source) in views.iter().zip(config.sources()) {
        assert!(Arc::ptr_eq(&view.reference, &config.reference), "long inline lists are there once");
        assert_eq!((view.source.uuid, view.other_sources.len()), (source.uuid, 0));
        assert_eq!(format!("{:?}", view.per_source()), format!("{:?}", [view]), "a view has one view: itself");
    }
    let single = Attempt::new(FILE).config();
    assert_eq!(format!("{:?}", single.per_source()), format!("{:?}", [&single]), "a single source stays as it is");
}

#[test]
fn what_is_printed_means_the_same() {
    let text = two().effective();
    let line = format!(
        "sources: [{{uuid: {}, cluster_id: one, cluster_alias: \"Cluster: One\", report_period_id: 7}}, \
         {{uuid: {}, cluster_id: two, cluster_alias: two, report_period_id: null}}]\n",
        uuid(1),
        uuid(2)
    );
    assert!(text.contains(&line), "{text}");
    assert_eq!(ids(&Attempt::new(text).config()), ids(&two().config()));
}

#[test]
fn a_list_can_replace_a_source_for_one_run() {
    let list = format!("sources=[{{uuid: {}, cluster_id: a}}, {{uuid: {}, cluster_id: b}}]", uuid(3), uuid(4));
    let config = Attempt::new(POSTGRES).set("source=").set(&list).config();
    assert_eq!(config.sources().map(|source| &*source.cluster_id).collect::<Vec<_>>(), ["a", "b"]);
    let config = two().set("sources=").set(&format!("source={{uuid: {}, cluster_id: c}}", uuid(3))).config();
    assert_eq!(ids(&config), [(uuid(3), "c", "c", None)]);
}

#[test]
fn all_mistakes_of_a_list_are_reported_at_once() {
    let attempt = listed(&format!(
        "  - {{uuid: {0}, cluster_id: one}}\n  \
         - {{uuid: not-a-uuid, cluster_id: ' ', report_period_id: 0}}\n  \
         - {{cluster_alias: Three}}\n  \
         - {{uuid: {1}, clusterid: four}}\n  \
         - five\n  \
         - {{uuid: {2}, cluster_id: '${{EMPTY}}'}}\n  \
         - {{uuid: {1}, cluster_id: seven}}\n",
        uuid(1),
        uuid(1).to_uppercase(),
        uuid(6),
    ))
    .env("EMPTY", "");
    assert_problems(
        &attempt,
        &[
            "config.yaml:5:12: sources[1].uuid: `not-a-uuid` is not a uuid; write 32 hexadecimal digits as 8-4-4-4-12",
            "config.yaml:5:36: sources[1].cluster_id: is blank; give the id of the cluster",
            "config.yaml:5:59: sources[1].report_period_id: `0` is out of range; write a whole number, 1 to 2147483647",
            "config.yaml:6:5: sources[2].uuid: missing: Provider uuid: the source=<uuid> folder in object keys, and source_uuid on \
             every row",
            "config.yaml:6:5: sources[2].cluster_id: missing: Cluster id stamped on every row",
            "config.yaml:7:50: sources[3].clusterid: unknown key; did you mean cluster_id?",
            "config.yaml:8:5: sources[4]: is a single value; expected {uuid, cluster_id, cluster_alias, report_period_id}",
            "config.yaml:9:62: sources[5].cluster_id: missing: `${EMPTY}` is empty; Cluster id stamped on every row",
            "config.yaml:10:12: sources[6].uuid: the same uuid as sources[0]; list each source once",
        ],
    );
}

#[test]
fn a_list_and_a_source_exclude_each_other() {
    let both = format!("{FILE}sources: [{{uuid: {}, cluster_id: two}}]\n", uuid(2));
    assert_problems(&Attempt::new(both), &["config.yaml:7:10: sources: source is given as well; keep one of the two"]);
    let neither = with(FILE, SINGLE, "");
    let missing = Attempt::new(neither).problems();
    assert!(missing.contains("source.uuid: missing") && missing.contains("source.cluster_id: missing"), "{missing}");
}

#[test]
fn lists_that_are_no_lists_or_have_no_bounds() {
    let text = |list: &str| with(FILE, SINGLE, &format!("sources: {list}\n"));
    assert_problems(
        &Attempt::new(text("[]")),
        &["config.yaml:3:10: sources: lists no source; list at least one, or give source"],
    );
    assert_problems(
        &Attempt::new(text("one")),
        &["config.yaml:3:10: sources: `one` is a single value; expected list of {uuid, cluster_id, cluster_alias, \
             report_period_id}"],
    );
    let many =
        |count: u32| (0..count).map(|number| format!("  - {{uuid: {}, cluster_id: c}}\n", uuid(number))).collect();
    let many: [String; 2] = [1_001, 1_000].map(many);
    assert_problems(
        &listed(&many[0]),
        &["config.yaml:4:3: sources: lists 1001 sources, at most 1000 are allowed; run them in parts"],
    );
    assert_eq!(listed(&many[1]).config().other_sources.len(), 999);
    let long = listed(&many[1]).set("period={start_date: 2025-01-01, end_date: 2025-03-01}");
    let problems = long.problems();
    assert!(problems.contains("1000 sources times 60 days are 60000, at most 36600 are allowed"), "{problems}");
}

#[test]
fn the_schema_asks_for_one_or_the_other() {
    let schema = json_schema();
    let [one, several] = schema["anyOf"].as_array().unwrap().as_slice() else { panic!("{schema}") };
    assert_eq!(one["required"][0], "source");
    assert_eq!(one["properties"]["source"]["required"], serde_json::json!(["uuid", "cluster_id"]));
    assert_eq!(several["required"][0], "sources");
    let list = &schema["properties"]["sources"]["anyOf"][0];
    assert_eq!((&list["maxItems"], &list["items"]["additionalProperties"]), (&1_000.into(), &false.into()));
    assert_eq!(list["items"]["required"], serde_json::json!(["uuid", "cluster_id"]));
    assert_eq!(list["items"]["properties"].as_object().unwrap().len(), 4);
}
