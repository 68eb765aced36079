//! One HTTP request to the storage → its answer, as long as that is an answer to this request: redirects are errors, and a range is cut
//! out of an answer that holds the whole object.
//!
//! Requests to other hosts, which give credentials out, are passed on as they are.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use crate::telemetry::metrics::{self, RequestOutcome};
use crate::units::Bytes;

/// A larger object is not read through for the sake of one of its ranges.
const LARGEST_WHOLE_BYTES: u64 = 16 << 20;

/// The size that an object was listed with, for answers that do not tell one.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListedSize(pub(super) u64);

/// An answer to something else than what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnexpectedAnswer {
    /// Another address is named. A signature holds for one address, so it cannot be followed.
    #[error("HTTP status {status}, a redirect to {to}, which is not followed")]
    Redirect {
        /// HTTP status.
        status: u16,
        /// Scheme and host, or what can be said of them.
        to: String,
    },
    /// A range was asked for.
    #[error(
        "a range was asked for, and the whole object came ({size}); only objects of at most {} are read in that way",
        Bytes(LARGEST_WHOLE_BYTES)
    )]
    WholeObject {
        /// Its size.
        size: Bytes,
    },
    /// Neither the headers nor the listing tell how long the object is.
    #[error("a range was asked for, and something without a length came")]
    NoLength,
}

/// Makes clients that send to the storage without following redirects.
#[derive(Debug)]
pub(super) struct Connector {
    /// Host and port of the storage.
    host: (String, Option<u16>),
    /// The client for them.
    client: HttpClient,
    requests: Arc<AtomicU64>,
}

impl Connector {
    /// `bucket` is the address of the bucket, `client` sends to it; each request adds one to `requests`.
    pub(super) fn new(bucket: &Uri, client: reqwest::Client, requests: &Arc<AtomicU64>) -> Self {
        Self { host: host_of(bucket), client: HttpClient::new(client), requests: Arc::clone(requests) }
    }

    /// A client for requests that the library does not make.
    pub(super) fn client(&self) -> HttpClient {
        let storage = self.client.clone();
        let (host, requests) = (self.host.clone(), Arc::clone(&self.requests));
        HttpClient::new(Service { host, others: storage.clone(), storage, requests })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let (host, storage, requests) = (self.host.clone(), self.client.clone(), Arc::clone(&self.requests));
        let others = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { host, storage, others, requests }))
    }
}

struct Service {
    host: (String, Option<u16>),
    storage: HttpClient,
    others: HttpClient,
    requests: Arc<AtomicU64>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("host", &self.host).finish_non_exhaustive()
    }
}

impl HttpService for Service {
    fn call<'life, 'future>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let is_storage = host_of(request.uri()) == self.host;
            let (range, listed) = (range_of(request.headers()), request.extensions().get().copied());
            let client = if is_storage { &self.storage } else { &self.others };
            let answer = client.execute(request).await;
            metrics::storage_request(outcome(answer.as_ref().ok().map(|answer| answer.status().as_u16())));
            if is_storage { to_the_point(answer?, range, listed).await } else { answer }
        })
    }
}

/// Host and port of an address.
fn host_of(address: &Uri) -> (String, Option<u16>) {
    let usual = if address.scheme_str() == Some("https") { 443 } else { 80 };
    (address.host().unwrap_or_default().to_ascii_lowercase(), Some(address.port_u16().unwrap_or(usual)))
}

/// The range that a request is for, in the one form in which it is asked for.
fn range_of(headers: &HeaderMap) -> Option<Range<u64>> {
    let (first, last) = headers.get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

/// The answer, if it is one to a request for this range.
async fn to_the_point(
    answer: HttpResponse,
    range: Option<Range<u64>>,
    listed: Option<ListedSize>,
) -> Result<HttpResponse, HttpError> {
    let status = answer.status();
    if let (true, Some(location)) = (status.is_redirection(), answer.headers().get(LOCATION)) {
        return Err(refused(UnexpectedAnswer::Redirect { status: status.as_u16(), to: address_of(location) }));
    }
    match range {
        Some(range) if status == StatusCode::OK => part_of_whole(answer, range, listed).await,
        _ => Ok(answer),
    }
}

/// Reads through a whole object and keeps a range of it: what the server should have sent.
async fn part_of_whole(
    answer: HttpResponse,
    range: Range<u64>,
    listed: Option<ListedSize>,
) -> Result<HttpResponse, HttpError> {
    let (mut parts, body) = answer.into_parts();
    let told = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let size = told.or(listed.map(|ListedSize(size)| size)).ok_or_else(|| refused(UnexpectedAnswer::NoLength))?;
    if size > LARGEST_WHOLE_BYTES {
        return Err(refused(UnexpectedAnswer::WholeObject { size: Bytes(size) }));
    }
    let end = range.end.min(size);
    if range.start >= end {
        // As of a server that knows ranges: the object is shorter than it was.
        parts.status = StatusCode::RANGE_NOT_SATISFIABLE;
        return Ok(HttpResponse::from_parts(parts, Vec::new().into()));
    }
    let mut kept = BytesMut::with_capacity(usize::try_from(end - range.start).unwrap_or_default());
    let (mut stream, mut position) = (body.bytes_stream(), 0);
    while position < end {
        let Some(piece) = stream.next().await else {
            let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(HttpError::new(HttpErrorKind::Interrupted, cut));
        };
        let piece = piece?;
        let piece_end = position + piece.len() as u64;
        let within = |at: u64| usize::try_from(at.clamp(position, piece_end) - position).unwrap_or_default();
        kept.extend_from_slice(&piece[within(range.start)..within(end)]);
        position = piece_end;
    }
    let header = |text: String| HeaderValue::from_str(&text).expect("digits are a header's value");
    parts.status = StatusCode::PARTIAL_CONTENT;
    parts.headers.insert(CONTENT_RANGE, header(format!("bytes {}-{}/{size}", range.start, end - 1)));
    parts.headers.insert(CONTENT_LENGTH, header(kept.len().to_string()));
    Ok(HttpResponse::from_parts(parts, kept.freeze().into()))
}

fn refused(answer: UnexpectedAnswer) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, answer)
}

/// Scheme and host of a redirect; its path and query may hold anything.
fn address_of(location: &HeaderValue) -> String {
    let address: Option<Uri> = location.to_str().ok().and_then(|text| text.parse().ok());
    match address.as_ref().map(|address| (address.scheme_str(), address.host(), address.port_u16())) {
        Some((Some(scheme), Some(host), Some(port))) => format!("{scheme}://{host}:{port}"),
        Some((Some(scheme), Some(host), None)) => format!("{scheme}://{host}"),
        Some((None, None, _)) => "another path of the same server".to_owned(),
        _ => "an address that cannot be read".to_owned(),
    }
}

/// What an answer means for the request; none at all may come with the next attempt.
fn outcome(status: Option<u16>) -> RequestOutcome {
    match status {
        None | Some(429 | 500..) => RequestOutcome::Retried,
        Some(400..) => RequestOutcome::Failed,
        Some(_) => RequestOutcome::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_whether_another_attempt_may_help() {
        let of = |status| outcome(Some(status));
        assert_eq!([200, 206, 304].map(of), [RequestOutcome::Ok; 3]);
        assert_eq!([429, 500, 503].map(of), [RequestOutcome::Retried; 3]);
        assert_eq!([403, 404, 412].map(of), [RequestOutcome::Failed; 3]);
        assert_eq!(outcome(None), RequestOutcome::Retried);
    }

    #[test]
    fn hosts_are_compared_with_their_ports() {
        let of = |address: &str| host_of(&address.parse().unwrap());
        assert_eq!(of("https://S3.example/b?x=1"), of("https://s3.example:443/"));
        assert_ne!(of("http://s3.example/b"), of("https://s3.example/b"));
        assert_ne!(of("http://s3.example:9000/b"), of("http://s3.example/b"));
    }

    #[test]
    fn of_a_redirect_the_host_is_told_and_nothing_else() {
        let of = |location: &'static str| address_of(&HeaderValue::from_static(location));
        assert_eq!(of("https://console.example:9443/login?token=secret"), "https://console.example:9443");
        assert_eq!(of("/login?token=secret"), "another path of the same server");
        assert_eq!(of("https://user:secret@"), "an address that cannot be read");
    }

    async fn cut(size: usize, range: Range<u64>, told: bool, listed: Option<u64>) -> Result<HttpResponse, HttpError> {
        let content: Vec<u8> = (0..=250).cycle().take(size).collect();
        let mut answer = HttpResponse::new(content.into());
        if told {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_str(&size.to_string()).unwrap());
        }
        to_the_point(answer, Some(range), listed.map(ListedSize)).await
    }

    #[tokio::test]
    async fn a_range_is_cut_out_of_a_whole_object() {
        for (told, listed) in [(true, None), (false, Some(1_000))] {
            let answer = cut(1_000, 990..1_200, told, listed).await.unwrap();
            assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
            assert_eq!(answer.headers()[CONTENT_RANGE], "bytes 990-999/1000");
            let bytes = answer.into_body().bytes().await.unwrap();
            assert_eq!(bytes, (0..=250).cycle().take(1_000).skip(990).collect::<Vec<u8>>());
        }
        assert_eq!(cut(10, 20..30, true, None).await.unwrap().status(), StatusCode::RANGE_NOT_SATISFIABLE);
        // Fewer bytes than the listing promises.
        assert_eq!(cut(10, 0..20, false, Some(20)).await.unwrap_err().kind(), HttpErrorKind::Interrupted);
        assert!(cut(10, 0..5, false, None).await.unwrap_err().to_string().contains("without a length"));
        let large = cut(10, 0..5, false, Some(1 << 30)).await.unwrap_err().to_string();
        assert!(large.contains("the whole object came (1.00 GiB)") && large.contains("at most 16.0 MiB"), "{large}");
    }
}
