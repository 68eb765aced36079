//! Credentials that expire, certificates of a private authority, and proxies: real servers inside the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::binary::Invocation;
use crate::database;
use crate::delivery::{Delivery, from_server, into_csv, settings};
use crate::s3_server::S3Server;

const DAYS: [&str; 2] = ["2025-10-01", "2025-10-02"];
/// Names that rotate: each is taken until the next one was given out.
const SECRET: &str = "a-secret-of-a-role";

/// The certificate for `localhost` of the throwaway database server, and the authority that signed it.
fn tls() -> (TlsAcceptor, PathBuf) {
    let server = database::throwaway_server();
    let (certificate, key) = server.certificate_files();
    (acceptor(&certificate, &key), server.ca_file())
}

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A certificate for `localhost` of the same authority, which was good on a day of the past.
fn expired(folder: &Path) -> PathBuf {
    let of_server = database::throwaway_server().socket_folder().to_owned();
    let settings = format!(
        "[ca]\ndefault_ca = own\n[own]\ndatabase = index\nnew_certs_dir = .\nserial = serial\ncertificate = {of_server}/ca.pem\n\
         private_key = {of_server}/ca.key\ndefault_md = sha256\npolicy = any\nx509_extensions = names\n[any]\n\
         commonName = supplied\n[names]\nsubjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n"
    );
    for (name, text) in [("ca.conf", settings.as_str()), ("index", ""), ("serial", "07\n")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"];
    let signed = std::process::Command::new("openssl")
        .args([
            "ca",
            "-batch",
            "-config",
            "ca.conf",
            "-notext",
            "-out",
            "expired.pem",
            "-in",
            &format!("{of_server}/server.csr"),
        ])
        .args(dates)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    folder.join("expired.pem")
}

/// Who gives credentials out, each in its own protocol.
#[derive(Clone)]
enum Service {
    /// A service beside the container, as of a pod's identity.
    Container,
    /// Exchanges the token of a web identity.
    Tokens(TlsAcceptor),
    /// The metadata of a machine, asked with a session token.
    Machine,
}

/// Gives out credentials that expire after a second; those given out before are refused from then on.
struct Giver {
    port: u16,
    given: Arc<AtomicU64>,
}

impl Giver {
    async fn start(server: Arc<S3Server>, service: Service) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let given = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&given);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, counter, service) = (Arc::clone(&server), Arc::clone(&counter), service.clone());
                tokio::spawn(async move {
                    match &service {
                        Service::Tokens(tls) => give(tls.accept(stream).await.unwrap(), server, counter, service).await,
                        _ => give(stream, server, counter, service).await,
                    }
                });
            }
        });
        Self { port, given }
    }

    fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }
}

async fn give<S>(stream: S, server: Arc<S3Server>, given: Arc<AtomicU64>, service: Service)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let credentials = || {
            let key = format!("role-key-{}", given.fetch_add(1, Ordering::Relaxed));
            server.accept_key(&key, SECRET);
            (key, (chrono::Utc::now() + chrono::Duration::seconds(1)).to_rfc3339())
        };
        let text = if let Service::Tokens(_) = service {
            let (key, expiry) = credentials();
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("Action=AssumeRoleWithWebIdentity") && query.contains("WebIdentityToken=the-token"));
            format!(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                 <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>\
                 <SessionToken>session</SessionToken><Expiration>{expiry}</Expiration></Credentials>\
                 </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            )
        } else {
            let asked_with = |header: &str, value: &str| assert_eq!(request.headers()[header], value);
            let set = || {
                let (key, expiry) = credentials();
                json!({"AccessKeyId": key, "SecretAccessKey": SECRET, "Token": "session", "Expiration": expiry})
                    .to_string()
            };
            match (service.clone(), request.uri().path()) {
                (Service::Machine, "/latest/api/token") => {
                    assert_eq!(request.method(), "PUT");
                    "the-token".to_owned()
                }
                (Service::Machine, path) => {
                    asked_with("x-aws-ec2-metadata-token", "the-token");
                    match path {
                        "/latest/meta-data/iam/security-credentials/" => "reader".to_owned(),
                        "/latest/meta-data/iam/security-credentials/reader" => set(),
                        path => panic!("{path} is nothing that a machine knows"),
                    }
                }
                _ => {
                    asked_with("authorization", "the-token");
                    set()
                }
            }
        };
        async move { Ok::<_, std::convert::Infallible>(hyper::Response::new(s3s::Body::from(text))) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// A run without keys in its configuration.
fn without_keys(server: &S3Server, output: &std::path::Path) -> Value {
    let mut settings = into_csv(from_server(settings(output, DAYS[0], DAYS[1]), server), output);
    for key in ["access_key", "secret_key"] {
        settings["storage"].as_object_mut().unwrap().remove(key);
    }
    settings["storage"]["concurrent_requests"] = json!(1);
    settings["storage"]["retries"] = json!(4);
    settings
}

fn token_file(folder: &std::path::Path) -> String {
    let file = folder.join("token");
    std::fs::write(&file, "the-token").unwrap();
    file.display().to_string()
}

/// Ends well, with more than one set of credentials, and shows none of them.
async fn needs_several_sets(run: Invocation, giver: &Giver) {
    let ended = run.run().await;
    ended.expect(0, &["written"]);
    assert!(giver.given() >= 2, "{} sets of credentials", giver.given());
    assert!(!ended.all_text().contains(SECRET) && !ended.all_text().contains("the-token"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_container_are_fetched_again_once_they_expired() {
    let server = Arc::new(S3Server::start().await);
    Delivery::of(&DAYS, 1.0).store(&server);
    // Longer than the credentials hold, so that one set of them cannot be enough.
    server.set_latency(std::time::Duration::from_millis(300));
    let giver = Giver::start(Arc::clone(&server), Service::Container).await;
    let (output, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = Invocation::with("run", &without_keys(&server, output.path()))
        .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://127.0.0.1:{}/", giver.port))
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token_file(folder.path()));
    needs_several_sets(run, &giver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_machine_are_fetched_again_once_they_expired() {
    let server = Arc::new(S3Server::start().await);
    Delivery::of(&DAYS, 1.0).store(&server);
    server.set_latency(std::time::Duration::from_millis(300));
    let giver = Giver::start(Arc::clone(&server), Service::Machine).await;
    let output = tempfile::tempdir().unwrap();
    let run = Invocation::with("run", &without_keys(&server, output.path()))
        .variable("AWS_METADATA_ENDPOINT", &format!("http://127.0.0.1:{}", giver.port));
    needs_several_sets(run, &giver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_is_turned_into_credentials_again_once_they_expired() {
    let (acceptor, ca_file) = tls();
    let server = Arc::new(S3Server::start().await);
    Delivery::of(&DAYS, 1.0).store(&server);
    server.set_latency(std::time::Duration::from_millis(300));
    let giver = Giver::start(Arc::clone(&server), Service::Tokens(acceptor)).await;
    let (output, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut settings = without_keys(&server, output.path());
    settings["storage"]["ca_file"] = json!(ca_file);
    let run = Invocation::with("run", &settings)
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", &token_file(folder.path()))
        .variable("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
        .variable("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}/", giver.port));
    needs_several_sets(run, &giver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_for_credentials_that_is_down_is_no_refusal() {
    let server = S3Server::start().await;
    let (output, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ended = Invocation::with("run", &without_keys(&server, output.path()))
        .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://{free}/"))
        .variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token_file(folder.path()))
        .run()
        .await;
    ended.expect(75, &["the environment offers no credentials", "trying again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_behind_tls_needs_its_authority_and_its_name() {
    let (acceptor, ca_file) = tls();
    let server = S3Server::start_tls(acceptor).await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let output = tempfile::tempdir().unwrap();
    let mut settings = into_csv(from_server(settings(output.path(), DAYS[0], DAYS[1]), &server), output.path());
    settings["storage"]["allow_http"] = json!(false);
    // What is not trusted now is not trusted in a minute either: no attempt is made again.
    let refused = |says: &'static str| ["no trust in the storage", "storage.ca_file", says];
    for command in ["run", "check", "plan"] {
        let ended = Invocation::with(command, &settings).run().await;
        ended.expect(78, &refused("signed by an authority that is not trusted here"));
        assert!(!ended.all_text().contains("trying again"), "{command}");
    }
    settings["storage"]["ca_file"] = json!(ca_file);
    Invocation::with("run", &settings).run().await.expect(0, &["written"]);
    // The same server under a name that its certificate does not have.
    let endpoint = server.endpoint().replace("localhost", "127.0.0.1");
    settings["storage"]["endpoint"] = json!(endpoint);
    Invocation::with("run", &settings).run().await.expect(78, &refused("is for another name"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_is_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let (_, key) = database::throwaway_server().certificate_files();
    let server = S3Server::start_tls(acceptor(&expired(folder.path()), &key)).await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let mut settings = into_csv(from_server(settings(folder.path(), DAYS[0], DAYS[1]), &server), folder.path());
    settings["storage"]["allow_http"] = json!(false);
    settings["storage"]["ca_file"] = json!(database::throwaway_server().ca_file());
    let ended = Invocation::with("run", &settings).run().await;
    ended.expect(78, &["no trust in the storage", "has expired or is not valid yet", "look at the clock"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_environment_is_used_except_where_it_says_not_to() {
    let (acceptor, ca_file) = tls();
    let server = S3Server::start_tls(acceptor).await;
    Delivery::of(&DAYS, 1.0).store(&server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let tunnels = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&tunnels);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(tunnel(stream));
        }
    });
    let output = tempfile::tempdir().unwrap();
    let mut settings = into_csv(from_server(settings(output.path(), DAYS[0], DAYS[1]), &server), output.path());
    settings["storage"]["ca_file"] = json!(ca_file);
    Invocation::with("run", &settings).variable("HTTPS_PROXY", &proxy).run().await.expect(0, &["written"]);
    let through_proxy = tunnels.load(Ordering::Relaxed);
    assert!(through_proxy > 0);
    let direct = Invocation::with("run", &settings).variable("HTTPS_PROXY", &proxy).variable("NO_PROXY", "localhost");
    direct.run().await.expect(0, &["written"]);
    assert_eq!(tunnels.load(Ordering::Relaxed), through_proxy);
}

/// Answers one CONNECT and passes bytes on.
async fn tunnel(mut client: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let text = String::from_utf8(head).unwrap();
    let target = text.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).expect("a CONNECT").to_owned();
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // Either side may close first.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
