//! The text of a JSON number → the text that PostgreSQL's numeric prints for it (table of behaviours, row 5b).

/// Most digits after the point, and most before it, that numeric holds.
const MOST_FRACTION_DIGITS: i64 = 16_383;
const MOST_INTEGER_DIGITS: i64 = 131_072;
/// Exponents beyond this are refused whatever the digits are.
const GREATEST_EXPONENT: i64 = 1_073_741_823;

/// Exponents are expanded, zeros at the end of the fraction stay, a zero loses its sign.
/// `None` if numeric cannot hold the number. The text must be a number by the grammar of JSON.
pub(super) fn numeric_text(json: &str) -> Option<String> {
    let (is_negative, unsigned) = match json.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, json),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    if exponent.abs() >= GREATEST_EXPONENT {
        return None;
    }
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{integer}{fraction}");
    let fraction_digits = (i64::try_from(fraction.len()).ok()? - exponent).max(0);
    if fraction_digits > MOST_FRACTION_DIGITS {
        return None;
    }
    let is_zero = digits.bytes().all(|digit| digit == b'0');
    // Where the point stands among the digits; outside of them zeros are filled in.
    let point = i64::try_from(integer.len()).ok()? + exponent;
    let significant = digits.trim_start_matches('0').len();
    let leading_zeros = i64::try_from(digits.len() - significant).ok()?;
    if !is_zero && point - leading_zeros > MOST_INTEGER_DIGITS {
        return None;
    }
    let mut text = String::new();
    if is_negative && !is_zero {
        text.push('-');
    }
    let digit_at = |position: i64| {
        usize::try_from(position)
            .ok()
            .and_then(|position| digits.as_bytes().get(position))
            .map_or('0', |d| char::from(*d))
    };
    let before_point: String = if is_zero { String::new() } else { (leading_zeros..point).map(digit_at).collect() };
    text.push_str(if before_point.is_empty() { "0" } else { &before_point });
    if fraction_digits > 0 {
        text.push('.');
        text.extend((point..point + fraction_digits).map(digit_at));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_postgresql_prints_them() {
        let cases = [
            ("2.50", "2.50"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("0.00e1", "0.0"),
            ("1.23e1", "12.3"),
            ("1.50e1", "15.0"),
            ("1e-3", "0.001"),
            ("-12.5e-2", "-0.125"),
            ("0e5", "0"),
            ("10e-1", "1.0"),
            ("0.001e2", "0.1"),
            ("0.001e3", "1"),
        ];
        for (json, text) in cases {
            assert_eq!(numeric_text(json).as_deref(), Some(text), "{json}");
        }
    }

    #[test]
    fn what_numeric_cannot_hold_is_refused() {
        assert_eq!(numeric_text("1e131071").map(|text| text.len()), Some(131_072));
        assert_eq!(numeric_text("1e131072"), None);
        assert_eq!(numeric_text("1e-16383").map(|text| text.len()), Some(16_385));
        assert_eq!(numeric_text("0e-16384"), None);
        assert_eq!(numeric_text("1e99999999999999999999"), None);
        assert_eq!(numeric_text("0e1073741823"), None);
    }
}
