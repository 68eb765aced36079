//! Configuration → one shared object store client: S3, MinIO or a local folder.
//!
//! Everything that leaves the process towards the storage goes through [`Store`]: it bounds the requests under way, counts
//! them, tries them again, ties every read to the object that was listed, and turns answers into [`StoreError`]. It keeps
//! no object bytes, only memory for them.

mod buffers;
mod client;
mod error;
mod facts;
mod files;
mod http;
mod list_answer;
mod listing;
mod sendable;
mod throttle;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes as Buffer;
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions};
use tokio::time::{sleep, timeout};
use tracing::info;

use crate::config::{CompareObjectsBy, Storage};
use crate::runtime::retry::RetryPolicy;
use crate::telemetry::metrics::{self, RetryTo};
use crate::units::Bytes;

use buffers::Buffers;
use http::ListedSize;
use listing::BucketLister;
use throttle::Throttle;

pub use error::{Cause, Difference, Operation, StoreError};
pub use listing::Entry;

/// Files are read by threads, one each: more of them take memory for their stacks and caches, and save no time.
const MOST_FILES: usize = 16;
/// Objects that S3 removes with one request.
const REMOVED_AT_ONCE: usize = 1_000;
/// About the pause before the first repetition of a request.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// About the longest pause between two; with it a handful of retries stays below a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A shared connection to the bucket or folder that holds `data/`. Clones share limits and counters.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    /// Path inside the bucket without slashes at its ends; empty for folders.
    prefix: String,
    /// `s3://bucket/prefix` or the folder: how messages name this storage.
    place: String,
    /// Whether versions of an object are told apart by their entity tags; otherwise by size and time.
    etags_count: bool,
    /// Requests that may be under way.
    throttle: Throttle,
    policy: RetryPolicy,
    requests: Arc<AtomicU64>,
    retries: AtomicU64,
    bytes_read: AtomicU64,
    buffers: Arc<Buffers>,
}

enum Backend {
    S3 {
        client: AmazonS3,
        /// Lists what the client reads.
        lister: BucketLister,
        /// Where its credentials come from.
        credentials: Credentials,
    },
    Folder(LocalFileSystem),
}

/// Where the credentials for S3 come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    /// The configuration.
    Static,
    /// The environment names a web identity or a container's service.
    Role,
    /// Nothing is named: the metadata of the machine, if it has any.
    Machine,
}

/// The listed object that a read is meant for.
#[derive(Debug, Clone, Copy)]
pub struct ObjectRef<'a> {
    /// Key as listed.
    pub key: &'a str,
    /// Size as listed.
    pub size: Bytes,
    /// Entity tag as listed.
    pub etag: Option<&'a str>,
    /// Time of the last upload as listed; it counts where there is no tag, or where tags do not. 1970 stands for an unknown time.
    pub last_modified: DateTime<Utc>,
}

/// What the storage was asked for so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreCounters {
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Attempts after the first one.
    pub retries: u64,
    /// Bytes of objects that arrived.
    pub bytes_read: Bytes,
}

impl Store {
    /// Builds the client; sends nothing. A folder must exist.
    pub fn new(storage: &Storage) -> Result<Self, StoreError> {
        let requests = Arc::new(AtomicU64::new(0));
        let client::Parts { backend, prefix, place } = client::build(storage, &requests)?;
        let policy = RetryPolicy {
            retries: storage.retries,
            total: Duration::from_secs(storage.retry_seconds),
            first_pause: FIRST_PAUSE,
            longest_pause: LONGEST_PAUSE,
        };
        let is_folder = matches!(backend, Backend::Folder(_));
        let most_requests =
            if is_folder { storage.concurrent_requests.min(MOST_FILES) } else { storage.concurrent_requests };
        let inner = Inner {
            backend,
            prefix,
            place,
            // Tags of files are made by the program itself.
            etags_count: is_folder || storage.compare_objects_by == CompareObjectsBy::Etag,
            throttle: Throttle::new(most_requests),
            policy,
            requests,
            retries: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            buffers: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How messages name this storage: `s3://bucket/prefix` or the folder.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// The most requests that may be under way at once.
    pub fn concurrent_requests(&self) -> usize {
        self.inner.throttle.most()
    }

    /// Requests that may be under way now: fewer than configured after the server asked to slow down.
    pub fn allowed_requests(&self) -> usize {
        self.inner.throttle.limit()
    }

    /// Requests and bytes so far.
    pub fn counters(&self) -> StoreCounters {
        StoreCounters {
            requests: self.inner.requests.load(Ordering::Relaxed),
            retries: self.inner.retries.load(Ordering::Relaxed),
            bytes_read: Bytes(self.inner.bytes_read.load(Ordering::Relaxed)),
        }
    }

    /// The bytes of one range of a listed object. What breaks off in the middle is read again as a whole.
    /// Errors: `Changed` if the object is not the one that was listed.
    pub async fn read_range(&self, object: ObjectRef<'_>, range: Range<u64>) -> Result<Buffer, StoreError> {
        let path = self.path(Operation::Read, object.key)?;
        self.attempts(Operation::Read, object.key, || self.read_once(object, &path, range.clone())).await
    }

    async fn read_once(&self, object: ObjectRef<'_>, path: &Path, range: Range<u64>) -> Result<Buffer, StoreError> {
        let operation = Operation::Read;
        let fail = |error| self.error(operation, object.key, error);
        let expected_bytes = range.end.saturating_sub(range.start);
        let mut options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: object.etag.and_then(|etag| self.precondition(etag)),
            ..GetOptions::default()
        };
        options.extensions.insert(ListedSize(object.size.0));
        let result = match &self.inner.backend {
            Backend::S3 { client, .. } => {
                self.require_credentials(operation, object.key).await?;
                client.get_opts(path, options).await
            }
            Backend::Folder(folder) => {
                self.count_request();
                folder.get_opts(path, options).await
            }
        }
        .map_err(fail)?;
        if let Some(difference) = difference(object, &result.meta) {
            return Err(StoreError::Changed { place: self.name(object.key), difference });
        }
        let bytes = self.inner.buffers.read(result).await.map_err(fail)?;
        self.inner.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        metrics::bytes_read(Bytes(bytes.len() as u64));
        if bytes.len() as u64 != expected_bytes {
            return Err(StoreError::short(self.name(object.key), expected_bytes, bytes.len() as u64));
        }
        Ok(bytes)
    }

    /// The bytes of several ranges of a listed object, fetched concurrently, in the order of `ranges`.
    pub async fn read_ranges(&self, object: ObjectRef<'_>, ranges: &[Range<u64>]) -> Result<Vec<Buffer>, StoreError> {
        futures::stream::iter(ranges.iter().cloned())
            .map(|range| self.read_range(object, range))
            .buffered(self.concurrent_requests())
            .try_collect()
            .await
    }

    /// Stores an object as a whole, in place of one with its key. `metadata` is kept with it where the storage can do that
    /// (S3 can, folders cannot).
    pub async fn put(&self, key: &str, bytes: Buffer, metadata: &[(&'static str, String)]) -> Result<(), StoreError> {
        let path = self.path(Operation::Write, key)?;
        self.attempts(Operation::Write, key, || self.put_once(key, &path, bytes.clone(), metadata)).await
    }

    async fn put_once(
        &self,
        key: &str,
        path: &Path,
        bytes: Buffer,
        metadata: &[(&'static str, String)],
    ) -> Result<(), StoreError> {
        let operation = Operation::Write;
        let result = match &self.inner.backend {
            Backend::S3 { client, .. } => {
                self.require_credentials(operation, key).await?;
                let attributes =
                    metadata.iter().map(|(name, value)| (Attribute::Metadata((*name).into()), value.clone()));
                let options = PutOptions { attributes: attributes.collect(), ..PutOptions::default() };
                client.put_opts(path, bytes.into(), options).await
            }
            Backend::Folder(folder) => {
                self.count_request();
                folder.put_opts(path, bytes.into(), PutOptions::default()).await
            }
        };
        result.map(|_| ()).map_err(|error| self.error(operation, key, error))
    }

    /// Removes objects, all that can be removed; one that is not there counts as removed.
    /// Errors: `NotRemoved` with the keys that are left.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        let (mut left, mut first_error) = (Vec::new(), None);
        for keys in keys.chunks(REMOVED_AT_ONCE) {
            let removed = Mutex::new(BTreeSet::new());
            if let Err(error) = self.attempts(Operation::Remove, "", || self.delete_once(keys, &removed)).await {
                first_error.get_or_insert(error);
            }
            let removed = removed.into_inner().unwrap_or_else(PoisonError::into_inner);
            left.extend(keys.iter().filter(|key| !removed.contains(*key)).cloned());
        }
        match first_error {
            None => Ok(()),
            Some(error) => {
                let (place, source) = (self.inner.place.clone(), Box::new(error));
                Err(StoreError::NotRemoved { place, keys: left, source })
            }
        }
    }

    /// Notes in `removed` what is gone; the error is the first one.
    async fn delete_once(&self, keys: &[String], removed: &Mutex<BTreeSet<String>>) -> Result<(), StoreError> {
        let operation = Operation::Remove;
        let note = |key: &String| {
            removed.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        };
        let mut paths = Vec::with_capacity(keys.len());
        for key in keys {
            paths.push(self.path(operation, key)?);
        }
        let mut outcome = Ok(());
        match &self.inner.backend {
            Backend::S3 { client, .. } => {
                self.require_credentials(operation, "").await?;
                let key_of: HashMap<Path, &String> = paths.iter().cloned().zip(keys).collect();
                let mut answers = client.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
                // The library gives up its thread over an answer about a key that nobody asked to remove.
                while let Some(answer) = AssertUnwindSafe(answers.next()).catch_unwind().await.unwrap_or_else(|_| {
                    outcome = Err(StoreError::odd_removal(&self.inner.place));
                    None
                }) {
                    match answer {
                        Ok(path) => key_of.get(&path).copied().into_iter().for_each(note),
                        Err(error) => outcome = outcome.and(Err(self.error(operation, "", error))),
                    }
                }
            }
            Backend::Folder(folder) => {
                for (path, key) in paths.iter().zip(keys) {
                    self.count_request();
                    match folder.delete(path).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => note(key),
                        Err(error) => outcome = outcome.and(Err(self.error(operation, key, error))),
                    }
                }
            }
        }
        outcome
    }

    /// A request, repeated within the policy while its failure is worth it. Each attempt takes a slot of its own and is
    /// signed anew, so nobody's turn is used up by a pause and no attempt goes out with credentials of an earlier one.
    async fn attempts<T, F>(&self, operation: Operation, key: &str, attempt: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut attempts = self.inner.policy.begin();
        loop {
            // Waiting for a slot is our own doing and does not count.
            let slot = self.inner.throttle.start().await;
            let began = Instant::now();
            let result = match timeout(attempts.time_left(), attempt()).await {
                Ok(result) => result,
                Err(_) => Err(StoreError::out_of_time(operation, self.name(key), self.inner.policy.total)),
            };
            let error = match result {
                Ok(value) => {
                    slot.went_well();
                    return Ok(value);
                }
                Err(error) => error,
            };
            if error.asks_to_slow_down() {
                slot.was_too_much();
            }
            drop(slot);
            let is_worth_it = error.is_worth_retrying() && matches!(self.inner.backend, Backend::S3 { .. });
            let pause = if is_worth_it { attempts.pause_after(began.elapsed()) } else { None };
            let Some(pause) = pause else { return Err(error) };
            self.inner.retries.fetch_add(1, Ordering::Relaxed);
            metrics::retry(RetryTo::Storage);
            info!(error = %error, cause = %error.cause_text(), pause_seconds = pause.as_secs_f64(), "trying again");
            sleep(pause).await;
        }
    }

    /// The client's form of a key.
    /// Errors: `KeyUnusable` for one that it would send as another, or not at all.
    fn path(&self, operation: Operation, key: &str) -> Result<Path, StoreError> {
        let full = self.full_key(key);
        let path = Path::parse(&full).ok().filter(|path| path.as_ref() == full && !key.contains(files::NO_TEXT));
        path.ok_or_else(|| StoreError::unusable_key(operation, &self.inner.place, key))
    }

    fn count_request(&self) {
        self.inner.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The name of a key in messages.
    fn name(&self, key: &str) -> String {
        format!("{}/{}", self.inner.place, key)
    }

    fn full_key(&self, key: &str) -> String {
        if self.inner.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.inner.prefix) }
    }

    async fn require_credentials(&self, operation: Operation, key: &str) -> Result<(), StoreError> {
        let Backend::S3 { client, credentials, .. } = &self.inner.backend else { return Ok(()) };
        if *credentials == Credentials::Static {
            return Ok(());
        }
        // The client keeps what it got until shortly before it expires, and asks again then.
        match client.credentials().get_credential().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let is_named = *credentials == Credentials::Role;
                Err(StoreError::no_credentials(operation, self.name(key), is_named, &error))
            }
        }
    }

    fn precondition(&self, etag: &str) -> Option<String> {
        match &self.inner.backend {
            Backend::Folder(_) => Some(etag.to_owned()),
            // If-Match compares strongly: a weak tag would never match.
            Backend::S3 { .. } if etag.starts_with("W/") => None,
            Backend::S3 { .. } if !sendable::is_sendable_tag(etag) => None,
            Backend::S3 { .. } => Some(format!("\"{}\"", bare_tag(etag))),
        }
    }

    fn error(&self, operation: Operation, key: &str, error: object_store::Error) -> StoreError {
        StoreError::classify(operation, self.name(key), &error)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.inner.place).finish_non_exhaustive()
    }
}

/// In what an object that is read is another one than was listed. Not every server honours If-Match, so what came is compared as well.
fn difference(listed: ObjectRef<'_>, read: &ObjectMeta) -> Option<Difference> {
    if read.size != listed.size.0 {
        return Some(Difference::Size);
    }
    match (listed.etag, read.e_tag.as_deref()) {
        (Some(listed), Some(read)) => (bare_tag(listed) != bare_tag(read)).then_some(Difference::Etag),
        (Some(_), None) => None,
        // The time of an answer has whole seconds; the client library gives 1970 where there is none.
        (None, _) if read.last_modified.timestamp() == 0 || listed.last_modified.timestamp() == 0 => None,
        (None, _) => (listed.last_modified.timestamp() != read.last_modified.timestamp()).then_some(Difference::Time),
    }
}

/// An entity tag without weakness mark and quotes; servers differ in what they put into listings.
fn bare_tag(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}
