//! A column of a record batch → values in PostgreSQL's binary COPY format, each with its length in front.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Int32Type};
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use crate::postgres::shape::ColumnKind;

/// Begins every COPY: signature, no flags, no header extension.
pub const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Ends it.
pub const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Length of a null.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const EPOCH_DAYS: i32 = 10_957;
/// Version of jsonb's binary form, in front of its text.
const JSONB_VERSION: u8 = 1;
/// Places after the point of every decimal.
const SCALE: u16 = 15;
/// 10^15: units of the last place in one.
const UNIT: u64 = 1_000_000_000_000_000;

/// The values of one column of a batch.
pub enum Values<'a> {
    /// Nothing but nulls.
    Null,
    /// Texts, by position where the column is a dictionary.
    Text { keys: Option<&'a [i32]>, texts: &'a StringArray, nulls: Option<&'a NullBuffer>, is_jsonb: bool },
    /// Numbers of 32 bits, widened if the target's are wide.
    Integer { values: &'a [i32], nulls: Option<&'a NullBuffer>, is_wide: bool },
    /// Days since 1970.
    Date { values: &'a [i32], nulls: Option<&'a NullBuffer> },
    /// Sixteen bytes each.
    Uuid { values: &'a [u8], nulls: Option<&'a NullBuffer> },
    /// Counts of 10^-15.
    Decimal { values: &'a [i128], nulls: Option<&'a NullBuffer> },
}

impl<'a> Values<'a> {
    /// The values of a column as the target's type needs them; `None` for a type that no column of the rows has.
    pub fn new(array: &'a ArrayRef, kind: Option<&ColumnKind>) -> Option<Self> {
        if array.null_count() == array.len() {
            return Some(Self::Null);
        }
        let nulls = array.nulls();
        let is_jsonb = kind == Some(&ColumnKind::Jsonb);
        Some(match array.data_type() {
            DataType::Utf8 => Self::Text { keys: None, texts: array.as_string(), nulls, is_jsonb },
            DataType::Dictionary(..) => {
                let dictionary = array.as_dictionary_opt::<Int32Type>()?;
                let texts = dictionary.values().as_string_opt()?;
                Self::Text { keys: Some(dictionary.keys().values()), texts, nulls, is_jsonb }
            }
            DataType::Int32 => {
                let is_wide = kind == Some(&ColumnKind::BigInteger);
                Self::Integer { values: array.as_primitive::<Int32Type>().values(), nulls, is_wide }
            }
            DataType::Date32 => Self::Date { values: array.as_primitive::<Date32Type>().values(), nulls },
            DataType::FixedSizeBinary(16) => Self::Uuid { values: array.as_fixed_size_binary().value_data(), nulls },
            DataType::Decimal128(_, 15) => {
                Self::Decimal { values: array.as_primitive::<Decimal128Type>().values(), nulls }
            }
            _ => return None,
        })
    }

    /// Appends the value of a row.
    #[inline]
    pub fn push(&self, row: usize, out: &mut Vec<u8>) {
        let is_null = |nulls: &Option<&NullBuffer>| nulls.is_some_and(|nulls| nulls.is_null(row));
        match self {
            Self::Text { keys, texts, nulls, is_jsonb } if !is_null(nulls) => {
                let position = keys.map_or(row, |keys| keys[row].unsigned_abs() as usize);
                push_text(texts.value(position), *is_jsonb, out);
            }
            Self::Integer { values, nulls, is_wide } if !is_null(nulls) => match is_wide {
                true => push_bytes(i64::from(values[row]).to_be_bytes(), out),
                false => push_bytes(values[row].to_be_bytes(), out),
            },
            Self::Date { values, nulls } if !is_null(nulls) => {
                push_bytes((values[row] - EPOCH_DAYS).to_be_bytes(), out);
            }
            Self::Uuid { values, nulls } if !is_null(nulls) => {
                out.extend_from_slice(&16_i32.to_be_bytes());
                out.extend_from_slice(&values[16 * row..16 * (row + 1)]);
            }
            Self::Decimal { values, nulls } if !is_null(nulls) => push_decimal(values[row], out),
            _ => out.extend_from_slice(&NULL),
        }
    }
}

/// A value of fixed width.
#[inline]
pub fn push_bytes<const WIDTH: usize>(bytes: [u8; WIDTH], out: &mut Vec<u8>) {
    let length = i32::try_from(WIDTH).expect("values of fixed width are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes);
}

#[inline]
fn push_text(text: &str, is_jsonb: bool, out: &mut Vec<u8>) {
    // Arrow's offsets have 31 bits, so only the byte in front could make a length too long; such a text has a gibibyte more
    // than PostgreSQL takes, and it says so.
    let length = u32::try_from(text.len() + usize::from(is_jsonb)).unwrap_or(u32::MAX >> 1);
    out.extend_from_slice(&length.to_be_bytes());
    if is_jsonb {
        out.push(JSONB_VERSION);
    }
    out.extend_from_slice(text.as_bytes());
}

/// A decimal as PostgreSQL's numeric: how many digits to the base 10,000, the power of the first one, sign, places, digits.
#[inline]
fn push_decimal(value: i128, out: &mut Vec<u8>) {
    // Ten digits before the point hold every i128, four behind it hold fifteen places.
    const DIGITS: usize = 14;
    const WHOLE_DIGITS: usize = 10;
    let magnitude = value.unsigned_abs();
    let mut digits = [0_u16; DIGITS];
    let (mut whole, fraction) = match u64::try_from(magnitude) {
        Ok(magnitude) => (u128::from(magnitude / UNIT), magnitude % UNIT),
        Err(_) => {
            let fraction = u64::try_from(magnitude % u128::from(UNIT)).expect("a rest is less than its divisor");
            (magnitude / u128::from(UNIT), fraction)
        }
    };
    let mut first = WHOLE_DIGITS;
    while whole > 0 {
        first -= 1;
        let (rest, digit) = match u64::try_from(whole) {
            Ok(small) => (u128::from(small / 10_000), small % 10_000),
            Err(_) => (whole / 10_000, u64::try_from(whole % 10_000).expect("a rest is less than its divisor")),
        };
        digits[first] = u16::try_from(digit).expect("less than ten thousand");
        whole = rest;
    }
    // Sixteen places are four digits.
    let mut places = fraction * 10;
    for digit in digits[WHOLE_DIGITS..].iter_mut().rev() {
        *digit = u16::try_from(places % 10_000).expect("less than ten thousand");
        places /= 10_000;
    }
    while first < DIGITS && digits[first] == 0 {
        first += 1;
    }
    let mut end = DIGITS;
    while end > first && digits[end - 1] == 0 {
        end -= 1;
    }
    let count = u16::try_from(end - first).expect("fourteen digits at most");
    let is_zero = count == 0;
    // The power of the first digit; negative behind the point.
    let weight = if is_zero { 0 } else { 9 - i16::try_from(first).expect("fourteen digits at most") };
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    let mut bytes = [0; 4 + 8 + 2 * DIGITS];
    let length = 8 + 2 * usize::from(count);
    bytes[..4].copy_from_slice(&(8 + 2 * u32::from(count)).to_be_bytes());
    bytes[4..6].copy_from_slice(&count.to_be_bytes());
    bytes[6..8].copy_from_slice(&weight.to_be_bytes());
    bytes[8..10].copy_from_slice(&sign.to_be_bytes());
    bytes[10..12].copy_from_slice(&SCALE.to_be_bytes());
    for (place, digit) in bytes[12..].chunks_exact_mut(2).zip(&digits[first..end]) {
        place.copy_from_slice(&digit.to_be_bytes());
    }
    out.extend_from_slice(&bytes[..4 + length]);
}
