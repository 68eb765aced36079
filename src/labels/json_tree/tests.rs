//! What the strict reader accepts, keeps and refuses.

use super::*;

fn read(text: &str) -> Result<KeptMembers, Refusal> {
    read_tree(text, &EnabledKeys::new(["a".to_string(), "b".to_string()]))
}

fn value_of(value: &str) -> Result<Tree, Refusal> {
    read(&format!("{{\"a\":{value}}}")).map(|mut members| members.kept.remove(0).1)
}

fn number(text: &str) -> Tree {
    Tree::Number(text.to_string())
}

#[test]
fn keeps_enabled_members_with_duplicates_in_order() {
    let members = read(r#" {"b":1,"x":[1.5],"a":"t","b":null} "#).unwrap();
    assert_eq!(members.kept, [(1, number("1")), (0, Tree::Text("t".into())), (1, Tree::Null)]);
    assert!(members.any_nested, "the nested value lies under a key that is not enabled");
    assert!(!read(r#"{"b":1.5,"x":-2e7}"#).unwrap().any_nested, "a number is not nested");
}

#[test]
fn numbers_keep_their_digits() {
    for text in ["0", "-0", "2.50", "18446744073709551616", "-9223372036854775809", "0.1e-5", "-0.00"] {
        let read = value_of(text).unwrap();
        let expected = text.replace("e5", "e+5");
        assert_eq!(read, number(&expected), "{text}");
    }
    assert_eq!(value_of("1E400"), Ok(number("1e+400")));
}

#[test]
fn an_object_that_looks_like_a_wrapped_number_stays_an_object() {
    let member = |value| Tree::Object(vec![(NUMBER_TOKEN.to_string(), value)]);
    assert_eq!(value_of(&format!("{{\"{NUMBER_TOKEN}\":\"12\"}}")), Ok(member(Tree::Text("12".into()))));
    assert_eq!(value_of(r#"{"\u0024serde_json::private::Number":"1"}"#), Ok(member(Tree::Text("1".into()))));
    assert_eq!(value_of(&format!("{{\"{NUMBER_TOKEN}\":1.5}}")), Ok(member(number("1.5"))));
    assert_eq!(value_of(&format!("{{\"{NUMBER_TOKEN}\":[1.5]}}")), Ok(member(Tree::List(vec![number("1.5")]))));
}

#[test]
fn what_is_no_json_object_is_refused() {
    for text in [
        "",
        "{",
        "{}x",
        "{},",
        "[]",
        "\"x\"",
        "1",
        "null",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":NaN}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\\v\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\ud83d\"}",
        "{\"a\":\"\\ude00\\ud83d\"}",
        "{\"a\":\"\\ud83dx\"}",
        "{\"x\":\"\\ud83d\"}",
        "{\"\\ude00\":1}",
        "\u{feff}{}",
    ] {
        assert_eq!(read(text).map(|_| ()), Err(Refusal::NotAnObject), "{text}");
    }
}

#[test]
fn depth_is_bounded_and_told_apart_from_malformed() {
    let nested = |open: &str, middle: &str, close: &str, levels| {
        value_of(&format!("{}{middle}{}", open.repeat(levels), close.repeat(levels))).map(|_| ())
    };
    let token = format!("{{\"{NUMBER_TOKEN}\":");
    for (open, close) in [("[", "]"), ("{\"x\":", "}"), (token.as_str(), "}")] {
        assert_eq!(nested(open, "1.5", close, MAX_NESTING - 1), Ok(()), "{open}");
        assert_eq!(nested(open, "\"s\"", close, MAX_NESTING - 1), Ok(()), "{open}");
        for levels in [MAX_NESTING, MAX_NESTING + 1, 127, 128, 100_000] {
            assert_eq!(nested(open, "1.5", close, levels), Err(Refusal::TooDeep), "{open} {levels}");
        }
    }
    assert_eq!(nested("[", "", "}", 100_000), Err(Refusal::NotAnObject));
    assert_eq!(nested("[", "{}", "]", MAX_NESTING - 1), Err(Refusal::TooDeep));
}

#[test]
fn the_deepest_value_fits_on_a_small_stack() {
    let text = format!("{{\"a\":{}{}}}", "[".repeat(MAX_NESTING - 1), "]".repeat(MAX_NESTING - 1));
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let outcome = thread.spawn(move || read(&text).map(|_| ())).unwrap().join().unwrap();
    assert_eq!(outcome, Ok(()));
}

#[test]
fn what_is_too_deep_and_no_json_either_is_no_json() {
    let text = |value: &str| format!("{{\"a\":{}{},\"b\":{value}}}", "[".repeat(MAX_NESTING), "]".repeat(MAX_NESTING));
    let read = |value: &str| read(&text(value)).map(drop);
    assert_eq!(read(r#""\"x\ud83d\ude00""#), Err(Refusal::TooDeep));
    assert_eq!(read(r#""\"x\ud996""#), Err(Refusal::NotAnObject), "half of a pair");
    assert_eq!(read(r#""\"x\ud996","c":"d""#), Err(Refusal::NotAnObject));
    assert_eq!(read("tru"), Err(Refusal::NotAnObject));
}
