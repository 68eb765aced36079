//! Credentials and addresses → refused where no HTTP request can carry them. The client's library signs a request after it was built
//! and panics over one that could not be, so nothing of the kind may reach it. No value is ever part of what is said.

use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use object_store::ObjectStoreScheme;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::client::{CredentialProvider, HttpRequest, HttpRequestBody};

use crate::config::{check_control_characters, check_header_text};

/// Variables whose values name files, and the files' contents become part of a request.
const TOKEN_FILES: [AmazonS3ConfigKey; 2] =
    [AmazonS3ConfigKey::WebIdentityTokenFile, AmazonS3ConfigKey::ContainerAuthorizationTokenFile];
/// Far more than any token.
const MOST_TOKEN_BYTES: u64 = 64 << 10;

/// Checks what the builder got from the environment, and what the files hold that it names.
/// Errors: the variable and what is wrong.
pub(super) fn check_environment(builder: &AmazonS3Builder, keys: &[AmazonS3ConfigKey]) -> Result<(), String> {
    for key in keys {
        let Some(value) = builder.get_config_value(key) else { continue };
        let name = key.as_ref().to_ascii_uppercase();
        let checked = match key {
            // It signs and is never sent.
            AmazonS3ConfigKey::SecretAccessKey => check_control_characters(&value),
            _ => check_header_text(&value),
        };
        checked.map_err(|fault| format!("environment variable {name} {fault}"))?;
        if TOKEN_FILES.contains(key) {
            check_token_file(&value).map_err(|fault| format!("the file that {name} names {fault}"))?;
        }
    }
    Ok(())
}

/// A file that cannot be read now may be there when it is needed; whoever needs it says so.
fn check_token_file(path: &str) -> Result<(), &'static str> {
    let mut text = String::new();
    let Ok(file) = File::open(path) else { return Ok(()) };
    match file.take(MOST_TOKEN_BYTES).read_to_string(&mut text) {
        Ok(_) => check_header_text(&text),
        Err(_) => Ok(()),
    }
}

/// Whether a request to this address can be built and signed.
pub(super) fn is_sendable_address(address: &str) -> bool {
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    let Ok(uri) = address.parse() else { return false };
    *request.uri_mut() = uri;
    // Whoever signs reads the address with another parser, which is stricter about hosts.
    let Ok(url) = request.uri().to_string().parse() else { return false };
    // The parser's type is that of this argument; what it makes of the address does not matter.
    let _scheme = ObjectStoreScheme::parse(&url);
    request.uri().host().is_some_and(|host| !host.is_empty())
}

/// Whether an entity tag can stand in a request; a server may list whatever it likes.
pub(super) fn is_sendable_tag(tag: &str) -> bool {
    check_header_text(tag).is_ok()
}

/// Credentials of a service, checked each time they come.
#[derive(Debug)]
pub(super) struct Checked(pub(super) AwsCredentialProvider);

/// What a service may not give out.
#[derive(Debug, thiserror::Error)]
#[error("the credentials that were given out cannot be used: the {part} {fault}")]
struct Unusable {
    part: &'static str,
    fault: &'static str,
}

impl CredentialProvider for Checked {
    type Credential = AwsCredential;

    fn get_credential<'life, 'future>(
        &'life self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let credential = self.0.get_credential().await?;
            let unusable = |part| {
                move |fault| object_store::Error::Generic { store: "S3", source: Box::new(Unusable { part, fault }) }
            };
            check_header_text(&credential.key_id).map_err(unusable("access key"))?;
            check_header_text(credential.token.as_deref().unwrap_or_default()).map_err(unusable("session token"))?;
            Ok(credential)
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::StaticCredentialProvider;

    use super::*;

    #[test]
    fn addresses_that_no_request_can_have_are_known() {
        for good in [
            "https://s3.example:9000/bucket",
            "http://127.0.0.1:9000/bucket",
            "https://[::1]:9000/b",
            "https://b.s3.eu-west-1.amazonaws.com",
            "https://host/path/to/s3",
        ] {
            assert!(is_sendable_address(good), "{good}");
        }
        for bad in [
            "https://host:99999/b",
            // What a bucket before the address of a machine makes.
            "https://bucket.127.0.0.1:9000",
            "https://[::1%25eth0]/b",
            "https://1.2.3.4.5/b",
            "https://ho st/b",
            "https://h\u{f6}st/b",
            "https://host\n/b",
            "https://",
            "/b",
            "",
        ] {
            assert!(!is_sendable_address(bad), "{bad:?}");
        }
    }

    #[test]
    fn tags_that_no_header_takes_are_no_condition() {
        for good in ["d41d8cd98f00b204e9800998ecf8427e-2", "\"a\"", "1-a_b.c"] {
            assert!(is_sendable_tag(good), "{good}");
        }
        for bad in ["a\nb", "a\r", "\u{e4}", "a\u{0}"] {
            assert!(!is_sendable_tag(bad), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn credentials_that_no_header_takes_are_refused() {
        let given = |key_id: &str, token: Option<&str>| AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: "secret".to_owned(),
            token: token.map(str::to_owned),
        };
        let checked = async |credential| {
            let provider = Checked(Arc::new(StaticCredentialProvider::new(credential)));
            provider.get_credential().await.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
        };
        assert!(checked(given("key", Some("token+/="))).await.is_ok());
        assert!(checked(given("key", None)).await.is_ok());
        for (key, token, part) in
            [("key\n", None, "access key"), ("k\u{f6}y", None, "access key"), ("key", Some("to\rken"), "session token")]
        {
            let text = checked(given(key, token)).await.unwrap_err();
            assert!(text.contains(part) && !text.contains("secret"), "{text}");
        }
    }
}
