//! What the process holds × the memory limit → go on, slow down, or stop: the last resort, for memory that nobody accounted for.
//!
//! Asking is cheap and may be done often; the kernel is asked at most every few milliseconds.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tikv_jemalloc_ctl::{Access, AsName, arenas};
use tracing::warn;

use super::limits::resident_memory;
use crate::units::Bytes;

/// What to do about the memory in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// Nothing.
    None,
    /// Begin nothing that can wait.
    Slow,
    /// Stop, before the kernel ends the process.
    Stop,
}

/// Watches the memory of the process.
pub struct MemoryBrake {
    limit: Bytes,
    resident: Box<dyn Fn() -> Bytes + Send + Sync>,
    started: Instant,
    /// Milliseconds after the start at which the kernel was last asked; not yet if 0.
    asked_at: AtomicU64,
    last_resident: AtomicU64,
    was_told: AtomicBool,
}

/// From here on nothing new is begun, and freed pages go back to the system at once.
const SLOW_PERCENT: u64 = 70;
/// From here on the run stops. What is left is for what is computed until everybody has noticed: at 92 a day of a million label
/// sets with two workers reached 100, since tables that are full are copied into larger ones between two looks.
const STOP_PERCENT: u64 = 80;
/// Milliseconds between two questions: a core fills a few MiB in this time.
const INTERVAL_MILLISECONDS: u64 = 5;

impl MemoryBrake {
    /// Watches the memory of this process. Where the system does not tell it (all but Linux), there is never any pressure.
    pub fn new(limit: Bytes) -> Self {
        Self::with_probe(limit, || resident_memory().unwrap_or(Bytes(0)))
    }

    /// Watches whatever `resident` tells.
    pub fn with_probe(limit: Bytes, resident: impl Fn() -> Bytes + Send + Sync + 'static) -> Self {
        Self {
            limit,
            resident: Box::new(resident),
            started: Instant::now(),
            asked_at: AtomicU64::new(0),
            last_resident: AtomicU64::new(0),
            was_told: AtomicBool::new(false),
        }
    }

    /// What to do now.
    pub fn pressure(&self) -> Pressure {
        let resident = self.resident();
        let percent = |percent: u64| self.limit.0 / 100 * percent;
        if resident.0 < percent(SLOW_PERCENT) {
            return Pressure::None;
        }
        if !self.was_told.swap(true, Ordering::Relaxed) {
            warn!(%resident, limit = %self.limit, "memory is nearly used up; nothing is begun that can wait");
            return_freed_pages();
        }
        if resident.0 < percent(STOP_PERCENT) { Pressure::Slow } else { Pressure::Stop }
    }

    /// What the process holds, as far as that was asked lately.
    pub fn resident(&self) -> Bytes {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        let is_due = asked_at == 0 || now.saturating_sub(asked_at) >= INTERVAL_MILLISECONDS;
        let is_mine =
            is_due && self.asked_at.compare_exchange(asked_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_mine {
            self.last_resident.store((self.resident)().0, Ordering::Relaxed);
        }
        Bytes(self.last_resident.load(Ordering::Relaxed))
    }

    /// What the process may hold in all.
    pub fn limit(&self) -> Bytes {
        self.limit
    }
}

impl fmt::Debug for MemoryBrake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBrake").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The allocator keeps freed pages for a while, which is faster; near the limit they are needed more than speed.
fn return_freed_pages() {
    let arena_count = arenas::narenas::read().unwrap_or(0);
    for arena in 0..arena_count {
        for kind in ["dirty", "muzzy"] {
            // An arena that was never used refuses; it holds nothing.
            let _unused = Access::<isize>::write(format!("arena.{arena}.{kind}_decay_ms\0").name(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn pressure_follows_the_memory_in_use() {
        let used = Arc::new(AtomicU64::new(0));
        let probe = Arc::clone(&used);
        let brake = MemoryBrake::with_probe(Bytes(1_000), move || Bytes(probe.load(Ordering::Relaxed)));
        let mut found = Vec::new();
        for bytes in [0, 699, 700, 799, 800, 2_000, 100] {
            used.store(bytes, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(3 * INTERVAL_MILLISECONDS));
            found.push(brake.pressure());
        }
        use Pressure as P;
        assert_eq!(found, [P::None, P::None, P::Slow, P::Slow, P::Stop, P::Stop, P::None]);
    }

    #[test]
    fn the_kernel_is_asked_now_and_then_only() {
        let asked = Arc::new(AtomicU64::new(0));
        let probe = Arc::clone(&asked);
        let brake = MemoryBrake::with_probe(Bytes(1_000), move || Bytes(probe.fetch_add(1, Ordering::Relaxed)));
        let started = Instant::now();
        for _ in 0..100_000 {
            brake.pressure();
        }
        let most = started.elapsed().as_millis() / u128::from(INTERVAL_MILLISECONDS) + 2;
        let asked = u128::from(asked.load(Ordering::Relaxed));
        assert!((1..=most).contains(&asked), "{asked} of {most}");
    }
}
