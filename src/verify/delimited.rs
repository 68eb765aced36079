//! Bytes → records of fields, in CSV with a header or in the text format of PostgreSQL's COPY.
//!
//! Whether a field was quoted is kept, because it tells an empty text from a null; the csv crate drops it.

use std::io::{self, BufRead};

/// Longest record that is accepted: label texts are kilobytes, and an unclosed quote must not swallow a file.
const LONGEST_RECORD_BYTES: u64 = 16 << 20;

/// One record: its fields, and which of them stood in quotes.
#[derive(Debug, Default)]
pub struct Record {
    text: String,
    /// End of each field in `text`, and whether it was quoted.
    ends: Vec<(usize, bool)>,
    /// Bytes that the record took in the file, its line end included.
    pub stored_bytes: u64,
}

/// How a file writes null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullStyle {
    /// `\N`, as the file target does.
    BackslashN,
    /// Nothing at all, as `psql` does; an empty text is `""` then.
    Empty,
}

impl Record {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field as it stands, and whether it was quoted.
    pub fn field(&self, position: usize) -> (&str, bool) {
        let start = if position == 0 { 0 } else { self.ends[position - 1].0 };
        let (end, is_quoted) = self.ends[position];
        (&self.text[start..end], is_quoted)
    }

    /// A field as a value.
    pub fn value(&self, position: usize, nulls: NullStyle) -> Option<&str> {
        let (text, is_quoted) = self.field(position);
        let null = match nulls {
            NullStyle::BackslashN => "\\N",
            NullStyle::Empty => "",
        };
        (is_quoted || text != null).then_some(text)
    }

    /// How the file writes null, seen from one of its rows: every row of the summary table has some.
    pub fn null_style(&self) -> NullStyle {
        let has_mark = (0..self.len()).any(|position| self.field(position) == ("\\N", false));
        if has_mark { NullStyle::BackslashN } else { NullStyle::Empty }
    }

    /// Reads the next CSV record; `false` at the end of the input.
    /// Errors: `InvalidData` with a reason if the record is no CSV.
    pub fn read_csv(&mut self, input: &mut impl BufRead) -> io::Result<bool> {
        self.text.clear();
        self.ends.clear();
        let line = read_record(input)?;
        self.stored_bytes = line.len() as u64;
        if line.is_empty() {
            return Ok(false);
        }
        let line = String::from_utf8(line).map_err(|_| invalid("is not UTF-8"))?;
        self.split_csv(line.strip_suffix('\n').unwrap_or(&line))?;
        Ok(true)
    }

    fn split_csv(&mut self, line: &str) -> io::Result<()> {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut rest = line;
        loop {
            let quoted = rest.strip_prefix('"');
            let is_quoted = quoted.is_some();
            match quoted {
                Some(inner) => rest = self.push_quoted(inner)?,
                None => {
                    let end = rest.find(',').unwrap_or(rest.len());
                    self.text.push_str(&rest[..end]);
                    rest = &rest[end..];
                }
            }
            self.ends.push((self.text.len(), is_quoted));
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None if rest.is_empty() => return Ok(()),
                None => return Err(invalid("text follows a closing quote")),
            }
        }
    }

    /// Takes what stands between quotes; returns what follows them.
    fn push_quoted<'a>(&mut self, mut inner: &'a str) -> io::Result<&'a str> {
        loop {
            let end = inner.find('"').ok_or_else(|| invalid("a quote is not closed"))?;
            self.text.push_str(&inner[..end]);
            inner = &inner[end + 1..];
            match inner.strip_prefix('"') {
                Some(next) => {
                    self.text.push('"');
                    inner = next;
                }
                None => return Ok(inner),
            }
        }
    }

    /// Takes a line of COPY's text format apart. Nulls become unquoted `\N`; every other field counts as quoted.
    pub fn read_copy_text(&mut self, line: &str) {
        self.text.clear();
        self.ends.clear();
        for field in line.split('\t') {
            let is_null = field == "\\N";
            if is_null || !field.contains('\\') {
                self.text.push_str(field);
            } else {
                self.push_unescaped(field);
            }
            self.ends.push((self.text.len(), !is_null));
        }
    }

    fn push_unescaped(&mut self, field: &str) {
        let mut characters = field.chars();
        while let Some(character) = characters.next() {
            let plain = match character {
                '\\' => match characters.next() {
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some('v') => '\u{b}',
                    Some(other) => other,
                    None => '\\',
                },
                other => other,
            };
            self.text.push(plain);
        }
    }
}

/// Bytes up to the line feed that ends the record: one that no open quote encloses.
fn read_record(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut record = Vec::new();
    let mut quotes = 0_usize;
    loop {
        let start = record.len();
        let room = LONGEST_RECORD_BYTES.saturating_sub(start as u64);
        let read = io::Read::take(&mut *input, room).read_until(b'\n', &mut record)?;
        quotes += record[start..].iter().filter(|byte| **byte == b'"').count();
        let is_at_end = read == 0 || record.last() != Some(&b'\n');
        if is_at_end && record.len() as u64 >= LONGEST_RECORD_BYTES {
            return Err(invalid("is longer than 16 MiB; is a quote not closed?"));
        }
        if is_at_end || quotes.is_multiple_of(2) {
            return Ok(record);
        }
    }
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<Vec<(String, bool)>> {
        let (mut input, mut record, mut all) = (text.as_bytes(), Record::default(), Vec::new());
        while record.read_csv(&mut input).unwrap() {
            let field = |position| record.field(position);
            all.push((0..record.len()).map(field).map(|(text, quoted)| (text.to_owned(), quoted)).collect());
        }
        all
    }

    fn field(text: &str, quoted: bool) -> (String, bool) {
        (text.to_owned(), quoted)
    }

    #[test]
    fn quotes_hold_commas_line_ends_and_quotes() {
        let read = fields("a,\"b,\"\"c\"\"\",\n\"x\ny\",\\N,\"\"\r\nlast,,1");
        assert_eq!(read[0], [field("a", false), field("b,\"c\"", true), field("", false)]);
        assert_eq!(read[1], [field("x\ny", true), field("\\N", false), field("", true)]);
        assert_eq!(read[2], [field("last", false), field("", false), field("1", false)]);
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn what_is_no_csv_is_said() {
        for text in ["a,\"b\"c\n", "\"open\n"] {
            let mut record = Record::default();
            let error = record.read_csv(&mut text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }

    #[test]
    fn both_ways_of_writing_null_are_told_apart() {
        let mut record = Record::default();
        record.read_csv(&mut "a,\\N,\n".as_bytes()).unwrap();
        let style = record.null_style();
        assert_eq!(style, NullStyle::BackslashN);
        assert_eq!((record.value(1, style), record.value(2, style)), (None, Some("")));
        record.read_csv(&mut "a,,\"\",\"\\N\"\n".as_bytes()).unwrap();
        let style = record.null_style();
        assert_eq!(style, NullStyle::Empty);
        assert_eq!((record.value(1, style), record.value(2, style)), (None, Some("")));
        assert_eq!(record.value(3, style), Some("\\N"));
    }

    #[test]
    fn the_text_format_of_copy_is_unescaped() {
        let mut record = Record::default();
        record.read_copy_text("a\\tb\t\\N\t\\\\N\t");
        let value = |position| record.value(position, NullStyle::BackslashN);
        assert_eq!(value(0), Some("a\tb"));
        assert_eq!(value(1), None);
        assert_eq!(value(2), Some("\\N"));
        assert_eq!(value(3), Some(""));
    }
}
