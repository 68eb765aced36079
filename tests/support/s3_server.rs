//! An S3 server: objects in memory or in files of a folder → HTTP with signature version 4, pages, ranges, and faults.
//!
//! Speaks what readers need (ListObjectsV2, GetObject with ranges and If-Match, HeadObject), PutObject and DeleteObjects.
//! Faults are switched on from the test. Tests start it inside their process, benchmarks as a process of its own
//! (benchmarks/e2e/s3_server.rs); nothing of the program uses it.

// Each test binary and the benchmark use a part of this file.
#![allow(dead_code)]

#[path = "s3_deviation.rs"]
pub mod deviation;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use deviation::Deviation;
use futures::StreamExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::{
    CommonPrefix, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, Error, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, HttpResponse, S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use sha2::Digest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Bytes per frame of a body; small frames would measure the server, not the reader.
const FRAME_BYTES: usize = 1 << 20;

/// The access key the server knows.
pub const ACCESS_KEY: &str = "test-access-key";
/// The secret that belongs to it.
pub const SECRET_KEY: &str = "test-secret-key";
/// The only bucket.
pub const BUCKET: &str = "usage-reports";

/// A running server; dropping it ends it.
pub struct S3Server {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

/// What the server was asked for, and how many requests it worked on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// HTTP requests, failed ones included.
    pub requests: u64,
    /// Pages listed.
    pub list_requests: u64,
    /// Bytes of bodies of objects.
    pub bytes_sent: u64,
    /// The most requests at the same time.
    pub peak_in_flight: u64,
}

/// One read of an object, when it was asked for.
#[derive(Debug, Clone)]
pub struct Read {
    /// Key.
    pub key: String,
    /// First byte that was asked for.
    pub start: u64,
    /// Size of the object.
    pub size: u64,
    /// When the request arrived.
    pub at: Instant,
}

/// Faults that meet requests at random, each so many times in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Other seeds meet other requests.
    pub seed: u64,
    /// Answered with status 503.
    pub unavailable: u64,
    /// Bodies of objects that end in the middle.
    pub cut: u64,
    /// Worked on only after `delay`.
    pub delayed: u64,
    /// How long that is.
    pub delay: Duration,
    /// Connections that are closed without an answer.
    pub reset: u64,
}

/// How many faults met requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injected {
    /// Status 503.
    pub unavailable: u64,
    /// Cut bodies.
    pub cut: u64,
    /// Delays.
    pub delayed: u64,
    /// Closed connections.
    pub reset: u64,
}

#[derive(Default)]
struct State {
    faults: Mutex<(Faults, Injected, u64)>,
    /// Keys beside the usual one.
    other_keys: Mutex<BTreeMap<String, String>>,
    reads: Mutex<Vec<Read>>,
    objects: Mutex<BTreeMap<String, Stored>>,
    /// User metadata of what was uploaded through S3.
    metadata: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
    /// Where uploads go; None keeps them in memory.
    folder: Option<PathBuf>,
    page_size: AtomicUsize,
    repeats_entries: AtomicBool,
    ignores_if_match: AtomicBool,
    latency_millis: AtomicU64,
    frame_pause_millis: AtomicU64,
    failures_left: AtomicU64,
    read_failures_left: AtomicU64,
    refuses_reads: AtomicBool,
    /// Uploads that are still taken; None takes all.
    writes_left: Mutex<Option<u64>>,
    refuses_deletes: AtomicBool,
    resets_left: AtomicU64,
    cuts_left: AtomicU64,
    deviation: Mutex<Deviation>,
    replacements: Mutex<Vec<(String, Bytes)>>,
    replaces_one_at_a_time: AtomicBool,
    /// Key, reads of it that are still answered, and what it holds then.
    replacements_of_reads: Mutex<Vec<(String, u64, Bytes)>>,
    requests: AtomicU64,
    list_requests: AtomicU64,
    bytes_sent: AtomicU64,
    in_flight: AtomicU64,
    peak_in_flight: AtomicU64,
}

#[derive(Clone)]
struct Stored {
    content: Content,
    etag: String,
    modified: SystemTime,
}

/// The bytes of an object.
#[derive(Clone)]
enum Content {
    Memory(Bytes),
    File { path: PathBuf, size: u64 },
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File { size, .. } => *size,
        }
    }

    fn read(&self, range: Range<u64>) -> std::io::Result<Bytes> {
        match self {
            Content::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Content::File { path, .. } => {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                File::open(path)?.read_exact_at(&mut bytes, range.start)?;
                Ok(bytes.into())
            }
        }
    }
}

impl S3Server {
    /// Starts an empty server on a free port of the loopback address.
    pub async fn start() -> Self {
        Self::start_with(State::default(), None).await
    }

    /// The same behind TLS; the endpoint names `localhost`.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::start_with(State::default(), Some(acceptor)).await
    }

    /// The same with the files of a folder as objects; uploads become files there. Only for one server per folder.
    pub async fn start_on(folder: &Path) -> std::io::Result<Self> {
        let state = State { folder: Some(folder.to_owned()), ..State::default() };
        let mut folders = vec![folder.to_owned()];
        while let Some(current) = folders.pop() {
            for entry in std::fs::read_dir(current)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(folder).expect("found below it").to_string_lossy().into_owned();
                    state.objects.lock().unwrap().insert(key, Stored::of_file(path)?);
                }
            }
        }
        Ok(Self::start_with(state, None).await)
    }

    async fn start_with(state: State, tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https://localhost" } else { "http://127.0.0.1" };
        let state = Arc::new(state);
        state.page_size.store(1_000, Ordering::Relaxed);
        let mut builder = S3ServiceBuilder::new(Backend(Arc::clone(&state)));
        builder.set_auth(Keys(Arc::clone(&state)));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, service, Arc::clone(&state), tls));
        Self { address, scheme, state, accepting }
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.scheme, self.address.port())
    }

    /// Faults at random from now on.
    pub fn set_faults(&self, faults: Faults) {
        *self.state.faults.lock().unwrap() = (faults, Injected::default(), 0);
    }

    /// Faults since they were set.
    pub fn injected(&self) -> Injected {
        self.state.faults.lock().unwrap().1
    }

    /// Makes this access key, beside the usual one, the only one that is taken.
    pub fn accept_key(&self, access_key: &str, secret_key: &str) {
        *self.state.other_keys.lock().unwrap() = BTreeMap::from([(access_key.to_owned(), secret_key.to_owned())]);
    }

    /// Differs from S3 in these ways from now on.
    pub fn deviate(&self, deviation: Deviation) {
        *self.state.deviation.lock().unwrap() = deviation;
    }

    /// Stores or replaces an object without HTTP.
    pub fn put(&self, key: &str, content: impl Into<Bytes>) {
        self.state.put(key, content.into());
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        self.state.objects.lock().unwrap().remove(key);
    }

    /// Replaces an object as soon as a page under its prefix has been listed.
    pub fn replace_after_listing(&self, key: &str, content: impl Into<Bytes>) {
        self.state.replacements.lock().unwrap().push((key.to_owned(), content.into()));
    }

    /// Of several replacements of a key each listing makes one.
    pub fn one_replacement_at_a_time(&self, on: bool) {
        self.state.replaces_one_at_a_time.store(on, Ordering::Relaxed);
    }

    /// Replaces an object as soon as it was read so many times.
    pub fn replace_after_reads(&self, key: &str, reads: u64, content: impl Into<Bytes>) {
        self.state.replacements_of_reads.lock().unwrap().push((key.to_owned(), reads, content.into()));
    }

    /// Entries per page of a listing.
    pub fn set_page_size(&self, entries: usize) {
        self.state.page_size.store(entries, Ordering::Relaxed);
    }

    /// Each page begins with the last entry of the page before.
    pub fn repeat_entries(&self, on: bool) {
        self.state.repeats_entries.store(on, Ordering::Relaxed);
    }

    /// Reads are answered whatever their If-Match says.
    pub fn ignore_if_match(&self, on: bool) {
        self.state.ignores_if_match.store(on, Ordering::Relaxed);
    }

    /// Every request waits this long before it is worked on.
    pub fn set_latency(&self, latency: Duration) {
        self.state.latency_millis.store(latency.as_millis() as u64, Ordering::Relaxed);
    }

    /// Every frame of a body waits this long.
    pub fn set_frame_pause(&self, pause: Duration) {
        self.state.frame_pause_millis.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// The next requests are answered with status 503.
    pub fn fail_next(&self, requests: u64) {
        self.state.failures_left.store(requests, Ordering::Relaxed);
    }

    /// The next reads of objects are answered with status 503; listings are not.
    pub fn fail_next_reads(&self, reads: u64) {
        self.state.read_failures_left.store(reads, Ordering::Relaxed);
    }

    /// Objects may be listed, not read.
    pub fn refuse_reads(&self, on: bool) {
        self.state.refuses_reads.store(on, Ordering::Relaxed);
    }

    /// After so many more uploads each one is refused; `None` takes them all again.
    pub fn refuse_writes_after(&self, writes: Option<u64>) {
        *self.state.writes_left.lock().unwrap() = writes;
    }

    /// Objects may be written, not removed.
    pub fn refuse_deletes(&self, on: bool) {
        self.state.refuses_deletes.store(on, Ordering::Relaxed);
    }

    /// The bytes of an object that is there.
    pub fn content(&self, key: &str) -> Vec<u8> {
        let stored = self.state.objects.lock().unwrap()[key].clone();
        stored.content.read(0..stored.content.size()).unwrap().to_vec()
    }

    /// The user metadata that an object was uploaded with.
    pub fn metadata(&self, key: &str) -> BTreeMap<String, String> {
        self.state.metadata.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    /// Keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.state.objects.lock().unwrap().keys().cloned().collect()
    }

    /// The connections of the next requests are closed without an answer.
    pub fn reset_next(&self, requests: u64) {
        self.state.resets_left.store(requests, Ordering::Relaxed);
    }

    /// The bodies of the next reads end in the middle.
    pub fn cut_next(&self, reads: u64) {
        self.state.cuts_left.store(reads, Ordering::Relaxed);
    }

    /// Every read of an object so far, in order.
    pub fn reads(&self) -> Vec<Read> {
        self.state.reads.lock().unwrap().clone()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            requests: read(&self.state.requests),
            list_requests: read(&self.state.list_requests),
            bytes_sent: read(&self.state.bytes_sent),
            peak_in_flight: read(&self.state.peak_in_flight),
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stored {
    /// A file, whose entity tag comes from size and time: hashing gigabytes would only delay the start.
    fn of_file(path: PathBuf) -> std::io::Result<Self> {
        let metadata = path.metadata()?;
        let modified = metadata.modified()?;
        let age = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let etag = format!("{:x}-{:x}", metadata.len(), age.as_nanos());
        Ok(Stored { content: Content::File { path, size: metadata.len() }, etag, modified })
    }
}

impl State {
    /// Keeps an upload where this server keeps its objects.
    fn upload(&self, key: &str, content: Bytes) -> std::io::Result<String> {
        let Some(folder) = &self.folder else { return Ok(self.put(key, content)) };
        if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(std::io::Error::other("a key that is no path below the folder"));
        }
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().expect("below the folder"))?;
        std::fs::write(&path, &content)?;
        let stored = Stored::of_file(path)?;
        let etag = stored.etag.clone();
        self.objects.lock().unwrap().insert(key.to_owned(), stored);
        Ok(etag)
    }

    fn put(&self, key: &str, content: Bytes) -> String {
        let digest = sha2::Sha256::digest(&content);
        let etag: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let stored = Stored { content: Content::Memory(content), etag: etag.clone(), modified: SystemTime::now() };
        self.objects.lock().unwrap().insert(key.to_owned(), stored);
        etag
    }

    /// Counts a read of a key that is to be replaced.
    fn replace_if_due(&self, key: &str) {
        let mut waiting = self.replacements_of_reads.lock().unwrap();
        let is_due = |(waiting, reads, _): &mut (String, u64, Bytes)| {
            if waiting.as_str() != key {
                return false;
            }
            *reads = reads.saturating_sub(1);
            *reads == 0
        };
        let due: Vec<_> = waiting.extract_if(.., is_due).collect();
        drop(waiting);
        for (key, _, content) in due {
            self.put(&key, content);
        }
    }

    fn get(&self, bucket: &str, key: &str, if_match: Option<&ETagCondition>) -> S3Result<Stored> {
        check_bucket(bucket)?;
        let stored = self.objects.lock().unwrap().get(key).cloned();
        let stored = stored.ok_or_else(|| s3_error!(NoSuchKey))?;
        let matches = match if_match {
            _ if self.deviation.lock().unwrap().tags_differ => true,
            Some(ETagCondition::ETag(etag)) => etag.value() == stored.etag,
            _ => true,
        };
        if matches || self.ignores_if_match.load(Ordering::Relaxed) {
            Ok(stored)
        } else {
            Err(s3_error!(PreconditionFailed))
        }
    }
}

/// Takes one off a counter of things left to do; says whether there was one.
fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn check_bucket(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
}

/// What meets one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sound,
    Unavailable,
    Cut,
    Delayed(Duration),
    Reset,
}

impl State {
    /// The same seed gives the same faults to the n-th request.
    fn fate(&self, is_read: bool) -> Fate {
        let (faults, injected, drawn) = &mut *self.faults.lock().unwrap();
        *drawn += 1;
        let mut text = faults.seed.to_be_bytes().to_vec();
        text.extend(drawn.to_be_bytes());
        let digest = sha2::Sha256::digest(&text);
        let mut dice = u64::from_be_bytes(digest[..8].try_into().expect("eight bytes")) % 1_000;
        let mut falls = |share: u64| {
            let falls = dice < share;
            dice = dice.saturating_sub(share);
            falls
        };
        if falls(faults.unavailable) {
            injected.unavailable += 1;
            Fate::Unavailable
        } else if falls(faults.cut) && is_read {
            injected.cut += 1;
            Fate::Cut
        } else if falls(faults.delayed) {
            injected.delayed += 1;
            Fate::Delayed(faults.delay)
        } else if falls(faults.reset) {
            injected.reset += 1;
            Fate::Reset
        } else {
            Fate::Sound
        }
    }
}

/// The keys that the server knows.
struct Keys(Arc<State>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            return Ok(SecretKey::from(SECRET_KEY));
        }
        let secret = self.0.other_keys.lock().unwrap().get(access_key).cloned();
        secret.map(SecretKey::from).ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }
}

async fn accept(listener: TcpListener, service: S3Service, state: Arc<State>, tls: Option<TlsAcceptor>) {
    // Dropped with this task, so no connection outlives the server.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Head and body are two writes: without this the second one waits for the client's delayed acknowledgement.
        stream.set_nodelay(true).expect("a fresh connection takes the option");
        let (service, state, tls) = (service.clone(), Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, service, state).await,
                // A client that does not trust the certificate leaves.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, service, state).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, service: S3Service, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (service, state) = (service.clone(), Arc::clone(&state));
        async move {
            let now = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            state.peak_in_flight.fetch_max(now, Ordering::Relaxed);
            let answer = answer(request, &service, &state).await;
            state.in_flight.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    // A connection that the client drops is no fault of the server.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    service: &S3Service,
    state: &State,
) -> Result<HttpResponse, HttpError> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(state.latency_millis.load(Ordering::Relaxed))).await;
    if take_one(&state.resets_left) {
        return Err(HttpError::new("reset on request of the test".into()));
    }
    let is_listing = request.uri().query().is_some_and(|query| query.contains("list-type=2"));
    let fate = state.fate(request.method() == hyper::Method::GET && !is_listing);
    match fate {
        Fate::Reset => return Err(HttpError::new("reset on request of the test".into())),
        Fate::Delayed(delay) => tokio::time::sleep(delay).await,
        Fate::Cut => _ = state.cuts_left.fetch_add(1, Ordering::Relaxed),
        Fate::Sound | Fate::Unavailable => {}
    }
    if fate == Fate::Unavailable
        || take_one(&state.failures_left)
        || (!is_listing && take_one(&state.read_failures_left))
    {
        let text = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>later</Message></Error>".to_owned();
        let response = hyper::Response::builder().status(503).body(s3s::Body::from(text));
        return Ok(response.unwrap());
    }
    let deviation = state.deviation.lock().unwrap().clone();
    if let Some(answer) = deviation.in_place_of(&request.uri().to_string(), is_listing) {
        return Ok(answer);
    }
    Ok(deviation.changed(service.call(request.map(s3s::Body::from)).await?, is_listing).await)
}

struct Backend(Arc<State>);

#[async_trait::async_trait]
impl S3 for Backend {
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        check_bucket(&input.bucket)?;
        let state = &self.0;
        state.list_requests.fetch_add(1, Ordering::Relaxed);
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let repeats = state.repeats_entries.load(Ordering::Relaxed);
        let page_size = state.page_size.load(Ordering::Relaxed);
        let objects = state.objects.lock().unwrap().clone();
        if input.delimiter.is_some() {
            return Ok(S3Response::new(folders(&objects, &prefix)));
        }
        let mut rest = objects
            .into_iter()
            .filter(|(key, _)| key.starts_with(&prefix) && (*key > after || repeats && *key == after))
            .peekable();
        let contents: Vec<Object> = rest.by_ref().take(page_size).map(|(key, stored)| entry(key, &stored)).collect();
        let is_truncated = rest.peek().is_some();
        let last_key = contents.last().and_then(|object| object.key.clone());
        let one_at_a_time = state.replaces_one_at_a_time.load(Ordering::Relaxed);
        let mut replaced = 0;
        let is_listed = |(key, _): &mut (String, Bytes)| {
            let is_due = key.starts_with(&prefix) && !(one_at_a_time && replaced > 0);
            replaced += u64::from(is_due);
            is_due
        };
        let listed: Vec<_> = state.replacements.lock().unwrap().extract_if(.., is_listed).collect();
        for (key, content) in listed {
            state.put(&key, content);
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_count: Some(contents.len() as i32),
            max_keys: Some(page_size as i32),
            is_truncated: Some(is_truncated),
            next_continuation_token: last_key.filter(|_| is_truncated),
            continuation_token: input.continuation_token,
            contents: Some(contents),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        if self.0.refuses_reads.load(Ordering::Relaxed) {
            return Err(s3_error!(AccessDenied));
        }
        let stored = self.0.get(&input.bucket, &input.key, input.if_match.as_ref())?;
        let size = stored.content.size();
        let deviation = self.0.deviation.lock().unwrap().clone();
        let asked = match (input.range, deviation.range) {
            (Some(range), self::deviation::Range::Partial) => Some(range.check(size)?),
            (Some(range), self::deviation::Range::WholeIfWhole) => {
                Some(range.check(size)?).filter(|range| *range != (0..size))
            }
            (Some(_), self::deviation::Range::Whole) | (None, _) => None,
        };
        let range = asked.clone().unwrap_or(0..size);
        let read = Read { key: input.key.clone(), start: range.start, size, at: Instant::now() };
        self.0.reads.lock().unwrap().push(read);
        let content = stored.content.read(range.clone()).map_err(S3Error::internal_error)?;
        self.0.replace_if_due(&input.key);
        let content_range = asked.map(|range| format!("bytes {}-{}/{size}", range.start, range.end - 1));
        let read_count = self.0.reads.lock().unwrap().len();
        let etag = if deviation.tags_differ { format!("{}-{read_count}", stored.etag) } else { stored.etag };
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(content.len() as i64),
            content_range,
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(Timestamp::from(stored.modified)),
            body: Some(body(Arc::clone(&self.0), content)),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let stored = self.0.get(&input.bucket, &input.key, input.if_match.as_ref())?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(stored.content.size() as i64),
            e_tag: Some(ETag::Strong(stored.etag)),
            last_modified: Some(Timestamp::from(stored.modified)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        check_bucket(&input.bucket)?;
        match &mut *self.0.writes_left.lock().unwrap() {
            Some(0) => return Err(s3_error!(AccessDenied)),
            Some(left) => *left -= 1,
            None => {}
        }
        let mut content = Vec::new();
        if let Some(mut body) = input.body {
            while let Some(frame) = body.next().await {
                content.extend_from_slice(&frame.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        let metadata = input.metadata.unwrap_or_default().into_iter().collect();
        self.0.metadata.lock().unwrap().insert(input.key.clone(), metadata);
        let etag = self.0.upload(&input.key, content.into()).map_err(S3Error::internal_error)?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..PutObjectOutput::default() }))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        check_bucket(&input.bucket)?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            if self.0.deviation.lock().unwrap().odd_removals {
                let (key, code) = (Some(format!("{}-of-another", object.key)), Some("InternalError".to_owned()));
                errors.push(Error { key, code, message: Some("no".to_owned()), ..Error::default() });
                continue;
            }
            if self.0.refuses_deletes.load(Ordering::Relaxed) {
                let code = Some("AccessDenied".to_owned());
                errors.push(Error { key: Some(object.key), code, message: Some("no".to_owned()), ..Error::default() });
                continue;
            }
            // As in S3, an object that is not there counts as removed.
            let stored = self.0.objects.lock().unwrap().remove(&object.key);
            if let Some(Stored { content: Content::File { path, .. }, .. }) = stored {
                std::fs::remove_file(path).map_err(S3Error::internal_error)?;
            }
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let (deleted, errors) = (Some(deleted), Some(errors));
        Ok(S3Response::new(DeleteObjectsOutput { deleted, errors, ..DeleteObjectsOutput::default() }))
    }
}

/// What keys have in common up to the next slash, on one page.
fn folders(objects: &BTreeMap<String, Stored>, prefix: &str) -> ListObjectsV2Output {
    let mut names: Vec<String> = Vec::new();
    for rest in objects.keys().filter_map(|key| key.strip_prefix(prefix)) {
        let folder = rest.split_once('/').map(|(folder, _)| format!("{prefix}{folder}/"));
        names.extend(folder.filter(|folder| names.last() != Some(folder)));
    }
    let common_prefixes = names.into_iter().map(|name| CommonPrefix { prefix: Some(name) }).collect();
    ListObjectsV2Output {
        prefix: Some(prefix.to_owned()),
        is_truncated: Some(false),
        common_prefixes: Some(common_prefixes),
        ..ListObjectsV2Output::default()
    }
}

fn entry(key: String, stored: &Stored) -> Object {
    Object {
        key: Some(key),
        size: Some(stored.content.size() as i64),
        e_tag: Some(ETag::Strong(stored.etag.clone())),
        last_modified: Some(Timestamp::from(stored.modified)),
        ..Object::default()
    }
}

/// The bytes in frames; with a cut, half of them and then an error, which closes the connection.
fn body(state: Arc<State>, content: Bytes) -> StreamingBlob {
    let sent = if take_one(&state.cuts_left) { content.len() / 2 } else { content.len() };
    let is_cut = sent < content.len();
    let frames =
        (0..sent).step_by(FRAME_BYTES).map(move |start| Ok(content.slice(start..sent.min(start + FRAME_BYTES))));
    let end = is_cut.then(|| Err(std::io::Error::other("cut on request of the test")));
    let frames: Vec<Result<Bytes, std::io::Error>> = frames.chain(end).collect();
    StreamingBlob::wrap(futures::stream::iter(frames).then(move |frame| {
        let state = Arc::clone(&state);
        async move {
            tokio::time::sleep(Duration::from_millis(state.frame_pause_millis.load(Ordering::Relaxed))).await;
            let bytes = frame.as_ref().map_or(0, Bytes::len) as u64;
            state.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
            frame
        }
    }))
}
