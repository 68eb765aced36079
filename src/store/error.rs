//! What object_store reports → what failed, where, and which kind of failure it is.
//!
//! Bodies of answers are never passed on: some servers quote headers and the text to be signed in them. Only the HTTP
//! status and the S3 error code go into messages.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use object_store::client::HttpError;

use crate::error::ErrorKind;
use crate::runtime::certificate::CertificateFault;

/// How the library words an answer with an error status; its type is private, so the text is all there is.
const STATUS_TEXT: &str = "Server returned non-2xx status code: ";
/// The same for a redirect without an address, which S3 sends for buckets of another region.
const REDIRECT_TEXT: &str = "Received redirect without LOCATION";
/// How the library words that an object of several was not removed; the S3 code stands in brackets at the end.
const NOT_REMOVED_TEXT: &str = "DeleteObjects request failed for key ";
/// Keys that a message names.
const NAMED_KEYS: usize = 20;
/// Causes of foreign libraries are cut here.
const MAX_CAUSE_CHARS: usize = 300;

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Listing a prefix.
    List,
    /// Reading a range of a listed object.
    Read,
    /// Storing an object.
    Write,
    /// Removing objects.
    Remove,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::List => "listing",
            Operation::Read => "reading",
            Operation::Write => "writing",
            Operation::Remove => "removing",
        })
    }
}

/// The reason in words, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

/// The storage did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No client can be built from the configuration.
    #[error("storage `{place}` cannot be set up")]
    Setup {
        /// Bucket or folder.
        place: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// No answer, or an answer of a server in trouble, after all retries.
    #[error("{operation} `{place}`: the storage cannot be reached or does not answer properly")]
    Unavailable {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// Whether the server has more requests than it can take.
        too_many_requests: bool,
        /// Status or transport error.
        source: Cause,
    },
    /// The server answers that the request itself is wrong, for instance for another region.
    #[error("{operation} `{place}`: the storage refuses the request")]
    Refused {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// Status and code.
        source: Cause,
    },
    /// There is no such bucket or folder.
    #[error("{operation} `{place}`: no such bucket or folder")]
    BucketMissing {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// Status and code.
        source: Cause,
    },
    /// The keys are wrong, missing, or not allowed to do this.
    #[error("{operation} `{place}`: access denied")]
    AccessDenied {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// Status and code.
        source: Cause,
    },
    /// The server cannot show a certificate that is good here.
    #[error("{operation} `{place}`: no trust in the storage")]
    CertificateRefused {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// What is wrong with it, and what to do.
        source: Cause,
    },
    /// The object is not the one that was listed.
    #[error("object `{place}` was replaced or removed after it was listed")]
    Changed {
        /// The object, with the bucket.
        place: String,
    },
    /// A key that cannot be addressed, for instance one with an empty segment.
    #[error("{operation} `{place}`: a key cannot be addressed")]
    KeyUnusable {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// Which key and why.
        source: Cause,
    },
    /// Objects that should have been removed and are still there, as far as one can tell.
    #[error("{} objects in `{place}` could not be removed: {}", keys.len(), named(keys))]
    NotRemoved {
        /// Bucket or folder.
        place: String,
        /// All of them.
        keys: Vec<String>,
        /// Why the first of them was not.
        source: Box<StoreError>,
    },
}

crate::impl_failure!(StoreError);

impl StoreError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Setup { .. } | StoreError::Refused { .. } => ErrorKind::Config,
            StoreError::Unavailable { .. } => ErrorKind::StorageUnavailable,
            StoreError::BucketMissing { .. } => ErrorKind::BucketMissing,
            StoreError::AccessDenied { .. } => ErrorKind::AccessDenied,
            StoreError::CertificateRefused { .. } => ErrorKind::CertificateRefused,
            StoreError::Changed { .. } => ErrorKind::ObjectChanged,
            StoreError::KeyUnusable { .. } => ErrorKind::ObjectUnreadable,
            StoreError::NotRemoved { source, .. } => source.kind(),
        }
    }

    /// Sorts an error of the library by status, S3 code or operating system error.
    pub(super) fn classify(operation: Operation, place: String, error: &object_store::Error) -> Self {
        use object_store::Error as E;
        if let Some(fault) = CertificateFault::of(error) {
            return StoreError::certificate(operation, place, fault);
        }
        let facts = Facts::of(error);
        let source = facts.cause(error);
        match error {
            E::InvalidPath { .. } => return StoreError::KeyUnusable { operation, place, source },
            E::Precondition { .. } => return StoreError::Changed { place },
            _ => {}
        }
        match facts.verdict(operation) {
            Verdict::Changed => StoreError::Changed { place },
            Verdict::BucketMissing => StoreError::BucketMissing { operation, place, source },
            Verdict::AccessDenied => StoreError::AccessDenied { operation, place, source },
            Verdict::Refused => StoreError::Refused { operation, place, source },
            Verdict::Unavailable => {
                let too_many_requests = facts.too_many_requests();
                StoreError::Unavailable { operation, place, too_many_requests, source }
            }
        }
    }

    fn certificate(operation: Operation, place: String, fault: CertificateFault) -> Self {
        StoreError::CertificateRefused { operation, place, source: Cause(fault.with_fix("storage.ca_file")) }
    }

    pub(super) fn setup(place: &str, reason: &str) -> Self {
        StoreError::Setup { place: place.to_owned(), source: Cause(reason.to_owned()) }
    }

    pub(super) fn setup_failed(place: &str, error: &object_store::Error) -> Self {
        StoreError::Setup { place: place.to_owned(), source: Facts::of(error).cause(error) }
    }

    pub(super) fn folder(place: &str, error: &std::io::Error) -> Self {
        let (operation, place, source) = (Operation::List, place.to_owned(), Cause(error.to_string()));
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                StoreError::BucketMissing { operation, place, source }
            }
            std::io::ErrorKind::PermissionDenied => StoreError::AccessDenied { operation, place, source },
            _ => StoreError::unavailable(operation, place, source),
        }
    }

    /// `is_named`: the environment names the service that gives credentials out, so it ought to be there.
    pub(super) fn no_credentials(
        operation: Operation,
        place: String,
        is_named: bool,
        error: &object_store::Error,
    ) -> Self {
        // Authorities of the storage are also those of the service that gives credentials out.
        if let Some(fault) = CertificateFault::of(error) {
            return StoreError::certificate(operation, place, fault);
        }
        let facts = Facts::of(error);
        let source = Cause(format!(
            "storage.access_key is not set and the environment offers no credentials ({})",
            facts.cause(error)
        ));
        match facts.status {
            Some(status) if status >= 500 || status == 429 => StoreError::unavailable(operation, place, source),
            None if is_named && facts.is_transport => StoreError::unavailable(operation, place, source),
            _ => StoreError::AccessDenied { operation, place, source },
        }
    }

    pub(super) fn out_of_time(operation: Operation, place: String, total: Duration) -> Self {
        let seconds = total.as_secs();
        let source =
            Cause(format!("no whole answer within {seconds} s, all attempts together (storage.retry_seconds)"));
        StoreError::unavailable(operation, place, source)
    }

    fn unavailable(operation: Operation, place: String, source: Cause) -> Self {
        StoreError::Unavailable { operation, place, too_many_requests: false, source }
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    /// Whether the server wants fewer requests.
    pub fn asks_to_slow_down(&self) -> bool {
        matches!(self, StoreError::Unavailable { too_many_requests: true, .. })
    }

    /// The cause for a log line.
    pub(super) fn cause_text(&self) -> String {
        self.source().map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn changed(place: String) -> Self {
        StoreError::Changed { place }
    }

    pub(super) fn short(place: String, expected_bytes: u64, got_bytes: u64) -> Self {
        let source = Cause(format!("{got_bytes} bytes came instead of {expected_bytes}"));
        StoreError::unavailable(Operation::Read, place, source)
    }

    pub(super) fn endless_listing(place: String) -> Self {
        let source = Cause("the listing does not come to an end".to_owned());
        StoreError::unavailable(Operation::List, place, source)
    }

    pub(super) fn foreign_key(place: String, key: &str) -> Self {
        let source = Cause(format!("the listing holds `{key}`, which is outside the prefix"));
        StoreError::KeyUnusable { operation: Operation::List, place, source }
    }
}

enum Verdict {
    Changed,
    BucketMissing,
    AccessDenied,
    Refused,
    Unavailable,
}

/// What an error tells once its chain of causes is walked.
struct Facts {
    status: Option<u16>,
    code: Option<String>,
    io: Option<std::io::ErrorKind>,
    redirect: bool,
    /// No answer came, or only a part of one.
    is_transport: bool,
    /// Text of the innermost cause that is not the body of an answer.
    innermost: String,
}

impl Facts {
    fn of(error: &object_store::Error) -> Self {
        let mut facts = Facts {
            status: None,
            code: None,
            io: None,
            redirect: false,
            is_transport: false,
            innermost: String::new(),
        };
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
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
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                facts.io = Some(io.kind());
            }
            next = cause.source();
            if next.is_none() {
                facts.innermost = text.chars().take(MAX_CAUSE_CHARS).collect();
            }
        }
        facts
    }

    fn too_many_requests(&self) -> bool {
        let says_so = matches!(self.code.as_deref(), Some("SlowDown" | "TooManyRequests" | "ServiceUnavailable"));
        says_so || matches!(self.status, Some(429 | 503))
    }

    fn verdict(&self, operation: Operation) -> Verdict {
        use std::io::ErrorKind as Io;
        let of_code = match self.code.as_deref() {
            Some("NoSuchBucket") => Some(Verdict::BucketMissing),
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
            // 416: the object is shorter than it was when it was listed.
            (Some(404 | 412 | 416), Operation::Read) => Verdict::Changed,
            (Some(408 | 429), _) => Verdict::Unavailable,
            (Some(300..=499), _) => Verdict::Refused,
            (Some(_), _) => Verdict::Unavailable,
            (None, _) if self.redirect => Verdict::Refused,
            (None, Operation::Read) if self.io == Some(Io::NotFound) => Verdict::Changed,
            (None, Operation::List) if self.io == Some(Io::NotFound) => Verdict::BucketMissing,
            (None, _) if self.io == Some(Io::PermissionDenied) => Verdict::AccessDenied,
            (None, _) => Verdict::Unavailable,
        }
    }

    fn cause(&self, error: &object_store::Error) -> Cause {
        if let object_store::Error::InvalidPath { source } = error {
            return Cause(source.to_string());
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

/// The content of `<Code>` in an S3 error document, if it looks like one of S3's codes.
fn s3_code(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    looks_like_code(code).then(|| code.to_owned())
}

fn looks_like_code(code: &str) -> bool {
    !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The first keys, and how many more there are.
fn named(keys: &[String]) -> String {
    let names: Vec<String> = keys.iter().take(NAMED_KEYS).map(|key| format!("`{key}`")).collect();
    let more = keys.len() - names.len();
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Text(String);

    fn generic(source: impl Error + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: Box::new(source) }
    }

    fn kind(operation: Operation, error: object_store::Error) -> ErrorKind {
        StoreError::classify(operation, "s3://b/k".to_owned(), &error).kind()
    }

    fn status(text: &str) -> object_store::Error {
        generic(Text(format!("{STATUS_TEXT}{text}")))
    }

    #[test]
    fn the_status_of_an_answer_decides() {
        use Operation::{List, Read, Write};
        assert_eq!(kind(List, status("404 Not Found: ")), ErrorKind::BucketMissing);
        assert_eq!(kind(Read, status("404 Not Found: ")), ErrorKind::ObjectChanged);
        assert_eq!(kind(Read, status("404 Not Found: <Code>NoSuchBucket</Code>")), ErrorKind::BucketMissing);
        assert_eq!(kind(Read, status("416 Range Not Satisfiable: ")), ErrorKind::ObjectChanged);
        assert_eq!(kind(Write, status("404 Not Found: ")), ErrorKind::BucketMissing);
        assert_eq!(kind(List, status("401 Unauthorized: ")), ErrorKind::AccessDenied);
        assert_eq!(kind(List, status("400 Bad Request: <Code>InvalidAccessKeyId</Code>")), ErrorKind::AccessDenied);
        assert_eq!(kind(List, status("400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>")), ErrorKind::Config);
        assert_eq!(kind(List, status("503 Service Unavailable: ")), ErrorKind::StorageUnavailable);
        assert_eq!(kind(List, status("429 Too Many Requests: ")), ErrorKind::StorageUnavailable);
    }

    #[test]
    fn errors_of_the_file_system_are_sorted() {
        let io = |kind| generic(std::io::Error::from(kind));
        assert_eq!(kind(Operation::List, io(std::io::ErrorKind::PermissionDenied)), ErrorKind::AccessDenied);
        assert_eq!(kind(Operation::Read, io(std::io::ErrorKind::NotFound)), ErrorKind::ObjectChanged);
        assert_eq!(kind(Operation::Read, io(std::io::ErrorKind::ConnectionReset)), ErrorKind::StorageUnavailable);
    }

    #[test]
    fn objects_that_were_not_removed_are_named() {
        let one = |code: &str| generic(Text(format!("{NOT_REMOVED_TEXT}k: text (code: {code})")));
        assert_eq!(kind(Operation::Remove, one("AccessDenied")), ErrorKind::AccessDenied);
        assert_eq!(kind(Operation::Remove, one("InternalError")), ErrorKind::StorageUnavailable);
        assert_eq!(kind(Operation::Remove, status("403 Forbidden: ")), ErrorKind::AccessDenied);
        let source = StoreError::classify(Operation::Remove, "s3://b/k0".to_owned(), &one("AccessDenied"));
        let keys = (0..25).map(|key| format!("k{key}")).collect();
        let error = StoreError::NotRemoved { place: "s3://b".to_owned(), keys, source: Box::new(source) };
        let text = crate::error::Failure::from(error).full_text();
        assert!(text.contains("25 objects in `s3://b` could not be removed: `k0`, `k1`"), "{text}");
        assert!(text.contains("`k19` and 5 more") && text.contains("code AccessDenied"), "{text}");
    }

    #[test]
    fn the_body_of_an_answer_stays_out_of_messages() {
        let body = "403 Forbidden: <Code>SignatureDoesNotMatch</Code><StringToSign>hunter2</StringToSign>";
        let error = StoreError::classify(Operation::Read, "s3://b/k".to_owned(), &status(body));
        let text = crate::error::Failure::from(error).full_text();
        assert!(text.contains("code SignatureDoesNotMatch"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
