//! CSV text → rows of fields, `\N` unquoted being null. Written apart from the program's own writer.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::collections::BTreeMap;

/// Column name → value; null is `None`.
pub type Row = BTreeMap<String, Option<String>>;

/// Reads a whole file with a header.
pub fn parse(text: &str) -> Vec<Row> {
    let mut records = records(text).into_iter();
    let header: Vec<String> =
        records.next().expect("a header").into_iter().map(|field| field.expect("a column has a name")).collect();
    records
        .map(|record| {
            assert_eq!(record.len(), header.len(), "a row has as many fields as the header");
            header.iter().cloned().zip(record).collect()
        })
        .collect()
}

fn records(text: &str) -> Vec<Vec<Option<String>>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let (mut field, mut was_quoted, mut in_quotes) = (String::new(), false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if in_quotes && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => {
                in_quotes = !in_quotes;
                was_quoted = true;
            }
            ',' | '\n' if !in_quotes => {
                let text = std::mem::take(&mut field);
                record.push(if text == "\\N" && !was_quoted { None } else { Some(text) });
                was_quoted = false;
                if character == '\n' {
                    records.push(std::mem::take(&mut record));
                }
            }
            '\r' if !in_quotes => {}
            other => field.push(other),
        }
    }
    assert!(field.is_empty() && record.is_empty(), "the last line ends with a line feed");
    records
}
