//! How often and how long something may be tried again → the pauses between its attempts. One type, with one instance for
//! the storage and one for PostgreSQL; which failures are worth another attempt is the errors' own knowledge.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use uuid::Uuid;

/// Bounds of repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first one.
    pub retries: usize,
    /// Time for all attempts and the pauses between them: no further attempt begins after it.
    pub total: Duration,
    /// About the pause before the first repetition; each further one is twice as long.
    pub first_pause: Duration,
    /// About the longest pause.
    pub longest_pause: Duration,
}

impl RetryPolicy {
    /// The attempts of one piece of work.
    pub fn begin(&self) -> Attempts {
        // Several pods that lose the same server must not come back in step.
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        let pauses = ExponentialBuilder::default()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause)
            .with_factor(2.0)
            .with_max_times(self.retries)
            .with_jitter()
            .with_jitter_seed(seed);
        Attempts { pauses: pauses.build(), left: self.total }
    }
}

/// What is left of the attempts of one piece of work.
#[derive(Debug)]
pub struct Attempts {
    pauses: ExponentialBackoff,
    left: Duration,
}

impl Attempts {
    /// Time that is left; only what is told to `pause_after` counts.
    pub fn time_left(&self) -> Duration {
        self.left
    }

    /// The pause after an attempt that took so long and failed; `None` if there is no further one.
    pub fn pause_after(&mut self, attempt: Duration) -> Option<Duration> {
        let pause = self.pauses.next()?;
        self.left = self.left.saturating_sub(attempt).saturating_sub(pause);
        (!self.left.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        retries: 4,
        total: Duration::from_secs(100),
        first_pause: Duration::from_millis(100),
        longest_pause: Duration::from_millis(400),
    };

    #[test]
    fn attempts_are_bounded_by_their_number() {
        let mut attempts = POLICY.begin();
        let pauses: Vec<Duration> = std::iter::from_fn(|| attempts.pause_after(Duration::ZERO)).collect();
        assert_eq!(pauses.len(), 4);
        let rises = [100, 200, 400, 400];
        for (pause, least) in pauses.iter().zip(rises) {
            let least = Duration::from_millis(least);
            assert!(*pause >= least && *pause <= 2 * least, "{pauses:?}");
        }
        assert_eq!(RetryPolicy { retries: 0, ..POLICY }.begin().pause_after(Duration::ZERO), None);
    }

    #[test]
    fn attempts_are_bounded_by_their_time() {
        let mut attempts = POLICY.begin();
        assert!(attempts.pause_after(Duration::from_secs(60)).is_some());
        assert!(attempts.time_left() < Duration::from_secs(40));
        assert_eq!(attempts.pause_after(Duration::from_secs(60)), None);
    }

    #[test]
    fn two_that_fail_together_do_not_come_back_together() {
        let first = |_| POLICY.begin().pause_after(Duration::ZERO);
        let pauses: std::collections::BTreeSet<_> = (0..20).map(first).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}
