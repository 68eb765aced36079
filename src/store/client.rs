//! `config::Storage` → an object_store client with every timeout, retry and address rule spelled out.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::Uri;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use secrecy::ExposeSecret;

use super::http::Connector;
use super::listing::BucketLister;
use super::sendable::{self, Checked};
use super::{Backend, Credentials, StoreError};
use crate::config::{Location, Storage, without_line_end};

/// An idle connection is given up before servers usually close it.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// What the environment may tell about credentials, and nothing else: addresses come from the configuration alone.
const CREDENTIAL_KEYS: [AmazonS3ConfigKey; 11] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SecretAccessKey,
    AmazonS3ConfigKey::Token,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::RoleArn,
    AmazonS3ConfigKey::RoleSessionName,
    AmazonS3ConfigKey::StsEndpoint,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
    AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
    AmazonS3ConfigKey::MetadataEndpoint,
];

/// Those that name a service which gives credentials out.
const ROLE_KEYS: [AmazonS3ConfigKey; 3] = [
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
];

/// What a [`super::Store`] is made of.
pub(super) struct Parts {
    pub(super) backend: Backend,
    pub(super) prefix: String,
    pub(super) place: String,
}

/// Builds the client; each HTTP request it sends adds one to `requests`.
pub(super) fn build(storage: &Storage, requests: &Arc<AtomicU64>) -> Result<Parts, StoreError> {
    match &storage.location {
        Location::Folder(folder) => {
            let place = folder.display().to_string();
            let backend = Backend::Folder(open_folder(folder, &place)?);
            Ok(Parts { backend, prefix: String::new(), place })
        }
        Location::S3 { bucket, prefix } => {
            let prefix = prefix.trim_matches('/').to_owned();
            let place = match prefix.as_str() {
                "" => format!("s3://{bucket}"),
                prefix => format!("s3://{bucket}/{prefix}"),
            };
            let backend = build_s3(storage, bucket, &place, requests)?;
            Ok(Parts { backend, prefix, place })
        }
    }
}

fn open_folder(folder: &FilePath, place: &str) -> Result<LocalFileSystem, StoreError> {
    let metadata = std::fs::metadata(folder).map_err(|error| StoreError::folder(place, &error))?;
    if !metadata.is_dir() {
        return Err(StoreError::folder(place, &std::io::Error::from(std::io::ErrorKind::NotADirectory)));
    }
    LocalFileSystem::new_with_prefix(folder)
        .map_err(|error| StoreError::classify(super::Operation::List, place.to_owned(), &error))
}

fn build_s3(storage: &Storage, bucket: &str, place: &str, requests: &Arc<AtomicU64>) -> Result<Backend, StoreError> {
    let setup = |reason: &str| StoreError::setup(place, reason);
    let (mut builder, credentials) = match (&storage.access_key, &storage.secret_key) {
        (Some(access_key), Some(secret_key)) => {
            let builder = AmazonS3Builder::new()
                .with_access_key_id(access_key.expose_secret())
                .with_secret_access_key(secret_key.expose_secret());
            (builder, Credentials::Static)
        }
        (None, None) => {
            let builder = with_credentials_of_environment(AmazonS3Builder::new());
            sendable::check_environment(&builder, &CREDENTIAL_KEYS).map_err(|fault| setup(&fault))?;
            let names_role = ROLE_KEYS.into_iter().any(|key| builder.get_config_value(&key).is_some());
            (builder, if names_role { Credentials::Role } else { Credentials::Machine })
        }
        _ => return Err(setup("storage.access_key and storage.secret_key must be set together")),
    };
    builder = builder
        .with_bucket_name(bucket)
        .with_region(&storage.region)
        .with_virtual_hosted_style_request(!storage.path_style)
        .with_retry(without_retries());
    let own_endpoint = storage.endpoint.as_deref();
    if own_endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) && !storage.allow_http {
        return Err(setup("storage.endpoint is plain http, and storage.allow_http is false"));
    }
    let endpoint = own_endpoint.map_or_else(|| format!("https://s3.{}.amazonaws.com", storage.region), str::to_owned);
    let endpoint = endpoint.trim_end_matches('/');
    let no_url = || setup("storage.endpoint is not a URL, or storage.url has no usable bucket");
    let (endpoint, bucket) = if storage.path_style {
        (endpoint.to_owned(), format!("{endpoint}/{bucket}"))
    } else {
        let of_bucket = endpoint_of_bucket(endpoint, bucket).ok_or_else(no_url)?;
        (of_bucket.clone(), format!("{of_bucket}/"))
    };
    require_sendable(storage, &bucket, place)?;
    let bucket: Uri = bucket.parse().map_err(|_| no_url())?;
    let certificates = certificates(storage, place)?;
    let own = without_redirects(storage, &certificates).map_err(|error| setup(&error.to_string()))?;
    let connector = Connector::new(&bucket, own, requests);
    let lister = BucketLister { bucket, region: storage.region.clone(), client: connector.client() };
    builder = builder
        .with_endpoint(endpoint)
        .with_client_options(client_options(storage, &certificates, place)?)
        .with_http_connector(connector);
    let failed = |error| StoreError::setup_failed(place, &error);
    let client = match credentials {
        Credentials::Static => builder.build().map_err(failed)?,
        // Whatever gives credentials out is a part of the client; what it gives is looked at before it signs.
        Credentials::Role | Credentials::Machine => {
            let giver = Arc::clone(builder.clone().build().map_err(failed)?.credentials());
            builder.with_credentials(Arc::new(Checked(giver))).build().map_err(failed)?
        }
    };
    Ok(Backend::S3 { client, lister, credentials })
}

/// Errors: no request can be sent to where the bucket would be.
fn require_sendable(storage: &Storage, address: &str, place: &str) -> Result<(), StoreError> {
    if sendable::is_sendable_address(address) {
        return Ok(());
    }
    let keys = if storage.endpoint.is_some() { "storage.endpoint" } else { "storage.region" };
    let reason = if storage.path_style {
        format!("{keys} and the bucket make no address that a request can be sent to; write https://host[:port]")
    } else {
        format!(
            "{keys} and the bucket, which becomes a part of the host's name, make no address that a request can be sent to; \
             set storage.path_style: true, as servers without a host name per bucket need it"
        )
    };
    Err(StoreError::setup(place, &reason))
}

/// `https://host` → `https://bucket.host`, which the client expects for virtual-hosted addresses.
fn endpoint_of_bucket(endpoint: &str, bucket: &str) -> Option<String> {
    let (scheme, host) = endpoint.split_once("://")?;
    if host.is_empty() { None } else { Some(format!("{scheme}://{bucket}.{host}")) }
}

/// Takes over the credentials that object_store finds in the environment, but no address, region or switch.
fn with_credentials_of_environment(builder: AmazonS3Builder) -> AmazonS3Builder {
    let environment = AmazonS3Builder::from_env();
    CREDENTIAL_KEYS.into_iter().fold(builder, |builder, key| match environment.get_config_value(&key) {
        Some(value) => builder.with_config(key, without_line_end(&value)),
        None => builder,
    })
}

/// The client itself repeats nothing: that is `Store::attempts`, which can lower the number of requests meanwhile and has
/// each attempt signed anew.
fn without_retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::ZERO, max_backoff: Duration::ZERO, base: 1.0 };
    RetryConfig { backoff, max_retries: 0, retry_timeout: Duration::ZERO }
}

/// For services that give credentials out; what goes to the storage itself has a client of its own.
fn client_options(storage: &Storage, certificates: &[u8], place: &str) -> Result<ClientOptions, StoreError> {
    let options = ClientOptions::new()
        .with_connect_timeout(Duration::from_secs(storage.connect_timeout_seconds))
        .with_timeout(Duration::from_secs(storage.request_timeout_seconds))
        .with_allow_http(storage.allow_http)
        .with_allow_invalid_certificates(false)
        .with_http1_only()
        .with_pool_idle_timeout(IDLE_CONNECTION);
    let certificates =
        Certificate::from_pem_bundle(certificates).map_err(|error| StoreError::setup_failed(place, &error))?;
    Ok(certificates.into_iter().fold(options, ClientOptions::with_root_certificate))
}

/// The client for the storage. A redirect leads to where the signature does not hold, so none is followed.
fn without_redirects(storage: &Storage, certificates: &[u8]) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("gristmill/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(storage.connect_timeout_seconds))
        .timeout(Duration::from_secs(storage.request_timeout_seconds))
        .https_only(!storage.allow_http)
        // One connection per request in flight is faster for large bodies than streams inside one.
        .http1_only()
        .pool_max_idle_per_host(storage.concurrent_requests)
        .pool_idle_timeout(IDLE_CONNECTION)
        .dns_resolver(Arc::new(InAnyOrder));
    let certificates = reqwest::Certificate::from_pem_bundle(certificates)?;
    certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate).build()
}

/// Addresses of a name in any order, so that the servers behind it share the requests.
struct InAnyOrder;

impl reqwest::dns::Resolve for InAnyOrder {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let mut addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let turn = usize::try_from(uuid::Uuid::new_v4().as_u128() % 64).unwrap_or(0);
            let turn = turn % addresses.len().max(1);
            addresses.rotate_left(turn);
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// The further authorities, as PEM; empty if there are none.
fn certificates(storage: &Storage, place: &str) -> Result<Vec<u8>, StoreError> {
    let Some(file) = &storage.ca_file else { return Ok(Vec::new()) };
    let unusable = |reason: String| StoreError::setup(place, &format!("storage.ca_file {}: {reason}", file.display()));
    let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|_| unusable("is not PEM".to_owned()))?;
    if certificates.is_empty() { Err(unusable("holds no certificate".to_owned())) } else { Ok(pem) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_becomes_part_of_the_host() {
        assert_eq!(endpoint_of_bucket("https://s3.example:9000", "b").as_deref(), Some("https://b.s3.example:9000"));
        assert_eq!(endpoint_of_bucket("s3.example", "b"), None);
    }
}
