//! Each `ssl_mode` does what its name says. The server's certificate is for `localhost` only, from its own authority.

use std::path::PathBuf;

use gristmill::config::{Postgres, SslMode};
use gristmill::error::ErrorKind;
use gristmill::postgres::connection::Connector;
use gristmill::postgres::error::PostgresError;
use uuid::Uuid;

use crate::database;

/// The throwaway server has TLS; one that the environment names need not.
async fn with_tls() -> (Postgres, PathBuf) {
    let server = database::throwaway_server();
    (database::database_on(server).await, server.ca_file())
}

/// Whether the session is encrypted, or why there is none.
async fn session(config: &Postgres) -> Result<bool, PostgresError> {
    let connection = Connector::new(config, Uuid::nil())?.connect().await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(connection.query_one("looking at the session", sql, &[]).await?.get(0))
}

async fn refusal(config: &Postgres) -> String {
    refusal_as(config, ErrorKind::Config).await
}

async fn refusal_as(config: &Postgres, kind: ErrorKind) -> String {
    let error = session(config).await.expect_err("this certificate must not do");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[tokio::test]
async fn require_encrypts_without_looking_at_the_certificate() {
    let (mut config, _) = with_tls().await;
    assert!(!session(&config).await.unwrap());
    config.ssl_mode = SslMode::Require;
    assert!(session(&config).await.unwrap());
}

#[tokio::test]
async fn verify_ca_looks_at_the_authority_and_not_at_the_name() {
    let (mut config, ca_file) = with_tls().await;
    config.ssl_mode = SslMode::VerifyCa;
    config.ca_file = Some(ca_file);
    config.host = "127.0.0.1".to_owned();
    assert!(session(&config).await.unwrap());
    // Another authority than the one that signed it: its own certificate, which is a good one, is none.
    let (other, _) = database::throwaway_server().certificate_files();
    config.ca_file = Some(other);
    let text = refusal_as(&config, ErrorKind::CertificateRefused).await;
    assert!(
        text.contains("target.postgres.ca_file") && text.contains("not trusted") && text.contains("verify-ca"),
        "{text}"
    );
}

#[tokio::test]
async fn verify_full_looks_at_the_name_too() {
    let (mut config, ca_file) = with_tls().await;
    config.ssl_mode = SslMode::VerifyFull;
    config.ca_file = Some(ca_file);
    config.host = "localhost".to_owned();
    assert!(session(&config).await.unwrap());
    config.host = "127.0.0.1".to_owned();
    let text = refusal_as(&config, ErrorKind::CertificateRefused).await;
    assert!(text.contains("verify-full") && text.contains("another name"), "{text}");
}

#[tokio::test]
async fn a_useless_ca_file_is_named() {
    let (mut config, _) = with_tls().await;
    config.ssl_mode = SslMode::VerifyFull;
    config.ca_file = Some(PathBuf::from("/no/such/file.pem"));
    assert!(refusal(&config).await.contains("/no/such/file.pem"));
    config.ca_file = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    assert!(refusal(&config).await.contains("no certificate"));
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut config, _) = with_tls().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.port = listener.local_addr().unwrap().port();
    config.ssl_mode = SslMode::Require;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"N").await.unwrap();
    });
    assert!(refusal(&config).await.contains("does not support TLS"));
    server.await.unwrap();
}

#[tokio::test]
async fn a_folder_as_host_is_a_unix_socket_without_tls() {
    let (mut config, _) = with_tls().await;
    config.host = database::throwaway_server().socket_folder().to_owned();
    config.ssl_mode = SslMode::VerifyFull;
    assert!(!session(&config).await.unwrap());
}
