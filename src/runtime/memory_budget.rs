//! Bytes wanted → a permit that holds them until it is dropped, given in order of arrival.
//!
//! This bounds the chunks in flight. The state of open days never waits for memory, since whoever adds to it holds chunks
//! already; its limit is in the pipeline's books (`run::schedule`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::units::Bytes;

/// One unit of the semaphore; its count is 32 bits wide, so bytes would end at 4 GiB.
const UNIT_BYTES: u64 = 1024;

/// Bounds the bytes of chunks in flight. Clones share the bound.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    semaphore: Arc<Semaphore>,
    total_units: u32,
    gauge: Arc<Gauge>,
}

impl MemoryBudget {
    /// A budget of so many bytes, rounded up to whole KiB; at least one KiB, at most 4 TiB.
    pub fn new(total: Bytes) -> Self {
        let largest = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let total_units = units(total).clamp(1, largest);
        Self {
            semaphore: Arc::new(Semaphore::new(total_units as usize)),
            total_units,
            gauge: Arc::new(Gauge::default()),
        }
    }

    /// Waits, in order of arrival, until so many bytes are free. A request larger than the whole budget is cut down to
    /// it, so that it runs alone instead of never.
    pub async fn acquire(&self, bytes: Bytes) -> Permit {
        let wanted = units(bytes).min(self.total_units);
        let permit = Arc::clone(&self.semaphore).acquire_many_owned(wanted).await;
        let permit = permit.expect("the semaphore of a budget is never closed");
        let held = Bytes(u64::from(wanted) * UNIT_BYTES);
        self.gauge.add(held);
        Permit { held, gauge: Arc::clone(&self.gauge), permit }
    }

    /// The whole budget.
    pub fn total(&self) -> Bytes {
        Bytes(u64::from(self.total_units) * UNIT_BYTES)
    }

    /// Bytes of permits that are held now.
    pub fn in_flight(&self) -> Bytes {
        Bytes(self.gauge.now.load(Ordering::Relaxed))
    }

    /// The most bytes that were held at once.
    pub fn peak(&self) -> Bytes {
        Bytes(self.gauge.peak.load(Ordering::Relaxed))
    }
}

/// The right to hold some bytes; dropping it gives them back.
#[derive(Debug)]
pub struct Permit {
    held: Bytes,
    gauge: Arc<Gauge>,
    permit: OwnedSemaphorePermit,
}

impl Permit {
    /// How many bytes this permit stands for.
    pub fn bytes(&self) -> Bytes {
        self.held
    }

    /// Stands for so many bytes from now on, if it stood for fewer: what is free is taken at once, and nothing is waited for. Whoever
    /// holds a permit may be waited for itself, so that two of them could wait for each other.
    pub fn grow(&mut self, bytes: Bytes) {
        let missing = units(bytes).saturating_sub(u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX));
        let semaphore = Arc::clone(self.permit.semaphore());
        let free = u32::try_from(semaphore.available_permits()).unwrap_or(u32::MAX);
        // Another one may have been quicker; then others wait no longer than they would have.
        if let Ok(more) = semaphore.try_acquire_many_owned(missing.min(free)) {
            let held = Bytes(more.num_permits() as u64 * UNIT_BYTES);
            self.gauge.add(held);
            self.held = self.held + held;
            self.permit.merge(more);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Runs before the semaphore gets its units back, so the gauge never shows more than the budget.
        self.gauge.sub(self.held);
    }
}

#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    fn add(&self, bytes: Bytes) {
        let before = self.now.fetch_add(bytes.0, Ordering::Relaxed);
        self.peak.fetch_max(before.saturating_add(bytes.0), Ordering::Relaxed);
    }

    fn sub(&self, bytes: Bytes) {
        let give_back = |now: u64| Some(now.saturating_sub(bytes.0));
        // The closure always answers, so the update cannot fail.
        let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
    }
}

fn units(bytes: Bytes) -> u32 {
    u32::try_from(bytes.0.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
