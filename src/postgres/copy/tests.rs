//! Encoding without a server: layout, bounds and the errors.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Int32Array, StringArray,
    new_null_array,
};
use pgpq::ArrowToPostgresBinaryEncoder;
use pgpq::encoders::{EncoderBuilder, StringEncoderBuilder};
use pgpq::pg_schema::PostgresType;

use super::*;
use crate::postgres::shape::{Relation, ShapeColumn};
use crate::postgres::sql::TableName;

fn shape() -> TargetShape {
    let columns = OCP_DAILY_SUMMARY
        .columns
        .iter()
        .map(|column| ShapeColumn {
            name: column.name.to_owned(),
            kind: match column.target_type {
                TargetType::Uuid => ColumnKind::Uuid,
                TargetType::Integer => ColumnKind::Integer,
                TargetType::Varchar(limit) => ColumnKind::Varchar(Some(limit)),
                TargetType::Text => ColumnKind::Text,
                TargetType::Date => ColumnKind::Date,
                TargetType::Json => ColumnKind::Jsonb,
                TargetType::Decimal => ColumnKind::Numeric(Some((33, 15))),
            },
            not_null: column.not_null,
            fills_itself: false,
            is_generated: false,
        })
        .collect();
    TargetShape { name: TableName::new("s", "t"), relation: Relation::Plain, columns }
}

/// Rows of nulls, but for the days and the given columns.
fn batch(row_count: usize, given: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = OCP_DAILY_SUMMARY.rollup_columns().map(|column| {
        let data_type = arrow_type(column.target_type);
        let array = match given.iter().find(|(name, _)| *name == column.name) {
            Some((_, array)) => Arc::clone(array),
            None if data_type == DataType::Date32 => Arc::new(Date32Array::from(vec![20_000; row_count])),
            None => new_null_array(&data_type, row_count),
        };
        (column.name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

fn decimals(values: Vec<i128>) -> ArrayRef {
    let array = Decimal128Array::from(values);
    Arc::new(array.with_precision_and_scale(DECIMAL_PRECISION, DECIMAL_SCALE).expect("33, 15"))
}

fn encode(batches: &[RecordBatch]) -> Result<Vec<Bytes>, EncodeError> {
    let encoder = DayEncoder::new(Arc::new(shape()));
    let mut frames = Vec::new();
    let mut first_row_index = 0;
    for batch in batches {
        frames.extend(encoder.encode(batch, first_row_index)?);
        first_row_index += batch.num_rows();
    }
    Ok(frames)
}

#[test]
fn no_rows_are_no_frames() {
    assert_eq!(encode(&[]).unwrap().len() + encode(&[batch(0, vec![])]).unwrap().len(), 0);
    assert_eq!(DayEncoder::header().len(), 19);
    assert!(DayEncoder::header().starts_with(b"PGCOPY\n\xff\r\n\0"));
    assert_eq!(&DayEncoder::trailer()[..], [0xff, 0xff]);
}

#[test]
fn frames_have_an_upper_bound() {
    let labels: ArrayRef = Arc::new(StringArray::from(vec![format!("{{\"a\":\"{}\"}}", "x".repeat(40_000)); 500]));
    let frames = encode(&[batch(500, vec![("pod_labels", labels)])]).unwrap();
    let total: usize = frames.iter().map(Bytes::len).sum();
    assert!(total > 500 * 40_000);
    assert!(frames.iter().all(|frame| frame.len() <= LARGEST_FRAME_BYTES));
    assert!(frames.len() <= total / LARGEST_FRAME_BYTES + 1, "{} frames of {total} bytes", frames.len());
}

/// Rows whose ids are put aside, since they differ each time.
fn without_ids(frames: &[Bytes], row_count: usize) -> Vec<u8> {
    let mut bytes = frames.concat();
    let row_bytes = bytes.len() / row_count;
    assert_eq!(row_bytes * row_count, bytes.len(), "rows of one length");
    for row in bytes.chunks_exact_mut(row_bytes) {
        assert_eq!(row[..6], [0, 37, 0, 0, 0, 16]);
        assert_eq!((row[12] >> 4, row[14] >> 6), (7, 2), "version and variant");
        row[6..22].fill(0);
    }
    bytes
}

#[test]
fn shared_texts_are_encoded_like_their_own() {
    let texts = [Some("{\"a\":\"b\"}"), Some("{\"c\":\"d\"}"), Some("{\"a\":\"b\"}"), Some("{\"a\":\"b\"}")];
    let plain: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let shared: ArrayRef = Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>());
    let frames = |texts: &ArrayRef| {
        encode(&[batch(4, vec![("pod_labels", Arc::clone(texts)), ("node", Arc::clone(texts))])]).unwrap()
    };
    assert_eq!(without_ids(&frames(&plain), 4), without_ids(&frames(&shared), 4));
}

/// A number without a pattern, the same on every run.
fn mix(position: u32) -> u128 {
    let mixed = (u128::from(position) + 1).wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645);
    (mixed ^ (mixed >> 61)).wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645)
}

/// Numbers with any number of digits to the base 10,000, before and behind the point.
fn numbers() -> Vec<i128> {
    let mut numbers = vec![0];
    for exponent in 0..33 {
        let power = 10_i128.pow(exponent);
        numbers.extend([power, power - 1, power + 1, 5 * power, 123_456_789 * (power / 10_i128.pow(9))]);
    }
    for position in 0..20_000_u32 {
        let mixed = mix(position);
        numbers.push(i128::try_from(mixed % 10_u128.pow(1 + position % 33)).unwrap());
    }
    let negative: Vec<i128> = numbers.iter().map(|number| -number).collect();
    numbers.extend(negative);
    numbers
}

#[test]
fn rows_are_encoded_as_another_encoder_does() {
    let numbers = numbers();
    let row_count = numbers.len();
    let every_third = |row: usize| row.is_multiple_of(3);
    let texts = |text: &str| -> ArrayRef {
        Arc::new((0..row_count).map(|row| every_third(row).then(|| text.repeat(row % 5))).collect::<StringArray>())
    };
    let integers = (0..row_count).map(|row| every_third(row).then_some(i32::try_from(row).unwrap() - 7));
    let sparse = numbers.iter().enumerate().map(|(row, number)| (!every_third(row)).then_some(*number));
    let sparse = sparse.collect::<Decimal128Array>().with_precision_and_scale(33, 15).unwrap();
    let given: Vec<(&str, ArrayRef)> = vec![
        ("report_period_id", Arc::new(integers.collect::<Int32Array>())),
        ("namespace", texts("é")),
        ("pod_labels", texts("{}")),
        ("pod_usage_cpu_core_hours", decimals(numbers.clone())),
        ("node_capacity_cpu_cores", Arc::new(sparse)),
        ("source_uuid", Arc::new(FixedSizeBinaryArray::new(16, vec![7_u8; 16 * row_count].into(), None))),
    ];
    let batch = batch(row_count, given);
    let mut expected = bytes::BytesMut::new();
    let mut encoders = std::collections::HashMap::new();
    for (field, column) in batch.schema().fields().iter().zip(OCP_DAILY_SUMMARY.rollup_columns()) {
        let jsonb = || {
            let builder = StringEncoderBuilder::new_with_output(Arc::clone(field), PostgresType::Jsonb);
            EncoderBuilder::String(builder.expect("jsonb is an output of the string encoder"))
        };
        let is_json = column.target_type == TargetType::Json;
        let plain = || EncoderBuilder::try_new(Arc::clone(field)).expect("an encoder for every type");
        encoders.insert(field.name().clone(), if is_json { jsonb() } else { plain() });
    }
    let mut other = ArrowToPostgresBinaryEncoder::try_new_with_encoders(&batch.schema(), &encoders).unwrap();
    other.write_header(&mut expected).unwrap();
    other.write_batch(&batch, &mut expected).unwrap();
    other.write_footer(&mut expected).unwrap();

    let found = encode(&[batch]).unwrap().concat();
    let mut found = &found[..];
    let mut expected = &expected[DayEncoder::header().len()..];
    for (row, number) in numbers.iter().enumerate() {
        // Ours has the row id as one column more.
        assert_eq!((&found[..2], &expected[..2]), (&[0, 37][..], &[0, 36][..]));
        (found, expected) = (&found[2 + 4 + 16..], &expected[2..]);
        for column in 0..36 {
            let length = i32::from_be_bytes(expected[..4].try_into().unwrap());
            let end = 4 + usize::try_from(length).unwrap_or(0);
            assert_eq!(found[..end], expected[..end], "row {row}, column {column}: {number}");
            (found, expected) = (&found[end..], &expected[end..]);
        }
    }
    assert_eq!((found.len(), expected), (0, &[0xff, 0xff][..]));
}

#[test]
fn only_texts_that_rows_have_must_be_storable() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["fine", "n\0l", "good"]));
    let nodes = |keys: Vec<i32>| -> ArrayRef {
        Arc::new(DictionaryArray::<Int32Type>::try_new(keys.into(), Arc::clone(&texts)).unwrap())
    };
    assert!(encode(&[batch(3, vec![("node", nodes(vec![0, 2, 0]))])]).is_ok());
    let error = encode(&[batch(3, vec![("node", nodes(vec![0, 2, 1]))])]).unwrap_err();
    assert!(error.to_string().contains("column `node`, row 2"), "{error}");
    // Texts that passed are not looked at again; those of another column with narrower rules are.
    let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(100)]));
    let long: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(vec![0].into(), long).unwrap());
    let error = encode(&[batch(1, vec![("node", Arc::clone(&long)), ("data_source", long)])]).unwrap_err();
    assert!(error.to_string().contains("column `data_source`, row 0"), "{error}");
}

#[test]
fn row_ids_grow_and_do_not_repeat() {
    let mut ids = RowIds::new();
    let mut seen: Vec<[u8; 16]> = (0..100_000).map(|_| ids.next()).collect();
    assert!(seen.is_sorted(), "each is greater than the one before");
    let seconds = Uuid::from_bytes(seen[0]).get_timestamp().expect("version 7 has a time").to_unix().0;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(seconds.abs_diff(now) < 60, "{seconds} is not about {now}");
    seen.extend((0..100_000).map({
        let mut other = RowIds::new();
        move |_| other.next()
    }));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 200_000);
    assert!(seen.iter().all(|id| {
        let id = Uuid::from_bytes(*id);
        (id.get_version_num(), id.get_variant()) == (7, uuid::Variant::RFC4122)
    }));
}

#[test]
fn a_value_that_does_not_fit_is_named_by_column_and_position_over_all_batches() {
    let good = batch(3, vec![]);
    let long: ArrayRef = Arc::new(StringArray::from(vec!["short", &"n".repeat(254)]));
    let error = encode(&[good.clone(), batch(2, vec![("node", long)])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueUnusable);
    assert!(error.to_string().contains("column `node`, row 4"), "{error}");
    assert!(!error.to_string().contains("nnn"), "{error}");

    let nul: ArrayRef = Arc::new(StringArray::from(vec!["a\0b"]));
    let error = encode(&[batch(1, vec![("namespace", nul)])]).unwrap_err();
    assert!(error.to_string().contains("column `namespace`, row 0"), "{error}");

    let wide = decimals(vec![10_i128.pow(33)]);
    let error = encode(&[batch(1, vec![("node_capacity_cpu_cores", wide)])]).unwrap_err();
    assert!(error.to_string().contains("more than 33 digits"), "{error}");
}

#[test]
fn a_batch_with_other_columns_is_our_bug() {
    let strange = RecordBatch::try_from_iter([("node", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    let error = encode(&[strange]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert!(error.to_string().contains("report_period_id"), "{error}");

    let whole = batch(1, vec![]);
    let mut columns: Vec<(String, ArrayRef)> =
        whole.schema().fields().iter().zip(whole.columns()).map(|(f, c)| (f.name().clone(), Arc::clone(c))).collect();
    columns.push(("surplus".to_owned(), Arc::new(Int32Array::from(vec![1]))));
    let error = encode(&[RecordBatch::try_from_iter(columns).unwrap()]).unwrap_err();
    assert!(error.to_string().contains("surplus"), "{error}");
}
