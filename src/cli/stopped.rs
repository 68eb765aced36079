//! A command's work → its result on a runtime of its own, or the failure of a process that was told to stop.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;

use crate::error::{ErrorKind, Failure};
use crate::runtime::stopping::{Stopping, not_half_written, stop_signal};

/// Time for what has to be given up to be given up in good order.
const LEAVING: Duration = Duration::from_secs(10);

/// Runs work that writes nothing on a fresh runtime until it ends or the process is told to stop.
pub(super) fn until_stopped<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = new_runtime()?;
    let result = runtime.block_on(async {
        let stop = stop_signal().map_err(no_runtime)?;
        tokio::select! {
            result = work => result,
            failure = stop => Err(not_half_written(failure)),
        }
    });
    // A file system that hangs, or a day that is compared, keeps a thread, not the process.
    runtime.shutdown_background();
    result
}

/// The same for work that is handed the wish to stop, and that takes back what it did once it hears it.
pub(super) fn until_taken_back<T>(
    work: impl AsyncFnOnce(BoxFuture<'static, Failure>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = new_runtime()?;
    let result = runtime.block_on(async {
        let stop = stop_signal().map_err(no_runtime)?;
        work(stop.boxed()).await
    });
    // Temporary files that are being written go when their threads end.
    runtime.shutdown_timeout(LEAVING);
    result
}

/// The same for work that ends by itself once it is told to stop, within the grace period and a little more.
pub(super) fn within_grace<T>(grace: Duration, work: impl AsyncFnOnce(Stopping) -> T) -> Result<T, Failure> {
    let runtime = new_runtime()?;
    let result = runtime.block_on(async {
        let stopping = Stopping::on_signals(grace).map_err(no_runtime)?;
        let overdue = async {
            let failure = stopping.out_of_time().await;
            tokio::time::sleep(LEAVING).await;
            failure
        };
        tokio::select! {
            value = work(stopping.clone()) => Ok(value),
            failure = overdue => Err(failure),
        }
    });
    runtime.shutdown_timeout(LEAVING);
    result
}

pub(super) fn new_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure { kind: ErrorKind::Bug, message: "the async runtime cannot start".to_owned(), cause: Some(Box::new(error)) }
}

/// Listens to signals on a runtime, for work that blocks and looks from time to time.
pub(super) fn stopping(runtime: &Runtime) -> Result<Stopping, Failure> {
    runtime.block_on(async { Stopping::on_signals(LEAVING) }).map_err(no_runtime)
}
