//! `config::Postgres` → one connection with TLS as configured, deadlines on every statement and errors that say what
//! was being done. A connection on which anything failed is dropped, never used again.

use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{CancelToken, Client, Config as ClientConfig, CopyInSink, CopyOutStream, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use crate::config::{Postgres, SslMode};
use crate::error::ErrorKind;
use crate::postgres::error::{Finding, PostgresError, chain_of, kind_of_sqlstate};
use crate::postgres::sql::quote;
use crate::postgres::{retry, tls};
use crate::runtime::certificate::CertificateFault;
use crate::runtime::retry::RetryPolicy;

/// Time a statement gets beyond the server's own timeouts before we stop listening: the server should speak first.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time for asking the server to give up a statement. It may be gone; then it gives up by itself.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

/// Makes connections. Reads the certificate authorities once.
#[derive(Clone)]
pub struct Connector {
    client: ClientConfig,
    tls: Option<MakeRustlsConnect>,
    place: String,
    database: String,
    user: String,
    mode: &'static str,
    connect_timeout: Duration,
    statement_timeout: Duration,
    lock_timeout: Duration,
    policy: RetryPolicy,
}

impl Connector {
    /// Prepares everything that needs no network. Errors: an unusable `ca_file`.
    pub fn new(config: &Postgres, run_id: Uuid) -> Result<Self, PostgresError> {
        // TLS does not exist on Unix sockets; libpq ignores sslmode there, too.
        let is_socket_folder = config.host.starts_with('/');
        let mode = if is_socket_folder { SslMode::Disable } else { config.ssl_mode };
        let tls = tls::client_config(mode, config.ca_file.as_deref())?.map(MakeRustlsConnect::new);
        let connect_timeout = Duration::from_secs(config.connect_timeout_seconds);
        let mut client = ClientConfig::new();
        client
            .host(&config.host)
            .port(config.port)
            .dbname(&config.database)
            .user(&config.user)
            .application_name(format!("gristmill/{run_id}"))
            .connect_timeout(connect_timeout)
            // A server that vanished without a word is noticed in idle connections as well.
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(30))
            .ssl_mode(match tls {
                Some(_) => tokio_postgres::config::SslMode::Require,
                None => tokio_postgres::config::SslMode::Disable,
            });
        if let Some(password) = &config.password {
            client.password(password.expose_secret());
        }
        Ok(Self {
            client,
            tls,
            place: format!("{}:{}", config.host, config.port),
            database: config.database.clone(),
            user: config.user.clone(),
            mode: tls::mode_name(mode),
            connect_timeout,
            statement_timeout: Duration::from_secs(config.statement_timeout_seconds),
            lock_timeout: Duration::from_secs(config.lock_timeout_seconds),
            policy: retry::policy(config),
        })
    }

    /// One attempt to connect and log in, all within the connect timeout.
    pub async fn connect(&self) -> Result<Connection, PostgresError> {
        let attempt = match &self.tls {
            Some(tls) => Either::Left(self.open(tls.clone())),
            None => Either::Right(self.open(NoTls)),
        };
        // The driver's own timeout covers the socket only, not TLS and login.
        match timeout(self.connect_timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(PostgresError::Unreachable {
                place: self.place.clone(),
                reason: format!("no connection within {} s", self.connect_timeout.as_secs()),
            }),
        }
    }

    /// How often and how long work on this server is tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.policy
    }

    /// The deadline for progress of a COPY.
    pub fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    async fn open<T>(&self, tls: T) -> Result<Connection, PostgresError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let (client, driver) = self.client.connect(tls).await.map_err(|error| self.refusal(&error))?;
        let driver = tokio::spawn(async move {
            // What ends the connection is also reported to the statement under way; nobody else needs it.
            if let Err(error) = driver.await {
                tracing::debug!(error = %error, "connection to PostgreSQL ended");
            }
        });
        Ok(Connection {
            cancel: client.cancel_token(),
            tls: self.tls.clone(),
            client,
            driver,
            statement_timeout: self.statement_timeout,
            lock_timeout: self.lock_timeout,
        })
    }

    /// Sorts what the driver reports about a failed connect. Its kinds are private, so the texts of two are compared.
    fn refusal(&self, error: &tokio_postgres::Error) -> PostgresError {
        let place = self.place.clone();
        let reason = chain_of(error);
        let login_refused = |reason| PostgresError::LoginRefused {
            place: place.clone(),
            user: self.user.clone(),
            database: self.database.clone(),
            reason,
        };
        if let Some(refusal) = error.as_db_error() {
            let code = refusal.code().code();
            let reason = format!("{} (SQLSTATE {code})", refusal.message());
            return match kind_of_sqlstate(code) {
                ErrorKind::DatabaseUnavailable => PostgresError::Unreachable { place, reason },
                // At a login there is but one privilege that can be missing.
                ErrorKind::PrivilegeMissing => PostgresError::NotReady(vec![Finding::privilege(
                    format!("role `{}` lacks CONNECT on database {}", self.user, self.database),
                    format!("GRANT CONNECT ON DATABASE {} TO {}", quote(&self.database), quote(&self.user)),
                )]),
                _ => login_refused(reason),
            };
        }
        if let Some(fault) = CertificateFault::of(error) {
            let fault = fault.with_fix("target.postgres.ca_file");
            return PostgresError::CertificateRefused { place, mode: self.mode, fault };
        }
        let text = error.to_string();
        if text.contains("TLS handshake") {
            PostgresError::Tls { place, mode: self.mode, reason }
        } else if text.contains("authentication") || text.contains("configuration") {
            login_refused(reason)
        } else {
            PostgresError::Unreachable { place, reason }
        }
    }
}

/// Parameters of a statement with their types; sending the types saves named statements, which PgBouncer dislikes.
pub type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// An open connection. Dropping it closes the socket, and with it whatever transaction was open.
pub struct Connection {
    client: Client,
    cancel: CancelToken,
    tls: Option<MakeRustlsConnect>,
    driver: JoinHandle<()>,
    statement_timeout: Duration,
    lock_timeout: Duration,
}

impl Connection {
    /// Whether the server has gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Opens a transaction with the configured timeouts. It ends with `commit`, or by dropping the connection.
    pub async fn begin(&self, action: &str) -> Result<(), PostgresError> {
        let statement_milliseconds = self.statement_timeout.as_millis();
        let lock_milliseconds = self.lock_timeout.as_millis();
        // A pause between two statements of ours is an encoding or a scheduler delay, never a minute.
        let idle_milliseconds = self.statement_timeout.max(Duration::from_secs(60)).as_millis();
        self.batch(
            action,
            &format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SET LOCAL statement_timeout = {statement_milliseconds}; \
                 SET LOCAL lock_timeout = {lock_milliseconds}; \
                 SET LOCAL idle_in_transaction_session_timeout = {idle_milliseconds}; \
                 SET LOCAL datestyle = 'ISO, YMD'; \
                 SET LOCAL standard_conforming_strings = on"
            ),
        )
        .await
    }

    /// Opens a transaction that sees one state of the database and changes nothing.
    pub async fn begin_reading(&self, action: &str) -> Result<(), PostgresError> {
        let statement_milliseconds = self.statement_timeout.as_millis();
        self.batch(
            action,
            &format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                 SET LOCAL statement_timeout = {statement_milliseconds}; \
                 SET LOCAL datestyle = 'ISO, YMD'; \
                 SET LOCAL standard_conforming_strings = on"
            ),
        )
        .await
    }

    /// Lifts the server's limit on statements for the rest of the transaction. A COPY is one long statement; what counts is
    /// that it goes on, and that is watched on this side.
    pub async fn lift_statement_timeout(&self, action: &str) -> Result<(), PostgresError> {
        self.batch(action, "SET LOCAL statement_timeout = 0").await
    }

    /// Sets the server's limit on statements again.
    pub async fn restore_statement_timeout(&self, action: &str) -> Result<(), PostgresError> {
        let milliseconds = self.statement_timeout.as_millis();
        self.batch(action, &format!("SET LOCAL statement_timeout = {milliseconds}")).await
    }

    /// Commits. Errors: `CommitUnknown` if it stays open whether the transaction is there.
    pub async fn commit(&self, action: &str) -> Result<(), PostgresError> {
        self.batch(action, "COMMIT").await.map_err(PostgresError::of_commit)
    }

    /// Ends the transaction without any effect.
    pub async fn rollback(&self, action: &str) -> Result<(), PostgresError> {
        self.batch(action, "ROLLBACK").await
    }

    /// Asks the server to give up what it is doing for this connection. Closing the socket alone does not end a statement
    /// that neither reads nor writes, and until it ends the day's lock is held.
    pub async fn cancel(&self) {
        let request = match &self.tls {
            Some(tls) => Either::Left(self.cancel.cancel_query(tls.clone())),
            None => Either::Right(self.cancel.cancel_query(NoTls)),
        };
        if !matches!(timeout(CANCEL_PATIENCE, request).await, Ok(Ok(()))) {
            tracing::debug!("PostgreSQL could not be asked to give up a statement");
        }
    }

    /// Statements without parameters or results.
    pub async fn batch(&self, action: &str, sql: &str) -> Result<(), PostgresError> {
        self.bounded(action, self.client.batch_execute(sql)).await
    }

    /// One statement; returns the number of rows it touched.
    pub async fn execute(&self, action: &str, sql: &str, parameters: Parameters<'_>) -> Result<u64, PostgresError> {
        self.bounded(action, self.client.execute_typed(sql, parameters)).await
    }

    /// One query with all its rows. Every query here has a small result.
    pub async fn query(&self, action: &str, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, PostgresError> {
        self.bounded(action, self.client.query_typed(sql, parameters)).await
    }

    /// One query that yields exactly one row.
    pub async fn query_one(&self, action: &str, sql: &str, parameters: Parameters<'_>) -> Result<Row, PostgresError> {
        self.bounded(action, self.client.query_typed_one(sql, parameters)).await
    }

    /// Begins a COPY FROM STDIN.
    pub async fn copy_in(&self, action: &str, sql: &str) -> Result<CopyInSink<Bytes>, PostgresError> {
        self.bounded(action, self.client.copy_in(sql)).await
    }

    /// Begins a COPY TO STDOUT.
    pub async fn copy_out(&self, action: &str, sql: &str) -> Result<CopyOutStream, PostgresError> {
        self.bounded(action, self.client.copy_out(sql)).await
    }

    /// Names what failed.
    pub fn error(&self, action: &str, error: &tokio_postgres::Error) -> PostgresError {
        PostgresError::of_statement(action, self.lock_timeout.as_secs(), error)
    }

    /// The server's own timeouts do not help when the server or the network is gone.
    async fn bounded<T>(
        &self,
        action: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        let limit = self.statement_timeout + self.lock_timeout + PATIENCE;
        match timeout(limit, work).await {
            Ok(result) => result.map_err(|error| self.error(action, &error)),
            Err(_) => Err(PostgresError::NoProgress { action: action.to_owned(), seconds: limit.as_secs() }),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
