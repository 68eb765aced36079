//! The text of a field → what Parquet holds: numbers, points in time, names (contract, section 2.1).

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use crate::schema::operator::VENDOR_ALIAS;

/// What the reference's reader takes for a missing value, besides the empty text.
const MISSING_WORDS: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
];
/// The longest of them.
const LONGEST_MISSING_WORD: usize = 8;
/// What the operator appends to its dates; it is cut off, wherever it stands.
const UTC_SUFFIX: &str = " +0000 UTC";
/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Digits that always fit a double's 53 bits.
const EXACT_DIGITS: usize = 15;
/// Years that reports may have: folders have four digits.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// Whether a field counts as empty.
pub(super) fn is_missing(text: &str) -> bool {
    text.is_empty() || (text.len() <= LONGEST_MISSING_WORD && MISSING_WORDS.contains(&text))
}

/// A metric: `Ok(None)` for a missing value, `Err` for a text that is no number.
#[inline]
pub(super) fn number(text: &str) -> Result<Option<f64>, NotANumber> {
    match plain_decimal(text.as_bytes()) {
        Some(value) => Ok(Some(value)),
        None => any_number(text),
    }
}

/// The text is no number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotANumber;

/// Digits with at most one point and few enough to be exact: one division of two exact doubles rounds correctly.
#[inline]
fn plain_decimal(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text.len() > EXACT_DIGITS + 1 {
        return None;
    }
    let (mut digits, mut places, mut after_point, mut digit_count) = (0_u64, 0_usize, false, 0_usize);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            digits = digits * 10 + u64::from(digit);
            digit_count += 1;
            places += usize::from(after_point);
        } else if *byte == b'.' && !after_point {
            after_point = true;
        } else {
            return None;
        }
    }
    let is_exact = (1..=EXACT_DIGITS).contains(&digit_count);
    is_exact.then(|| if places == 0 { digits as f64 } else { digits as f64 / EXACT_POWERS[places] })
}

/// What Python's `float` reads: blanks around it, `_` between digits, exponents, `inf`, `nan`.
fn any_number(text: &str) -> Result<Option<f64>, NotANumber> {
    if is_missing(text) {
        return Ok(None);
    }
    let trimmed = text.trim();
    if let Ok(value) = trimmed.parse() {
        return Ok(Some(value));
    }
    let bytes = trimmed.as_bytes();
    let underscores_join_digits = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| {
        let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        is_digit(at.checked_sub(1)) && is_digit(Some(at + 1))
    });
    if !trimmed.contains('_') || !underscores_join_digits {
        return Err(NotANumber);
    }
    trimmed.replace('_', "").parse().map(Some).map_err(|_| NotANumber)
}

/// A point in time in milliseconds since 1970; `None` if the text is no date of the years that reports may have.
pub(super) fn time(text: &str) -> Option<i64> {
    if let Some(milliseconds) = operator_time(text.as_bytes()) {
        return Some(milliseconds);
    }
    let without_suffix;
    let text = if text.contains(UTC_SUFFIX) {
        without_suffix = text.replace(UTC_SUFFIX, "");
        without_suffix.as_str()
    } else {
        text
    };
    iso_time(text)
}

/// `2025-10-01 13:00:00 +0000 UTC`, which is what nearly every field looks like.
fn operator_time(text: &[u8]) -> Option<i64> {
    let (text, suffix) = text.split_at_checked(19)?;
    if suffix != UTC_SUFFIX.as_bytes() {
        return None;
    }
    let marks = [text[4], text[7], text[10], text[13], text[16]];
    if marks != [b'-', b'-', b' ', b':', b':'] {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        text[range].iter().try_fold(0_u32, |number, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit <= 9).then(|| number * 10 + u32::from(digit))
        })
    };
    let year = i32::try_from(number(0..4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5..7)?, number(8..10)?)?;
    let time = NaiveTime::from_hms_opt(number(11..13)?, number(14..16)?, number(17..19)?)?;
    milliseconds(date.and_time(time))
}

/// ISO 8601 with a blank or a `T`, down to the day, the minute, the second or a fraction; a zone, if any, is applied.
fn iso_time(text: &str) -> Option<i64> {
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return milliseconds(date.and_time(NaiveTime::MIN));
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return milliseconds(time);
        }
    }
    let text = text.strip_suffix(['Z', 'z']).map(|local| format!("{local}+0000")).unwrap_or_else(|| text.to_owned());
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M%#z"] {
        if let Ok(time) = DateTime::parse_from_str(&text, format) {
            return milliseconds(time.naive_utc());
        }
    }
    None
}

fn milliseconds(time: NaiveDateTime) -> Option<i64> {
    YEARS.contains(&chrono::Datelike::year(&time)).then(|| time.and_utc().timestamp_millis())
}

/// A name without NUL bytes and with HTML characters escaped, appended to `out`.
pub(super) fn append_identifier(out: &mut String, text: &str) {
    let is_special = |character: char| matches!(character, '&' | '<' | '>' | '"' | '\'' | '\0');
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&#x27;",
            _ => "",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// A model of a graphics processor: each run of other than letters and digits becomes one blank, none at the ends.
pub(super) fn gpu_model(identifier: &str) -> String {
    let words = identifier.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// A vendor of graphics processors.
pub(super) fn gpu_vendor(identifier: &str) -> &str {
    if identifier == VENDOR_ALIAS.0 { VENDOR_ALIAS.1 } else { identifier }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        let cases = [
            ("0", 0.0),
            ("3600", 3_600.0),
            ("702.01523", 702.01523),
            ("3449009062543.3604", 3_449_009_062_543.360_4),
            ("15461882265600", 15_461_882_265_600.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1.5", -1.5),
            ("+2", 2.0),
            ("1e3", 1_000.0),
            (" 7 ", 7.0),
            ("1_000.5", 1_000.5),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e400", f64::INFINITY),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text), Ok(Some(expected)), "{text}");
        }
        assert!(number("NAN").unwrap().unwrap().is_nan());
    }

    #[test]
    fn missing_and_unreadable_numbers_are_told_apart() {
        for text in ["", "nan", "NaN", "null", "N/A", "<NA>", "None"] {
            assert_eq!(number(text), Ok(None), "{text}");
        }
        for text in ["x", "1,5", "_1", "1__0", "1_", "0x10", "1.2.3", ".", "--1", " "] {
            assert_eq!(number(text), Err(NotANumber), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_gives_the_same_double(digits in "[0-9]{0,12}(\\.[0-9]{0,8})?") {
            let expected: Result<f64, _> = digits.parse();
            match number(&digits) {
                Ok(Some(value)) => prop_assert_eq!(value.to_bits(), expected.unwrap().to_bits()),
                Ok(None) => prop_assert!(digits.is_empty()),
                Err(NotANumber) => prop_assert!(expected.is_err()),
            }
        }
    }

    #[test]
    fn times_lose_their_suffix_and_are_utc() {
        let one = 1_759_323_600_000; // 2025-10-01 13:00:00
        let cases = [
            ("2025-10-01 13:00:00 +0000 UTC", one),
            ("2025-10-01 13:00:00", one),
            ("2025-10-01T13:00:00", one),
            ("2025-10-01T13:00", one),
            ("2025-10-01T13:00:00Z", one),
            ("2025-10-01T15:00:00+02:00", one),
            ("2025-10-01 13:00:00.250 +0000 UTC", one + 250),
            ("2025-10-01", one - 13 * 3_600_000),
            ("2025-10-01 +0000 UTC", one - 13 * 3_600_000),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text), Some(expected), "{text}");
        }
        for text in ["", "yesterday", "2025-13-01 00:00:00 +0000 UTC", "2025-10-01 25:00:00 +0000 UTC", "1969-12-31"] {
            assert_eq!(time(text), None, "{text}");
        }
        assert_eq!(time("99999-01-01"), None);
        assert_eq!(time("2025-10-0ä 13:00:00 +0000 UTC"), None);
    }

    #[test]
    fn identifiers_are_escaped_and_lose_nul_bytes() {
        let escaped = |text: &str| {
            let mut out = String::new();
            append_identifier(&mut out, text);
            out
        };
        assert_eq!(escaped("plain-name_1"), "plain-name_1");
        assert_eq!(escaped("a&b<c>\"d\"'e'"), "a&amp;b&lt;c&gt;&quot;d&quot;&#x27;e&#x27;");
        assert_eq!(escaped("n\0ul\0"), "nul");
        assert_eq!(escaped("ä&ö"), "ä&amp;ö");
        assert_eq!(escaped("&amp;"), "&amp;amp;");
    }

    #[test]
    fn missing_words_are_missing_and_others_are_not() {
        for word in MISSING_WORDS.iter().chain(&[""]) {
            assert!(is_missing(word), "{word}");
            assert!(word.len() <= LONGEST_MISSING_WORD);
        }
        for word in ["NONE", "Null", "NAN", " ", "na", "-"] {
            assert!(!is_missing(word), "{word}");
        }
    }

    #[test]
    fn models_and_vendors_of_graphics_processors_are_normalised() {
        assert_eq!(gpu_model("NVIDIA-A100__PCIe 40GB "), "NVIDIA A100 PCIe 40GB");
        assert_eq!(gpu_model("--"), "");
        assert_eq!(gpu_vendor("nvidia_com_gpu"), "nvidia");
        assert_eq!(gpu_vendor("amd"), "amd");
    }
}
