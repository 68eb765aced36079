//! The text of a JSON number → the text that PostgreSQL's numeric gives it: exponents expanded, trailing zeros kept.
//!
//! Must never allocate more than the limit, whatever the exponent says.

use super::Refusal;

/// Digits before the point that PostgreSQL's numeric can hold.
const MAX_INTEGER_DIGITS: i64 = 131_072;
/// Digits after the point that PostgreSQL's numeric can hold.
const MAX_SCALE: i64 = 16_383;
/// From this exponent on PostgreSQL refuses the text whatever the digits are, zero included.
const EXPONENT_LIMIT: i64 = 1_073_741_823;

/// Appends the numeric text of `number`, which must be a valid JSON number, if it takes no more than `limit` bytes.
pub(super) fn append_numeric_text(number: &str, limit: usize, out: &mut String) -> Result<(), Refusal> {
    let (negative, rest) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent).ok_or(Refusal::NumberTooLong)?),
        None => (rest, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = Digits { integer: integer.as_bytes(), fraction: fraction.as_bytes() };
    let scale = (length(fraction) - exponent).max(0);
    if scale > MAX_SCALE {
        return Err(Refusal::NumberTooLong);
    }
    let point = length(integer) + exponent;
    let Some(first) = digits.first_nonzero() else {
        // zero has no sign and one integer digit, but keeps its scale
        return append_digits(false, &Digits { integer: b"", fraction: b"" }, 0, 0, scale, limit, out);
    };
    if point - first > MAX_INTEGER_DIGITS {
        return Err(Refusal::NumberTooLong);
    }
    append_digits(negative, &digits, first.min(point), point, scale, limit, out)
}

/// The digits of a mantissa without its point.
struct Digits<'a> {
    integer: &'a [u8],
    fraction: &'a [u8],
}

impl Digits<'_> {
    /// The digit at a place counted from the first one; zero outside of what is written.
    fn at(&self, place: i64) -> char {
        let digit = usize::try_from(place).ok().and_then(|place| match place.checked_sub(self.integer.len()) {
            Some(place) => self.fraction.get(place),
            None => self.integer.get(place),
        });
        digit.map_or('0', |digit| char::from(*digit))
    }

    fn first_nonzero(&self) -> Option<i64> {
        let place = self.integer.iter().chain(self.fraction).position(|digit| *digit != b'0')?;
        i64::try_from(place).ok()
    }
}

/// Writes the digits from `first` to `point` (at least a zero) and `scale` digits after the point.
fn append_digits(
    negative: bool,
    digits: &Digits<'_>,
    first: i64,
    point: i64,
    scale: i64,
    limit: usize,
    out: &mut String,
) -> Result<(), Refusal> {
    let bytes = 2 + (point - first).max(1) + scale;
    if usize::try_from(bytes).map_or(true, |bytes| bytes > limit) {
        return Err(Refusal::NumberTooLong);
    }
    if negative {
        out.push('-');
    }
    if first >= point {
        out.push('0');
    }
    out.extend((first..point).map(|place| digits.at(place)));
    if scale > 0 {
        out.push('.');
        out.extend((point..point + scale).map(|place| digits.at(place)));
    }
    Ok(())
}

fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() > 10 {
        return None;
    }
    let exponent: i64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    (exponent < EXPONENT_LIMIT).then_some(if negative { -exponent } else { exponent })
}

/// A length as a signed number; a text in memory is never longer than i64 can say.
fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
