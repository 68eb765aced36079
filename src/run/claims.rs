//! Days that this pod wants to write → claims in the ledger, kept alive as long as they are held, on a connection of their own.
//!
//! One task asks the database, one question after the other, and renews in between. So a caller that stops waiting for an answer
//! leaves nothing behind: whatever was claimed for it is known here and given back at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{Instrument, debug, warn};
use uuid::Uuid;

use crate::config::{self, Postgres};
use crate::error::{ErrorKind, Failure};
use crate::ledger::{self, Claimant, DayKey, Standing};
use crate::postgres::connection::{Connection, Connector};
use crate::postgres::error::PostgresError;
use crate::postgres::retry::retrying_unless_asked;
use crate::postgres::sql::TableName;
use crate::runtime::stopping::Stopping;
use crate::time::UsageDay;

/// Claims are renewed so many times while they hold.
const RENEWALS_PER_LEASE: u32 = 3;
/// Shortest time after which a statement counts as lost. None of them waits for a lock; a lease may be shorter than a busy server
/// takes to answer.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
/// Questions that wait for their turn. Each window asks one at a time.
const QUESTIONS: usize = 16;
/// How long the end of the run waits for claims to be given back; what is not by then expires.
const GOODBYE: Duration = Duration::from_secs(5);
/// Attempts at claims whose rows a transaction of our own still locks while the server rolls it back.
const RELEASES: u32 = 10;
const BETWEEN_RELEASES: Duration = Duration::from_millis(200);

/// Which day of which source.
type SourceDay = (Uuid, UsageDay);
type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// The claims of this process.
pub struct Claims {
    questions: mpsc::Sender<Question>,
    held: Arc<Mutex<BTreeMap<SourceDay, i64>>>,
    settings: config::Claims,
    task: JoinHandle<()>,
}

enum Question {
    Expect(Uuid, Vec<UsageDay>, Answer<()>),
    Claim(SourceDay, Option<Uuid>, Answer<bool>),
    Look(Uuid, Vec<UsageDay>, Answer<BTreeMap<UsageDay, Standing>>),
    Release(Option<Vec<SourceDay>>, Answer<()>),
}

impl Claims {
    /// Begins to keep claims. Nothing is asked of the database yet. Errors: an unusable `ca_file`.
    pub fn start(
        postgres: &Postgres,
        settings: config::Claims,
        run_id: Uuid,
        name: String,
        stopping: Stopping,
    ) -> Result<Self, Failure> {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let held = Arc::new(Mutex::new(BTreeMap::new()));
        let lease = Duration::from_secs(settings.lease_seconds);
        let keeper = Keeper {
            connector: Connector::new(postgres, run_id)?,
            connection: Mutex::new(None),
            table: TableName::new(&postgres.schema, &postgres.table),
            claimant: Claimant { name, lease },
            held: Arc::clone(&held),
            stopping,
        };
        let task = tokio::spawn(keeper.keep(asked).in_current_span());
        Ok(Self { questions, held, settings, task })
    }

    /// Times of claims and of waiting for those of others.
    pub fn settings(&self) -> config::Claims {
        self.settings
    }

    /// Makes sure that days can be claimed.
    pub async fn expect(&self, source: Uuid, days: Vec<UsageDay>) -> Result<(), Failure> {
        self.ask(|answer| Question::Expect(source, days, answer)).await
    }

    /// Whether this pod has the day now. It has not if another one holds it, or has written it since `last_run` did.
    pub async fn claim(&self, source: Uuid, day: UsageDay, last_run: Option<Uuid>) -> Result<bool, Failure> {
        self.ask(|answer| Question::Claim((source, day), last_run, answer)).await
    }

    /// The token under which a day may be written. Tokens begin at 1, so a day that is not claimed has none that could pass.
    pub fn token(&self, source: Uuid, day: UsageDay) -> i64 {
        lock(&self.held).get(&(source, day)).copied().unwrap_or(0)
    }

    /// The day was written, and its claim went with that.
    pub fn written(&self, source: Uuid, day: UsageDay) {
        lock(&self.held).remove(&(source, day));
    }

    /// Gives all days of a source back that are still held; what cannot be given back expires.
    pub async fn release(&self, source: Uuid) {
        let days: Vec<SourceDay> = lock(&self.held).keys().filter(|(of, _)| *of == source).copied().collect();
        if days.is_empty() {
            return;
        }
        if let Err(failure) = self.ask(|answer| Question::Release(Some(days), answer)).await {
            warn!(error = %failure.message_with_causes(), "claims expire by themselves");
        }
    }

    /// What the ledger says about some days.
    pub async fn look(&self, source: Uuid, days: Vec<UsageDay>) -> Result<BTreeMap<UsageDay, Standing>, Failure> {
        self.ask(|answer| Question::Look(source, days, answer)).await
    }

    /// Gives everything back. What cannot be given back in time expires.
    pub async fn end(self) {
        let release = self.ask(|answer| Question::Release(None, answer));
        match timeout(GOODBYE, release).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => warn!(error = %failure.message_with_causes(), "claims expire by themselves"),
            Err(_) => warn!("claims expire by themselves, the database does not answer"),
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let gone = || Failure::new(ErrorKind::Bug, "nobody keeps the claims any more");
        self.questions.send(question(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(held: &Mutex<BTreeMap<SourceDay, i64>>) -> std::sync::MutexGuard<'_, BTreeMap<SourceDay, i64>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The side that talks to the database.
struct Keeper {
    connector: Connector,
    /// Kept while nothing fails on it.
    connection: Mutex<Option<Arc<Connection>>>,
    table: TableName,
    claimant: Claimant,
    held: Arc<Mutex<BTreeMap<SourceDay, i64>>>,
    stopping: Stopping,
}

impl Keeper {
    async fn keep(self, mut asked: mpsc::Receiver<Question>) {
        let mut renewals = interval(self.claimant.lease / RENEWALS_PER_LEASE);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Whatever else is asked, what is held comes first.
                biased;
                _ = renewals.tick() => self.renew().await,
                question = asked.recv() => match question {
                    Some(question) => self.answer(question).await,
                    None => return,
                },
            }
        }
    }

    /// Who asked may have gone: the answer then is nobody's.
    async fn answer(&self, question: Question) {
        match question {
            Question::Expect(source, days, answer) => {
                let (table, days) = (&self.table, &days);
                let work = |connection: Arc<Connection>| async move {
                    ledger::expect_days(&connection, table, source, days).await
                };
                let _gone = answer.send(self.trying("adding days to the ledger", work).await);
            }
            Question::Claim(day, last_run, answer) => {
                let _gone = answer.send(self.claim(day, last_run).await);
            }
            Question::Look(source, days, answer) => {
                let (table, days) = (&self.table, &days);
                let work =
                    |connection: Arc<Connection>| async move { ledger::look(&connection, table, source, days).await };
                let _gone = answer.send(self.trying("looking at days of others", work).await);
            }
            Question::Release(days, answer) => {
                let _gone = answer.send(self.release(days).await);
            }
        }
    }

    async fn claim(&self, day: SourceDay, last_run: Option<Uuid>) -> Result<bool, Failure> {
        if lock(&self.held).contains_key(&day) {
            return Ok(true);
        }
        let key = &DayKey { target: self.table.clone(), source_uuid: day.0, day: day.1 };
        let work = |connection: Arc<Connection>| async move {
            ledger::claim(&connection, key, last_run, &self.claimant).await
        };
        let token = self.trying(&format!("claiming day {}", day.1), work).await?;
        debug!(day = %day.1, source = %day.0, is_claimed = token.is_some(), "claim");
        Ok(token.is_some_and(|token| {
            lock(&self.held).insert(day, token);
            true
        }))
    }

    async fn release(&self, days: Option<Vec<SourceDay>>) -> Result<(), Failure> {
        let tokens: Option<Vec<i64>> = days.as_ref().map(|days| {
            let held = lock(&self.held);
            days.iter().filter_map(|day| held.get(day).copied()).collect()
        });
        let tokens = tokens.as_deref();
        let work = |connection: Arc<Connection>| async move {
            ledger::release(&connection, &self.table, &self.claimant.name, tokens).await
        };
        for _ in 0..RELEASES {
            if self.trying("giving claims back", work).await? == 0 {
                break;
            }
            tokio::time::sleep(BETWEEN_RELEASES).await;
        }
        let mut held = lock(&self.held);
        held.retain(|day, _| days.as_ref().is_some_and(|days| !days.contains(day)));
        Ok(())
    }

    /// One attempt; the next one follows long before the claims expire.
    async fn renew(&self) {
        let tokens: Vec<i64> = lock(&self.held).values().copied().collect();
        if tokens.is_empty() {
            return;
        }
        let (tokens, lease) = (&tokens, self.claimant.lease);
        let renew =
            |connection: Arc<Connection>| async move { ledger::renew(&connection, &self.table, tokens, lease).await };
        match self.attempt("renewing claims", &renew).await {
            Ok(kept) if kept.len() < tokens.len() => {
                // Days that were written meanwhile are among them; the others are noticed by their tokens.
                debug!(claim_count = tokens.len(), kept_count = kept.len(), "claims renewed");
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "claims are not renewed"),
        }
    }

    async fn trying<T, F>(&self, action: &str, work: impl Fn(Arc<Connection>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, PostgresError>>,
    {
        let policy = self.connector.retry_policy();
        let done = retrying_unless_asked(policy, &self.stopping, action, || self.attempt(action, &work)).await;
        Ok(done?)
    }

    /// A connection on which anything fails is dropped.
    async fn attempt<T, F>(&self, action: &str, work: &impl Fn(Arc<Connection>) -> F) -> Result<T, PostgresError>
    where
        F: Future<Output = Result<T, PostgresError>>,
    {
        let kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        let connection = match kept.filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => Arc::new(self.connector.connect().await?),
        };
        let patience = self.claimant.lease.max(LEAST_PATIENCE);
        let done = match timeout(patience, work(Arc::clone(&connection))).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(PostgresError::NoProgress { action: action.to_owned(), seconds: patience.as_secs() });
            }
        };
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(done)
    }
}
