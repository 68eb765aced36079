//! Closures → results computed on one rayon pool; a panic inside becomes an error. The only user of rayon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::sync::oneshot;

use crate::error::{ErrorKind, Failure};

/// The pool. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub struct CpuPool {
    pool: Arc<rayon::ThreadPool>,
}

impl CpuPool {
    /// Starts a pool of `worker_count` threads, at least one.
    /// Errors: the operating system refuses threads.
    pub fn new(worker_count: usize) -> Result<Self, Failure> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(worker_count.max(1))
            .thread_name(|worker| format!("cpu-{worker}"))
            .build()
            .map_err(|error| Failure {
                kind: ErrorKind::Config,
                message: format!("cannot start {worker_count} worker threads"),
                cause: Some(Box::new(error)),
            })?;
        Ok(Self { pool: Arc::new(pool) })
    }

    /// Number of workers; each call's worker number is below it.
    pub fn worker_count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs a computation on the pool and waits without blocking the caller's thread.
    /// Errors: the computation's own, or a panic inside it: of `panic_kind`, reported with `what`. Dropping the future does not stop a
    /// computation that has begun; one that has not begun is skipped.
    pub async fn run<T, F>(
        &self,
        what: impl FnOnce() -> String,
        panic_kind: ErrorKind,
        computation: F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(usize) -> Result<T, Failure> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        // Log lines of the computation name the run and the day as those of its caller do.
        let span = tracing::Span::current();
        self.pool.spawn_fifo(move || {
            if sender.is_closed() {
                return;
            }
            let worker = rayon::current_thread_index().unwrap_or(0);
            // The computation owns what it works on or guards it by a lock that ignores poison; a day that saw a panic is
            // given up as a whole.
            let result = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| computation(worker))));
            // The receiver is gone if the run was stopped meanwhile.
            let _nobody_waits = sender.send(result);
        });
        match receiver.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                let message = format!("{}: the computation panicked: {}", what(), panic_text(panic.as_ref()));
                Err(Failure::new(panic_kind, message))
            }
            Err(_) => Err(Failure::new(ErrorKind::Bug, format!("{}: the computation was dropped", what()))),
        }
    }
}

/// Computes so many pieces of a computation on the pool, those that an idle worker can take there; the results are in the order
/// of the pieces. The caller may hold no lock: while it waits for others, its worker may begin what waits in the pool.
pub fn in_pieces<T: Send>(piece_count: usize, compute: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    (0..piece_count).into_par_iter().map(compute).collect()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_that_names_its_place() {
        let pool = CpuPool::new(2).unwrap();
        let result: Result<(), Failure> = pool
            .run(
                || "object `x`, row group 3".to_owned(),
                ErrorKind::ObjectUnreadable,
                |_| panic!("index out of bounds"),
            )
            .await;
        let failure = result.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::ObjectUnreadable);
        assert_eq!(failure.message, "object `x`, row group 3: the computation panicked: index out of bounds");
        let after = pool.run(String::new, ErrorKind::Bug, |worker| Ok(worker < 2)).await;
        assert!(after.unwrap());
    }

    #[tokio::test]
    async fn pieces_come_back_in_order_from_the_pool_and_show_their_panic() {
        let pool = CpuPool::new(2).unwrap();
        let computation = |_| Ok(in_pieces(1_000, |piece| (piece, rayon::current_thread_index().is_some())));
        let pieces = pool.run(String::new, ErrorKind::Bug, computation).await.unwrap();
        assert!(pieces.iter().enumerate().all(|(position, piece)| *piece == (position, true)));
        let computation = |_| Ok(in_pieces(10, |piece| assert!(piece < 5, "piece {piece}")));
        let failure = pool.run(|| "pieces".to_owned(), ErrorKind::Bug, computation).await.unwrap_err();
        assert!(failure.message.starts_with("pieces: the computation panicked: piece "), "{}", failure.message);
    }
}
