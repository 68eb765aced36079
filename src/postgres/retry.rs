//! A piece of work on PostgreSQL → the same work, tried again within the policy while the failure is transient.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::config::Postgres;
use crate::postgres::error::PostgresError;
use crate::runtime::retry::RetryPolicy;
use crate::runtime::stopping::Stopping;
use crate::telemetry::metrics::{self, RetryTo};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// With the default number of attempts about half a minute passes before the last one.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The one policy for PostgreSQL.
pub fn policy(config: &Postgres) -> RetryPolicy {
    RetryPolicy {
        retries: config.retries,
        total: Duration::from_secs(config.retry_seconds),
        first_pause: FIRST_PAUSE,
        longest_pause: LONGEST_PAUSE,
    }
}

/// Runs `work` until it succeeds, fails for good, or has been tried often or long enough. `work` must be safe to repeat.
pub async fn retrying<T, F, W>(policy: RetryPolicy, action: &str, work: W) -> Result<T, PostgresError>
where
    F: Future<Output = Result<T, PostgresError>>,
    W: FnMut() -> F,
{
    retrying_unless_asked(policy, &Stopping::default(), action, work).await
}

/// The same; once the run is told to stop, no further attempt begins.
pub async fn retrying_unless_asked<T, F, W>(
    policy: RetryPolicy,
    stopping: &Stopping,
    action: &str,
    mut work: W,
) -> Result<T, PostgresError>
where
    F: Future<Output = Result<T, PostgresError>>,
    W: FnMut() -> F,
{
    let mut attempts = policy.begin();
    loop {
        let began = Instant::now();
        let error = match work().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let pause = if error.is_worth_retrying() { attempts.pause_after(began.elapsed()) } else { None };
        let Some(pause) = pause else { return Err(error) };
        metrics::retry(RetryTo::Database);
        warn!(action, error = %error, pause_seconds = pause.as_secs_f64(), "trying again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopping.asked() => return Err(error),
        }
    }
}
