//! Texts of decimals, dates, uuids and JSON → one spelling per value, so that equal values are equal texts or integers.

use std::cmp::Ordering;

use chrono::NaiveDate;
use serde_json::Value;

/// A cell without a value.
pub const NULL_NUMBER: i128 = i128::MIN;
/// NaN or an infinity: never equal to anything.
pub const NOT_A_NUMBER: i128 = i128::MIN + 1;

/// Places that decimals keep, as the target does.
const SCALE: i32 = 15;

/// Reads a decimal, with or without an exponent, as a count of 10^-15, rounded half away from zero; NaN and infinities too.
/// `None` if it is no number or does not fit.
pub fn decimal(text: &str) -> Option<i128> {
    let text = text.trim();
    let (is_negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if ["nan", "inf", "infinity"].iter().any(|name| magnitude.eq_ignore_ascii_case(name)) {
        return Some(NOT_A_NUMBER);
    }
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= 400)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Digits that are kept: those before the point moved by the exponent, and fifteen after it.
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let (mut value, mut position) = (0_i128, 0_i32);
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = match byte {
            b'0'..=b'9' => i128::from(byte - b'0'),
            _ => return None,
        };
        match position.cmp(&(point + SCALE)) {
            Ordering::Less => value = value.checked_mul(10)?.checked_add(digit)?,
            Ordering::Equal if digit >= 5 => value = value.checked_add(1)?,
            Ordering::Equal | Ordering::Greater => {}
        }
        position += 1;
    }
    for _ in position..point + SCALE {
        value = value.checked_mul(10)?;
    }
    Some(if is_negative { -value } else { value })
}

/// Reads a date; other programs write it as its midnight, which no other time of the day is. `None` if it is anything else.
pub fn date(text: &str) -> Option<NaiveDate> {
    let (date, time) = text.split_at_checked(10)?;
    let is_midnight = match time.strip_prefix(['T', ' ']) {
        None => time.is_empty(),
        Some(time) => {
            let zones = ["Z", "+00:00", "+0000", "+00", " UTC"];
            let time = zones.iter().find_map(|zone| time.strip_suffix(zone)).unwrap_or(time);
            let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
            ["00:00", "00:00:00"].contains(&time) && !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0')
        }
    };
    date.parse().ok().filter(|_| is_midnight)
}

/// A double as a count of 10^-15. `None` if it does not fit.
pub fn decimal_of_double(value: f64) -> Option<i128> {
    if value.is_finite() { decimal(ryu::Buffer::new().format_finite(value)) } else { Some(NOT_A_NUMBER) }
}

/// A count of 10^-15 as a double, close enough for ratios and tolerances.
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more digits than a double has")]
pub fn double(value: i128) -> f64 {
    value as f64 / 1e15
}

/// JSON with sorted keys and one spelling per number. `None` if the text is no JSON.
pub fn canonical_json(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len());
    push_json(&value, &mut out);
    Some(out)
}

fn push_json(value: &Value, out: &mut String) {
    match value {
        Value::Object(entries) => {
            let mut sorted: Vec<(&String, &Value)> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (position, (key, value)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                push_json(value, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (position, value) in values.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                push_json(value, out);
            }
            out.push(']');
        }
        Value::Number(number) => out.push_str(&canonical_number(&number.to_string())),
        other => out.push_str(&other.to_string()),
    }
}

/// `0.000000000` → `0`, `2.50` → `2.5`; a number with an exponent as a double.
fn canonical_number(text: &str) -> String {
    if text.contains(['e', 'E']) {
        return text.parse::<f64>().map_or_else(|_| text.to_owned(), |value| value.to_string());
    }
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    if trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i128 = 1_000_000_000_000_000;

    #[test]
    fn decimals_are_read_at_fifteen_places() {
        let cases = [
            ("1", ONE),
            ("-1.5", -3 * ONE / 2),
            ("0.000000000000001", 1),
            ("0.0000000000000015", 2),
            ("0.0000000000000014999", 1),
            ("-0.0000000000000015", -2),
            ("1e3", 1_000 * ONE),
            ("1.25E-3", 1_250_000_000_000),
            ("1e-16", 0),
            ("5e-16", 1),
            ("123456789012345678.123456789012345", 123_456_789_012_345_678_123_456_789_012_345),
            (".5", ONE / 2),
            ("NaN", NOT_A_NUMBER),
            ("-Infinity", NOT_A_NUMBER),
        ];
        for (text, expected) in cases {
            assert_eq!(decimal(text), Some(expected), "{text}");
        }
        for text in ["", ".", "abc", "1,5", "0x1", "1e999999", "1e40", "--1", "1.2.3"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn doubles_become_what_their_shortest_text_says() {
        assert_eq!(decimal_of_double(0.1), Some(ONE / 10));
        assert_eq!(decimal_of_double(1.612_903_225_806_451_6), Some(1_612_903_225_806_452));
        assert_eq!(decimal_of_double(1e-20), Some(0));
        assert_eq!(decimal_of_double(f64::NAN), Some(NOT_A_NUMBER));
    }

    #[test]
    fn a_date_is_a_day_or_its_midnight() {
        let day = "2025-10-01".parse().ok();
        for text in ["", " 00:00", "T00:00:00", " 00:00:00.000", "T00:00:00Z", " 00:00:00+00", " 00:00:00 UTC"] {
            assert_eq!(date(&format!("2025-10-01{text}")), day, "{text}");
        }
        for text in
            ["x", "1", " ", "T", " 12:00:00", " 00:00:00.5", " 00:00:00.", " 00:00:00+02", " 00:00:00 soon", "é"]
        {
            assert_eq!(date(&format!("2025-10-01{text}")), None, "{text}");
        }
        assert_eq!(date("2025-10-1"), None);
        assert_eq!(date("2025-13-01"), None);
    }

    #[test]
    fn json_is_a_value_not_a_text() {
        let left = canonical_json(r#"{"b": {"y": 1, "x": [1.50, null]}, "a": "é"}"#);
        let right = canonical_json(r#"{"a":"\u00e9","b":{"x":[1.5,null],"y":1}}"#);
        assert_eq!(left, right);
        assert_eq!(canonical_json(r#"{"cpu": 0.000000000}"#), canonical_json(r#"{"cpu":0}"#));
        assert_ne!(canonical_json(r#"{"a":"1"}"#), canonical_json(r#"{"a":1}"#));
        assert_ne!(canonical_json(r#"{"a":null}"#), canonical_json("{}"));
        assert_eq!(canonical_json("{"), None);
    }
}
