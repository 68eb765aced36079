//! What object_store reports → what failed, where, and which kind of failure it is.
//!
//! Bodies of answers are never passed on: some servers quote headers and the text to be signed in them. Only the HTTP
//! status and the S3 error code go into messages.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use object_store::client::HttpError;

use super::facts::{Facts, looks_like_code, s3_code};
use super::list_answer::NoPage;
use crate::error::ErrorKind;
use crate::runtime::certificate::CertificateFault;

/// Keys that a message names.
const NAMED_KEYS: usize = 20;

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

/// In what an object that was read differs from the one that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Its entity tag.
    Etag,
    /// Its size.
    Size,
    /// The time of its last upload.
    Time,
    /// It is not there.
    Gone,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Difference::Etag => "its ETag is another one",
            Difference::Size => "its size is another one",
            Difference::Time => "the time of its last upload is another one",
            Difference::Gone => "it is not there",
        })
    }
}

/// The reason in words, free of secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(pub(super) String);

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
    #[error("object `{place}` was replaced or removed after it was listed: {difference}")]
    Changed {
        /// The object, with the bucket.
        place: String,
        /// What tells.
        difference: Difference,
    },
    /// The object would have to be brought back from an archive before it can be read.
    #[error("{operation} `{place}`: the object lies in an archive class of the storage")]
    Archived {
        /// What was attempted.
        operation: Operation,
        /// The object, with the bucket.
        place: String,
        /// Status and code.
        source: Cause,
    },
    /// The clocks on both sides differ by more than a signature allows.
    #[error("{operation} `{place}`: the storage finds the time of the request too far from its own")]
    ClocksDiffer {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// Status and code.
        source: Cause,
    },
    /// An answer that another attempt would give again, and that is none to what was asked.
    #[error("{operation} `{place}`: the answer cannot be used")]
    AnswerUnusable {
        /// What was attempted.
        operation: Operation,
        /// Object or prefix, with the bucket.
        place: String,
        /// What came instead, by its kind.
        source: Cause,
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
            StoreError::KeyUnusable { .. } => ErrorKind::KeyUnusable,
            StoreError::Archived { .. } => ErrorKind::ObjectArchived,
            StoreError::ClocksDiffer { .. } => ErrorKind::ClocksDiffer,
            StoreError::AnswerUnusable { .. } => ErrorKind::StorageAnswerUnusable,
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
        match error {
            E::InvalidPath { source } => {
                StoreError::KeyUnusable { operation, place, source: Cause(source.to_string()) }
            }
            E::Precondition { .. } => StoreError::Changed { place, difference: Difference::Etag },
            _ => facts.sorted(operation, place),
        }
    }

    /// Sorts the error of a request that the library did not make.
    pub(super) fn of_transport(operation: Operation, place: String, error: &HttpError) -> Self {
        match CertificateFault::of(error) {
            Some(fault) => StoreError::certificate(operation, place, fault),
            None => Facts::of(error).sorted(operation, place),
        }
    }

    /// Sorts an answer with an error status.
    pub(super) fn of_status(operation: Operation, place: String, status: u16, body: &[u8]) -> Self {
        let code = s3_code(&String::from_utf8_lossy(body));
        Facts::of_answer(status, code).sorted(operation, place)
    }

    /// Sorts an answer with status 200 that is no page of the listing.
    pub(super) fn no_page(place: String, no_page: NoPage) -> Self {
        let operation = Operation::List;
        let unusable =
            |text: String| StoreError::AnswerUnusable { operation, place: place.clone(), source: Cause(text) };
        match no_page {
            NoPage::SomethingElse(what) => unusable(format!("a listing was asked for, and {what}")),
            NoPage::NotAll(reason) => unusable(format!("the listing is not whole: {reason}")),
            NoPage::NotAsAsked(reason) => unusable(format!("the listing is not what was asked for: {reason}")),
            NoPage::Malformed(reason) => {
                let source = Cause(format!("the listing cannot be read to its end: {reason}"));
                StoreError::unavailable(operation, place, source)
            }
            NoPage::S3Error(code) => {
                let code = code.filter(|code| looks_like_code(code));
                let came = format!("an <Error> document came, {}", code.as_deref().unwrap_or("without a code"));
                Facts::of_answer(200, code)
                    .of_error_document(operation, place.clone())
                    .unwrap_or_else(|| unusable(came))
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
        StoreError::Setup { place: place.to_owned(), source: Facts::of(error).cause() }
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
            facts.cause()
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

    pub(super) fn short(place: String, expected_bytes: u64, got_bytes: u64) -> Self {
        let source = Cause(format!("{got_bytes} bytes came instead of {expected_bytes}"));
        StoreError::unavailable(Operation::Read, place, source)
    }

    pub(super) fn endless_listing(place: String) -> Self {
        let source = Cause("the listing does not come to an end: a token came twice, or too many pages".to_owned());
        StoreError::AnswerUnusable { operation: Operation::List, place, source }
    }

    pub(super) fn foreign_key(place: String, key: &str) -> Self {
        StoreError::no_page(place, NoPage::NotAsAsked(format!("it holds `{key}`, which is outside of the prefix")))
    }

    /// A folder that cannot be walked to its end; a circle of links stays one.
    pub(super) fn no_walk(place: String, error: &walkdir::Error) -> Self {
        let operation = Operation::List;
        let path = error.path().map_or_else(String::new, |path| path.display().to_string());
        match (error.loop_ancestor(), error.io_error()) {
            (Some(ancestor), _) => {
                let text = format!("`{path}` is a link to `{}`, in which it lies", ancestor.display());
                StoreError::AnswerUnusable { operation, place, source: Cause(text) }
            }
            (None, Some(io)) => StoreError::folder(&path, io),
            (None, None) => StoreError::unavailable(operation, place, Cause(format!("`{path}` cannot be listed"))),
        }
    }

    pub(super) fn odd_removal(place: &str) -> Self {
        let source = Cause("it is about an object that nobody asked to remove".to_owned());
        StoreError::AnswerUnusable { operation: Operation::Remove, place: place.to_owned(), source }
    }

    pub(super) fn no_address(operation: Operation, place: String) -> Self {
        let source = Cause("no address can be made of storage.endpoint, the bucket and the prefix".to_owned());
        StoreError::Refused { operation, place, source }
    }

    /// `key` is named as it is in the bucket, below `root`.
    pub(super) fn unusable_key(operation: Operation, root: &str, key: &str) -> Self {
        let source =
            Cause("a segment of it is empty, `.` or `..`, or holds a control character or what is no UTF-8".to_owned());
        StoreError::KeyUnusable { operation, place: format!("{root}/{key}"), source }
    }
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
    use super::super::facts::{NOT_REMOVED_TEXT, STATUS_TEXT};
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
