//! Both roundings against the way by text, on numbers of every sort.

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
