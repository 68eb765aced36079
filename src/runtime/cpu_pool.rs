//! Closures → results computed on one rayon pool; a panic inside becomes an error. The only user of rayon.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use tokio::sync::oneshot;

use crate::error::{ErrorKind, Failure};

/// The pool. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub struct CpuPool {
    pool: Arc<rayon::ThreadPool>,
    queue: Arc<Queue>,
}

/// What computations add to in common: of which pass, and its number there.
pub type LaneKey = (&'static str, i32);

/// With so many computations of busy lanes waiting, several workers add to the same thing.
const BACKLOG: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Computations that wait for a worker.
#[derive(Default)]
struct Queue(Mutex<Jobs>);

#[derive(Default)]
struct Jobs {
    /// Those that come before all others, in order of arrival.
    first: VecDeque<Job>,
    /// Those that add to something in common, in order of arrival, each with the key of its lane.
    waiting: VecDeque<Waiting>,
    /// Keys of those under way.
    busy: Vec<LaneKey>,
    /// How often a worker left those that wait to the ones that are busy with their lanes: whoever is done next looks again.
    left: usize,
}

struct Waiting {
    lane: LaneKey,
    /// Whether several workers have added to it before.
    is_split: bool,
    job: Job,
}

impl Jobs {
    /// The next computation, and its lane if it is of one: of those that come before all others; else the first whose lane no other
    /// worker is busy with. A lane is split only for good reason, since what several workers have added to takes more memory, and
    /// time for being put together.
    fn take(&mut self) -> Option<(Option<LaneKey>, Job)> {
        if let Some(job) = self.first.pop_front() {
            return Some((None, job));
        }
        let Self { waiting, busy, .. } = self;
        let free = waiting.iter().position(|waiting| !busy.contains(&waiting.lane));
        let split = || waiting.iter().position(|waiting| waiting.is_split);
        let backlog = || (waiting.len() >= BACKLOG).then_some(0);
        let Some(position) = free.or_else(split).or_else(backlog) else {
            self.left += 1;
            return None;
        };
        let Waiting { lane, job, .. } = waiting.remove(position)?;
        busy.push(lane);
        Some((Some(lane), job))
    }

    /// Notes that a computation is done; answers whether the worker has to look for another one.
    fn done(&mut self, lane: Option<LaneKey>) -> bool {
        if let Some(position) = lane.and_then(|lane| self.busy.iter().position(|busy| *busy == lane)) {
            self.busy.swap_remove(position);
        }
        let has_left = self.left > 0;
        self.left -= usize::from(has_left);
        has_left
    }
}

impl Queue {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one that waits, unless it is left to a worker that is busy with its lane. Answers whether somebody has to look again.
    fn run_one(&self) -> bool {
        let next = self.jobs().take();
        let Some((lane, job)) = next else { return false };
        job();
        self.jobs().done(lane)
    }

    /// The same on a worker, which looks again as a task of its own: what waits for this one to end need not wait for the next.
    fn run_one_on_worker(self: Arc<Self>) {
        if self.run_one() {
            rayon::spawn_fifo(move || self.run_one_on_worker());
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
        Ok(Self { pool: Arc::new(pool), queue: Arc::default() })
    }

    /// Number of workers; each computation's worker number is below it.
    pub fn worker_count(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs a computation on the pool before those in lanes that have not begun, since what ends something gives memory back, and
    /// waits without blocking the caller's thread.
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
        self.queue.jobs().first.push_back(Box::new(job));
        self.run_one_later();
        awaited(result, what, panic_kind).await
    }

    /// The same for computations that add to something in common, which `lane` stands for: a free worker prefers one of a lane
    /// that no other worker is busy with, so that each lane is mostly served by one worker at a time. Beside the lane: whether several
    /// workers have added to it before.
    pub async fn run_in_lane<T, F>(
        &self,
        (lane, is_split): (LaneKey, bool),
        what: impl FnOnce() -> String,
        panic_kind: ErrorKind,
        computation: F,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(usize) -> Result<T, Failure> + Send + 'static,
    {
        let (job, result) = job(computation);
        self.queue.jobs().waiting.push_back(Waiting { lane, is_split, job: Box::new(job) });
        self.run_one_later();
        awaited(result, what, panic_kind).await
    }

    /// To be called once for each job that waits; which of them it runs is decided when its turn has come.
    fn run_one_later(&self) {
        let queue = Arc::clone(&self.queue);
        self.pool.spawn_fifo(move || queue.run_one_on_worker());
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

    /// A queue whose jobs note their names; each may let other workers look for work while it runs.
    struct Noted {
        queue: Arc<Queue>,
        order: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Jobs {
        fn is_idle(&self) -> bool {
            self.left == 0 && self.busy.is_empty() && self.waiting.is_empty() && self.first.is_empty()
        }
    }

    impl Noted {
        fn new() -> Self {
            Self { queue: Arc::default(), order: Arc::default() }
        }

        fn job(&self, name: &'static str, others: usize) -> Job {
            let (queue, order) = (Arc::clone(&self.queue), Arc::clone(&self.order));
            Box::new(move || {
                order.lock().unwrap().push(name);
                (0..others).for_each(|_| assert!(!queue.run_one()));
                order.lock().unwrap().push("end");
            })
        }

        fn add(&self, number: i32, name: &'static str, others: usize, is_split: bool) {
            let job = self.job(name, others);
            self.queue.jobs().waiting.push_back(Waiting { lane: ("days", number), is_split, job });
        }

        fn take_order(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.order.lock().unwrap())
        }
    }

    #[test]
    fn a_free_worker_prefers_a_lane_that_nobody_is_busy_with() {
        let noted = Noted::new();
        noted.add(1, "a", 1, false);
        noted.add(1, "b", 0, false);
        noted.add(2, "c", 0, false);
        assert!(!noted.queue.run_one());
        assert_eq!(noted.take_order(), ["a", "c", "end", "end"]);
        noted.add(2, "d", 0, false);
        (0..2).for_each(|_| assert!(!noted.queue.run_one()));
        assert_eq!(noted.take_order(), ["b", "end", "d", "end"], "in order of arrival if no lane is busy");
        noted.add(1, "e", 0, false);
        noted.queue.jobs().first.push_back(noted.job("f", 0));
        (0..2).for_each(|_| assert!(!noted.queue.run_one()));
        assert_eq!(noted.take_order(), ["f", "end", "e", "end"], "what comes first");
    }

    #[test]
    fn a_lane_is_split_for_a_backlog_and_where_it_is_split_already() {
        let noted = Noted::new();
        noted.add(1, "a", 1, false);
        noted.add(1, "b", 0, false);
        assert!(noted.queue.run_one(), "somebody has to look again");
        assert!(!noted.queue.run_one());
        assert_eq!(
            noted.take_order(),
            ["a", "end", "b", "end"],
            "one is left to the worker that is busy with the lane"
        );
        assert!(noted.queue.jobs().is_idle());

        noted.add(1, "c", 1, false);
        noted.add(1, "d", 0, false);
        noted.add(1, "e", 0, false);
        (0..2).for_each(|_| assert!(!noted.queue.run_one()));
        assert_eq!(noted.take_order(), ["c", "d", "end", "end", "e", "end"], "two are a backlog");

        noted.add(1, "f", 1, true);
        noted.add(1, "g", 0, true);
        assert!(!noted.queue.run_one());
        assert_eq!(noted.take_order(), ["f", "g", "end", "end"], "nothing is gained by waiting");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_computation_runs_however_the_lanes_mix() {
        for worker_count in 1..5 {
            let pool = CpuPool::new(worker_count).unwrap();
            let running = (0..2_000).map(|number| {
                let pool = pool.clone();
                async move {
                    let computation = move |_| Ok(number);
                    if number % 17 == 0 {
                        return pool.run(String::new, ErrorKind::Bug, computation).await;
                    }
                    let lane = ("days", number % 3);
                    pool.run_in_lane((lane, number % 5 == 0), String::new, ErrorKind::Bug, computation).await
                }
            });
            let results = futures::future::join_all(running).await;
            assert!(results.into_iter().enumerate().all(|(at, result)| result.unwrap() == i32::try_from(at).unwrap()));
            // A worker puts its books in order after it has given the result.
            while !pool.queue.jobs().is_idle() {
                tokio::task::yield_now().await;
            }
        }
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
