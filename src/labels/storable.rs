//! JSON text → whether PostgreSQL's jsonb takes it as a whole, parts that are not kept included.

use super::Refusal;
use super::json_tree::{Tree, read_value};
use super::numeric_text::append_numeric_text;

/// More than any number that jsonb can hold takes.
const MAX_NUMBER_BYTES: usize = 1 << 20;

/// Refuses a text that jsonb refuses although it is JSON: U+0000 in any string, a number out of numeric's range.
///
/// Nearly every text passes at a glance. A member that a later one of its key overwrites counts as well. What cannot be parsed here is left to the reader of kept members.
pub(super) fn check_whole_text(text: &str) -> Result<(), Refusal> {
    if !text.contains("\\u0000") && !has_long_number(text.as_bytes()) {
        return Ok(());
    }
    read_value(text).as_ref().map_or(Ok(()), check)
}

fn check(value: &Tree) -> Result<(), Refusal> {
    match value {
        Tree::Null | Tree::Bool(_) => Ok(()),
        Tree::Text(text) => check_text(text),
        Tree::Number(number) => append_numeric_text(number, MAX_NUMBER_BYTES, &mut String::new()),
        Tree::List(values) => values.iter().try_for_each(check),
        Tree::Object(members) => {
            members.iter().try_for_each(|(key, value)| check_text(key).and_then(|()| check(value)))
        }
    }
}

fn check_text(text: &str) -> Result<(), Refusal> {
    if text.contains('\0') { Err(Refusal::NulCharacter) } else { Ok(()) }
}

/// Whether an exponent of four digits or more, or a run of 16,000 digits, occurs; in a string it does no harm.
fn has_long_number(bytes: &[u8]) -> bool {
    const LONG_EXPONENT: usize = 4;
    const LONG_RUN: usize = 16_000;
    let (mut run, mut in_exponent) = (0, false);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => {
                run += 1;
                if run >= LONG_RUN || (in_exponent && run >= LONG_EXPONENT) {
                    return true;
                }
            }
            b'e' | b'E' if run > 0 => (run, in_exponent) = (0, true),
            b'+' | b'-' if in_exponent && run == 0 => {}
            _ => (run, in_exponent) = (0, false),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_refuses_is_refused_wherever_it_stands() {
        for (text, refusal) in [
            (r#"{"zzz":"a\u0000b"}"#, Refusal::NulCharacter),
            (r#"{"a\u0000":1}"#, Refusal::NulCharacter),
            (r#"{"zzz":[{"x":"\u0000"}]}"#, Refusal::NulCharacter),
            (r#"{"zzz":"\u0000","zzz":"b"}"#, Refusal::NulCharacter),
            (r#"{"zzz":1e200000}"#, Refusal::NumberTooLong),
            (r#"{"zzz":[{"x":1e200000,"x":1}]}"#, Refusal::NumberTooLong),
            (r#"{"zzz":{"x":[1E-99999]}}"#, Refusal::NumberTooLong),
        ] {
            assert_eq!(check_whole_text(text), Err(refusal), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_passes() {
        for text in [
            r#"{"a":"\\u0000"}"#,
            r#"{"a":"1e200000"}"#,
            r#"{"a":1e1000}"#,
            r#"{"commit":"12e99999"}"#,
            "no JSON with \\u0000",
            "{}",
        ] {
            assert_eq!(check_whole_text(text), Ok(()), "{text}");
        }
    }
}
