//! File system calls → threads that may block, so that threads that wait for many things do not; and waits that have an end.

use std::future::Future;
use std::time::Duration;

use super::error::ConvertError;

/// Runs blocking work and waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConvertError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ConvertError::WorkerLost { what })
}

/// What the work gives, unless patience ends first.
pub(super) async fn within<T>(patience: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, work).await.ok(),
        None => Some(work.await),
    }
}
