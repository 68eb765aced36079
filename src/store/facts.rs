//! An error of the client library, walked to its innermost cause → what is known of it, and which error that makes.

use std::error::Error;

use object_store::client::HttpError;

use super::error::{Cause, Difference, Operation, StoreError};
use super::http::UnexpectedAnswer;

/// How the library words an answer with an error status; its type is private, so the text is all there is.
pub(super) const STATUS_TEXT: &str = "Server returned non-2xx status code: ";
/// The same for a redirect without an address, which S3 sends for buckets of another region.
const REDIRECT_TEXT: &str = "Received redirect without LOCATION";
/// How the library words that an object of several was not removed; the S3 code stands in brackets at the end.
pub(super) const NOT_REMOVED_TEXT: &str = "DeleteObjects request failed for key ";
/// Causes of foreign libraries are cut here.
const MAX_CAUSE_CHARS: usize = 300;

enum Verdict {
    Changed(Difference),
    Archived,
    ClocksDiffer,
    BucketMissing,
    AccessDenied,
    Refused,
    AnswerUnusable,
    Unavailable,
}

/// What an error tells once its chain of causes is walked.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// HTTP status.
    pub(super) status: Option<u16>,
    /// S3 code.
    code: Option<String>,
    io: Option<std::io::ErrorKind>,
    redirect: bool,
    /// What came is no answer to the request.
    unexpected: Option<UnexpectedAnswer>,
    /// No answer came, or only a part of one.
    pub(super) is_transport: bool,
    /// Text of the innermost cause that is not the body of an answer.
    innermost: String,
}

impl Facts {
    /// Of an answer that the library has not seen.
    pub(super) fn of_answer(status: u16, code: Option<String>) -> Self {
        Self { status: Some(status), code, ..Self::default() }
    }

    /// Walks the chain of causes.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut facts = Facts::default();
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if let Some(rest) = text.strip_prefix(STATUS_TEXT) {
                facts.status = rest.get(..3).and_then(|digits| digits.parse().ok());
                facts.code = s3_code(rest);
            }
            if text.starts_with(NOT_REMOVED_TEXT) {
                let code = text.rsplit_once("(code: ").and_then(|(_, code)| code.strip_suffix(')'));
                facts.code = code.filter(|code| looks_like_code(code)).map(str::to_owned);
            }
            facts.is_transport |= cause.is::<HttpError>();
            facts.redirect |= text.starts_with(REDIRECT_TEXT);
            facts.unexpected = facts.unexpected.or(cause.downcast_ref().cloned());
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                facts.io = Some(io.kind());
            }
            next = cause.source();
            if let Some(what) = not_understood(&text) {
                facts.innermost = what.to_owned();
            } else if next.is_none() && facts.innermost.is_empty() {
                facts.innermost = text.chars().take(MAX_CAUSE_CHARS).collect();
            }
        }
        facts
    }

    fn too_many_requests(&self) -> bool {
        let says_so = matches!(self.code.as_deref(), Some("SlowDown" | "TooManyRequests" | "ServiceUnavailable"));
        says_so || matches!(self.status, Some(429 | 503))
    }

    /// The error that an `<Error>` document with status 200 makes; `None` for a code that means nothing here.
    pub(super) fn of_error_document(&self, operation: Operation, place: String) -> Option<StoreError> {
        const OF_THE_MOMENT: [&str; 5] =
            ["InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "TooManyRequests"];
        let is_of_the_moment = self.code.as_deref().is_some_and(|code| OF_THE_MOMENT.contains(&code));
        let is_known = is_of_the_moment || !matches!(self.verdict(operation), Verdict::Unavailable);
        is_known.then(|| self.sorted(operation, place))
    }

    /// The error that the facts make of a request.
    pub(super) fn sorted(&self, operation: Operation, place: String) -> StoreError {
        let source = self.cause();
        match self.verdict(operation) {
            Verdict::Changed(difference) => StoreError::Changed { place, difference },
            Verdict::Archived => StoreError::Archived { operation, place, source },
            Verdict::ClocksDiffer => StoreError::ClocksDiffer { operation, place, source },
            Verdict::BucketMissing => StoreError::BucketMissing { operation, place, source },
            Verdict::AccessDenied => StoreError::AccessDenied { operation, place, source },
            Verdict::Refused => StoreError::Refused { operation, place, source },
            Verdict::AnswerUnusable => StoreError::AnswerUnusable { operation, place, source },
            Verdict::Unavailable => {
                let too_many_requests = self.too_many_requests();
                StoreError::Unavailable { operation, place, too_many_requests, source }
            }
        }
    }

    fn verdict(&self, operation: Operation) -> Verdict {
        use std::io::ErrorKind as Io;
        if self.unexpected.is_some() {
            return Verdict::AnswerUnusable;
        }
        let of_code = match self.code.as_deref() {
            Some("NoSuchBucket") => Some(Verdict::BucketMissing),
            Some("InvalidObjectState") => Some(Verdict::Archived),
            Some("RequestTimeTooSkewed" | "RequestExpired") => Some(Verdict::ClocksDiffer),
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" | "ExpiredToken" | "InvalidToken") => {
                Some(Verdict::AccessDenied)
            }
            _ => None,
        };
        if let Some(verdict) = of_code {
            return verdict;
        }
        match (self.status, operation) {
            (Some(401 | 403), _) => Verdict::AccessDenied,
            (Some(404), Operation::List | Operation::Write | Operation::Remove) => Verdict::BucketMissing,
            (Some(404), Operation::Read) => Verdict::Changed(Difference::Gone),
            (Some(412), Operation::Read) => Verdict::Changed(Difference::Etag),
            // The object is shorter than it was when it was listed.
            (Some(416), Operation::Read) => Verdict::Changed(Difference::Size),
            (Some(408 | 429), _) => Verdict::Unavailable,
            (Some(300..=499), _) => Verdict::Refused,
            (Some(_), _) => Verdict::Unavailable,
            (None, _) if self.redirect => Verdict::Refused,
            (None, Operation::Read) if self.io == Some(Io::NotFound) => Verdict::Changed(Difference::Gone),
            (None, Operation::List) if self.io == Some(Io::NotFound) => Verdict::BucketMissing,
            (None, _) if self.io == Some(Io::PermissionDenied) => Verdict::AccessDenied,
            // It came whole and cannot be understood: the same will come again.
            (None, _) if self.code.is_none() && self.io.is_none() && !self.is_transport => Verdict::AnswerUnusable,
            (None, _) => Verdict::Unavailable,
        }
    }

    /// The reason in words.
    pub(super) fn cause(&self) -> Cause {
        if let Some(unexpected) = &self.unexpected {
            return Cause(unexpected.to_string());
        }
        let text = match (self.status, &self.code) {
            (Some(status), Some(code)) => format!("HTTP status {status}, code {code}"),
            (Some(status), None) => format!("HTTP status {status}"),
            (None, Some(code)) => format!("code {code}"),
            (None, _) if self.redirect => "redirected without an address; the bucket lies in another region".to_owned(),
            (None, _) => self.innermost.clone(),
        };
        Cause(text)
    }
}

/// What the library finds wrong with the headers of an answer, without what they held.
fn not_understood(text: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 4] = [
        (
            "Invalid last modified",
            "its Last-Modified is not in the form of RFC 2822, such as Wed, 01 Oct 2025 00:00:00 GMT",
        ),
        ("Invalid content length", "its Content-Length is no number"),
        ("Failed to parse value for CONTENT_RANGE", "its Content-Range cannot be read"),
        ("Requested ", "another range came than was asked for"),
    ];
    KNOWN.into_iter().find(|(begin, _)| text.starts_with(begin)).map(|(_, what)| what)
}

/// The content of `<Code>` in an S3 error document, if it looks like one of S3's codes.
pub(super) fn s3_code(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    looks_like_code(code).then(|| code.to_owned())
}

pub(super) fn looks_like_code(code: &str) -> bool {
    !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
