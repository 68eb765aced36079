//! A column of values and the target's type → the first value that PostgreSQL would refuse, by position.

use arrow_array::{Decimal128Array, StringArray};

use crate::postgres::copy::Unstorable;

/// The first text that is too long (in characters) or holds a NUL byte.
pub(super) fn first_bad_text(values: &StringArray, character_limit: Option<u32>) -> Option<(usize, Unstorable)> {
    // The common case is decided on the whole buffer: no NUL, and no value with as many bytes as characters allowed.
    let has_nul = values.value_data().contains(&0);
    let limit = character_limit.map_or(usize::MAX, |limit| limit as usize);
    let may_be_too_long = values.value_offsets().windows(2).any(|pair| pair[1].abs_diff(pair[0]) as usize > limit);
    if !has_nul && !may_be_too_long {
        return None;
    }
    for (row_index, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        if value.contains('\0') {
            return Some((row_index, Unstorable::NulByte));
        }
        if value.len() > limit && value.chars().count() > limit {
            return Some((row_index, Unstorable::TooLong { limit }));
        }
    }
    None
}

/// The first JSON text that holds a NUL, raw or escaped; jsonb cannot store either.
pub(super) fn first_bad_json(values: &StringArray) -> Option<(usize, Unstorable)> {
    let is_plain = !values.value_data().iter().any(|byte| matches!(byte, 0 | b'\\'));
    if is_plain {
        return None;
    }
    for (row_index, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        if value.contains('\0') || holds_escaped_nul(value) {
            return Some((row_index, Unstorable::NulByte));
        }
    }
    None
}

/// The first decimal beyond ±10^digits, as integers of the array's scale.
pub(super) fn first_bad_decimal(values: &Decimal128Array, digits: u32) -> Option<(usize, Unstorable)> {
    // 10^38 is the last power that i128 holds; a column that wide takes every value of the array.
    let limit = 10_u128.checked_pow(digits).filter(|_| digits <= 38)?;
    let row_index = values.iter().position(|value| value.is_some_and(|value| value.unsigned_abs() >= limit))?;
    Some((row_index, Unstorable::TooManyDigits { digits }))
}

/// Whether a JSON text holds the escape of U+0000; `\\u0000` is a backslash and plain characters.
fn holds_escaped_nul(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        if bytes[index] != b'\\' {
            index += 1;
            continue;
        }
        if bytes[index + 1..].starts_with(b"u0000") {
            return true;
        }
        // The escaped character may itself be a backslash, so step over both.
        index += 2;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        let values = StringArray::from(vec![Some("äöü"), None, Some("abcd")]);
        assert_eq!(first_bad_text(&values, Some(4)), None);
        assert_eq!(first_bad_text(&values, Some(3)), Some((2, Unstorable::TooLong { limit: 3 })));
        assert_eq!(first_bad_text(&values, None), None);
    }

    #[test]
    fn a_nul_byte_is_found_in_text_and_json() {
        let values = StringArray::from(vec!["a", "b\0"]);
        assert_eq!(first_bad_text(&values, None), Some((1, Unstorable::NulByte)));
        assert_eq!(first_bad_json(&values), Some((1, Unstorable::NulByte)));
    }

    #[test]
    fn an_escaped_backslash_is_no_nul() {
        let values = StringArray::from(vec![r#"{"a":"\\u0000"}"#, r#"{"a":"\n\\\u0000"}"#]);
        assert_eq!(first_bad_json(&values), Some((1, Unstorable::NulByte)));
        assert_eq!(first_bad_json(&values.slice(0, 1)), None);
        assert_eq!(first_bad_json(&StringArray::from(vec!["\\"])), None);
    }

    #[test]
    fn the_widest_decimal_fits_and_the_next_does_not() {
        let widest = 10_i128.pow(33) - 1;
        let values = Decimal128Array::from(vec![Some(widest), None, Some(-widest), Some(-widest - 1)]);
        assert_eq!(first_bad_decimal(&values, 33), Some((3, Unstorable::TooManyDigits { digits: 33 })));
        assert_eq!(first_bad_decimal(&values, 38), None);
    }
}
