//! Label texts of all kinds under the three semantics, as the table of behaviours says.

use super::*;

fn rules(semantics: Semantics) -> LabelRules {
    LabelRules::new(semantics, &["a", "é", "my_x"].map(str::to_owned), false)
}

fn kept(semantics: Semantics, text: &str) -> Result<String, LabelProblem> {
    rules(semantics).kept(Some(text)).map(|text| text.expect("not null"))
}

const ALL: [Semantics; 3] = [Semantics::Balanced, Semantics::SelfHosted, Semantics::Trino];

#[test]
fn enabled_keys_are_kept_in_canonical_form() {
    for semantics in ALL {
        let text = r#" {"z": 1, "\u00e9": "\u00e9\"", "a": "old", "a": "", "vm_kubevirt_io_name": null} "#;
        let expected = r#"{"a":"","vm_kubevirt_io_name":null,"é":"é\""}"#;
        assert_eq!(kept(semantics, text).as_deref(), Ok(expected), "{semantics}");
        assert_eq!(kept(semantics, r#"{"a": 2.50}"#).as_deref(), Ok(r#"{"a":"2.50"}"#));
        assert_eq!(kept(semantics, r#"{"a": 1e2, "é": true}"#).as_deref(), Ok(r#"{"a":"100","é":"true"}"#));
    }
}

#[test]
fn without_enabled_keys_trino_keeps_nothing() {
    for (semantics, expected) in
        ALL.into_iter().zip([r#"{"vm_kubevirt_io_name":"x"}"#, r#"{"vm_kubevirt_io_name":"x"}"#, "{}"])
    {
        let rules = LabelRules::new(semantics, &[], false);
        assert_eq!(rules.kept(Some(r#"{"vm_kubevirt_io_name": "x", "a": "b"}"#)), Ok(Some(expected.to_owned())));
    }
}

#[test]
fn null_and_blank_are_empty_except_under_trino() {
    for semantics in [Semantics::Balanced, Semantics::SelfHosted] {
        assert_eq!(rules(semantics).kept(None), Ok(Some("{}".to_owned())));
        assert_eq!(kept(semantics, " \t\r\n").as_deref(), Ok("{}"));
    }
    assert_eq!(rules(Semantics::Trino).kept(None), Ok(None));
    assert_eq!(kept(Semantics::Trino, ""), Err(LabelProblem::Blank));
}

#[test]
fn malformed_texts_are_refused_or_counted_as_empty() {
    for text in ["[]", "null", "{", "x", r#"{"a": "\ud800"}"#, "a:b|c:d", "{\"a\": \"\u{1}\"}"] {
        for semantics in ALL {
            assert_eq!(kept(semantics, text), Err(LabelProblem::Malformed), "{semantics} {text}");
        }
        let lenient = |semantics| LabelRules::new(semantics, &[], true).kept(Some(text));
        assert_eq!(lenient(Semantics::Balanced), Ok(Some("{}".to_owned())));
        assert_eq!(lenient(Semantics::SelfHosted), Err(LabelProblem::Malformed));
    }
}

#[test]
fn nested_values_become_jsonb_text_or_an_error() {
    let text = r#"{"a": {"bb": [1.0, "x\n", null], "c": {}, "b": 1e1}, "zz": []}"#;
    let expected = r#"{"a":"{\"b\": 10, \"c\": {}, \"bb\": [1.0, \"x\\n\", null]}"}"#;
    assert_eq!(kept(Semantics::Balanced, text).as_deref(), Ok(expected));
    assert_eq!(kept(Semantics::SelfHosted, text).as_deref(), Ok(expected));
    assert_eq!(kept(Semantics::Trino, r#"{"zz": []}"#), Err(LabelProblem::Nested));
    // Also where a later member of the same key overwrites it.
    assert_eq!(kept(Semantics::Trino, r#"{"zz": [], "zz": "flat"}"#), Err(LabelProblem::Nested));
}

#[test]
fn what_jsonb_cannot_store_is_refused_where_it_would_be_stored() {
    for (text, problem) in [(r#"{"zz": "\u0000"}"#, LabelProblem::Nul), (r#"{"zz": [1e999999]}"#, LabelProblem::Number)]
    {
        assert_eq!(kept(Semantics::SelfHosted, text), Err(problem));
        assert_eq!(kept(Semantics::Balanced, text).as_deref(), Ok("{}"));
        let is_kept = text.replace("zz", "a");
        assert_eq!(kept(Semantics::Balanced, &is_kept), Err(problem));
    }
    assert_eq!(kept(Semantics::SelfHosted, r#"{"zz": "\\u0000"}"#).as_deref(), Ok("{}"));
    for overwritten in [r#"{"zz": 1e999999, "zz": 1}"#, r#"{"zz": [{"y": -1E+999999, "y": 1}]}"#] {
        assert_eq!(kept(Semantics::SelfHosted, overwritten), Err(LabelProblem::Number));
    }
    let in_strings = r#"{"1e999999": "-1e999999", "y\"1e999999": true, "z\\": -0.5e1}"#;
    assert_eq!(kept(Semantics::SelfHosted, in_strings).as_deref(), Ok("{}"));
    let of_map = |text: &str| kept(Semantics::SelfHosted, &format!("{GROUPED_MARK}{text}"));
    assert_eq!(of_map(r#"{"zz": "\u0000"}"#).as_deref(), Ok("{}"));
    assert_eq!(of_map(r#"{"a": "\u0000"}"#), Err(LabelProblem::Nul));
}

#[test]
fn the_operators_own_form_is_read_under_balanced_only() {
    let text = "label_a:b|label_my_label_x:|label_é:1:2|zz|label_a:c";
    assert_eq!(kept(Semantics::Balanced, text).as_deref(), Ok(r#"{"a":"c","my_x":""}"#));
    assert_eq!(kept(Semantics::SelfHosted, text), Err(LabelProblem::Malformed));
}

#[test]
fn later_objects_win_in_a_merge() {
    assert_eq!(merged(&["{}", "{}"]), "{}");
    assert_eq!(merged(&["{}", r#"{"a":"1"}"#]), r#"{"a":"1"}"#);
    assert_eq!(merged(&[r#"{"a":"1","b":"2"}"#, r#"{"a":null}"#, r#"{"0":""}"#]), r#"{"0":"","a":null,"b":"2"}"#);
}

#[test]
fn a_text_of_a_file_never_passes_for_a_map() {
    let marked = format!("{GROUPED_MARK}{{\"a\": \"b\"}}");
    assert_eq!(kept(Semantics::Balanced, &marked).as_deref(), Ok(r#"{"a":"b"}"#));
    assert_eq!(kept(Semantics::Balanced, &as_written(&marked)), Err(LabelProblem::Malformed));
    assert_eq!(as_written(r#"{"a": "b"}"#), r#"{"a": "b"}"#);
}
