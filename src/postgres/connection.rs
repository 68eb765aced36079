//! `config::Postgres` → one connection with TLS as configured, deadlines on every statement and errors that say what
//! was being done. A connection on which anything failed is dropped, never used again.
//!
//! Every statement runs in a transaction that begins with the same settings, so that no answer depends on those of the role or the
//! database, and none is filtered without an error. The beginning also tells a standby, which no command takes for the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, try_join3};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{
    CancelToken, Client, Config as ClientConfig, CopyInSink, CopyOutStream, NoTls, Row, SimpleQueryMessage, Socket,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use crate::config::{Postgres, SslMode};
use crate::error::ErrorKind;
use crate::postgres::error::{Finding, PostgresError, chain_of, kind_of_sqlstate};
use crate::postgres::sql::quote;
use crate::postgres::{refusals, retry, tls};
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
    takes_standbys: bool,
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
            takes_standbys: false,
        })
    }

    /// The same for a database that is only compared with: there a standby is as good as its primary.
    pub fn taking_standbys(self) -> Self {
        Self { takes_standbys: true, ..self }
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
        // The server tells it unasked. A proxy that keeps it to itself leaves it to the look before a run.
        if let Some(finding) =
            driver.parameter("server_encoding").and_then(|name| refusals::encoding(&self.database, name))
        {
            return Err(PostgresError::NotReady(vec![finding]));
        }
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
            place: self.place.clone(),
            database: self.database.clone(),
            user: self.user.clone(),
            takes_standbys: self.takes_standbys,
            statement_timeout: self.statement_timeout,
            lock_timeout: self.lock_timeout,
            is_in_transaction: AtomicBool::new(false),
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

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Writing, with what is committed by others becoming visible.
    Write,
    /// Reading one state of the database.
    Read,
    /// A single statement of either sort.
    Single,
}

/// An open connection. Dropping it closes the socket, and with it whatever transaction was open.
pub struct Connection {
    client: Client,
    cancel: CancelToken,
    tls: Option<MakeRustlsConnect>,
    driver: JoinHandle<()>,
    place: String,
    database: String,
    user: String,
    takes_standbys: bool,
    statement_timeout: Duration,
    lock_timeout: Duration,
    is_in_transaction: AtomicBool,
}

impl Connection {
    /// Whether the server has gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Opens a transaction with the configured timeouts. It ends with `commit`, or by dropping the connection.
    /// Errors: `Standby`; `NotReady` where a setting makes transactions read-only.
    pub async fn begin(&self, action: &str) -> Result<(), PostgresError> {
        self.begin_as(action, Access::Write).await
    }

    /// Opens a transaction that sees one state of the database and changes nothing. Errors: `Standby`.
    pub async fn begin_reading(&self, action: &str) -> Result<(), PostgresError> {
        self.begin_as(action, Access::Read).await
    }

    async fn begin_as(&self, action: &str, access: Access) -> Result<(), PostgresError> {
        self.open_transaction(action, access).await?;
        self.is_in_transaction.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The beginning of every transaction, on one journey: its settings, and whether the server can be written to.
    async fn open_transaction(&self, action: &str, access: Access) -> Result<(), PostgresError> {
        let answers = self.bounded(action, self.client.simple_query(&self.opening(access))).await?;
        let state = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some([row.get(0) == Some("t"), row.get(1) == Some("on")]),
            _ => None,
        });
        match state {
            Some([true, _]) if !self.takes_standbys => Err(PostgresError::Standby { place: self.place.clone() }),
            Some([false, true]) if access == Access::Write => {
                Err(PostgresError::NotReady(vec![refusals::read_only(&self.database, &self.user)]))
            }
            _ => Ok(()),
        }
    }

    /// With `row_security` off, PostgreSQL refuses a statement whose rows a policy would filter.
    fn opening(&self, access: Access) -> String {
        let mode = match access {
            Access::Read => "REPEATABLE READ READ ONLY",
            Access::Write | Access::Single => "READ COMMITTED",
        };
        let statement_milliseconds = self.statement_timeout.as_millis();
        let lock_milliseconds = self.lock_timeout.as_millis();
        // A pause between two statements of ours is an encoding or a scheduler delay, never a minute.
        let idle_milliseconds = self.statement_timeout.max(Duration::from_secs(60)).as_millis();
        format!(
            "BEGIN ISOLATION LEVEL {mode}; \
             SET LOCAL row_security = off; \
             SET LOCAL statement_timeout = {statement_milliseconds}; \
             SET LOCAL lock_timeout = {lock_milliseconds}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle_milliseconds}; \
             SET LOCAL datestyle = 'ISO, YMD'; \
             SET LOCAL extra_float_digits = 1; \
             SET LOCAL standard_conforming_strings = on; \
             SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')"
        )
    }

    /// A statement outside of a transaction gets one of its own; what comes before and after it goes on the same journey.
    async fn in_transaction<T>(
        &self,
        action: &str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PostgresError> {
        if self.is_in_transaction.load(Ordering::Relaxed) {
            return self.bounded(action, statement).await;
        }
        let opening = self.open_transaction(action, Access::Single);
        let statement = self.bounded(action, statement);
        let end = self.bounded(action, self.client.batch_execute("END"));
        // All are sent when they are first polled, in this order, and the server takes one after the other. After a failure the
        // end rolls back. It is not called COMMIT, so that in logs a COMMIT is always that of a whole piece of work.
        let ((), value, ()) = try_join3(opening, statement, end).await?;
        Ok(value)
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
        self.is_in_transaction.store(false, Ordering::Relaxed);
        self.bounded(action, self.client.batch_execute("COMMIT")).await.map_err(PostgresError::of_commit)
    }

    /// Ends the transaction without any effect.
    pub async fn rollback(&self, action: &str) -> Result<(), PostgresError> {
        self.is_in_transaction.store(false, Ordering::Relaxed);
        self.bounded(action, self.client.batch_execute("ROLLBACK")).await
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
        self.in_transaction(action, self.client.batch_execute(sql)).await
    }

    /// One statement; returns the number of rows it touched.
    pub async fn execute(&self, action: &str, sql: &str, parameters: Parameters<'_>) -> Result<u64, PostgresError> {
        self.in_transaction(action, self.client.execute_typed(sql, parameters)).await
    }

    /// One query with all its rows. Every query here has a small result.
    pub async fn query(&self, action: &str, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, PostgresError> {
        self.in_transaction(action, self.client.query_typed(sql, parameters)).await
    }

    /// One query that yields exactly one row.
    pub async fn query_one(&self, action: &str, sql: &str, parameters: Parameters<'_>) -> Result<Row, PostgresError> {
        self.in_transaction(action, self.client.query_typed_one(sql, parameters)).await
    }

    /// Begins a COPY FROM STDIN, within a transaction.
    pub async fn copy_in(&self, action: &str, sql: &str) -> Result<CopyInSink<Bytes>, PostgresError> {
        self.bounded(action, self.client.copy_in(sql)).await
    }

    /// Begins a COPY TO STDOUT, within a transaction.
    pub async fn copy_out(&self, action: &str, sql: &str) -> Result<CopyOutStream, PostgresError> {
        self.bounded(action, self.client.copy_out(sql)).await
    }

    /// Names what failed.
    pub fn error(&self, action: &str, error: &tokio_postgres::Error) -> PostgresError {
        if let Some(refusal) = error.as_db_error() {
            if refusals::is_standby(refusal) {
                return PostgresError::Standby { place: self.place.clone() };
            }
            if let Some(finding) = refusals::of_statement(action, refusal, &self.database, &self.user) {
                return PostgresError::NotReady(vec![finding]);
            }
        }
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
