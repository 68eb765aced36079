//! A piece of work on PostgreSQL → the same work, tried again a bounded number of times while the failure is transient.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tracing::warn;
use uuid::Uuid;

use crate::postgres::error::PostgresError;
use crate::telemetry::metrics::{self, RetryTo};

/// Tries after the first one. With the delays below about half a minute passes before the last one, which outlives a
/// restart or a failover of a managed server.
const RETRIES: usize = 6;
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(15);

/// Runs `work` until it succeeds, fails for good, or has been tried often enough. `work` must be safe to repeat.
pub async fn retrying<T, F, W>(action: &str, work: W) -> Result<T, PostgresError>
where
    F: Future<Output = Result<T, PostgresError>>,
    W: FnMut() -> F,
{
    // Several pods that lose the same server must not come back in step.
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    let backoff = ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_factor(2.0)
        .with_max_times(RETRIES)
        .with_jitter()
        .with_jitter_seed(seed);
    work.retry(backoff)
        .when(PostgresError::is_worth_retrying)
        .notify(|error: &PostgresError, delay: Duration| {
            metrics::retry(RetryTo::Database);
            warn!(action, error = %error, delay_seconds = delay.as_secs_f64(), "trying again");
        })
        .await
}
