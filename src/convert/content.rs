//! The first bytes of a file that is no report → what it is, in words, and what to give instead. Only asked once something went
//! wrong or an archive begins; a good report is never looked at here, and no byte of a file is ever printed.

use std::fmt;

/// Bytes that are looked at: one block of a tar archive, which its header fills.
pub(super) const LOOK_BYTES: usize = 512;
/// Where the header of an archive keeps its checksum.
const CHECKSUM_FIELD: std::ops::Range<usize> = 148..156;
/// What editors put before UTF-8 texts.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

const UNPACK: &str = "unpack it and name a folder of CSV files, one of them, or the operator's payload (.tar.gz)";
const ASK_AGAIN: &str = "fetch the payload again: what came is an answer about it and not the payload";
const SAVE_AS_UTF_8: &str = "save it as UTF-8";

/// What files are that people mistake for reports and payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Nothing at all, or nothing but blanks and line ends.
    Empty,
    /// An archive that is not compressed.
    Tar,
    /// A compressed file.
    Gzip,
    /// Another packed form, by its name.
    Packed(&'static str),
    /// The form that reports are converted into.
    Parquet,
    /// A page for a browser.
    Html,
    /// XML, such as the error document of a storage.
    Xml,
    /// JSON, such as an error or a manifest.
    Json,
    /// A text in UTF-16 or UTF-32.
    WideText,
    /// Bytes that are no text.
    Binary,
}

/// Bytes at the very beginning, and what they mean.
const MARKS: [(&[u8], Foreign); 15] = [
    (b"\x1f\x8b", Foreign::Gzip),
    (b"PK\x03\x04", Foreign::Packed("a zip archive")),
    (b"PK\x05\x06", Foreign::Packed("an empty zip archive")),
    (b"PK\x07\x08", Foreign::Packed("a zip archive")),
    (b"BZh", Foreign::Packed("a file compressed with bzip2")),
    (b"\xFD7zXZ\0", Foreign::Packed("a file compressed with xz")),
    (b"\x28\xB5\x2F\xFD", Foreign::Packed("a file compressed with zstd")),
    (b"\x04\x22\x4D\x18", Foreign::Packed("a file compressed with lz4")),
    (b"7z\xBC\xAF\x27\x1C", Foreign::Packed("a 7-Zip archive")),
    (b"Rar!", Foreign::Packed("a RAR archive")),
    (b"PAR1", Foreign::Parquet),
    (b"PARE", Foreign::Parquet),
    (b"\xFF\xFE", Foreign::WideText),
    (b"\xFE\xFF", Foreign::WideText),
    (b"\0\0\xFE\xFF", Foreign::WideText),
];

impl Foreign {
    /// Looks at the first bytes of a file; `None` if they may be those of a CSV.
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        if let Some((_, found)) = MARKS.iter().find(|(mark, _)| start.starts_with(mark)) {
            return Some(*found);
        }
        if is_tar(start) {
            return Some(Self::Tar);
        }
        let text = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start).trim_ascii_start();
        let begins_with = |word: &[u8]| text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        match text.first() {
            None => Some(Self::Empty),
            Some(b'<') if begins_with(b"<!doctype html") || begins_with(b"<html") || begins_with(b"<head") => {
                Some(Self::Html)
            }
            Some(b'<') => Some(Self::Xml),
            Some(b'{' | b'[') => Some(Self::Json),
            Some(_) if text.contains(&0) => Some(Self::Binary),
            Some(_) => None,
        }
    }

    /// Whether no report can begin like this; a text may only look like another one.
    pub(super) fn is_certain(self) -> bool {
        matches!(self, Self::Tar | Self::Gzip | Self::Packed(_) | Self::Parquet | Self::WideText)
    }

    /// What to give in its place.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Empty => "deliver it again",
            Self::Tar => "compress it with gzip, as payloads are, or unpack it and name its folder",
            Self::Gzip | Self::Packed(_) => UNPACK,
            Self::Parquet => "it is converted already; `gristmill run` reads it where `data/parquet/…` lies",
            Self::Html | Self::Xml | Self::Json => ASK_AGAIN,
            Self::WideText => SAVE_AS_UTF_8,
            Self::Binary => "name a folder of CSV files, one of them, or the operator's payload (.tar.gz)",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Tar => "a tar archive that is not compressed",
            Self::Gzip => "a file compressed with gzip",
            Self::Packed(what) => what,
            Self::Parquet => "a Parquet file",
            Self::Html => "an HTML page",
            Self::Xml => "an XML document",
            Self::Json => "a JSON document",
            Self::WideText => "a text in UTF-16 or UTF-32",
            Self::Binary => "a file of bytes that are no text",
        })
    }
}

/// Whether a block is the header of an archive's entry, by its checksum: the oldest form has no other mark.
pub(super) fn is_tar(block: &[u8]) -> bool {
    let Some(block) = block.get(..LOOK_BYTES) else { return false };
    let field = block[CHECKSUM_FIELD].trim_ascii_start();
    let digits = field.iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
    let written = digits.fold(0_u32, |sum, digit| sum.wrapping_mul(8).wrapping_add(u32::from(digit - b'0')));
    let counted = |index: usize, byte: u8| if CHECKSUM_FIELD.contains(&index) { b' ' } else { byte };
    let sum: u32 = block.iter().enumerate().map(|(index, byte)| u32::from(counted(index, *byte))).sum();
    written == sum
}

/// Whether bytes are nothing but zeros, as at the end of an archive.
pub(super) fn is_end_of_tar(block: &[u8]) -> bool {
    block.len() == LOOK_BYTES && block.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let cases: [(&[u8], Option<Foreign>); 19] = [
            (b"", Some(Foreign::Empty)),
            (b"\xEF\xBB\xBF \r\n\t\n", Some(Foreign::Empty)),
            (b"\x1f\x8b\x08", Some(Foreign::Gzip)),
            (b"PK\x03\x04\x14", Some(Foreign::Packed("a zip archive"))),
            (b"BZh91AY", Some(Foreign::Packed("a file compressed with bzip2"))),
            (b"PAR1\x15", Some(Foreign::Parquet)),
            (b"<!DOCTYPE HTML><p>", Some(Foreign::Html)),
            (b"\n  <html lang=en>", Some(Foreign::Html)),
            (b"<?xml version=\"1.0\"?><Error>", Some(Foreign::Xml)),
            (b"<Error><Code>NoSuchKey", Some(Foreign::Xml)),
            (b"{\"errors\": []}", Some(Foreign::Json)),
            (b"[]", Some(Foreign::Json)),
            (b"\xFF\xFEa\0,\0", Some(Foreign::WideText)),
            (b"\x7fELF\0\0", Some(Foreign::Binary)),
            (b"node,node_labels\n", None),
            (b"\"node\",\"node_labels\"\n", None),
            (b"\xEF\xBB\xBFnode\n", None),
            (b"\n\nnode\n", None),
            (b"a", None),
        ];
        for (start, expected) in cases {
            assert_eq!(Foreign::of(start), expected, "{start:?}");
        }
    }

    #[test]
    fn archives_are_known_by_their_checksum_in_every_form() {
        for header in [tar::Header::new_ustar(), tar::Header::new_gnu(), tar::Header::new_old()] {
            let mut header = header;
            header.set_path("a.csv").unwrap();
            header.set_size(7);
            header.set_cksum();
            assert_eq!(Foreign::of(header.as_bytes()), Some(Foreign::Tar));
            let mut other = *header.as_bytes();
            other[0] = b'b';
            assert_ne!(Foreign::of(&other), Some(Foreign::Tar));
            assert!(!is_tar(&header.as_bytes()[..100]));
        }
        assert!(is_end_of_tar(&[0; LOOK_BYTES]) && !is_end_of_tar(&[0; 3]));
        // A block of zeros is no header: its checksum would be that of eight blanks.
        assert!(!is_tar(&[0; LOOK_BYTES]));
    }
}
