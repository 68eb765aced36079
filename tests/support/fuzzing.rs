//! Arbitrary bytes → one of the program's readers: what the fuzz targets of `fuzz/` call, and the tests over its corpus.
//!
//! Nothing may panic here but on a broken law; a refusal is as good as rows.

// Each test binary uses a part of this file.
#![allow(dead_code)]

#[path = "grind_object.rs"]
pub mod grind_object;
#[path = "label_oracle.rs"]
pub mod label_oracle;

// The two readers of CSV are private to their modules, and not to be made public for this.
#[path = "../../src/verify/delimited.rs"]
mod delimited;
#[path = "../../src/convert/records.rs"]
mod records;

use std::io::ErrorKind;

use chrono::{TimeZone, Utc};
use gristmill::config;
use gristmill::schema::source::ReportType;

use delimited::{NullStyle, Record};
use grind_object::Object;
use label_oracle::{ALL, compare, read, same_as_second_engine, store_of};
use records::{Fields, Records, whole_records};

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// The names of the targets and what they call.
pub const TARGETS: [(&str, Target); 4] = [("config", config), ("csv", csv), ("footers", footers), ("labels", labels)];

/// A label text, by all semantics, against a general reader of JSON.
pub fn labels(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Hands the text of numbers over under a name of its own; a key of that name makes it see a number.
    if text.contains("$serde_json") {
        return;
    }
    for semantics in ALL {
        let found = read(&store_of(semantics), text);
        compare(semantics, text, &found);
        same_as_second_engine(semantics, text, &found);
    }
}

/// A Parquet object: the first byte says of which report, the others are the object.
pub fn footers(data: &[u8]) {
    let Some((first, object)) = data.split_first() else { return };
    let report = ReportType::ALL[usize::from(*first) % ReportType::ALL.len()];
    // Asserts its laws itself.
    Object::of_bytes(report, object).grind();
}

/// A CSV by the reader of `convert`, cut in two at every place that may be one, and by the reader of `verify`.
pub fn csv(data: &[u8]) {
    let (mut input, mut record) = (data, Record::default());
    loop {
        match record.read_csv(&mut input) {
            Ok(true) => {
                let style = record.null_style();
                let is_value = |position: &usize| record.value(*position, style).is_some();
                assert!((0..record.len()).filter(is_value).count() <= record.len());
            }
            Ok(false) => break,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                break;
            }
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines() {
        record.read_copy_text(line);
        assert_eq!(record.len(), line.split('\t').count());
        assert!((0..record.len()).all(|position| {
            record.value(position, NullStyle::BackslashN).is_none() == (line.split('\t').nth(position) == Some("\\N"))
        }));
    }
    let whole = &text[..whole_records(data)];
    let expected = all_records(whole);
    let cut = whole_records(&whole.as_bytes()[..whole.len() / 2]);
    let mut found = all_records(&whole[..cut]);
    found.extend(all_records(&whole[cut..]));
    assert_eq!(found, expected, "records do not depend on where the text was cut");
}

fn all_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut fields, mut found) = (Records::new(text), Fields::default(), Vec::new());
    while records.next_into(&mut fields).is_some() {
        found.push((0..fields.count()).map(|index| fields.get(text, index).to_owned()).collect());
    }
    found
}

/// A configuration file; the first line, if it begins with `--set `, is an override.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let first = text.lines().next().and_then(|line| line.strip_prefix("#--set "));
    let overrides: Vec<String> = first.into_iter().map(str::to_owned).collect();
    let input = config::Input {
        text,
        file_name: "fuzz",
        overrides: &overrides,
        environment: &|name| (name.len() % 2 == 0).then(|| "value".to_owned()),
        secret_file: &|_| Err(std::io::Error::other("no files here")),
        now: Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).single().expect("a time"),
    };
    if let Err(problems) = config::parse(&input) {
        assert!(!problems.to_string().is_empty());
    }
}
