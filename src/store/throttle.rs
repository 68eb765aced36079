//! Requests under way → as many as are allowed now: fewer after the server asked to slow down, one more after a round of
//! answers without complaint (additive increase, multiplicative decrease), never fewer than one.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::info;

/// Bounds the requests under way.
#[derive(Debug)]
pub(super) struct Throttle {
    permits: Semaphore,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that may be under way now.
    limit: usize,
    /// Permits in use that vanish when they come back.
    surplus: usize,
    /// Good answers since the limit last changed.
    good_answers: usize,
    lowered_at: Option<Instant>,
}

/// The right to have one request under way.
pub(super) struct Slot<'a> {
    throttle: &'a Throttle,
    permit: Option<SemaphorePermit<'a>>,
    began: Instant,
}

impl Throttle {
    pub(super) fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        let state = State { limit: most, surplus: 0, good_answers: 0, lowered_at: None };
        Self { permits: Semaphore::new(most), most, state: Mutex::new(state) }
    }

    /// The most requests that may ever be under way.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Requests that may be under way now.
    pub(super) fn limit(&self) -> usize {
        self.locked().limit
    }

    /// Waits for a slot.
    pub(super) async fn start(&self) -> Slot<'_> {
        let permit = self.permits.acquire().await.expect("the semaphore of a store is never closed");
        Slot { throttle: self, permit: Some(permit), began: Instant::now() }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change of the state is a few additions, so it is whole even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// The server answered without complaint.
    pub(super) fn went_well(&self) {
        let mut state = self.throttle.locked();
        if state.limit == self.throttle.most {
            return;
        }
        state.good_answers += 1;
        if state.good_answers < state.limit {
            return;
        }
        state.good_answers = 0;
        state.limit += 1;
        if state.surplus > 0 {
            state.surplus -= 1;
        } else {
            self.throttle.permits.add_permits(1);
        }
    }

    /// The server asked to slow down. Complaints about requests that began before the limit was last lowered tell nothing
    /// new: one burst halves it once.
    pub(super) fn was_too_much(&self) {
        let mut state = self.throttle.locked();
        if state.lowered_at.is_some_and(|at| self.began <= at) {
            return;
        }
        state.lowered_at = Some(Instant::now());
        state.good_answers = 0;
        let lower = (state.limit / 2).max(1);
        let fewer = state.limit - lower;
        state.limit = lower;
        let gone = self.throttle.permits.forget_permits(fewer);
        state.surplus += fewer - gone;
        if fewer > 0 {
            info!(concurrent_requests = lower, "the storage asks to slow down");
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.locked();
        let Some(permit) = self.permit.take() else { return };
        if state.surplus > 0 {
            state.surplus -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn complain(throttle: &Throttle) {
        throttle.start().await.was_too_much();
    }

    #[tokio::test]
    async fn complaints_halve_and_good_answers_add_one() {
        let throttle = Throttle::new(16);
        let mut limits = Vec::new();
        for _ in 0..6 {
            complain(&throttle).await;
            limits.push(throttle.limit());
        }
        assert_eq!(limits, [8, 4, 2, 1, 1, 1], "never below one");
        for expected in [2, 3, 4] {
            for _ in 0..throttle.limit() {
                throttle.start().await.went_well();
            }
            assert_eq!(throttle.limit(), expected);
        }
        for _ in 0..1_000 {
            throttle.start().await.went_well();
        }
        assert_eq!(throttle.limit(), 16, "recovered, and no more than configured");
        assert_eq!(throttle.permits.available_permits(), 16);
    }

    #[tokio::test]
    async fn one_burst_of_complaints_counts_once() {
        let throttle = Throttle::new(8);
        let mut slots = Vec::new();
        for _ in 0..8 {
            slots.push(throttle.start().await);
        }
        slots.iter().for_each(Slot::was_too_much);
        assert_eq!(throttle.limit(), 4);
        assert_eq!(throttle.permits.available_permits(), 0);
        slots.truncate(4);
        assert_eq!(throttle.permits.available_permits(), 0, "four of them were too many");
        drop(slots);
        assert_eq!(throttle.permits.available_permits(), 4);
    }
}
