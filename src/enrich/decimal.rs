//! Doubles → decimals with 15 places, as integers (table of behaviours, rows 15 and 16).

use std::io::Write;

use crate::rollups::semantics::DecimalRounding;
use crate::schema::target::{DECIMAL_PRECISION, DECIMAL_SCALE};

/// A double that numeric(33,15) cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// NaN, or plus or minus infinity.
    #[error("is NaN or infinite")]
    NotFinite,
    /// 10^18 or more.
    #[error("has more than {} digits before the point", DECIMAL_PRECISION - DECIMAL_SCALE.unsigned_abs())]
    TooLarge,
}

/// Places after the point.
const SCALE: i32 = 15;
/// Digits of which `DecimalRounding::FifteenDigits` keeps the first.
const SIGNIFICANT_DIGITS: usize = 15;
/// 10^33: the first integer that does not fit.
const LIMIT: u128 = 10_u128.pow(33);

/// Rounds a double to 15 places, half away from zero.
/// Unit: 10^-15 of the double's unit.
pub fn decimal(value: f64, rounding: DecimalRounding) -> Result<i128, DecimalError> {
    if !value.is_finite() {
        return Err(DecimalError::NotFinite);
    }
    if value == 0.0 {
        return Ok(0);
    }
    let (digits, exponent) = digits(value.abs(), rounding);
    let magnitude = scale(digits, exponent).filter(|magnitude| *magnitude < LIMIT).ok_or(DecimalError::TooLarge)?;
    let magnitude = i128::try_from(magnitude).map_err(|_| DecimalError::TooLarge)?;
    Ok(if value < 0.0 { -magnitude } else { magnitude })
}

/// The decimal digits of a double and the exponent of the last one: value = digits · 10^exponent.
fn digits(value: f64, rounding: DecimalRounding) -> (u64, i32) {
    match rounding {
        DecimalRounding::Shortest => parse_digits(ryu::Buffer::new().format_finite(value)),
        DecimalRounding::FifteenDigits => {
            // At most 15 digits, a point, `e` and a signed exponent of three digits.
            let mut text = [0_u8; 32];
            let mut rest: &mut [u8] = &mut text;
            write!(rest, "{value:.*e}", SIGNIFICANT_DIGITS - 1).expect("fits into 32 bytes");
            let length = 32 - rest.len();
            parse_digits(std::str::from_utf8(&text[..length]).expect("numbers are ASCII"))
        }
    }
}

/// Reads what the two formatters print: digits, perhaps a point, perhaps an exponent.
fn parse_digits(text: &str) -> (u64, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (mut digits, mut places, mut is_after_point) = (0_u64, 0, false);
    for byte in mantissa.bytes() {
        if byte == b'.' {
            is_after_point = true;
        } else {
            digits = digits * 10 + u64::from(byte - b'0');
            places += i32::from(is_after_point);
        }
    }
    let exponent: i32 = exponent.parse().expect("the exponent of a double is a small number");
    (digits, exponent - places)
}

/// digits · 10^exponent as a count of 10^-15, rounded half up; `None` if it does not fit into 128 bits.
fn scale(digits: u64, exponent: i32) -> Option<u128> {
    let shift = exponent + SCALE;
    let digits = u128::from(digits);
    match u32::try_from(shift) {
        Ok(shift) => 10_u128.checked_pow(shift)?.checked_mul(digits),
        Err(_) => {
            // Seventeen digits shifted right by eighteen places or more are less than a half.
            let Some(divisor) = 10_u128.checked_pow(shift.unsigned_abs()) else { return Some(0) };
            Some((digits + divisor / 2) / divisor)
        }
    }
}

/// A decimal as PostgreSQL prints numeric(33,15): all fifteen places.
pub fn decimal_text(value: i128, out: &mut String) {
    use std::fmt::Write;
    let unit = 10_u128.pow(SCALE.unsigned_abs());
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    // Writing to a string cannot fail.
    let _infallible = write!(out, "{sign}{}.{:015}", magnitude / unit, magnitude % unit);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: f64, rounding: DecimalRounding) -> String {
        let mut out = String::new();
        decimal_text(decimal(value, rounding).unwrap(), &mut out);
        out
    }

    #[test]
    fn the_two_roundings_keep_different_digits() {
        let value = 123_456_789_012.987_66;
        assert_eq!(text(value, DecimalRounding::Shortest), "123456789012.987660000000000");
        assert_eq!(text(value, DecimalRounding::FifteenDigits), "123456789012.988000000000000");
    }

    #[test]
    fn halves_round_away_from_zero() {
        assert_eq!(text(0.000_000_000_000_000_5, DecimalRounding::Shortest), "0.000000000000001");
        assert_eq!(text(-0.000_000_000_000_000_5, DecimalRounding::Shortest), "-0.000000000000001");
        assert_eq!(text(0.000_000_000_000_000_49, DecimalRounding::Shortest), "0.000000000000000");
        assert_eq!(text(1e-300, DecimalRounding::Shortest), "0.000000000000000");
    }

    #[test]
    fn plain_values() {
        for rounding in [DecimalRounding::Shortest, DecimalRounding::FifteenDigits] {
            assert_eq!(text(0.0, rounding), "0.000000000000000");
            assert_eq!(text(-0.0, rounding), "0.000000000000000");
            assert_eq!(text(0.1, rounding), "0.100000000000000");
            assert_eq!(text(-2.5, rounding), "-2.500000000000000");
            assert_eq!(text(100.0, rounding), "100.000000000000000");
            assert_eq!(text(1e17, rounding), "100000000000000000.000000000000000");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for rounding in [DecimalRounding::Shortest, DecimalRounding::FifteenDigits] {
            assert_eq!(decimal(f64::NAN, rounding), Err(DecimalError::NotFinite));
            assert_eq!(decimal(f64::NEG_INFINITY, rounding), Err(DecimalError::NotFinite));
            assert_eq!(decimal(1e18, rounding), Err(DecimalError::TooLarge));
            assert_eq!(decimal(f64::MAX, rounding), Err(DecimalError::TooLarge));
            assert!(decimal(9.999_999_999_999_99e17, rounding).is_ok());
        }
    }

    proptest! {
        #[test]
        fn rounding_is_within_half_a_unit(value in -1e17_f64..1e17) {
            let shortest = decimal(value, DecimalRounding::Shortest).unwrap();
            // The exact product is not a double; compare through the printed text, which parses to the nearest double.
            let mut out = String::new();
            decimal_text(shortest, &mut out);
            let back: f64 = out.parse().unwrap();
            prop_assert!((back - value).abs() <= value.abs() * 1e-15 + 5e-16);
        }
    }
}
