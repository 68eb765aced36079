//! Doubles → decimals with 15 places, as integers (table of behaviours, rows 15 and 16).

use std::cmp::Ordering;
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
    // All below in units of 2^-(shift + 1).
    let (lowest, highest) = (2 * scaled - five, 2 * scaled + five);
    let takes_bounds = mantissa.is_multiple_of(2);
    let reads_back_from_below = |digits: u64| {
        let digits = u128::from(digits) << (shift + 1);
        digits > lowest || (takes_bounds && digits == lowest)
    };
    let reads_back_from_above = |digits: u64| {
        let digits = u128::from(digits) << (shift + 1);
        digits < highest || (takes_bounds && digits == highest)
    };
    let whole = u64::try_from(scaled >> shift).ok()?;
    let tens = whole / 10 * 10;
    let (below, above) = (reads_back_from_below(tens), reads_back_from_above(tens + 10));
    let digits = if below != above {
        if below { tens } else { tens + 10 }
    } else {
        let (below, above) = (reads_back_from_below(whole), reads_back_from_above(whole + 1));
        let rounded = round_half_even(scaled, whole, shift);
        match (below, above) {
            (true, false) => whole,
            (false, true) => whole + 1,
            _ => rounded,
        }
    };
    Some(at_scale(digits, places))
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
    let rest = scaled - (u128::from(whole) << shift);
    match (2 * rest).cmp(&(1 << shift)) {
        Ordering::Less => whole,
        Ordering::Greater => whole + 1,
        Ordering::Equal => whole + whole % 2,
    }
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

    /// Numbers of a generator with a fixed start: the same on every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
    }

    /// How many numbers of each sort are compared; a release build of the tests takes a few seconds for 100 times as many.
    const COMPARED: u64 = if cfg!(debug_assertions) { 30_000 } else { 3_000_000 };

    fn same_as_by_text(value: f64) {
        for rounding in [DecimalRounding::Shortest, DecimalRounding::FifteenDigits] {
            let expected = if value == 0.0 { Ok(0) } else { formatted_magnitude(value.abs(), rounding) };
            let signed = expected.map(|magnitude| if value < 0.0 { -magnitude } else { magnitude });
            assert_eq!(decimal(value, rounding), signed, "{value:e} ({:#x}), {rounding:?}", value.to_bits());
        }
    }

    #[test]
    fn integers_give_what_the_text_gives() {
        let mut random = Random(7);
        for _ in 0..COMPARED {
            let bits = random.next();
            let exponent = 1_023 - 60 + random.next() % 130;
            // Any double; one of the range where the integers are used, and its neighbours.
            same_as_by_text(f64::from_bits(bits));
            let value = f64::from_bits((bits & ((1 << 52) - 1)) | (exponent << 52));
            [value, -value, value.next_up(), value.next_down()].into_iter().for_each(same_as_by_text);
            // Hours and GiB-hours of what reports hold: seconds and bytes with few digits.
            let (seconds, digits) = ((bits % 100_000_000) as f64, random.next() % 7);
            let seconds = seconds / 10_f64.powi(i32::try_from(digits).unwrap());
            [seconds, seconds / 3_600.0, (bits >> 20) as f64 / 3_600.0 / 1_073_741_824.0, seconds * 24.0 / 3_600.0]
                .into_iter()
                .for_each(same_as_by_text);
            // Decimals with few digits, and dyadic fractions with few bits: halves at every digit.
            let short = (bits % 100_000) as f64;
            same_as_by_text(short / 10_f64.powi(i32::try_from(bits >> 32).unwrap_or(0) % 20));
            same_as_by_text((bits >> 11) as f64 / 2_f64.powi(i32::try_from(digits * 9).unwrap()));
            same_as_by_text(((bits >> 40) | 1) as f64 / 2_f64.powi(i32::try_from(random.next() % 60).unwrap()));
        }
    }

    #[test]
    fn integers_give_what_the_text_gives_around_every_power() {
        for exponent in -1_074..1_024 {
            let power = 2_f64.powi(exponent);
            [power, power.next_up(), power.next_down(), power * 1.5].into_iter().for_each(same_as_by_text);
        }
        for exponent in -30..30 {
            for digit in 1..100_u32 {
                let value: f64 = format!("{digit}e{exponent}").parse().unwrap();
                let half: f64 = format!("{digit}5e{exponent}").parse().unwrap();
                let neighbours = [value, value.next_up(), value.next_down(), half, half.next_up(), half.next_down()];
                neighbours.into_iter().for_each(same_as_by_text);
            }
        }
        [f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324].into_iter().for_each(same_as_by_text);
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
