//! Bytes wanted → a permit that holds them until it is dropped; bytes of open days → an account with a limit.
//!
//! Two parts, because they are waited for differently. Chunks in flight wait for each other in order of arrival. The state
//! of open days never waits: whoever adds to it holds chunks already, so waiting could stop everything; it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ErrorKind;
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
        Permit { held, gauge: Arc::clone(&self.gauge), _permit: permit }
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
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    /// How many bytes this permit stands for.
    pub fn bytes(&self) -> Bytes {
        self.held
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Runs before the semaphore gets its units back, so the gauge never shows more than the budget.
        self.gauge.sub(self.held);
    }
}

/// The state of open days does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the open days need {needs}, the limit is {limit}")]
pub struct StateTooLarge {
    /// What would have been held with the addition.
    pub needs: Bytes,
    /// What may be held.
    pub limit: Bytes,
}

crate::impl_failure!(StateTooLarge);

impl StateTooLarge {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::MemoryBudget
    }
}

/// Counts the bytes of the state of open days against a limit. Never waits. Clones share the count.
#[derive(Debug, Clone)]
pub struct StateAccount {
    limit: Bytes,
    gauge: Arc<Gauge>,
}

impl StateAccount {
    /// An empty account.
    pub fn new(limit: Bytes) -> Self {
        Self { limit, gauge: Arc::new(Gauge::default()) }
    }

    /// Adds bytes, or leaves the account as it is and says how much would have been needed.
    pub fn add(&self, bytes: Bytes) -> Result<(), StateTooLarge> {
        let limit = self.limit;
        let add = |now: u64| now.checked_add(bytes.0).filter(|sum| *sum <= limit.0);
        match self.gauge.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(before) => {
                self.gauge.peak.fetch_max(before + bytes.0, Ordering::Relaxed);
                Ok(())
            }
            Err(now) => Err(StateTooLarge { needs: Bytes(now) + bytes, limit }),
        }
    }

    /// Gives bytes back; giving back more than there is leaves zero.
    pub fn sub(&self, bytes: Bytes) {
        self.gauge.sub(bytes);
    }

    /// An empty share of this account that gives back what it holds when it is dropped.
    pub fn share(&self) -> StateShare {
        StateShare { account: self.clone(), held: Bytes(0) }
    }

    /// What may be held.
    pub fn limit(&self) -> Bytes {
        self.limit
    }

    /// What is held now.
    pub fn in_use(&self) -> Bytes {
        Bytes(self.gauge.now.load(Ordering::Relaxed))
    }

    /// The most that was held at once.
    pub fn peak(&self) -> Bytes {
        Bytes(self.gauge.peak.load(Ordering::Relaxed))
    }
}

/// What one holder, for instance one open day, has on a [`StateAccount`].
#[derive(Debug)]
pub struct StateShare {
    account: StateAccount,
    held: Bytes,
}

impl StateShare {
    /// Sets the size of what this share stands for. If it does not fit, the share keeps its old size.
    pub fn resize(&mut self, bytes: Bytes) -> Result<(), StateTooLarge> {
        if bytes > self.held {
            self.account.add(Bytes(bytes.0 - self.held.0))?;
        } else {
            self.account.sub(Bytes(self.held.0 - bytes.0));
        }
        self.held = bytes;
        Ok(())
    }

    /// The size of what this share stands for.
    pub fn bytes(&self) -> Bytes {
        self.held
    }
}

impl Drop for StateShare {
    fn drop(&mut self) {
        self.account.sub(self.held);
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
