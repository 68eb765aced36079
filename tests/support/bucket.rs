//! The bucket of a test: in this process, or a prefix of its own on the server that `S3_ENDPOINT` names (with
//! `S3_ACCESS_KEY`, `S3_SECRET_KEY`, `S3_BUCKET`).

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use gristmill::config::{Location, Storage};
use gristmill::store::Store;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, PutPayload};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// A bucket with objects.
pub struct TestBucket {
    /// How to reach it.
    pub storage: Storage,
    /// Ends with the test.
    _server: Option<S3Server>,
}

/// Settings of an S3 storage with short timeouts.
pub fn storage(endpoint: String, bucket: &str, prefix: &str, access_key: &str, secret_key: &str) -> Storage {
    Storage {
        location: Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() },
        endpoint: Some(endpoint),
        region: "us-east-1".to_owned(),
        access_key: Some(SecretString::from(access_key)),
        secret_key: Some(SecretString::from(secret_key)),
        allow_http: true,
        path_style: true,
        ca_file: None,
        compare_objects_by: gristmill::config::CompareObjectsBy::Etag,
        concurrent_requests: 8,
        connect_timeout_seconds: 2,
        request_timeout_seconds: 10,
        retries: 3,
        retry_seconds: 60,
    }
}

/// Settings for a server of this process.
pub fn in_process(server: &S3Server) -> Storage {
    storage(server.endpoint(), BUCKET, "", ACCESS_KEY, SECRET_KEY)
}

/// Settings of a local folder.
pub fn folder(path: &Path) -> Storage {
    let location = Location::Folder(path.to_path_buf());
    Storage { location, endpoint: None, access_key: None, secret_key: None, ..storage(String::new(), "", "", "", "") }
}

impl TestBucket {
    /// Uploads the objects with a client of its own.
    pub async fn with(objects: Vec<(String, Vec<u8>)>) -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set beside S3_ENDPOINT"));
        let prefix = format!("gristmill-test-{}", Uuid::new_v4());
        let (server, endpoint, bucket, access_key, secret_key) = match std::env::var("S3_ENDPOINT") {
            Ok(endpoint) => {
                (None, endpoint, variable("S3_BUCKET"), variable("S3_ACCESS_KEY"), variable("S3_SECRET_KEY"))
            }
            Err(_) => {
                let server = S3Server::start().await;
                server.set_page_size(2);
                let endpoint = server.endpoint();
                (Some(server), endpoint, BUCKET.to_owned(), ACCESS_KEY.to_owned(), SECRET_KEY.to_owned())
            }
        };
        let upload = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(&bucket)
            .with_access_key_id(&access_key)
            .with_secret_access_key(&secret_key)
            .build()
            .unwrap();
        for (key, content) in objects {
            let path = object_store::path::Path::parse(format!("{prefix}/{key}")).unwrap();
            upload.put(&path, PutPayload::from(content)).await.unwrap();
        }
        Self { storage: storage(endpoint, &bucket, &prefix, &access_key, &secret_key), _server: server }
    }

    /// A client of the program under test.
    pub fn store(&self) -> Store {
        Store::new(&self.storage).unwrap()
    }

    /// `s3://bucket/prefix`.
    pub fn url(&self) -> String {
        match &self.storage.location {
            Location::S3 { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
            Location::Folder(path) => format!("file://{}", path.display()),
        }
    }

    /// Where the server answers.
    pub fn endpoint(&self) -> &str {
        self.storage.endpoint.as_deref().expect("a bucket has an endpoint")
    }

    /// Access and secret key.
    pub fn keys(&self) -> (&str, &str) {
        (
            self.storage.access_key.as_ref().expect("a bucket has keys").expose_secret(),
            self.storage.secret_key.as_ref().expect("a bucket has keys").expose_secret(),
        )
    }
}

/// Every file below a folder as key and content.
pub fn files_below(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push((key, std::fs::read(&path).unwrap()));
            }
        }
    }
    files
}
