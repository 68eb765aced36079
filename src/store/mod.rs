//! Configuration → one shared object store client: S3, MinIO or a local folder.
//!
//! Everything that leaves the process towards the storage goes through [`Store`]: it bounds the requests under way, counts
//! them, tries them again, ties every read to the object that was listed, and turns answers into [`StoreError`]. It keeps
//! no object bytes, only memory for them.

mod buffers;
mod client;
mod error;
mod sendable;
mod throttle;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes as Buffer;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions};
use tokio::time::{sleep, timeout};
use tracing::info;

use crate::config::Storage;
use crate::runtime::retry::RetryPolicy;
use crate::telemetry::metrics::{self, RetryTo};
use crate::units::Bytes;

use buffers::Buffers;
use throttle::Throttle;

pub use error::{Cause, Operation, StoreError};

/// Pages of one listing; at the usual thousand keys each this is ten million objects, far beyond any month.
const MAX_LIST_PAGES: usize = 10_000;
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

/// One listed object. Keys are relative to the folder that holds `data/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key, starting with `data/`.
    pub key: String,
    /// Size at listing time.
    pub size: Bytes,
    /// Entity tag at listing time; every read insists on it.
    pub etag: Option<String>,
    /// Time of the last upload.
    pub last_modified: DateTime<Utc>,
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
        let most_requests = match backend {
            Backend::Folder(_) => storage.concurrent_requests.min(MOST_FILES),
            Backend::S3 { .. } => storage.concurrent_requests,
        };
        let inner = Inner {
            backend,
            prefix,
            place,
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

    /// All objects below a prefix that ends with `/`, recursively, in the order of the server; a server may repeat entries.
    /// A prefix without objects gives an empty list.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let operation = Operation::List;
        let full = self.full_key(prefix);
        let metas = match &self.inner.backend {
            Backend::S3 { client, .. } => self.list_pages(client, prefix, &full).await?,
            Backend::Folder(folder) => {
                let path = Path::parse(&full).map_err(|error| self.error(operation, prefix, error.into()))?;
                let _slot = self.inner.throttle.start().await;
                self.inner.requests.fetch_add(1, Ordering::Relaxed);
                let listing: Vec<ObjectMeta> = folder
                    .list(Some(&path))
                    .try_collect()
                    .await
                    .map_err(|error| self.error(operation, prefix, error))?;
                listing
            }
        };
        metas.into_iter().map(|meta| self.entry(meta)).collect()
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
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: object.etag.and_then(|etag| self.precondition(etag)),
            ..GetOptions::default()
        };
        let result = match &self.inner.backend {
            Backend::S3 { client, .. } => {
                self.require_credentials(operation, object.key).await?;
                client.get_opts(path, options).await
            }
            Backend::Folder(folder) => {
                self.inner.requests.fetch_add(1, Ordering::Relaxed);
                folder.get_opts(path, options).await
            }
        }
        .map_err(fail)?;
        // Not every server honours If-Match, so what came back is compared as well.
        let tag_differs = match (object.etag, result.meta.e_tag.as_deref()) {
            (Some(listed), Some(read)) => bare_tag(listed) != bare_tag(read),
            _ => false,
        };
        if tag_differs || result.meta.size != object.size.0 {
            return Err(StoreError::changed(self.name(object.key)));
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
                self.inner.requests.fetch_add(1, Ordering::Relaxed);
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
                while let Some(answer) = answers.next().await {
                    match answer {
                        Ok(path) => key_of.get(&path).copied().into_iter().for_each(note),
                        Err(error) => outcome = outcome.and(Err(self.error(operation, "", error))),
                    }
                }
            }
            Backend::Folder(folder) => {
                for (path, key) in paths.iter().zip(keys) {
                    self.inner.requests.fetch_add(1, Ordering::Relaxed);
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

    fn path(&self, operation: Operation, key: &str) -> Result<Path, StoreError> {
        Path::parse(self.full_key(key)).map_err(|error| self.error(operation, key, error.into()))
    }

    /// The name of a key in messages.
    fn name(&self, key: &str) -> String {
        format!("{}/{}", self.inner.place, key)
    }

    fn full_key(&self, key: &str) -> String {
        if self.inner.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.inner.prefix) }
    }

    fn entry(&self, meta: ObjectMeta) -> Result<Entry, StoreError> {
        let full = meta.location.as_ref();
        let key = match self.inner.prefix.as_str() {
            "" => Some(full),
            prefix => full.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
        };
        // A server that lists keys outside the prefix it was asked for cannot be trusted with the rest.
        let Some(key) = key else { return Err(StoreError::foreign_key(self.name(""), full)) };
        Ok(Entry { key: key.to_owned(), size: Bytes(meta.size), etag: meta.e_tag, last_modified: meta.last_modified })
    }

    async fn list_pages(&self, client: &AmazonS3, prefix: &str, full: &str) -> Result<Vec<ObjectMeta>, StoreError> {
        let operation = Operation::List;
        let mut metas = Vec::new();
        let mut page_token: Option<String> = None;
        for _ in 0..MAX_LIST_PAGES {
            let page =
                self.attempts(operation, prefix, || self.list_page(client, prefix, full, page_token.clone())).await?;
            metas.extend(page.result.objects);
            match page.page_token {
                None => return Ok(metas),
                same if same == page_token => break,
                next => page_token = next,
            }
        }
        Err(StoreError::endless_listing(self.name(prefix)))
    }

    async fn list_page(
        &self,
        client: &AmazonS3,
        prefix: &str,
        full: &str,
        page_token: Option<String>,
    ) -> Result<PaginatedListResult, StoreError> {
        let operation = Operation::List;
        self.require_credentials(operation, prefix).await?;
        let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
        client.list_paginated(Some(full), options).await.map_err(|error| self.error(operation, prefix, error))
    }

    async fn require_credentials(&self, operation: Operation, key: &str) -> Result<(), StoreError> {
        let Backend::S3 { client, credentials } = &self.inner.backend else { return Ok(()) };
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

/// An entity tag without weakness mark and quotes; servers differ in what they put into listings.
fn bare_tag(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}
