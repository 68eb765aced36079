//! Closures → results computed on one rayon pool; a panic inside becomes an error. The only user of rayon.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::sync::oneshot;

use crate::error::{ErrorKind, Failure};

/// The pool. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub struct CpuPool {
    pool: Arc<rayon::ThreadPool>,
    lanes: Arc<Lanes>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Computations that add to something in common.
#[derive(Default)]
struct Lanes(Mutex<LaneJobs>);

#[derive(Default)]
struct LaneJobs {
    /// In order of arrival, each with the key of its lane.
    waiting: VecDeque<(i32, Job)>,
    /// Keys of those under way.
    busy: Vec<i32>,
}

impl Lanes {
    fn add(&self, key: i32, job: Job) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting.push_back((key, job));
    }

    /// Runs one that waits: the first whose key no other worker is busy with, else the first.
    fn run_one(&self) {
        let next = {
            let LaneJobs { waiting, busy } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let free = waiting.iter().position(|(key, _)| !busy.contains(key));
            let next = waiting.remove(free.unwrap_or(0));
            busy.extend(next.iter().map(|(key, _)| *key));
            next
        };
        let Some((key, job)) = next else { return };
        job();
        let LaneJobs { busy, .. } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = busy.iter().position(|other| *other == key) {
            busy.swap_remove(position);
        }
    }
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
        Ok(Self { pool: Arc::new(pool), lanes: Arc::default() })
    }

    /// Number of workers; each computation's worker number is below it.
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
        let (job, result) = job(computation);
        self.pool.spawn_fifo(job);
        awaited(result, what, panic_kind).await
    }

    /// The same for computations that add to something in common, which `lane` stands for: a free worker prefers one of a lane
    /// that no other worker is busy with, so that each lane is mostly served by one worker at a time.
    pub async fn run_in_lane<T, F>(
        &self,
        lane: i32,
        what: impl FnOnce() -> String,
        panic_kind: ErrorKind,
        computation: F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(usize) -> Result<T, Failure> + Send + 'static,
    {
        let (job, result) = job(computation);
        self.lanes.add(lane, Box::new(job));
        let lanes = Arc::clone(&self.lanes);
        // One call for each job that waits; which of them it runs is decided when its turn has come.
        self.pool.spawn_fifo(move || lanes.run_one());
        awaited(result, what, panic_kind).await
    }
}

type Computed<T> = Result<Result<T, Failure>, Box<dyn std::any::Any + Send>>;

/// A computation as a job that catches its panic, and where its result arrives.
fn job<T, F>(computation: F) -> (impl FnOnce() + Send + 'static, oneshot::Receiver<Computed<T>>)
where
    T: Send + 'static,
    F: FnOnce(usize) -> Result<T, Failure> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    // Log lines of the computation name the run and the day as those of its caller do.
    let span = tracing::Span::current();
    let job = move || {
        if sender.is_closed() {
            return;
        }
        // The computation owns what it works on or guards it by a lock that ignores poison; a day that saw a panic is
        // given up as a whole.
        let worker = rayon::current_thread_index().unwrap_or(0);
        let result = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| computation(worker))));
        // The receiver is gone if the run was stopped meanwhile.
        let _nobody_waits = sender.send(result);
    };
    (job, receiver)
}

async fn awaited<T>(
    result: oneshot::Receiver<Computed<T>>,
    what: impl FnOnce() -> String,
    panic_kind: ErrorKind,
) -> Result<T, Failure> {
    match result.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            let message = format!("{}: the computation panicked: {}", what(), panic_text(panic.as_ref()));
            Err(Failure::new(panic_kind, message))
        }
        Err(_) => Err(Failure::new(ErrorKind::Bug, format!("{}: the computation was dropped", what()))),
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

    #[test]
    fn a_free_worker_prefers_a_lane_that_nobody_is_busy_with() {
        let lanes = Arc::new(Lanes::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let add = |lane: i32, name: &'static str, meanwhile: usize| {
            let (all, order) = (Arc::clone(&lanes), Arc::clone(&order));
            lanes.add(
                lane,
                Box::new(move || {
                    order.lock().unwrap().push(name);
                    // What other workers do while this one is busy.
                    (0..meanwhile).for_each(|_| all.run_one());
                }),
            );
        };
        add(1, "a", 2);
        add(1, "b", 0);
        add(2, "c", 0);
        lanes.run_one();
        assert_eq!(*order.lock().unwrap(), ["a", "c", "b"], "the busy lane only if nothing else waits");
        add(1, "d", 0);
        add(2, "e", 0);
        (0..3).for_each(|_| lanes.run_one());
        assert_eq!(order.lock().unwrap()[3..], ["d", "e"], "in order of arrival if no lane is busy");
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
