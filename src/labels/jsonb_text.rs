//! A parsed JSON value → the text that PostgreSQL's jsonb prints for it; also how a JSON string is escaped everywhere here.

use super::Refusal;
use super::json_tree::Tree;
use super::numeric_text::append_numeric_text;

/// How many bytes of expanded numbers one label text may come to. `1e131071` is 8 bytes and 128 KiB expanded, so a short
/// text could otherwise fill the memory.
const MAX_NUMBER_BYTES: usize = 1 << 20;

/// Writes the kept values of one label text.
pub(super) struct JsonbText {
    number_bytes_left: usize,
}

impl JsonbText {
    /// A writer for one label text.
    pub(super) fn new() -> Self {
        Self { number_bytes_left: MAX_NUMBER_BYTES }
    }

    /// Appends the text of a label's value: a string as it is, a number as numeric prints it, a nested value as jsonb
    /// prints it. `false` for JSON null, which has no text.
    pub(super) fn append_value(&mut self, value: &Tree, out: &mut String) -> Result<bool, Refusal> {
        match value {
            Tree::Null => return Ok(false),
            Tree::Text(text) => out.push_str(text),
            other => self.append_nested(other, out)?,
        }
        Ok(true)
    }

    fn append_nested(&mut self, value: &Tree, out: &mut String) -> Result<(), Refusal> {
        match value {
            Tree::Null => out.push_str("null"),
            Tree::Bool(true) => out.push_str("true"),
            Tree::Bool(false) => out.push_str("false"),
            Tree::Number(number) => self.append_number(number, out)?,
            Tree::Text(text) => append_stored_string(text, out)?,
            Tree::List(items) => {
                out.push('[');
                for (position, item) in items.iter().enumerate() {
                    out.push_str(if position > 0 { ", " } else { "" });
                    self.append_nested(item, out)?;
                }
                out.push(']');
            }
            Tree::Object(members) => {
                out.push('{');
                for (position, (key, member)) in jsonb_order(members).into_iter().enumerate() {
                    out.push_str(if position > 0 { ", " } else { "" });
                    append_stored_string(key, out)?;
                    out.push_str(": ");
                    self.append_nested(member, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    fn append_number(&mut self, number: &str, out: &mut String) -> Result<(), Refusal> {
        let start = out.len();
        append_numeric_text(number, self.number_bytes_left, out)?;
        self.number_bytes_left -= out.len() - start;
        Ok(())
    }
}

/// Appends `text` as a JSON string: quotes, backslashes and control characters escaped, everything else as it is.
pub(super) fn append_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(position) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..position]);
        match rest.as_bytes()[position] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0C => out.push_str("\\f"),
            other => {
                out.push_str("\\u00");
                out.extend([other >> 4, other & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)])));
            }
        }
        rest = &rest[position + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// A string inside a nested value; jsonb cannot hold U+0000, and once escaped it could no longer be seen.
fn append_stored_string(text: &str, out: &mut String) -> Result<(), Refusal> {
    if text.contains('\0') {
        return Err(Refusal::NulCharacter);
    }
    append_json_string(text, out);
    Ok(())
}

/// Members as jsonb keeps them: of equal keys the last one, shorter keys first, then byte order.
fn jsonb_order(members: &[(String, Tree)]) -> Vec<(&str, &Tree)> {
    let mut ordered: Vec<(&str, &Tree)> = members.iter().rev().map(|(key, member)| (key.as_str(), member)).collect();
    // stable, so that of equal keys the last one written stays in front
    ordered.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    ordered.dedup_by(|(later, _), (kept, _)| later == kept);
    ordered
}

#[cfg(test)]
mod tests {
    use super::super::EnabledKeys;
    use super::super::json_tree::read_tree;
    use super::*;

    fn text_of(value: &str) -> Result<Option<String>, Refusal> {
        let keys = EnabledKeys::new(["a".to_string()]);
        let tree = read_tree(&format!("{{\"a\":{value}}}"), &keys)?;
        let mut out = String::new();
        let is_text = JsonbText::new().append_value(&tree.kept[0].1, &mut out)?;
        Ok(is_text.then_some(out))
    }

    /// Each line as PostgreSQL 15.18 answered `select value from jsonb_each_text('{"a": …}'::jsonb)`.
    const FROM_POSTGRES: &[(&str, &str)] = &[
        ("true", "true"),
        ("false", "false"),
        (r#""""#, ""),
        (r#""x""#, "x"),
        (r#""a\/b""#, "a/b"),
        (r#""\u00e9\u4e2d\ud83d\ude00""#, "é中😀"),
        (r#""\uD83D\uDE00""#, "😀"),
        (r#""\u0001\u001f\u007f\b\f\n\r\t\"\\""#, "\u{1}\u{1f}\u{7f}\u{8}\u{c}\n\r\t\"\\"),
        (
            r#"["\u0001\u001f\u007f\u0080\b\f\n\r\t\"\\\/ é"]"#,
            "[\"\\u0001\\u001f\u{7f}\u{80}\\b\\f\\n\\r\\t\\\"\\\\/ é\"]",
        ),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[ ]", "[]"),
        ("{ }", "{}"),
        ("[[]]", "[[]]"),
        ("[{}]", "[{}]"),
        ("[1 , 2 ,3 ]", "[1, 2, 3]"),
        (r#"[1,2.50,1e2,-0,true,null,"x"]"#, r#"[1, 2.50, 100, 0, true, null, "x"]"#),
        (r#"{"b":1,"a":2}"#, r#"{"a": 2, "b": 1}"#),
        (r#"{"bb":1,"a":2,"c":3}"#, r#"{"a": 2, "c": 3, "bb": 1}"#),
        (r#"{"a":1,"b":[1,2]}"#, r#"{"a": 1, "b": [1, 2]}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
        (r#"{"é":1,"zz":2,"a":3,"ab":4,"":5}"#, r#"{"": 5, "a": 3, "ab": 4, "zz": 2, "é": 1}"#),
        (r#"{"a":{"x":1,"x":{"y":[]}},"a":[{"k":null}]}"#, r#"{"a": [{"k": null}]}"#),
        (r#"{"k\n":"v\u0001","\"":0.00}"#, r#"{"\"": 0.00, "k\n": "v\u0001"}"#),
    ];

    #[test]
    fn prints_values_as_postgres_does() {
        for (value, expected) in FROM_POSTGRES {
            assert_eq!(text_of(value), Ok(Some(expected.to_string())), "{value}");
        }
        assert_eq!(text_of("null"), Ok(None));
    }

    #[test]
    fn a_nul_inside_a_nested_value_is_refused() {
        for value in [r#"["\u0000"]"#, r#"{"\u0000":1}"#, r#"[[{"a":["x\u0000"]}]]"#] {
            assert_eq!(text_of(value), Err(Refusal::NulCharacter), "{value}");
        }
        assert_eq!(text_of(r#"{"x":"\u0000","x":1}"#), Ok(Some(r#"{"x": 1}"#.to_string())), "overwritten, not kept");
    }

    #[test]
    fn many_short_numbers_cannot_fill_the_memory() {
        let list = format!("[{}]", vec!["1e131071"; 100_000].join(","));
        assert_eq!(text_of(&list), Err(Refusal::NumberTooLong));
        assert_eq!(text_of("[1e131071,1e131071]").map(|text| text.map(|text| text.len())), Ok(Some(262_148)));
    }
}
