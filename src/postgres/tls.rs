//! `ssl_mode` and `ca_file` → a rustls client configuration with ring as its only provider.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::SslMode;
use crate::postgres::error::{PostgresError, chain_of};

/// The TLS configuration of a mode; `None` for plain text.
pub(super) fn client_config(mode: SslMode, ca_file: Option<&Path>) -> Result<Option<ClientConfig>, PostgresError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions");
    let builder = match mode {
        SslMode::Disable => return Ok(None),
        SslMode::Require => {
            let verifier = WithoutName { provider, roots: None };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        SslMode::VerifyCa => {
            let verifier = WithoutName { provider, roots: Some(roots(ca_file)?) };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        SslMode::VerifyFull => builder.with_root_certificates(roots(ca_file)?),
    };
    Ok(Some(builder.with_no_client_auth()))
}

/// The spelling of a mode in the configuration.
pub(super) fn mode_name(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

/// The authorities of the file, or those of the system. A custom file replaces the system's: who names one wants
/// exactly that one.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, PostgresError> {
    let mut store = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let failed = |reason: String| PostgresError::CaFile { path: path.display().to_string(), reason };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                store.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(failed("holds no certificate in PEM form".to_owned()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let reason = found.errors.first().map_or_else(
                    || "not set, and the system has no certificate authorities".to_owned(),
                    |error| format!("not set, and the system's authorities cannot be read: {}", chain_of(error)),
                );
                return Err(PostgresError::CaFile { path: String::new(), reason });
            }
        }
    }
    Ok(store)
}

/// Checks the certificate's chain if there are roots, never its name; signatures of the handshake always.
#[derive(Debug)]
struct WithoutName {
    provider: Arc<CryptoProvider>,
    roots: Option<RootCertStore>,
}

impl ServerCertVerifier for WithoutName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
