//! File system calls → threads that may block, so that threads that wait for many things do not.

use super::error::ConvertError;

/// Runs blocking work and waits for it.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConvertError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ConvertError::WorkerLost { what })
}
