//! Both readers against one another and against examples.

use super::*;
use proptest::prelude::*;

fn keys() -> EnabledKeys {
    EnabledKeys::new(["a", "b", "é"].map(String::from))
}

fn collect(outcome: Result<(), Refusal>, pairs: &mut Pairs) -> Result<Vec<(u32, Option<String>)>, Refusal> {
    outcome.and_then(|()| pairs.settle(&keys()))?;
    Ok(pairs.iter().map(|(key, value)| (key, value.map(String::from))).collect())
}

fn read(text: &str, refuse_nested: bool) -> Result<Vec<(u32, Option<String>)>, Refusal> {
    let mut pairs = Pairs::default();
    let outcome = JsonReader::default().read(text, &keys(), refuse_nested, &mut pairs);
    collect(outcome, &mut pairs)
}

fn read_slowly(text: &str, refuse_nested: bool) -> Result<Vec<(u32, Option<String>)>, Refusal> {
    let mut pairs = Pairs::default();
    let outcome = read_strictly(text, &keys(), refuse_nested, &mut pairs);
    collect(outcome, &mut pairs)
}

fn some(pairs: &[(u32, &str)]) -> Result<Vec<(u32, Option<String>)>, Refusal> {
    Ok(pairs.iter().map(|(key, value)| (*key, Some(value.to_string()))).collect())
}

#[test]
fn members_are_filtered_and_turned_into_text() {
    assert_eq!(read("{}", true), some(&[]));
    assert_eq!(read(r#"{"x":"1","A":"2","a ":"3"}"#, true), some(&[]));
    assert_eq!(read(r#"{"b":"2","x":"y","a":"1"}"#, true), some(&[(0, "1"), (1, "2")]));
    assert_eq!(read(r#"{"\u0061":"esc\u00e9\n","\u00e9":""}"#, true), some(&[(0, "escé\n"), (2, "")]));
    assert_eq!(read(r#"{"a":true,"b":false}"#, true), some(&[(0, "true"), (1, "false")]));
    assert_eq!(read(r#"{"a":-0,"b":18446744073709551615}"#, true), some(&[(0, "0"), (1, "18446744073709551615")]));
    assert_eq!(read(r#"{"a":2.50,"b":1e2}"#, true), some(&[(0, "2.50"), (1, "100")]));
    assert_eq!(read(r#"{"a":null}"#, true), Ok(vec![(0, None)]));
    let deep = format!("{{\"x\":{}1{},\"a\":1}}", "[".repeat(MAX_NESTING - 1), "]".repeat(MAX_NESTING - 1));
    assert_eq!(read(&deep, false), some(&[(0, "1")]));
}

#[test]
fn the_last_duplicate_wins_even_over_what_would_be_refused() {
    assert_eq!(read(r#"{"a":"1","a":"2"}"#, true), some(&[(0, "2")]));
    assert_eq!(read(r#"{"a":1.50,"\u0061":"2"}"#, true), some(&[(0, "2")]));
    assert_eq!(read(r#"{"a":"2","a":1.50}"#, true), some(&[(0, "1.50")]));
    assert_eq!(read(r#"{"a":1e999999,"a":["\u0000"],"a":"\u0000","a":"2"}"#, false), some(&[(0, "2")]));
}

#[test]
fn nested_values_follow_the_rule_under_any_key() {
    let enabled = r#"{"a":{"k":[1,2]},"b":"x"}"#;
    assert_eq!(read(enabled, false), some(&[(0, r#"{"k": [1, 2]}"#), (1, "x")]));
    let other = r#"{"x":[{"a":"inner"},[],"y"],"b":"x"}"#;
    assert_eq!(read(other, false), some(&[(1, "x")]));
    for text in [enabled, other, r#"{"x":{}}"#, r#"{"x":1e999,"y":[]}"#] {
        assert_eq!(read(text, true), Err(Refusal::Nested), "{text}");
    }
}

#[test]
fn what_postgres_cannot_store_is_refused_only_where_it_is_kept() {
    assert_eq!(read(r#"{"a":"\u0000"}"#, false), Err(Refusal::NulCharacter));
    assert_eq!(read(r#"{"a":["\u0000"]}"#, false), Err(Refusal::NulCharacter));
    assert_eq!(read(r#"{"a":1e131072}"#, false), Err(Refusal::NumberTooLong));
    assert_eq!(read(r#"{"x":"\u0000","y\u0000":["\u0000"],"z":1e131072,"a":1.5}"#, false), some(&[(0, "1.5")]));
}

#[test]
fn both_readers_agree_on_depth() {
    for levels in [1, MAX_NESTING - 1, MAX_NESTING, 127, 1024, 50_000] {
        let text = format!("{{\"x\":{}{},\"a\":1}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(read(&text, false), read_slowly(&text, false), "{levels}");
        assert_eq!(read(&text, false).is_ok(), levels < MAX_NESTING, "{levels}");
        assert_eq!(read(&text, true), Err(Refusal::Nested), "{levels}");
    }
}

#[test]
fn a_reader_forgets_the_text_before() {
    let mut reader = JsonReader::default();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(3 * KEEP_BYTES));
    for (text, expected) in [(r#"{"a":"1","b":["#, None), (r#"{"b":"2"}"#, Some(1)), (&long, Some(0)), ("[1]", None)] {
        let mut pairs = Pairs::default();
        let outcome = reader.read(text, &keys(), true, &mut pairs);
        assert_eq!(outcome.ok().and_then(|()| pairs.iter().next().map(|(key, _)| key)), expected);
    }
    assert!(reader.input.capacity() <= KEEP_BYTES);
}

/// Fragments of JSON, right and wrong, to be strung together.
fn fragment() -> impl Strategy<Value = String> {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"b\":",
        "\"x\":",
        "{\"a\":",
        "\\u0000",
        "\\ud83d",
        "\\ude00",
        "\\u00e9",
        "\\n",
        "\\x",
        "\u{7f}",
        "\n",
        "\t",
        " ",
        "0",
        "-",
        "-0",
        "1.50",
        "1e5",
        "1E400",
        "00",
        "1.",
        "true",
        "false",
        "null",
        "nul",
        "é",
        "\0",
        "18446744073709551616",
    ];
    prop_oneof![4 => prop::sample::select(parts.to_vec()).prop_map(String::from), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn both_readers_agree_on_any_text(parts in prop::collection::vec(fragment(), 0..14), nested: bool) {
        let text = parts.concat();
        prop_assert_eq!(read(&text, nested), read_slowly(&text, nested));
        let object = format!("{{\"a\":{text}}}");
        prop_assert_eq!(read(&object, nested), read_slowly(&object, nested));
        let string = format!("{{\"x\":\"{text}\",\"b\":1}}");
        prop_assert_eq!(read(&string, nested), read_slowly(&string, nested));
    }
}
