//! SIGTERM and SIGINT → the wish to stop, then the end of the grace period; a second signal ends the process at once.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{ErrorKind, Failure};

/// Whether the run was told to stop, and whether it may still finish what it is writing. Clones hear the same. The default
/// is never told.
#[derive(Debug, Clone, Default)]
pub struct Stopping {
    phase: Option<watch::Receiver<Phase>>,
}

/// Tells all clones of one `Stopping`.
#[derive(Debug)]
pub struct Stopper {
    phase: watch::Sender<Phase>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Asked(&'static str),
    OutOfTime(&'static str),
}

impl Stopping {
    /// One that is told by a `Stopper`.
    pub fn by_hand() -> (Stopper, Self) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Stopper { phase: sender }, Self { phase: Some(receiver) })
    }

    /// Listens to SIGTERM and SIGINT from now on. Needs a runtime.
    pub fn on_signals(grace: Duration) -> io::Result<Self> {
        let (stopper, stopping) = Self::by_hand();
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            let name = signals.next().await;
            stopper.ask(name);
            tokio::select! {
                () = tokio::time::sleep(grace) => stopper.end_grace(name),
                _ = signals.next() => leave_at_once(),
            }
            signals.next().await;
            leave_at_once();
        });
        Ok(stopping)
    }

    /// The failure of work that was told to stop; `None` while it was not.
    pub fn told(&self) -> Option<Failure> {
        match *self.phase.as_ref()?.borrow() {
            Phase::Running => None,
            Phase::Asked(name) | Phase::OutOfTime(name) => Some(not_half_written(stopped_by(name))),
        }
    }

    /// Ends when the run is told to stop.
    pub async fn asked(&self) -> Failure {
        not_half_written(stopped_by(self.reached(|phase| phase != Phase::Running).await))
    }

    /// Ends when even what is being written has no time left.
    pub async fn out_of_time(&self) -> Failure {
        not_half_written(stopped_by(self.reached(|phase| matches!(phase, Phase::OutOfTime(_))).await))
    }

    /// Work that may be dropped anywhere, unless the run is told to stop.
    pub async fn unless_asked<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            failure = self.asked() => Err(failure),
            result = work => result,
        }
    }

    async fn reached(&self, wanted: impl Fn(Phase) -> bool) -> &'static str {
        let Some(mut phase) = self.phase.clone() else { return std::future::pending().await };
        // Without anybody who could tell, nobody will.
        let Ok(phase) = phase.wait_for(|phase| wanted(*phase)).await.map(|phase| *phase) else {
            return std::future::pending().await;
        };
        match phase {
            Phase::Asked(name) | Phase::OutOfTime(name) => name,
            Phase::Running => "nobody",
        }
    }
}

impl Stopper {
    /// Nothing new is to begin.
    pub fn ask(&self, name: &'static str) {
        self.phase.send_replace(Phase::Asked(name));
    }

    /// What is under way is to end now.
    pub fn end_grace(&self, name: &'static str) {
        self.phase.send_replace(Phase::OutOfTime(name));
    }
}

/// Ends when the process is told to stop; the second signal then ends the process. Needs a runtime.
pub fn stop_signal() -> io::Result<impl Future<Output = Failure>> {
    let mut signals = Signals::new()?;
    Ok(async move {
        let failure = stopped_by(signals.next().await);
        tokio::spawn(async move {
            signals.next().await;
            leave_at_once();
        });
        failure
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn stopped_by(name: &str) -> Failure {
    Failure::new(ErrorKind::Interrupted, format!("stopped by {name}"))
}

/// What a command that rolls back says when it is stopped.
pub fn not_half_written(failure: Failure) -> Failure {
    Failure { message: failure.message + "; nothing is half-written", ..failure }
}

/// Whoever asks twice wants no waiting. What was not committed is rolled back by the server.
fn leave_at_once() {
    std::process::exit(i32::from(ErrorKind::Interrupted.exit_code()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_may_be_dropped_ends_when_asked_and_the_rest_when_out_of_time() {
        let (stopper, stopping) = Stopping::by_hand();
        assert!(stopping.told().is_none());
        assert_eq!(stopping.unless_asked(async { Ok(7) }).await.unwrap(), 7);
        let waiting = stopping.clone();
        let waiting = tokio::spawn(async move { waiting.unless_asked(std::future::pending::<Result<(), _>>()).await });
        stopper.ask("SIGTERM");
        let failure = waiting.await.unwrap().unwrap_err();
        assert_eq!(
            (failure.kind, failure.message.as_str()),
            (ErrorKind::Interrupted, "stopped by SIGTERM; nothing is half-written")
        );
        let out_of_time = stopping.clone();
        let out_of_time = tokio::spawn(async move { out_of_time.out_of_time().await });
        tokio::task::yield_now().await;
        assert!(!out_of_time.is_finished() && stopping.told().is_some());
        stopper.end_grace("SIGTERM");
        assert_eq!(out_of_time.await.unwrap().kind, ErrorKind::Interrupted);
    }

    #[tokio::test]
    async fn the_default_is_never_told() {
        let stopping = Stopping::default();
        assert!(stopping.told().is_none());
        let waited = tokio::time::timeout(Duration::from_millis(10), stopping.asked()).await;
        assert!(waited.is_err());
    }
}
