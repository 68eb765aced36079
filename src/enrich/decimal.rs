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
#[inline]
pub fn decimal(value: f64, rounding: DecimalRounding) -> Result<i128, DecimalError> {
    if value == 0.0 {
        return Ok(0);
    }
    let magnitude = match rounding {
        DecimalRounding::Shortest => shortest_magnitude(value.abs()),
        DecimalRounding::FifteenDigits => fifteen_digit_magnitude(value.abs()),
    };
    let magnitude = match magnitude {
        Some(magnitude) => magnitude,
        None => formatted_magnitude(value.abs(), rounding)?,
    };
    Ok(if value < 0.0 { -magnitude } else { magnitude })
}

/// The same by way of the number's text: for what the integer arithmetic below leaves out, and the measure of it in tests.
#[cold]
fn formatted_magnitude(value: f64, rounding: DecimalRounding) -> Result<i128, DecimalError> {
    if !value.is_finite() {
        return Err(DecimalError::NotFinite);
    }
    let (digits, exponent) = digits(value, rounding);
    let magnitude = scale(digits, exponent).filter(|magnitude| *magnitude < LIMIT).ok_or(DecimalError::TooLarge)?;
    i128::try_from(magnitude).map_err(|_| DecimalError::TooLarge)
}

/// Powers of five whose product with a mantissa, doubled twice, fits into 128 bits.
const FIVES: [u128; 32] = {
    let mut powers = [1; 32];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 5;
        exponent += 1;
    }
    powers
};
/// Powers of ten that fit into 64 bits.
const TENS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};
/// Bits of a double's stored mantissa.
const MANTISSA_BITS: u32 = 52;

/// A positive double as mantissa / 2^shift with 2^52 < mantissa < 2^53. `None` outside 2^-50 … 2^52, where the products with
/// powers of ten below do not fit into 128 bits, and for powers of two, whose neighbours are not equally far away.
#[inline]
fn split(value: f64) -> Option<(u64, u32)> {
    let bits = value.to_bits();
    let stored = bits & ((1 << MANTISSA_BITS) - 1);
    let exponent = i32::try_from(bits >> MANTISSA_BITS).ok()? - 1_075;
    let is_usual = (-102..0).contains(&exponent) && stored != 0;
    is_usual.then(|| (stored | (1 << MANTISSA_BITS), exponent.unsigned_abs()))
}

/// floor(bits · log10(2)), exact for up to a thousand bits.
#[inline]
fn decimal_digits(bits: i32) -> i32 {
    (bits * 78_913) >> 18
}

/// The shortest decimal that reads back as the same double, and of those the nearest, in exact integers (the steps are those
/// of Giulietti, The Schubfach way to render doubles, 2020; the powers of ten needed here are exact, so nothing is estimated).
#[inline]
fn shortest_magnitude(value: f64) -> Option<i128> {
    let (mantissa, shift) = split(value)?;
    // 10^-places <= 2^-shift < 10^(1 - places): of decimals with so many places one or more read back as the double, of
    // those with one place less at most one.
    let places = decimal_digits(i32::try_from(shift).ok()?).unsigned_abs() + 1;
    let five = FIVES[places as usize];
    let scaled = u128::from(mantissa) * five;
    let shift = shift - places;
    let whole = u64::try_from(scaled >> shift).ok()?;
    // Whether the neighbours with one place less read back: half the distance to the next double, 2^-shift · 10^places / 2,
    // is five / 2 in units of 2^-shift. Half the distance itself reads back where the last bit of the mantissa is 0.
    let tens = whole / 10 * 10;
    let above_tens = scaled - (u128::from(tens) << shift);
    let below_next_tens = (10 << shift) - above_tens;
    let reach = five + u128::from(mantissa % 2 == 0);
    let (below, above) = (2 * above_tens < reach, 2 * below_next_tens < reach);
    // If neither does, the nearest decimal with all places: the doubles' distance is more than one of its steps. Computed in
    // any case, so that there is no branch that depends on the digits.
    let nearest = round_half_even(scaled, whole, shift);
    let shorter = if below { tens } else { tens + 10 };
    Some(at_scale(if below || above { shorter } else { nearest }, places))
}

/// The first fifteen digits of a double, in exact integers.
#[inline]
fn fifteen_digit_magnitude(value: f64) -> Option<i128> {
    let (mantissa, shift) = split(value)?;
    let log2 = i32::try_from(MANTISSA_BITS).ok()? - i32::try_from(shift).ok()?;
    // The estimate of the first digit's place is right or one too low.
    let first = decimal_digits(log2);
    for first in [first, first + 1] {
        let places = u32::try_from(14 - first).ok()?;
        let scaled = u128::from(mantissa) * FIVES.get(places as usize)?;
        let shift = shift.checked_sub(places)?;
        let whole = u64::try_from(scaled >> shift).ok()?;
        if whole < TENS[SIGNIFICANT_DIGITS] {
            return Some(at_scale(round_half_even(scaled, whole, shift), places));
        }
    }
    None
}

/// scaled / 2^shift, whose whole part is given, to the nearest integer; halves go to the even one.
#[inline]
fn round_half_even(scaled: u128, whole: u64, shift: u32) -> u64 {
    let doubled_rest = 2 * (scaled - (u128::from(whole) << shift));
    let one = 1_u128 << shift;
    whole + u64::from(doubled_rest > one || (doubled_rest == one && whole % 2 == 1))
}

/// digits · 10^-places as a count of 10^-15, rounded half up.
#[inline]
fn at_scale(digits: u64, places: u32) -> i128 {
    match SCALE.unsigned_abs().checked_sub(places) {
        Some(missing) => i128::from(digits) * i128::from(TENS[missing as usize]),
        None => {
            let divisor = TENS[(places - SCALE.unsigned_abs()) as usize];
            i128::from((digits + divisor / 2) / divisor)
        }
    }
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
mod tests;
