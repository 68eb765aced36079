//! A prefix → all of its keys, or an error: a listing that is not whole is none.
//!
//! Pages are asked for and read here and not by the client library, which takes what it does not understand for an empty folder.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use http::{Method, Uri};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::list_answer::{self, Listed, NoPage, Page};
use super::{Backend, Operation, Store, StoreError, files};
use crate::units::Bytes;

/// Pages of one listing; at the usual thousand keys each this is ten million objects, far beyond any month.
const MOST_PAGES: usize = 10_000;
/// A thousand keys of the longest kind, every character as a code of six, are a fifth of that.
const MOST_PAGE_BYTES: usize = 32 << 20;
/// What signatures leave as it is in a query; everything else becomes a %-code.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One listed object. Keys are relative to the folder that holds `data/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key, starting with `data/`, exactly as it is in the bucket.
    pub key: String,
    /// Size at listing time.
    pub size: Bytes,
    /// Entity tag at listing time; every read insists on it. `None` if there is none, or if it does not count.
    pub etag: Option<String>,
    /// Time of the last upload.
    pub last_modified: DateTime<Utc>,
}

/// How a bucket is listed.
#[derive(Debug)]
pub(super) struct BucketLister {
    /// Address of the bucket, to which a query is appended: `https://host/bucket` or `https://bucket.host/`.
    pub(super) bucket: Uri,
    pub(super) region: String,
    pub(super) client: HttpClient,
}

/// One page to ask for.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    /// As messages name it.
    prefix: &'a str,
    /// In the bucket.
    full: &'a str,
    /// Only what keys have in common up to the next slash.
    folders_only: bool,
    page_token: Option<&'a str>,
    /// With %-codes for keys, which not every server knows; some keys cannot be written in XML without.
    with_codes: bool,
}

impl Store {
    /// All objects below a prefix that ends with `/`, recursively, in the order of the server; a server may repeat entries.
    /// A prefix without objects gives an empty list.
    /// Errors: whatever is not the whole listing.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let full = self.full_key(prefix);
        let listed = match &self.inner.backend {
            Backend::S3 { client, lister, .. } => self.pages(client, lister, prefix, &full, false).await?.objects,
            Backend::Folder(folder) => self.files(folder, prefix, &full).await?,
        };
        listed.into_iter().map(|listed| self.entry(prefix, listed)).collect()
    }

    /// The names of the folders right below a prefix that ends with `/`, sorted.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let full = self.full_key(prefix);
        let mut names: Vec<String> = match &self.inner.backend {
            Backend::S3 { client, lister, .. } => {
                let folders = self.pages(client, lister, prefix, &full, true).await?.folders;
                let name = |folder: &String| Some(folder.strip_prefix(&full)?.trim_end_matches('/').to_owned());
                folders.iter().filter_map(name).collect()
            }
            Backend::Folder(folder) => {
                let path = self.folder_path(prefix, &full)?;
                let listed = folder.list_with_delimiter(Some(&path)).await;
                let listed = listed.map_err(|error| self.error(Operation::List, prefix, error))?;
                listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect()
            }
        };
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn entry(&self, prefix: &str, listed: Listed) -> Result<Entry, StoreError> {
        let key = match self.inner.prefix.as_str() {
            "" => Some(listed.key.as_str()),
            root => listed.key.strip_prefix(root).and_then(|rest| rest.strip_prefix('/')),
        };
        // A server that lists keys outside the prefix it was asked for cannot be trusted with the rest.
        let Some(key) = key else { return Err(StoreError::foreign_key(self.name(prefix), &listed.key)) };
        Ok(Entry {
            key: key.to_owned(),
            size: Bytes(listed.size),
            etag: listed.etag.filter(|_| self.inner.etags_count),
            last_modified: listed.last_modified,
        })
    }

    /// Files below a folder.
    async fn files(&self, folder: &LocalFileSystem, prefix: &str, full: &str) -> Result<Vec<Listed>, StoreError> {
        let path = folder.path_to_filesystem(&self.folder_path(prefix, full)?);
        let path = path.map_err(|error| self.error(Operation::List, prefix, error))?;
        let _slot = self.inner.throttle.start().await;
        self.count_request();
        let full = full.to_owned();
        let walked = tokio::task::spawn_blocking(move || files::below(&path, &full)).await;
        let walked = walked.map_err(|error| self.error(Operation::List, prefix, error.into()))?;
        walked.map_err(|error| StoreError::no_walk(self.name(prefix), &error))
    }

    fn folder_path(&self, prefix: &str, full: &str) -> Result<Path, StoreError> {
        Path::parse(full).map_err(|error| self.error(Operation::List, prefix, error.into()))
    }

    /// All pages as one.
    async fn pages(
        &self,
        client: &AmazonS3,
        lister: &BucketLister,
        prefix: &str,
        full: &str,
        folders_only: bool,
    ) -> Result<Page, StoreError> {
        let (mut all, mut page_token, mut seen) = (Page::default(), None::<String>, HashSet::new());
        for _ in 0..MOST_PAGES {
            let ask = Ask { prefix, full, folders_only, page_token: page_token.as_deref(), with_codes: false };
            let page = self.attempts(Operation::List, prefix, || self.page(client, lister, ask)).await?;
            all.objects.extend(page.objects);
            all.folders.extend(page.folders);
            match page.next {
                None => return Ok(all),
                Some(next) if !seen.insert(next.clone()) => break,
                next => page_token = next,
            }
        }
        Err(StoreError::endless_listing(self.name(prefix)))
    }

    async fn page(&self, client: &AmazonS3, lister: &BucketLister, ask: Ask<'_>) -> Result<Page, StoreError> {
        match self.page_once(client, lister, ask).await? {
            Ok(page) => Ok(page),
            // A key with a character that XML cannot hold breaks the page, unless it comes as a code.
            Err(NoPage::Malformed(_)) if !ask.with_codes => {
                let again = self.page_once(client, lister, Ask { with_codes: true, ..ask }).await?;
                again.map_err(|no_page| StoreError::no_page(self.name(ask.prefix), no_page))
            }
            Err(no_page) => Err(StoreError::no_page(self.name(ask.prefix), no_page)),
        }
    }

    async fn page_once(
        &self,
        client: &AmazonS3,
        lister: &BucketLister,
        ask: Ask<'_>,
    ) -> Result<Result<Page, NoPage>, StoreError> {
        let (operation, place) = (Operation::List, || self.name(ask.prefix));
        self.require_credentials(operation, ask.prefix).await?;
        let credential = client.credentials().get_credential().await;
        let credential = credential.map_err(|error| self.error(operation, ask.prefix, error))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = lister.address(ask).ok_or_else(|| StoreError::no_address(operation, place()))?;
        AwsAuthorizer::new(&credential, "s3", &lister.region).authorize(&mut request, None);
        let transport = |error| StoreError::of_transport(operation, place(), &error);
        let answer = lister.client.execute(request).await.map_err(transport)?;
        let status = answer.status();
        let mut body = Vec::new();
        let mut pieces = answer.into_body().bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(transport)?);
            if body.len() > MOST_PAGE_BYTES {
                return Ok(Err(NoPage::SomethingElse("more came than any page of a listing has".to_owned())));
            }
        }
        if !status.is_success() {
            return Err(StoreError::of_status(operation, place(), status.as_u16(), &body));
        }
        Ok(list_answer::page(&body, ask.full).and_then(|page| match page.folders.is_empty() || ask.folders_only {
            true => Ok(page),
            // Whatever lies in the folders is not among its objects.
            false => Err(NoPage::NotAsAsked("it has folders (CommonPrefixes) in place of what is in them".to_owned())),
        }))
    }
}

impl BucketLister {
    /// The address of a page.
    fn address(&self, ask: Ask<'_>) -> Option<Uri> {
        let code = |text: &str| utf8_percent_encode(text, QUERY).to_string();
        // In the order of their names, as some servers want to have them signed.
        let mut query = Vec::with_capacity(5);
        query.extend(ask.page_token.map(|token| format!("continuation-token={}", code(token))));
        query.extend(ask.folders_only.then(|| "delimiter=%2F".to_owned()));
        query.extend(ask.with_codes.then(|| "encoding-type=url".to_owned()));
        query.push("list-type=2".to_owned());
        query.push(format!("prefix={}", code(ask.full)));
        format!("{}?{}", self.bucket, query.join("&")).parse().ok()
    }
}
