//! Signs of life of a run → whether it is ready, and whether it still moves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Health of one run.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds after the start at which something last moved.
    last_move: AtomicU64,
    /// Milliseconds without any move after which the run counts as stuck.
    patience: AtomicU64,
    is_ready: AtomicBool,
    is_over: AtomicBool,
}

/// Until somebody knows the timeouts of the configuration: its defaults make a quarter of an hour.
const FIRST_PATIENCE: Duration = Duration::from_secs(900);

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Of a run that begins now.
    pub fn new() -> Self {
        let this = Self {
            started: Instant::now(),
            last_move: AtomicU64::new(0),
            patience: AtomicU64::new(0),
            is_ready: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        };
        this.set_patience(FIRST_PATIENCE);
        this
    }

    /// How long nothing may move.
    pub fn set_patience(&self, patience: Duration) {
        self.patience.store(milliseconds(patience), Ordering::Relaxed);
    }

    /// Something moved: a stage began, a chunk arrived or was summed, rows were encoded, a day was written.
    pub fn moved(&self) {
        self.last_move.store(milliseconds(self.started.elapsed()), Ordering::Relaxed);
    }

    /// What would stop the run at its beginning was looked at, and nothing does.
    pub fn ready(&self) {
        self.moved();
        self.is_ready.store(true, Ordering::Relaxed);
    }

    /// The run ends or is told to stop: nothing more is begun.
    pub fn stopping(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether the run passed its first look and goes on.
    pub fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed) && !self.is_over.load(Ordering::Relaxed)
    }

    /// Whether the run moves; one that has nothing left to do is not stuck.
    pub fn is_alive(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.stillness() < Duration::from_millis(self.patience())
    }

    /// Time since something last moved.
    pub fn stillness(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_move.load(Ordering::Relaxed)))
    }

    fn patience(&self) -> u64 {
        self.patience.load(Ordering::Relaxed)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_ready_between_its_first_look_and_its_end() {
        let health = Health::new();
        assert_eq!((health.is_ready(), health.is_alive()), (false, true));
        health.ready();
        assert_eq!((health.is_ready(), health.is_alive()), (true, true));
        health.stopping();
        assert_eq!((health.is_ready(), health.is_alive()), (false, true));
    }

    #[test]
    fn a_run_that_does_not_move_is_not_alive_until_it_moves_or_ends() {
        let health = Health::new();
        health.set_patience(Duration::from_millis(40));
        std::thread::sleep(Duration::from_millis(60));
        assert!(!health.is_alive());
        health.moved();
        assert!(health.is_alive());
        std::thread::sleep(Duration::from_millis(60));
        assert!(!health.is_alive());
        health.stopping();
        assert!(health.is_alive());
    }
}
