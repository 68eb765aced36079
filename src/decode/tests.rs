//! Coercions of section 1.5 of the contract.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, Date32Array, DictionaryArray, Int32Array, Int64Array, NullArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};

use super::*;
use crate::schema::source::ColumnType;
use crate::time::UsageDay;

#[test]
fn times_of_any_unit_fall_on_the_same_day_and_offset() {
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(90_000_000_000), None, Some(-1)]));
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![90_000_000_000_000]));
    let micros = Times::new(Some(&micros), 3).unwrap();
    let nanos = Times::new(Some(&nanos), 1).unwrap();
    assert_eq!(micros.day(0), Some(UsageDay(1)));
    assert_eq!(nanos.day(0), Some(UsageDay(1)));
    assert_eq!(micros.nanoseconds_of_day(0), nanos.nanoseconds_of_day(0));
    assert_eq!(micros.day(1), None);
    assert_eq!(micros.day(2), Some(UsageDay(-1)));
    assert_eq!(micros.nanoseconds_of_day(2), 86_399_999_999_000);
}

#[test]
fn dates_count_as_midnight_and_null_types_as_no_time() {
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![3]));
    let nulls: ArrayRef = Arc::new(NullArray::new(2));
    assert_eq!(Times::new(Some(&dates), 1).unwrap().day(0), Some(UsageDay(3)));
    assert_eq!(Times::new(Some(&nulls), 2).unwrap().day(1), None);
    assert_eq!(Times::new(None, 1).unwrap().day(0), None);
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(Times::new(Some(&numbers), 1).is_none());
}

#[test]
fn runs_end_where_time_or_null_changes() {
    let array: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![Some(5), Some(5), None, None, Some(0), Some(7)]));
    let times = Times::new(Some(&array), 6).unwrap();
    assert_eq!(times.run_end(0), 2);
    assert_eq!(times.run_end(2), 4);
    assert_eq!(times.run_end(4), 5);
    assert_eq!(times.run_end(5), 6);
}

#[test]
fn integers_widen_and_text_is_no_number() {
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![Some(4), None]));
    let Ok(BatchColumn::Numbers(numbers)) = BatchColumn::new(ColumnType::Number, Some(&integers)) else {
        panic!("integers are numbers");
    };
    assert_eq!(numbers.value(0).to_bits(), 4.0_f64.to_bits());
    assert_eq!(numbers.null_count(), 1);
    let text: ArrayRef = Arc::new(arrow_array::StringViewArray::from(vec!["4"]));
    assert!(BatchColumn::new(ColumnType::Number, Some(&text)).is_err());
}

#[test]
fn binary_is_text_only_if_it_is_utf8() {
    let good: ArrayRef = Arc::new(BinaryViewArray::from(vec![Some("é".as_bytes()), None]));
    let Ok(BatchColumn::Text(TextColumn::Views(views))) = BatchColumn::new(ColumnType::Text, Some(&good)) else {
        panic!("UTF-8 is text");
    };
    assert_eq!(views.value(0), "é");
    assert!(views.is_null(1));
    let bad: ArrayRef = Arc::new(BinaryViewArray::from(vec![Some(&b"ok"[..]), Some(&b"n\xff"[..])]));
    assert_eq!(BatchColumn::new(ColumnType::Text, Some(&bad)).err(), Some(Unusable::NotUtf8 { row: 1 }));
}

#[test]
fn a_dictionary_of_bytes_names_the_row_that_is_not_utf8() {
    let build = |second: &[u8]| -> ArrayRef {
        let values = BinaryArray::from(vec![&b"a"[..], second]);
        let codes = Int32Array::from(vec![Some(0), None, Some(1)]);
        Arc::new(DictionaryArray::new(codes, Arc::new(values)))
    };
    assert!(BatchColumn::new(ColumnType::Labels, Some(&build(b"{}"))).is_ok());
    let refused = BatchColumn::new(ColumnType::Labels, Some(&build(b"\xff"))).err();
    assert_eq!(refused, Some(Unusable::NotUtf8 { row: 2 }));
}
