//! Mistakes that several keys make together, and problems as an error.

use super::messages::{assert_added, assert_problems};
use super::{Attempt, FILE, POSTGRES, with};
use crate::error::{ErrorKind, Failure};

#[test]
fn the_target_decides_what_is_needed() {
    let no_path = with(FILE, ", file: {path: out}", "");
    assert_problems(
        &Attempt::new(no_path),
        &[
            "config.yaml:6:1: target.file.path: missing (required because target.kind is file): Folder for the files; relative to the \
         working directory",
        ],
    );
    let reading = format!("{FILE}reference: {{from: postgres}}\n");
    let missing = |key: &str, doc: &str| {
        format!("config.yaml:6:1: target.postgres.{key}: missing (required because reference.from is postgres): {doc}")
    };
    assert_problems(
        &Attempt::new(reading),
        &[
            &missing("host", "Host name, address, or folder of a Unix socket (begins with a slash)"),
            &missing("database", "Name of the database"),
            &missing("user", "Role to log in as"),
        ],
    );
    let url = Attempt::new(with(POSTGRES, "    host: db", "    host: postgres://me:word@db/koku"));
    assert_problems(
        &url,
        &[
            "config.yaml:14:11: target.postgres.host: is a URL or names a user; give the host alone, and port, database and user under \
         their own keys",
        ],
    );
    let path = Attempt::new(with(POSTGRES, "    host: db", "    host: db/koku"));
    assert_problems(
        &path,
        &[
            "config.yaml:14:11: target.postgres.host: is not a host name, an address or an absolute path of a socket folder",
        ],
    );
}

#[test]
fn reference_keys_fit_their_source() {
    assert_added(
        "reference: {enabled_tag_keys: [], cost_categories: [], node_roles: []}\n",
        &[
            "config.yaml:17:31: reference.enabled_tag_keys: the table in the database is used with reference.from: postgres; \
         remove it, or set reference.from: inline",
            "config.yaml:17:52: reference.cost_categories: the table in the database is used with reference.from: postgres; \
         remove it, or set reference.from: inline",
            "config.yaml:17:68: reference.node_roles: only `derive` goes together with reference.from: postgres; \
         remove it, or set reference.from: inline",
        ],
    );
    assert_problems(
        &Attempt::new(FILE).set("reference.schema=acme"),
        &[
            "--set: reference.schema: has no meaning with reference.from: inline; remove it, or set reference.from: postgres",
        ],
    );
}

#[test]
fn inline_tables_are_checked_entry_by_entry() {
    let text = format!(
        "{FILE}reference:
  enabled_tag_keys: [app, null, [x]]
  cost_categories:
    - {{namespace: 'a-%', cost_category_id: 0}}
    - {{namespce: 'a-%', cost_category_id: 1}}
    - {{namespace: b}}
    - c
  node_roles:
    - {{resource_id: i-1}}
    - {{node: null, roles: master}}
"
    );
    assert_problems(
        &Attempt::new(text),
        &[
            "config.yaml:8:27: reference.enabled_tag_keys[1]: is null; expected a text (quote it if it is meant as a word)",
            "config.yaml:8:33: reference.enabled_tag_keys[2]: is a list; expected a text",
            "config.yaml:10:44: reference.cost_categories[0].cost_category_id: `0` is out of range; write a whole number, 1 to 2147483647",
            "config.yaml:11:8: reference.cost_categories[1].namespce: unknown key; did you mean namespace?",
            "config.yaml:12:7: reference.cost_categories[2].cost_category_id: missing; give the number of the category",
            "config.yaml:13:7: reference.cost_categories[3]: is a single value; expected {namespace, cost_category_id}",
            "config.yaml:15:7: reference.node_roles[0].node: missing; give a text",
            "config.yaml:16:20: reference.node_roles[1].roles: unknown key; did you mean role?",
        ],
    );
}

#[test]
fn malformed_labels_are_emptied_only_under_balanced() {
    assert_added(
        "semantics: trino\nlabels: {on_malformed: empty}\n",
        &[
            "config.yaml:18:24: labels.on_malformed: empty is allowed only under semantics: balanced, not trino; set error",
        ],
    );
}

#[test]
fn problems_become_a_failure_of_the_configuration() {
    let problems = Attempt::new(POSTGRES).set("version=3").resolve().expect_err("refused");
    assert_eq!(problems.kind(), ErrorKind::Config);
    assert_eq!(problems.problems().len(), 1);
    let failure = Failure::from(problems);
    assert_eq!(failure.kind.exit_code(), 78);
    assert!(
        failure.full_text().starts_with("--set: version: `3` is out of range; write 1; "),
        "{}",
        failure.full_text()
    );
}

#[test]
fn a_flood_of_problems_is_counted() {
    let text: String = (0..500).map(|index| format!("key{index}: 1\n")).collect();
    let problems = Attempt::new(text).problems();
    assert_eq!(problems.lines().count(), 201);
    assert!(problems.ends_with("\nand 309 more"), "{problems}");
}
