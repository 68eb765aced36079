//! SIGTERM and SIGINT → the failure that a stopped command ends with.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{ErrorKind, Failure};

/// Ends when the process is told to stop; from now on signals do nothing else. Needs a runtime.
pub fn stop_signal() -> io::Result<impl Future<Output = Failure>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = |name: &str| Failure::new(ErrorKind::Interrupted, format!("stopped by {name}"));
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => stopped("SIGTERM"),
            _ = interrupt.recv() => stopped("SIGINT"),
        }
    })
}
