//! The body of an answer to ListObjectsV2 → one page of a listing, or why it is none. What was cut, filtered or is of another kind must
//! never look like a folder with fewer objects.

use chrono::{DateTime, Utc};
use roxmltree::{Document, Node};

/// The only root element that a listing has.
const ROOT: &str = "ListBucketResult";
/// How an answer that describes an error begins.
const ERROR_ROOT: &str = "Error";
/// Names of elements are cut here in messages.
const MOST_NAME_CHARS: usize = 40;

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Objects in the order of the server.
    pub(super) objects: Vec<Listed>,
    /// With a delimiter: what keys have in common up to it.
    pub(super) folders: Vec<String>,
    /// How to ask for the next page; `None` if the server says that this is the last one.
    pub(super) next: Option<String>,
}

/// One entry of a page, as the server has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Key in the bucket, exactly.
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) etag: Option<String>,
    pub(super) last_modified: DateTime<Utc>,
}

/// Why an answer with status 200 is no page of the listing that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPage {
    /// Something else altogether; the text says what.
    SomethingElse(String),
    /// An S3 error, with its code.
    S3Error(Option<String>),
    /// It begins like a listing and cannot be read to its end.
    Malformed(String),
    /// It says that it is not all, and not how to get the rest; or nothing about it.
    NotAll(&'static str),
    /// It is a listing of something else, or an entry lacks what every entry has.
    NotAsAsked(String),
}

/// Reads the answer to a listing of the keys that begin with `prefix`.
pub(super) fn page(body: &[u8], prefix: &str) -> Result<Page, NoPage> {
    match first_element(body) {
        Ok(ROOT) => {}
        Ok(ERROR_ROOT) => return Err(NoPage::S3Error(error_code(body))),
        Ok(other) if other.eq_ignore_ascii_case("html") => {
            return Err(NoPage::SomethingElse("an HTML page came (first element `html`)".to_owned()));
        }
        Ok(other) => return Err(NoPage::SomethingElse(format!("XML with the first element `{other}` came"))),
        Err(what) => return Err(NoPage::SomethingElse(what.to_owned())),
    }
    let malformed = |reason: String| NoPage::Malformed(reason);
    let text = std::str::from_utf8(body).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    let document = Document::parse(text).map_err(|error| malformed(kind_of(&error)))?;
    let root = document.root_element();
    let is_encoded = value(root, "EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
    let decode = |text: String| if is_encoded { percent_decoded(&text) } else { text };
    // Servers differ in slashes and codes of what they repeat; keys are compared exactly below.
    let bare = |prefix: &str| percent_decoded(prefix).trim_matches('/').to_owned();
    let of_prefix = value(root, "Prefix").filter(|listed| !listed.is_empty());
    if of_prefix.is_some_and(|listed| bare(&listed) != bare(prefix)) {
        return Err(NoPage::NotAsAsked("it is the listing of another prefix".to_owned()));
    }
    let elements = |name: &'static str| root.children().filter(move |child| child.has_tag_name_of(name));
    let mut objects = Vec::new();
    for entry in elements("Contents") {
        let listed = Listed::of(entry, &decode)?;
        if !listed.key.starts_with(prefix) {
            return Err(NoPage::NotAsAsked(format!("it holds `{}`, which is outside of the prefix", listed.key)));
        }
        objects.push(listed);
    }
    let folders: Vec<String> =
        elements("CommonPrefixes").filter_map(|folder| value(folder, "Prefix")).map(decode).collect();
    let is_empty = objects.is_empty() && folders.is_empty();
    if is_empty && !prefix.is_empty() && value(root, "Prefix").is_some_and(|listed| listed.is_empty()) {
        return Err(NoPage::NotAsAsked("it is the listing of a whole bucket, and empty".to_owned()));
    }
    let counted = value(root, "KeyCount").and_then(|count| count.trim().parse::<usize>().ok()).unwrap_or(0);
    if counted > objects.len() + folders.len() {
        let entries = objects.len() + folders.len();
        return Err(NoPage::Malformed(format!("it counts {counted} keys and holds {entries}")));
    }
    Ok(Page { objects, folders, next: next_page(root)? })
}

/// How to go on. A listing is complete if the server says so, and not because it does not say how to go on.
fn next_page(root: Node<'_, '_>) -> Result<Option<String>, NoPage> {
    if let Some(token) = value(root, "NextContinuationToken").filter(|token| !token.is_empty()) {
        return Ok(Some(token));
    }
    let is_truncated = value(root, "IsTruncated").map(|text| text.trim().to_ascii_lowercase());
    match is_truncated.as_deref() {
        Some("false" | "0") => Ok(None),
        Some("true" | "1") if value(root, "NextMarker").is_some() => {
            Err(NoPage::NotAll("it is cut (IsTruncated) and goes on in the form of ListObjects version 1 (NextMarker)"))
        }
        Some("true" | "1") => Err(NoPage::NotAll("it is cut (IsTruncated) and has no NextContinuationToken")),
        _ => Err(NoPage::NotAll("it does not say whether it is complete (IsTruncated)")),
    }
}

impl Listed {
    fn of(entry: Node<'_, '_>, decode: &impl Fn(String) -> String) -> Result<Self, NoPage> {
        let unusable = |what: &str| NoPage::NotAsAsked(what.to_owned());
        let key = value(entry, "Key").map(decode).ok_or_else(|| unusable("an entry has no Key"))?;
        let of_key = |what: &str| NoPage::NotAsAsked(format!("the entry `{key}` {what}"));
        let size = value(entry, "Size").and_then(|size| size.trim().parse().ok());
        let modified = value(entry, "LastModified").ok_or_else(|| of_key("has no LastModified"))?;
        let modified = DateTime::parse_from_rfc3339(modified.trim()).map_err(|_| {
            of_key("has a LastModified that is not in the form of RFC 3339, such as 2025-10-01T00:00:00Z")
        })?;
        Ok(Self {
            size: size.ok_or_else(|| of_key("has no Size that is a number"))?,
            etag: value(entry, "ETag").filter(|etag| !etag.trim_matches('"').is_empty()),
            last_modified: modified.with_timezone(&Utc),
            key,
        })
    }
}

/// Elements by their local names: servers differ in namespaces.
trait ByLocalName {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl ByLocalName for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

/// The whole text of a child, blanks included: a key may begin with one. An empty element has the empty text.
fn value(node: Node<'_, '_>, name: &str) -> Option<String> {
    let child = node.children().find(|child| child.has_tag_name_of(name))?;
    Some(child.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect())
}

/// The name of the first element without its namespace, or what there is instead of one.
fn first_element(body: &[u8]) -> Result<&str, &'static str> {
    let mut rest = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    loop {
        rest = rest.trim_ascii_start();
        // What may stand before the first element.
        let skipped = if rest.starts_with(b"<?") {
            after(rest, b"?>")
        } else if rest.starts_with(b"<!--") {
            after(rest, b"-->")
        } else if rest.starts_with(b"<!") {
            after(rest, b">")
        } else {
            break;
        };
        rest = skipped.ok_or("an answer that is cut in its first line came")?;
    }
    let name = match rest {
        [] => return Err("an empty answer came"),
        [b'{' | b'[', ..] => return Err("JSON came"),
        [b'<', name @ ..] => name,
        _ => return Err("something that is no XML came"),
    };
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.');
    let length = name.iter().take(MOST_NAME_CHARS).take_while(|byte| is_of_name(byte)).count();
    let name = std::str::from_utf8(&name[..length]).unwrap_or_default();
    let local = name.rsplit(':').next().unwrap_or_default();
    if local.is_empty() { Err("something that is no XML came") } else { Ok(local) }
}

fn after<'a>(text: &'a [u8], end: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(end.len()).position(|window| window == end)?;
    Some(&text[at + end.len()..])
}

/// The code of an error document.
fn error_code(body: &[u8]) -> Option<String> {
    let document = Document::parse(std::str::from_utf8(body).ok()?).ok()?;
    value(document.root_element(), "Code")
}

/// What is wrong with the XML and where, without any of its text.
fn kind_of(error: &roxmltree::Error) -> String {
    let position = error.pos();
    format!("the XML is broken at line {}, column {}", position.row, position.col)
}

/// `%41` → `A`, `+` → a blank; what is no such code stays as it is.
fn percent_decoded(text: &str) -> String {
    let with_blanks = text.replace('+', " ");
    percent_encoding::percent_decode_str(&with_blanks).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "<Contents><Key>p/ a&amp;b.parquet</Key><LastModified>2025-10-01T06:26:00.000Z</LastModified>\
                          <ETag>&quot;abc&quot;</ETag><Size>12</Size></Contents>";
    const COMPLETE: &str = "<IsTruncated>false</IsTruncated>";

    fn of(inside: &str) -> Result<Page, NoPage> {
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let body = format!("{head}\n<ListBucketResult xmlns=\"http://s3.example/doc/\">{inside}</ListBucketResult>");
        page(body.as_bytes(), "p/")
    }

    fn something_else(body: &[u8]) -> String {
        match page(body, "p/") {
            Err(NoPage::SomethingElse(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_has_its_entries_as_they_are() {
        let page = of(&format!("<Prefix>p/</Prefix><KeyCount>1</KeyCount>{COMPLETE}{OBJECT}")).unwrap();
        assert_eq!(page.next, None);
        let [listed] = &page.objects[..] else { panic!("{page:?}") };
        assert_eq!((listed.key.as_str(), listed.size), ("p/ a&b.parquet", 12));
        assert_eq!(listed.etag.as_deref(), Some("\"abc\""));
        assert_eq!(listed.last_modified.to_rfc3339(), "2025-10-01T06:26:00+00:00");
        let page = of(&format!("{COMPLETE}<CommonPrefixes><Prefix>p/a/</Prefix></CommonPrefixes>")).unwrap();
        assert_eq!(page.folders, ["p/a/"]);
        let encoded = OBJECT.replace("p/ a&amp;b", "p%2F+a%26%01b");
        let page = of(&format!("<EncodingType>url</EncodingType><Prefix>p%2F</Prefix>{COMPLETE}{encoded}")).unwrap();
        assert_eq!(page.objects[0].key, "p/ a&\u{1}b.parquet");
    }

    #[test]
    fn a_listing_is_complete_only_if_the_server_says_so() {
        let next = |inside: &str| of(inside).map(|page| page.next);
        assert_eq!(next(COMPLETE), Ok(None));
        let token = "<NextContinuationToken>t</NextContinuationToken>";
        for truncated in ["", COMPLETE, "<IsTruncated>true</IsTruncated>"] {
            assert_eq!(next(&format!("{truncated}{token}")), Ok(Some("t".to_owned())), "{truncated}");
        }
        let not_all = |inside: &str, part: &str| match of(inside) {
            Err(NoPage::NotAll(reason)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{inside}: {other:?}"),
        };
        not_all("<IsTruncated>true</IsTruncated>", "no NextContinuationToken");
        not_all("<IsTruncated> True </IsTruncated><NextContinuationToken/>", "no NextContinuationToken");
        not_all("<IsTruncated>true</IsTruncated><NextMarker>p/x</NextMarker>", "version 1");
        not_all(OBJECT, "does not say whether it is complete");
        not_all("<IsTruncated>perhaps</IsTruncated>", "does not say whether it is complete");
    }

    #[test]
    fn an_empty_listing_of_a_whole_bucket_is_not_the_one_of_a_prefix() {
        assert_eq!(
            of(&format!("<Prefix/>{COMPLETE}")),
            Err(NoPage::NotAsAsked("it is the listing of a whole bucket, and empty".to_owned()))
        );
        // With the keys that were asked for it does not matter what is repeated.
        assert!(of(&format!("<Prefix/>{COMPLETE}{OBJECT}")).is_ok());
    }

    #[test]
    fn what_is_no_listing_is_named_by_its_kind() {
        assert_eq!(something_else(b""), "an empty answer came");
        assert_eq!(something_else(b" \n"), "an empty answer came");
        assert_eq!(something_else(b"{\"ok\":true}"), "JSON came");
        assert_eq!(something_else(b"service ready"), "something that is no XML came");
        assert_eq!(something_else(b"<!DOCTYPE html>\n<HTML lang=x>"), "an HTML page came (first element `html`)");
        assert_eq!(something_else(b"<!-- x --><html/>"), "an HTML page came (first element `html`)");
        assert_eq!(something_else(b"<?xml version='1.0'?><a:Other/>"), "XML with the first element `Other` came");
        assert_eq!(something_else(b"<?xml "), "an answer that is cut in its first line came");
        let error = |body: &str| page(body.as_bytes(), "p/");
        assert_eq!(error("<Error><Code>X</Code></Error>"), Err(NoPage::S3Error(Some("X".to_owned()))));
        assert_eq!(error("<Error><Code>X</Co"), Err(NoPage::S3Error(None)));
    }

    #[test]
    fn a_page_that_is_cut_or_of_something_else_is_none() {
        let body = format!("<ListBucketResult>{COMPLETE}{OBJECT}");
        assert!(matches!(page(body.as_bytes(), "p/"), Err(NoPage::Malformed(_))));
        assert!(matches!(page(b"<ListBucketResult>\xFF</ListBucketResult>", "p/"), Err(NoPage::Malformed(_))));
        let counted = of(&format!("{COMPLETE}<KeyCount>2</KeyCount>{OBJECT}"));
        assert_eq!(counted, Err(NoPage::Malformed("it counts 2 keys and holds 1".to_owned())));
        let not_as_asked = |inside: &str, part: &str| match of(&format!("{COMPLETE}{inside}")) {
            Err(NoPage::NotAsAsked(reason)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{inside}: {other:?}"),
        };
        not_as_asked("<Prefix>q/</Prefix>", "another prefix");
        assert!(of(&format!("{COMPLETE}<Prefix>/p%2F</Prefix>")).is_ok(), "the same in another spelling");
        not_as_asked(&OBJECT.replace("p/", "q/"), "outside of the prefix");
        not_as_asked(&OBJECT.replace("2025-10-01T06:26:00.000Z", "Wed, 01 Oct 2025 06:26:00 GMT"), "RFC 3339");
        not_as_asked(&OBJECT.replace("<Size>12</Size>", ""), "no Size");
        not_as_asked("<Contents><Size>1</Size></Contents>", "no Key");
    }
}
