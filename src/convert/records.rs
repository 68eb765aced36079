//! CSV text → records and their fields, quotes included, without a copy of fields that have none.
//!
//! A quote opens a field only at its beginning; elsewhere it is a character like any other, as in the reference's reader.
//! Line ends are LF or CR LF; lines without anything but blanks are no records, as in the reference's reader.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

/// The fields of one record.
#[derive(Debug, Default)]
pub(super) struct Fields {
    ranges: Vec<Range<u32>>,
    /// Content of a record that has quotes, without them; `ranges` then point here.
    unquoted: String,
    is_unquoted: bool,
}

impl Fields {
    /// Number of fields.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.ranges.len()
    }

    /// A field; `text` is what the record was read from.
    #[inline]
    pub(super) fn get<'t>(&'t self, text: &'t str, index: usize) -> &'t str {
        let Range { start, end } = self.ranges[index];
        let text = if self.is_unquoted { self.unquoted.as_str() } else { text };
        &text[start as usize..end as usize]
    }

    fn clear(&mut self) {
        self.ranges.clear();
        self.unquoted.clear();
        self.is_unquoted = false;
    }

    /// A record without quotes.
    #[inline]
    fn split(&mut self, line: &str, offset: u32) {
        let mut start = offset;
        for comma in memchr_iter(b',', line.as_bytes()) {
            let end = offset + position(comma);
            self.ranges.push(start..end);
            start = end + 1;
        }
        self.ranges.push(start..offset + position(line.len()));
    }

    /// A record with quotes; they are removed and doubled ones become one.
    fn unquote(&mut self, record: &str) {
        self.is_unquoted = true;
        let mut rest = record;
        loop {
            let start = position(self.unquoted.len());
            if let Some(quoted) = rest.strip_prefix('"') {
                rest = quoted;
                while let Some(quote) = memchr(b'"', rest.as_bytes()) {
                    self.unquoted.push_str(&rest[..quote]);
                    rest = &rest[quote + 1..];
                    match rest.strip_prefix('"') {
                        Some(after) => {
                            self.unquoted.push('"');
                            rest = after;
                        }
                        None => break,
                    }
                }
            }
            let comma = memchr(b',', rest.as_bytes());
            self.unquoted.push_str(&rest[..comma.unwrap_or(rest.len())]);
            self.ranges.push(start..position(self.unquoted.len()));
            match comma {
                Some(comma) => rest = &rest[comma + 1..],
                None => return,
            }
        }
    }
}

/// The records of a text that ends with a line end.
#[derive(Debug)]
pub(super) struct Records<'t> {
    text: &'t str,
    at: usize,
    has_quotes: bool,
}

impl<'t> Records<'t> {
    /// All records of `text`, of which each must be complete.
    pub(super) fn new(text: &'t str) -> Self {
        assert!(u32::try_from(text.len()).is_ok(), "blocks are far below 4 GiB");
        Self { text, at: 0, has_quotes: memchr(b'"', text.as_bytes()).is_some() }
    }

    /// Reads the next record and answers where it begins; `None` at the end.
    #[inline]
    pub(super) fn next_into(&mut self, fields: &mut Fields) -> Option<usize> {
        let bytes = self.text.as_bytes();
        loop {
            let start = self.at;
            if start == bytes.len() {
                return None;
            }
            let end = record_end(bytes, start, self.has_quotes).unwrap_or(bytes.len());
            self.at = end;
            let record = self.text[start..end].strip_suffix('\n').unwrap_or(&self.text[start..end]);
            let record = record.strip_suffix('\r').unwrap_or(record);
            let begins_blank = record.as_bytes().first().is_none_or(u8::is_ascii_whitespace);
            if begins_blank && record.trim_ascii().is_empty() {
                continue;
            }
            fields.clear();
            if self.has_quotes && memchr(b'"', record.as_bytes()).is_some() {
                fields.unquote(record);
            } else {
                fields.split(record, position(start));
            }
            return Some(start);
        }
    }
}

/// How many bytes at the start of `bytes`, which begin with a record, are whole records.
pub(super) fn whole_records(bytes: &[u8]) -> usize {
    if memchr(b'"', bytes).is_none() {
        return memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    }
    let mut end = 0;
    while let Some(next) = record_end(bytes, end, true) {
        end = next;
    }
    end
}

/// Where the record that begins at `start` ends, its line end included; `None` if it is not complete.
#[inline]
fn record_end(bytes: &[u8], start: usize, has_quotes: bool) -> Option<usize> {
    let line_end = start + memchr(b'\n', &bytes[start..])?;
    if !has_quotes || memchr(b'"', &bytes[start..line_end]).is_none() {
        return Some(line_end + 1);
    }
    let mut at = start;
    loop {
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                at += memchr(b'"', &bytes[at..])? + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        }
        at += memchr2(b',', b'\n', &bytes[at..])? + 1;
        if bytes[at - 1] == b'\n' {
            return Some(at);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // `Records::new` refuses larger texts
fn position(at: usize) -> u32 {
    at as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<Vec<String>> {
        let mut records = Records::new(text);
        let mut fields = Fields::default();
        let mut found = Vec::new();
        while records.next_into(&mut fields).is_some() {
            found.push((0..fields.count()).map(|index| fields.get(text, index).to_owned()).collect());
        }
        found
    }

    #[test]
    fn quotes_commas_and_line_ends_inside_fields_are_kept() {
        let text = "a,\"b,\"\"c\"\"\nd\",e\r\n\nf,5\" disk,\"\"\n\"x\"y,,\n";
        assert_eq!(all(text), [vec!["a", "b,\"c\"\nd", "e"], vec!["f", "5\" disk", ""], vec!["xy", "", ""]]);
    }

    #[test]
    fn only_whole_records_are_cut_off() {
        assert_eq!(whole_records(b"a,b\nc"), 4);
        assert_eq!(whole_records(b"a,b"), 0);
        assert_eq!(whole_records(b"a,\"b\nc\nd"), 0);
        assert_eq!(whole_records(b"a,\"b\nc\"\nd\n\"e\nf"), 10);
        assert_eq!(whole_records(b"5\" x,b\nc\n"), 9);
        assert_eq!(whole_records(b"a,\"b\""), 0);
    }

    proptest! {
        #[test]
        fn what_was_written_by_the_csv_crate_is_read_back(
            rows in proptest::collection::vec(proptest::collection::vec("[a\",\n é]{0,6}", 3), 1..20),
            cut in 0_usize..200,
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(all(&text), rows.clone());
            // Cut anywhere: what is whole is whole records, and the rest follows.
            let whole = whole_records(&text.as_bytes()[..cut.min(text.len())]);
            let mut found = all(&text[..whole]);
            found.extend(all(&text[whole..]));
            prop_assert_eq!(found, rows);
        }
    }
}
