//! In what the tests' S3 server differs from S3, as look-alikes, gateways, caches and proxies do: each difference is one of the kinds
//! that people have reported.

use s3s::{Body, HttpResponse};
use serde_json::Value;

/// All differences; the default is none.
#[derive(Debug, Clone, Default)]
pub struct Deviation {
    /// What the pages of a listing lack.
    pub list: Option<ListForm>,
    /// Listings whose prefix has this part are answered with something else.
    pub answer_list: Option<Answer>,
    /// Reads of keys with this part are refused: the objects lie in an archive class.
    pub archived: Option<String>,
    /// How ranges are answered.
    pub range: Range,
    /// Each read gives another entity tag, and If-Match is not honoured.
    pub tags_differ: bool,
    /// Every request is refused for its time.
    pub clock_differs: bool,
    /// Every request is sent on to this address.
    pub redirect: Option<String>,
    /// Removals are answered for keys that nobody asked to remove.
    pub odd_removals: bool,
    /// The time of the last upload has this form wherever it is told.
    pub last_modified: Option<String>,
}

/// Something in place of a listing.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Part of the prefix that is asked for.
    pub contains: String,
    /// The body.
    pub body: String,
    /// Its type.
    pub content_type: String,
}

/// What pages of a listing lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListForm {
    /// NextContinuationToken.
    NoToken,
    /// The same, and they have the NextMarker of version 1.
    Version1,
    /// IsTruncated.
    NoIsTruncated,
    /// Everything after the first half, with a Content-Length that fits.
    Half,
}

/// How ranges are answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Range {
    /// With status 206 and the range.
    #[default]
    Partial,
    /// A range that is the whole object with status 200.
    WholeIfWhole,
    /// Always with status 200 and the whole object.
    Whole,
}

impl Deviation {
    /// Reads a `deviation.json`; keys that the server does not know are refused.
    pub fn parse(value: &Value) -> Self {
        let mut deviation = Self::default();
        for (key, value) in value.as_object().expect("an object") {
            let text = || value.as_str().unwrap_or_else(|| panic!("{key} is a text")).to_owned();
            match key.as_str() {
                // These two are about what the server holds.
                "add" | "page" => {}
                "archived" => deviation.archived = Some(text()),
                "list" => {
                    deviation.list = Some(match text().as_str() {
                        "no-token" => ListForm::NoToken,
                        "version-1" => ListForm::Version1,
                        other => panic!("list: {other}"),
                    });
                }
                "range" => {
                    deviation.range = match text().as_str() {
                        "200-if-whole" => Range::WholeIfWhole,
                        "200" => Range::Whole,
                        other => panic!("range: {other}"),
                    };
                }
                "answer_list" => {
                    let text = |key: &str| value[key].as_str().expect("a text").to_owned();
                    let (contains, body, content_type) = (text("contains"), text("body"), text("content_type"));
                    deviation.answer_list = Some(Answer { contains, body, content_type });
                }
                other => panic!("{other} is no deviation that the server knows"),
            }
        }
        deviation
    }

    /// An answer in place of the server's, if this request gets one. `target` is its path and query as sent.
    pub fn in_place_of(&self, target: &str, is_listing: bool) -> Option<HttpResponse> {
        let decoded = target.replace("%2F", "/").replace("%3D", "=");
        if let Some(address) = &self.redirect {
            let response = hyper::Response::builder().status(307).header("location", address);
            return Some(response.body(Body::empty()).unwrap());
        }
        if self.clock_differs {
            return Some(error(403, "RequestTimeTooSkewed"));
        }
        if let Some(answer) = self.answer_list.as_ref().filter(|a| is_listing && decoded.contains(&a.contains)) {
            let response = hyper::Response::builder().status(200).header("content-type", &answer.content_type);
            return Some(response.body(Body::from(answer.body.clone())).unwrap());
        }
        let is_archived = self.archived.as_ref().is_some_and(|part| !is_listing && decoded.contains(part));
        is_archived.then(|| error(403, "InvalidObjectState"))
    }

    /// The server's answer as this one gives it.
    pub async fn changed(&self, mut answer: HttpResponse, is_listing: bool) -> HttpResponse {
        if let (Some(time), false) = (&self.last_modified, is_listing) {
            answer.headers_mut().insert("last-modified", time.parse().expect("a header's value"));
        }
        let changes = is_listing && answer.status() == 200 && (self.list.is_some() || self.last_modified.is_some());
        if !changes {
            return answer;
        }
        let body = answer.body_mut().store_all_limited(64 << 20).await.expect("a page");
        let mut text = String::from_utf8(body.to_vec()).expect("a page is text");
        if let Some(time) = &self.last_modified {
            let mut parts = text.split("<LastModified>");
            let first = parts.next().unwrap_or_default().to_owned();
            text = parts.fold(first, |text, part| {
                let (_, rest) = part.split_once('<').expect("the end of the element");
                format!("{text}<LastModified>{time}<{rest}")
            });
        }
        match self.list {
            None => {}
            Some(ListForm::NoToken) => text = without(&text, "NextContinuationToken"),
            Some(ListForm::Version1) => text = text.replace("NextContinuationToken>", "NextMarker>"),
            Some(ListForm::NoIsTruncated) => text = without(&text, "IsTruncated"),
            Some(ListForm::Half) => text.truncate(text.len() / 2),
        }
        answer.headers_mut().remove("content-length");
        *answer.body_mut() = Body::from(text);
        answer
    }
}

fn error(status: u16, code: &str) -> HttpResponse {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    hyper::Response::builder().status(status).body(Body::from(text)).unwrap()
}

fn without(text: &str, element: &str) -> String {
    match text.split_once(&format!("<{element}>")) {
        None => text.to_owned(),
        Some((before, rest)) => {
            let (_, after) = rest.split_once(&format!("</{element}>")).expect("the end of the element");
            format!("{before}{after}")
        }
    }
}
