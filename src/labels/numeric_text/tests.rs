//! Number texts against what PostgreSQL 15 prints.

use super::*;
use proptest::prelude::*;

fn text_of(number: &str) -> Result<String, Refusal> {
    let mut out = String::new();
    append_numeric_text(number, 1 << 20, &mut out)?;
    Ok(out)
}

/// Each line as PostgreSQL 15.18 answered `select value from jsonb_each_text('{"a": …}'::jsonb)`.
const FROM_POSTGRES: &[(&str, &str)] = &[
    ("0", "0"),
    ("-0", "0"),
    ("-0.0", "0.0"),
    ("0.00", "0.00"),
    ("-0.00", "0.00"),
    ("1", "1"),
    ("-1", "-1"),
    ("2.50", "2.50"),
    ("1e2", "100"),
    ("1E2", "100"),
    ("1e+2", "100"),
    ("1.5e-3", "0.0015"),
    ("1.50e1", "15.0"),
    ("1.50e2", "150"),
    ("1.50e3", "1500"),
    ("12e-1", "1.2"),
    ("100e-2", "1.00"),
    ("-1.5E3", "-1500"),
    ("0e5", "0"),
    ("0e-5", "0.00000"),
    ("-0e-2", "0.00"),
    ("0.0e1", "0"),
    ("0.00e1", "0.0"),
    ("0.00e-1", "0.000"),
    ("0e131072", "0"),
    ("0e200000", "0"),
    ("0e1073741822", "0"),
    ("1e00000000000000000000000002", "100"),
    ("1e-00000000000000000000000002", "0.01"),
    ("18446744073709551616", "18446744073709551616"),
    (
        "123456789012345678901234567890.123456789012345678901234567890",
        "123456789012345678901234567890.123456789012345678901234567890",
    ),
];

#[test]
fn prints_numbers_as_postgres_does() {
    for (number, expected) in FROM_POSTGRES {
        assert_eq!(text_of(number).as_deref(), Ok(*expected), "{number}");
    }
}

#[test]
fn long_numbers_have_the_length_postgres_gives_them() {
    for (number, length) in [
        ("1e400", 401),
        ("1e-400", 402),
        ("1e131071", 131_072),
        ("0.1e131072", 131_072),
        ("0.01e131073", 131_072),
        ("9e131071", 131_072),
        ("1e-16383", 16_385),
        ("1.0e-16382", 16_385),
        ("0e-16383", 16_385),
    ] {
        assert_eq!(text_of(number).map(|text| text.len()), Ok(length), "{number}");
    }
    let ones = "1".repeat(131_072);
    assert_eq!(text_of(&ones).as_ref(), Ok(&ones));
    assert_eq!(text_of(&format!("{ones}.5")).map(|text| text.len()), Ok(131_074));
}

#[test]
fn refuses_what_overflows_in_postgres() {
    for number in [
        "1e131072",
        "10e131071",
        "0.1e131073",
        "1e-16384",
        "1.0e-16383",
        "0e-16384",
        "0e1073741823",
        "0e1073741824",
        "0e-1073741822",
        "0e-1073741823",
        "0e9999999999999999999999",
        "0e-9999999999999999999999",
        "1e1073741822",
        "1e1073741823",
        "1e9999999999999999999999",
        "1e-1073741822",
    ] {
        assert_eq!(text_of(number), Err(Refusal::NumberTooLong), "{number}");
    }
    assert_eq!(text_of(&"1".repeat(131_073)), Err(Refusal::NumberTooLong));
    assert_eq!(text_of(&format!("0.{}", "1".repeat(16_384))), Err(Refusal::NumberTooLong));
    assert_eq!(text_of(&format!("0.{}", "0".repeat(16_384))), Err(Refusal::NumberTooLong));
}

#[test]
fn the_limit_holds_before_anything_is_written() {
    let mut out = String::from("x");
    assert_eq!(append_numeric_text("1e100", 100, &mut out), Err(Refusal::NumberTooLong));
    assert_eq!(out, "x");
    assert_eq!(append_numeric_text("1e100", 103, &mut out), Ok(()));
    assert_eq!(out.len(), 102);
}

proptest! {
    #[test]
    fn the_value_stays_the_same(number in r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?") {
        let text = text_of(&number).unwrap();
        prop_assert!(!text.contains(['e', 'E']));
        let (before, after): (f64, f64) = (number.parse().unwrap(), text.parse().unwrap());
        prop_assert_eq!(before, after);
        prop_assert_eq!(text_of(&text), Ok(text.clone()));
    }
}
