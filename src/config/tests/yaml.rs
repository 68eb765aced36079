//! What YAML can do to a program, and that it does not.

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{Attempt, FILE, POSTGRES, with};
use crate::config::ReferenceFrom;

#[test]
fn syntax_errors_have_a_position_and_no_content() {
    let cases = [
        ("version: 1\nsource:\n\tuuid: x\n", "config.yaml:3:"),
        ("version: [1\n", "config.yaml:"),
        ("version: \"1\n", "config.yaml:"),
        ("version: 1\n  source: 2\n", "config.yaml:2:"),
        ("a: b: c\n", "config.yaml:1:"),
        ("version: 1\nx: @at\n", "config.yaml:2:"),
    ];
    for (text, place) in cases {
        let problems = Attempt::new(text).problems();
        assert!(problems.starts_with(place), "{text:?}: {problems}");
        assert!(problems.contains("not valid YAML: "), "{text:?}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{text:?}: {problems}");
    }
}

#[test]
fn a_bare_reference_in_a_flow_value_gets_its_own_advice() {
    let problems = Attempt::new("version: 1\nlogging: {level: ${LOG_LEVEL}}\n").problems();
    assert!(problems.starts_with("config.yaml:2:"), "{problems}");
    assert!(problems.ends_with("; inside [ ] and { } put quotes around `${…}`"), "{problems}");
}

#[test]
fn the_root_is_a_mapping() {
    for (text, kind) in [("[1, 2]\n", "a list"), ("version\n", "a single value")] {
        let problems = Attempt::new(text).problems();
        let expected = format!("config.yaml:1:1: the file is {kind}; expected a mapping that begins with version: 1");
        assert_eq!(problems.lines().next(), Some(expected.as_str()));
    }
}

#[test]
fn duplicate_keys_are_refused_at_any_depth() {
    let text = format!("{POSTGRES}    host: other\nsource: {{uuid: x}}\n");
    assert_eq!(
        Attempt::new(text).problems(),
        "config.yaml:17:5: target.postgres.host: duplicate key, first given in line 14; remove one of the two\n\
         config.yaml:18:1: source: duplicate key, first given in line 4; remove one of the two"
    );
}

#[test]
fn one_file_holds_one_document() {
    let text = format!("---\n{POSTGRES}---\nversion: 1\n");
    assert_eq!(
        Attempt::new(text).problems(),
        "config.yaml:18:1: a second document begins here; one file holds one configuration"
    );
    Attempt::new(format!("---\n{POSTGRES}...\n")).config();
}

#[test]
fn tags_and_odd_keys_are_refused() {
    let text = format!("{POSTGRES}    port: !!int 5432\n    ? [a]\n    : b\n    <<: {{table: t}}\n");
    assert_eq!(
        Attempt::new(text).problems(),
        "config.yaml:17:17: target.postgres.port: begins with `!`, a YAML tag; remove it, or quote the value\n\
         config.yaml:18:7: target.postgres: a key must be a plain word\n\
         config.yaml:20:5: target.postgres.<<: unknown key; known here: host, port, database, user, password, password_file, \
         schema, table, replace, ssl_mode, ca_file, connections, connect_timeout_seconds, statement_timeout_seconds, \
         lock_timeout_seconds, retries, retry_seconds, reference_locks, max_writers"
    );
}

#[test]
fn aliases_are_copied_and_bounded() {
    let text = format!("{}    user: *name\n", with(POSTGRES, "    host: db\n", "    host: &name db\n"));
    let text = with(&text, "    user: writer\n", "");
    let postgres = Attempt::new(text).config().postgres.expect("a connection");
    assert_eq!((postgres.host.as_str(), postgres.user.as_str()), ("db", "db"));

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![previous; 10].join(", ")));
    }
    let problems = Attempt::new(bomb).problems();
    assert!(problems.ends_with("more than 100000 values, aliases included; shorten the file"), "{problems}");

    let itself = Attempt::new(format!("{POSTGRES}reference: &me {{node_roles: *me}}\n")).problems();
    assert_eq!(itself, "config.yaml:17:29: reference.node_roles: refers to itself; write the value out");
}

#[test]
fn depth_is_bounded() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(10_000), "? ".repeat(10_000)] {
        let problems = Attempt::new(text).problems();
        assert!(problems.starts_with("config.yaml:1:"), "{problems}");
        assert_eq!(problems.lines().count(), 1);
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_lines_may_end_in_two_ways() {
    let marked = format!("\u{feff}{POSTGRES}");
    assert_eq!(Attempt::new(marked).config().source.cluster_id, "my-cluster");
    let windows = POSTGRES.replace('\n', "\r\n");
    assert_eq!(Attempt::new(windows).config().source.cluster_id, "my-cluster");
}

#[test]
fn values_of_variables_cannot_add_keys() {
    let text = with(POSTGRES, "    host: db", "    host: ${HOST}\n    schema: '${SCHEMA}'");
    let value = "db\n    table: stolen # x";
    let attempt = Attempt::new(text).env("HOST", "db2").env("SCHEMA", value);
    let postgres = attempt.config().postgres.expect("a connection");
    assert_eq!(postgres.host, "db2");
    assert_eq!(postgres.schema, value);
    assert_eq!(postgres.table, "reporting_ocpusagelineitem_daily_summary");
}

/// Text that looks enough like YAML to get past the first character.
fn yaml_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("version: 1\n".to_owned()),
        Just("target:\n  postgres:\n".to_owned()),
        Just("    host: ${HOST:-x}\n".to_owned()),
        Just("period: {month: current}\n".to_owned()),
        Just("reference: {from: inline, node_roles: [{node: a}]}\n".to_owned()),
        Just("storage: &a\n  url: *a\n".to_owned()),
        "[\\-\\[\\]{}:,?&*!|>'\"%@`#$ \t\na-z0-9.]{0,12}",
        any::<String>(),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in yaml_like(), overrides in prop::collection::vec("[a-z._]{0,12}=?.{0,20}", 0..3)) {
        let mut attempt = Attempt::new(text);
        attempt.overrides = overrides;
        if let Err(problems) = attempt.resolve() {
            prop_assert!(!problems.to_string().is_empty());
        }
    }

    #[test]
    fn no_value_of_a_key_makes_it_panic(index in 0_usize..100, value in any::<String>()) {
        let keys: Vec<_> = crate::config::registry::keys().collect();
        let path = keys[index % keys.len()].path;
        let _ = Attempt::new(POSTGRES).set(&format!("{path}={value}")).resolve();
    }
}

#[test]
fn texts_that_look_like_numbers_truth_values_or_dates_stay_as_they_are_written() {
    for text in
        ["0123456", "1.10", "1e10", "0x1F", "0o17", "1_000", "on", "Yes", "true", "2025-10-01", "12:30:45", ".5", "+1"]
    {
        let number_like = with(&with(FILE, "org1234567", text), "my-cluster", text);
        for attempt in [
            Attempt::new(&number_like),
            Attempt::new(FILE).set(&format!("organization.org_id={text}")).set(&format!("source.cluster_id={text}")),
            Attempt::new(with(&with(FILE, "org1234567", "'${T}'"), "my-cluster", "'${T}'")).env("T", text),
            Attempt::new(with(&with(FILE, "org1234567", &format!("\"{text}\"")), "my-cluster", &format!("'{text}'"))),
        ] {
            let config = attempt.config();
            assert_eq!((config.org_id.as_str(), config.source.cluster_id.as_str()), (text, text));
            assert_eq!(config.source.cluster_alias, text);
        }
        let listed = format!("{FILE}reference: {{enabled_tag_keys: [{text}, '{text}']}}\n");
        let Some(ReferenceFrom::Inline { enabled_tag_keys, .. }) =
            Attempt::new(listed).resolve().ok().map(|resolved| resolved.config.reference.from.clone())
        else {
            panic!("{text} is a key")
        };
        assert_eq!(enabled_tag_keys, [text, text]);
        // What `config` prints gives the same again, to this program and to any other reader of YAML.
        let printed = Attempt::new(&number_like).effective();
        assert_eq!(Attempt::new(&printed).config().org_id, text, "{printed}");
    }
}

#[test]
fn one_line_end_at_the_end_of_a_value_is_no_part_of_it() {
    let text = with(FILE, "cluster_id: my-cluster", "cluster_id: '${C}'");
    for (value, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n")] {
        assert_eq!(Attempt::new(&text).env("C", value).config().source.cluster_id, expected);
    }
    assert!(Attempt::new(&text).env("C", "\n").problems().contains("source.cluster_id: missing"));
    // A secret loses it also where it stands in the file; other texts there are as they are written.
    let block = with(POSTGRES, "    user: writer\n", "    user: writer\n    password: |\n      word\n");
    let password = Attempt::new(block).config().postgres.and_then(|postgres| postgres.password);
    assert_eq!(password.as_ref().map(ExposeSecret::expose_secret), Some("word"));
    let quoted = with(FILE, "cluster_id: my-cluster", "cluster_id: \"a\\n\"");
    assert_eq!(Attempt::new(quoted).config().source.cluster_id, "a\n");
}
