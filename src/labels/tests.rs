//! The label store as its callers see it: each rule by example, and properties over random labels.

use super::*;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

const BALANCED: LabelRules = LabelRules {
    null_is_distinct: false,
    refuse_blank: false,
    refuse_nested: false,
    operator_text: true,
    malformed_as_empty: false,
    refuse_unstorable: false,
};
const TRINO: LabelRules = LabelRules {
    null_is_distinct: true,
    refuse_blank: true,
    refuse_nested: true,
    operator_text: false,
    malformed_as_empty: false,
    refuse_unstorable: false,
};
const SELF_HOSTED: LabelRules = LabelRules { operator_text: false, ..BALANCED };
const LENIENT: LabelRules = LabelRules { malformed_as_empty: true, ..BALANCED };

fn store_of(keys: &[&str], rules: LabelRules, cache_bytes: usize) -> LabelStore {
    LabelStore::new(Arc::new(EnabledKeys::new(keys.iter().map(ToString::to_string))), rules, cache_bytes)
}

fn store(rules: LabelRules) -> LabelStore {
    store_of(&["app", "env", "é", "tier"], rules, 1 << 20)
}

fn json_of(store: &LabelStore, text: &str) -> Result<String, Outcome> {
    match store.resolve_text(Some(text)) {
        Outcome::Set(set) => Ok(store.canonical_json(set)),
        other => Err(other),
    }
}

fn set_of(store: &LabelStore, text: &str) -> LabelSetId {
    match store.resolve_text(Some(text)) {
        Outcome::Set(set) => set,
        other => panic!("{text} gave {other:?}"),
    }
}

fn assert_json(store: &LabelStore, text: &str, expected: &str) {
    assert_eq!(json_of(store, text).as_deref(), Ok(expected), "{text}");
}

fn assert_refused(store: &LabelStore, text: &str, refusal: Refusal) {
    assert_eq!(store.resolve_text(Some(text)), Outcome::Refused(refusal), "{text}");
}

#[test]
fn null_is_empty_or_a_set_of_its_own() {
    assert_eq!(store(BALANCED).resolve_text(None), Outcome::Set(LabelSetId::EMPTY));
    assert_eq!(store(SELF_HOSTED).resolve_null(), LabelSetId::EMPTY);
    let trino = store(TRINO);
    assert_eq!(trino.resolve_text(None), Outcome::Set(LabelSetId::NULL));
    assert_eq!(trino.canonical_json(LabelSetId::NULL), "null");
    assert_eq!(trino.canonical_json(LabelSetId::EMPTY), "{}");
}

#[test]
fn blank_is_empty_or_refused() {
    for text in ["", " ", "\t\r\n  "] {
        for rules in [BALANCED, SELF_HOSTED, LENIENT] {
            assert_eq!(store(rules).resolve_text(Some(text)), Outcome::Set(LabelSetId::EMPTY), "{text:?}");
        }
        assert_refused(&store(TRINO), text, Refusal::Blank);
    }
    for text in ["\u{a0}", "\u{b}", "\u{2003}", "\u{feff}"] {
        assert_refused(&store(BALANCED), text, Refusal::NotAnObject);
    }
}

#[test]
fn objects_are_filtered_and_written_canonically() {
    let store = store(BALANCED);
    assert_json(&store, "{}", "{}");
    assert_json(
        &store,
        " \r\n{ \"tier\" : \"web\" , \"x\" : \"y\", \"app\" : \"sh\\u006fp\" }\t",
        r#"{"app":"shop","tier":"web"}"#,
    );
    assert_json(&store, r#"{"APP":"1","app ":"2","ap":"3"}"#, "{}");
    assert_json(
        &store,
        r#"{"\u00e9":"caf\u00e9 \ud83d\ude00","app":"a\/b\"c\\d\u007f"}"#,
        "{\"app\":\"a/b\\\"c\\\\d\u{7f}\",\"é\":\"café 😀\"}",
    );
    assert_json(&store, r#"{"app":"\u0001\u001f\b\f\n\r\t"}"#, r#"{"app":"\u0001\u001f\b\f\n\r\t"}"#);
    assert_json(&store, r#"{"app":"","env":null}"#, r#"{"app":"","env":null}"#);
    assert_json(&store, r#"{"app":"null","env":"true"}"#, r#"{"app":"null","env":"true"}"#);
    assert_json(&store, r#"{"app":2.50,"env":1e2,"tier":true}"#, r#"{"app":"2.50","env":"100","tier":"true"}"#);
    assert_json(&store, r#"{"app":{"bb":[1,{}],"a":"\n"}}"#, r#"{"app":"{\"a\": \"\\n\", \"bb\": [1, {}]}"}"#);
    assert_json(&store, r#"{"app":"1","env":"2","app":"3"}"#, r#"{"app":"3","env":"2"}"#);
}

#[test]
fn values_that_read_alike_are_told_apart() {
    let store = store(BALANCED);
    assert_ne!(set_of(&store, r#"{"app":null}"#), set_of(&store, r#"{"app":"null"}"#));
    assert_ne!(set_of(&store, r#"{"app":null}"#), set_of(&store, "{}"));
    assert_ne!(set_of(&store, r#"{"app":2.5}"#), set_of(&store, r#"{"app":2.50}"#));
    assert_eq!(set_of(&store, r#"{"app":100}"#), set_of(&store, r#"{"app":"100"}"#));
    assert_eq!(set_of(&store, r#"{"app":1e2}"#), set_of(&store, r#"{"x":[],"app":100}"#));
}

#[test]
fn malformed_texts_are_refused_or_taken_as_empty() {
    let texts = [
        "[]",
        "\"x\"",
        "1",
        "null",
        "true",
        "{",
        "{]",
        "x",
        "app:shop",
        "{\"app\":\"a\"}}",
        "{\"app\":\"\\ud83d\"}",
        "label",
    ];
    for text in texts {
        for rules in [BALANCED, SELF_HOSTED, TRINO] {
            assert_refused(&store(rules), text, Refusal::NotAnObject);
        }
        assert_eq!(store(LENIENT).resolve_text(Some(text)), Outcome::TakenAsEmpty, "{text}");
    }
    // these are JSON objects: the leniency is not meant for them
    assert_refused(&store(LENIENT), r#"{"app":"\u0000"}"#, Refusal::NulCharacter);
    assert_refused(&store(LENIENT), r#"{"app":1e131072}"#, Refusal::NumberTooLong);
    assert_eq!(Refusal::NotAnObject.to_string(), "is not a JSON object");
    assert_eq!(Refusal::TooDeep.to_string(), "holds a value nested deeper than 100 levels");
}

#[test]
fn nested_values_are_refused_under_any_key_by_that_rule_only() {
    for text in [r#"{"app":[]}"#, r#"{"x":{}}"#, r#"{"x":[1],"x":"1"}"#, r#"{"app":1.50,"x":[]}"#] {
        assert_refused(&store(TRINO), text, Refusal::Nested);
        assert!(json_of(&store(SELF_HOSTED), text).is_ok(), "{text}");
    }
    assert_json(&store(TRINO), r#"{"app":2.50,"env":null,"x":false}"#, r#"{"app":"2.50","env":null}"#);
}

#[test]
fn operator_text_is_read_only_where_the_rules_say_so() {
    let balanced = store(BALANCED);
    assert_json(&balanced, "label_app:shop|label_x:1|label_env:", r#"{"app":"shop","env":""}"#);
    assert_json(&balanced, " \tlabel_app:shop\n", r#"{"app":"shop"}"#);
    assert_json(&balanced, "label_app", "{}");
    assert_json(&balanced, "label_app:a:b|label_env:é\"", r#"{"env":"é\""}"#);
    assert_eq!(set_of(&balanced, "label_app:shop"), set_of(&balanced, r#"{"app":"shop"}"#));
    assert_refused(&balanced, "label_app:a\0", Refusal::NulCharacter);
    assert_refused(&balanced, "Label_app:shop", Refusal::NotAnObject);
    for rules in [SELF_HOSTED, TRINO] {
        assert_refused(&store(rules), "label_app:shop", Refusal::NotAnObject);
    }
    let forms = ["", " {", "label_", "\nlabel_a:b", "x"].map(|text| form_of(text, BALANCED));
    use TextForm::{Blank, Json, Operator};
    assert_eq!(forms, [Blank, Json, Operator, Operator, Json]);
    assert_eq!(form_of("label_", TRINO), Json);
}

#[test]
fn entries_are_taken_as_they_are() {
    let store = store(TRINO);
    let resolve = |entries: &[(&'static str, Option<&'static str>)]| store.resolve_entries(entries.iter().copied());
    assert_eq!(resolve(&[]), Outcome::Set(LabelSetId::EMPTY));
    assert_eq!(resolve(&[("x", Some("1")), ("App", None)]), Outcome::Set(LabelSetId::EMPTY));
    let expected = Outcome::Set(set_of(&store, r#"{"app":"{\"a\":1}","env":null}"#));
    assert_eq!(resolve(&[("env", Some("first")), ("app", Some("{\"a\":1}")), ("env", None)]), expected);
    assert_eq!(resolve(&[("app", Some("{\"a\":1}")), ("x", Some("\0")), ("env", None)]), expected);
    assert_eq!(resolve(&[("app", Some("a\0"))]), Outcome::Refused(Refusal::NulCharacter));
    assert_eq!(resolve(&[("app", Some("a\0")), ("app", None)]), Outcome::Set(set_of(&store, r#"{"app":null}"#)));
}

#[test]
fn without_enabled_keys_every_label_is_dropped() {
    let store = store_of(&[], BALANCED, 1 << 20);
    assert_json(&store, r#"{"app":"shop","vm_kubevirt_io_name":"vm"}"#, "{}");
    assert_json(&store, "label_app:shop", "{}");
    assert_refused(&store, "{", Refusal::NotAnObject);
}

#[test]
fn later_sets_override_earlier_ones() {
    let store = store(TRINO);
    let [node, space, pod] =
        [r#"{"app":"n","env":"n","tier":"n"}"#, r#"{"env":"s","tier":null}"#, r#"{"tier":"p","é":"p"}"#]
            .map(|text| set_of(&store, text));
    let merged = |sets: &[LabelSetId]| store.canonical_json(store.merge(sets));
    assert_eq!(merged(&[node, space, pod]), r#"{"app":"n","env":"s","tier":"p","é":"p"}"#);
    assert_eq!(merged(&[pod, space, node]), r#"{"app":"n","env":"n","tier":"n","é":"p"}"#);
    assert_eq!(merged(&[node, space]), r#"{"app":"n","env":"s","tier":null}"#);
    assert_eq!(store.merge(&[]), LabelSetId::EMPTY);
    assert_eq!(store.merge(&[LabelSetId::NULL, LabelSetId::EMPTY]), LabelSetId::EMPTY);
    assert_eq!(store.merge(&[LabelSetId::EMPTY, pod, LabelSetId::NULL, pod]), pod);
    assert_eq!(store.merge(&[space, node]), node);
}

#[test]
fn texts_beyond_the_cache_are_read_again() {
    let (none, plenty) = (store_of(&["app"], LENIENT, 0), store_of(&["app"], LENIENT, 1 << 20));
    for store in [&none, &plenty] {
        for _ in 0..3 {
            assert_json(store, r#"{"app":"1"}"#, r#"{"app":"1"}"#);
            assert_eq!(store.resolve_text(Some("{")), Outcome::TakenAsEmpty);
            store.resolve_entries([("app", Some("1"))].into_iter());
        }
    }
    assert_eq!((none.stats().distinct_texts, none.stats().entry_sets, none.stats().uncached), (6, 3, 9));
    assert_eq!((plenty.stats().distinct_texts, plenty.stats().entry_sets, plenty.stats().uncached), (2, 1, 0));
    assert_eq!((none.stats().sets, plenty.stats().sets), (2, 2));
    assert!(none.state_bytes() < plenty.state_bytes());
}

#[test]
fn what_was_seen_is_counted_once() {
    let store = store(LENIENT);
    let texts = [
        "",
        "{}",
        r#"{"app":"1"}"#,
        r#"{"app":"\u0000"}"#,
        "[",
        "label_app:1|label_x:a:b|label_y:c:d",
        r#"{"app":"1"}"#,
    ];
    texts.iter().for_each(|text| {
        store.resolve_text(Some(text));
    });
    store.resolve_text(None);
    let expected = LabelStats {
        distinct_texts: 6,
        json_texts: 4,
        operator_texts: 1,
        malformed_texts: 1,
        refused_texts: 1,
        operator_pairs_dropped: 2,
        entry_sets: 0,
        uncached: 0,
        sets: 2,
    };
    assert_eq!(store.stats(), expected);
}

#[test]
fn state_grows_with_what_is_kept() {
    let store = store_of(&["app"], BALANCED, 1 << 20);
    let before = store.state_bytes();
    let value = "v".repeat(10_000);
    set_of(&store, &format!("{{\"app\":\"{value}\"}}"));
    let growth = store.state_bytes() - before;
    assert!((20_000..40_000).contains(&growth), "the text and the value: {growth}");
}

/// Keys that meet often, among them some whose escaped order differs from their byte order.
fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![3 => prop::sample::select(vec!["a", "b", "\u{1}", "#", "\"", "\\", "é", "ab", ""]).prop_map(String::from), 1 => "[^\0]{0,3}"]
}

fn any_value() -> impl Strategy<Value = Option<String>> {
    prop_oneof![1 => Just(None), 3 => "[ab\"\\\\]{0,2}".prop_map(Some), 1 => "[^\0]{0,8}".prop_map(Some)]
}

fn any_pairs() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    prop::collection::vec((any_key(), any_value()), 0..6)
}

fn enabled() -> LabelStore {
    store_of(&["a", "b", "\u{1}", "#", "\"", "\\", "é", ""], BALANCED, 1 << 16)
}

fn json_text(pairs: &[(String, Option<String>)]) -> String {
    let members = pairs.iter().map(|(key, value)| format!("{}:{}", serde_json::json!(key), serde_json::json!(value)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn entries(store: &LabelStore, pairs: &[(String, Option<String>)]) -> LabelSetId {
    match store.resolve_entries(pairs.iter().map(|(key, value)| (key.as_str(), value.as_deref()))) {
        Outcome::Set(set) => set,
        other => panic!("{pairs:?} gave {other:?}"),
    }
}

/// The slow and plain way: a map, and serde_json to write it.
fn expected_json(store: &LabelStore, layers: &[&[(String, Option<String>)]]) -> String {
    let keys = ["a", "b", "\u{1}", "#", "\"", "\\", "é", ""];
    let kept = layers.iter().flat_map(|layer| layer.iter()).filter(|(key, _)| keys.contains(&key.as_str()));
    let map: BTreeMap<&String, &Option<String>> = kept.map(|(key, value)| (key, value)).collect();
    assert_eq!(store.keys().len(), keys.len());
    serde_json::to_string(&map).unwrap()
}

proptest! {
    #[test]
    fn entries_and_texts_of_the_same_pairs_are_the_same_set(pairs in any_pairs()) {
        let store = enabled();
        let set = set_of(&store, &json_text(&pairs));
        prop_assert_eq!(entries(&store, &pairs), set);
        prop_assert_eq!(store.canonical_json(set), expected_json(&store, &[&pairs]));
    }

    #[test]
    fn canonical_json_is_read_back_as_the_same_set(pairs in any_pairs()) {
        let store = enabled();
        let set = entries(&store, &pairs);
        prop_assert_eq!(set_of(&store, &store.canonical_json(set)), set);
    }

    #[test]
    fn merging_is_associative_and_the_last_wins(a in any_pairs(), b in any_pairs(), c in any_pairs()) {
        let store = enabled();
        let [x, y, z] = [&a, &b, &c].map(|pairs| entries(&store, pairs));
        let merged = store.merge(&[x, y, z]);
        prop_assert_eq!(store.merge(&[store.merge(&[x, y]), z]), merged);
        prop_assert_eq!(store.merge(&[x, store.merge(&[y, z])]), merged);
        prop_assert_eq!(store.canonical_json(merged), expected_json(&store, &[&a, &b, &c]));
    }

    #[test]
    fn sets_compare_as_their_canonical_json_does(a in any_pairs(), b in any_pairs()) {
        let store = enabled();
        let (x, y) = (entries(&store, &a), entries(&store, &b));
        let expected = store.canonical_json(x).as_bytes().cmp(store.canonical_json(y).as_bytes());
        prop_assert_eq!(store.compare_canonical(x, y), expected);
        prop_assert_eq!(store.compare_canonical(y, x), expected.reverse());
        for set in [x, y] {
            prop_assert_eq!(store.compare_canonical(LabelSetId::NULL, set), Ordering::Less);
            prop_assert_eq!(store.compare_canonical(set, set), Ordering::Equal);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text: String, tail in r#"[{}\[\]",:\\u0-9a-f|e_l\.\-]{0,40}"#) {
        for rules in [BALANCED, TRINO, LENIENT] {
            let store = store_of(&["a", "e", ""], rules, 1 << 12);
            for text in [text.as_str(), &tail, &format!("{{\"a\":{tail}}}"), &format!("{{\"{text}\":\"{tail}\"}}"), &format!("label_{tail}{text}")] {
                let first = store.resolve_text(Some(text));
                prop_assert_eq!(store.resolve_text(Some(text)), first);
                if let Outcome::Set(set) = first {
                    prop_assert!(serde_json::from_str::<BTreeMap<String, Option<String>>>(&store.canonical_json(set)).is_ok());
                }
            }
        }
    }
}

#[test]
fn threads_and_order_change_ids_but_not_sets() {
    let texts: Vec<String> =
        (0..2_000).map(|i| format!("{{\"app\":\"{}\",\"x\":{i},\"env\":{}.50}}", i % 300, i % 7)).collect();
    let alone = store(BALANCED);
    let expected: Vec<String> = texts.iter().map(|text| json_of(&alone, text).unwrap()).collect();
    let shared = store_of(&["app", "env", "é", "tier"], BALANCED, 1 << 16);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (shared, texts, expected) = (&shared, &texts, &expected);
            scope.spawn(move || {
                for step in 0..texts.len() {
                    let i = (step * 7 + thread * 501) % texts.len();
                    let i = if thread % 2 == 0 { i } else { texts.len() - 1 - i };
                    assert_eq!(json_of(shared, &texts[i]).as_ref(), Ok(&expected[i]));
                    assert_eq!(
                        shared.merge(&[set_of(shared, &texts[0]), set_of(shared, &texts[i])]),
                        set_of(shared, &texts[i])
                    );
                }
            });
        }
    });
    assert_eq!(shared.stats().sets, alone.stats().sets);
}
