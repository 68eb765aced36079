//! Keys and values of labels → JSON text in the form of Python's default writer, as the reference stores it.

use std::fmt::Write;

/// Appends a pair to an object that is still open (it begins with `{`), with the blanks of Python's default separators.
pub fn append_label(json: &mut String, key: &str, value: &str) {
    if json.len() > 1 {
        json.push_str(", ");
    }
    append_text(json, key);
    json.push_str(": ");
    append_text(json, value);
}

/// Appends a JSON string in ASCII: everything else as `\uXXXX`, beyond the basic plane as two of them.
fn append_text(json: &mut String, text: &str) {
    json.push('"');
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        json.push_str(text);
    } else {
        text.chars().for_each(|character| append_character(json, character));
    }
    json.push('"');
}

fn append_character(json: &mut String, character: char) {
    match character {
        '"' => json.push_str("\\\""),
        '\\' => json.push_str("\\\\"),
        '\n' => json.push_str("\\n"),
        '\r' => json.push_str("\\r"),
        '\t' => json.push_str("\\t"),
        '\u{8}' => json.push_str("\\b"),
        '\u{c}' => json.push_str("\\f"),
        ' '..='~' => json.push(character),
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(json, "\\u{unit:04x}").expect("a string takes any text");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_python_does_it() {
        let json = |key: &str, value: &str| {
            let mut json = "{".to_owned();
            append_label(&mut json, key, value);
            append_label(&mut json, "z", "");
            json
        };
        assert_eq!(json("app", "web"), r#"{"app": "web", "z": """#);
        assert_eq!(json("ö", "a\"b\\\n\u{7f}"), r#"{"\u00f6": "a\"b\\\n\u007f", "z": """#);
        assert_eq!(json("k", "🦀"), r#"{"k": "\ud83e\udd80", "z": """#);
    }
}
