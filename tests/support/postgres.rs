//! A real PostgreSQL for tests: the server named by `GRISTMILL_TEST_POSTGRES` (`host=… port=… user=… password=…`,
//! a role that may create databases and roles), else a throwaway one that ends with this process.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use gristmill::config::{Postgres, Replace, SslMode};
use secrecy::SecretString;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// The server all tests of this process share.
pub struct Server {
    settings: HashMap<String, String>,
    /// Its standard input closes when this process ends, however it ends; then the script stops the server.
    script: Option<Child>,
}

impl Server {
    fn setting(&self, name: &str) -> &str {
        self.settings.get(name).expect("GRISTMILL_TEST_POSTGRES names host=, port= and user=")
    }

    /// The authority that signed the throwaway server's certificate for `localhost`.
    pub fn ca_file(&self) -> PathBuf {
        PathBuf::from(self.setting("ca_file"))
    }

    /// Certificate for `localhost` and key of the throwaway server, for other servers of a test.
    pub fn certificate_files(&self) -> (PathBuf, PathBuf) {
        let folder = Path::new(self.socket_folder());
        (folder.join("server.pem"), folder.join("server.key"))
    }

    /// Where the throwaway server has its Unix socket.
    pub fn socket_folder(&self) -> &str {
        self.setting("socket_folder")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(script) = &mut self.script {
            drop(script.stdin.take());
            // It stops the server and leaves; how is of no concern to the test.
            let _ = script.wait();
        }
    }
}

/// Starts the server on first use. Panics if it cannot: a test that needs PostgreSQL never passes without one.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("GRISTMILL_TEST_POSTGRES") {
        Ok(text) => Server { settings: parse(&text), script: None },
        Err(_) => start(),
    })
}

/// The throwaway server, for what depends on how the server is set up (TLS, sockets), whatever the environment names.
pub fn throwaway_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let shared = server();
    if shared.script.is_some() { shared } else { SERVER.get_or_init(start) }
}

/// A throwaway server of the caller's own that keeps what was committed when one of its processes is killed. It ends when the
/// value is dropped.
pub fn server_of_its_own() -> Server {
    start_with(&["synchronous_commit=on"])
}

/// A fresh, empty database; the schema `tenant` does not exist yet.
pub async fn database() -> Postgres {
    database_on(server()).await
}

/// A fresh, empty database on one of the servers.
pub async fn database_on(server: &Server) -> Postgres {
    let database = format!("t_{}", Uuid::new_v4().simple());
    let mut config = Postgres {
        host: server.setting("host").to_owned(),
        port: server.setting("port").parse().expect("a port"),
        database: server.settings.get("database").map_or("postgres", String::as_str).to_owned(),
        user: server.setting("user").to_owned(),
        password: server.settings.get("password").map(|password| SecretString::from(password.clone())),
        schema: "tenant".to_owned(),
        table: "reporting_ocpusagelineitem_daily_summary".to_owned(),
        replace: Replace::Own,
        ssl_mode: SslMode::Disable,
        ca_file: None,
        connections: 2,
        connect_timeout_seconds: 10,
        statement_timeout_seconds: 60,
        lock_timeout_seconds: 10,
        retries: 6,
        retry_seconds: 120,
        reference_locks: false,
        max_writers: None,
    };
    let client = client(&config).await;
    client.batch_execute(&format!("CREATE DATABASE {database}")).await.expect("a database for the test");
    config.database = database;
    config
}

/// A plain connection to look at what happened.
pub async fn client(config: &Postgres) -> Client {
    use secrecy::ExposeSecret;
    let mut options = tokio_postgres::Config::new();
    options.host(&config.host).port(config.port).user(&config.user).dbname(&config.database);
    if let Some(password) = &config.password {
        options.password(password.expose_secret());
    }
    let (client, connection) = options.connect(NoTls).await.expect("a connection to the test server");
    tokio::spawn(async move {
        // Tests terminate backends on purpose; the client sees the error where it matters.
        let _ = connection.await;
    });
    client
}

/// A hot standby that follows a throwaway server from now on. It ends when the value is dropped.
pub fn standby_of(primary: &Server) -> Server {
    let mut command = script();
    command.env("PGPASSWORD", primary.setting("password")).args(["follow", primary.setting("port")]);
    started(command)
}

impl Server {
    /// Where it listens on the loopback address.
    pub fn port(&self) -> u16 {
        self.setting("port").parse().expect("a port")
    }
}

fn start() -> Server {
    start_with(&[])
}

fn start_with(settings: &[&str]) -> Server {
    let mut command = script();
    command.arg("serve").args(settings);
    started(command)
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/throwaway_postgres.sh"))
}

fn started(mut command: Command) -> Server {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("scripts/throwaway_postgres.sh starts");
    let output = child.stdout.take().expect("standard output is piped");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("the script's first line");
    let settings = line
        .strip_prefix("ready ")
        .expect("PostgreSQL starts (the script's message is above); install it or set GRISTMILL_TEST_POSTGRES");
    Server { settings: parse(settings), script: Some(child) }
}

fn parse(text: &str) -> HashMap<String, String> {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
