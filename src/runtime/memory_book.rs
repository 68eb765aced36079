//! Bytes of what is no chunk (footers, open days, rows that wait to be written) → one sum with a limit.
//!
//! Nobody waits here, since whoever adds to a day holds chunks already: who adds asks, and gives up if there is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::memory_brake::{MemoryBrake, Pressure};
use crate::units::Bytes;

/// The books. Clones are the same books.
#[derive(Debug, Clone)]
pub struct MemoryBook {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: Bytes,
    brake: MemoryBrake,
    staying: AtomicU64,
    leaving: AtomicU64,
    peak: AtomicU64,
}

/// Some bytes in the books, until it is dropped.
#[derive(Debug)]
pub struct Holding {
    book: MemoryBook,
    bytes: AtomicU64,
    is_leaving: AtomicBool,
}

/// Why there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// What is accounted for and not about to leave is more than its limit.
    State {
        /// So much.
        bytes: Bytes,
        /// The limit.
        limit: Bytes,
    },
    /// The process holds nearly everything that it may.
    Process {
        /// So much.
        resident: Bytes,
        /// The limit.
        limit: Bytes,
    },
}

impl MemoryBook {
    /// Empty books.
    pub fn new(limit: Bytes, brake: MemoryBrake) -> Self {
        let zero = || AtomicU64::new(0);
        Self { inner: Arc::new(Inner { limit, brake, staying: zero(), leaving: zero(), peak: zero() }) }
    }

    /// Books without any limit, for whoever computes a single day.
    pub fn unlimited() -> Self {
        Self::new(Bytes(u64::MAX), MemoryBrake::with_probe(Bytes(u64::MAX), || Bytes(0)))
    }

    /// Notes bytes that stay until more is done.
    pub fn hold(&self, bytes: Bytes) -> Holding {
        self.note(bytes, false)
    }

    /// Notes bytes that will be free without anything being added: rows that are being written.
    pub fn hold_leaving(&self, bytes: Bytes) -> Holding {
        self.note(bytes, true)
    }

    /// What stands in the books.
    pub fn total(&self) -> Bytes {
        Bytes(self.inner.staying.load(Ordering::Relaxed)) + Bytes(self.inner.leaving.load(Ordering::Relaxed))
    }

    /// The most that ever stood there.
    pub fn peak(&self) -> Bytes {
        Bytes(self.inner.peak.load(Ordering::Relaxed))
    }

    /// What may stand there.
    pub fn limit(&self) -> Bytes {
        self.inner.limit
    }

    /// Whether the process should begin nothing that can wait.
    pub fn is_tight(&self) -> bool {
        self.inner.brake.pressure() != Pressure::None
    }

    /// Why work has to stop, if it has to. What is about to leave does not count against the limit of the books.
    pub fn excess(&self) -> Option<Excess> {
        let staying = Bytes(self.inner.staying.load(Ordering::Relaxed));
        if staying > self.inner.limit {
            return Some(Excess::State { bytes: staying, limit: self.inner.limit });
        }
        let brake = &self.inner.brake;
        let must_stop = brake.pressure() == Pressure::Stop;
        must_stop.then(|| Excess::Process { resident: brake.resident(), limit: brake.limit() })
    }

    fn note(&self, bytes: Bytes, is_leaving: bool) -> Holding {
        let (nothing, is_leaving) = (AtomicU64::new(0), AtomicBool::new(is_leaving));
        let holding = Holding { book: self.clone(), bytes: nothing, is_leaving };
        holding.set(bytes);
        holding
    }
}

impl Holding {
    /// Changes how much it is.
    pub fn set(&self, bytes: Bytes) {
        let before = self.bytes.swap(bytes.0, Ordering::Relaxed);
        let inner = &self.book.inner;
        let sum = if self.is_leaving.load(Ordering::Relaxed) { &inner.leaving } else { &inner.staying };
        // Several workers may set at once; each adds what it changed, so the sum is that of the last values. Wrapping adds
        // are how an unsigned counter goes down.
        sum.fetch_add(bytes.0.wrapping_sub(before), Ordering::Relaxed);
        if bytes.0 > before {
            inner.peak.fetch_max(self.book.total().0, Ordering::Relaxed);
        }
    }

    /// Nothing will be added any more, and what it is will be free by itself. Nobody may set it at the same time.
    pub fn leave(&self) {
        let bytes = self.bytes();
        self.set(Bytes(0));
        self.is_leaving.store(true, Ordering::Relaxed);
        self.set(bytes);
    }

    /// How much it is.
    pub fn bytes(&self) -> Bytes {
        Bytes(self.bytes.load(Ordering::Relaxed))
    }

    /// The books.
    pub fn book(&self) -> &MemoryBook {
        &self.book
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.set(Bytes(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(limit: u64) -> MemoryBook {
        MemoryBook::new(Bytes(limit), MemoryBrake::with_probe(Bytes(1 << 30), || Bytes(0)))
    }

    #[test]
    fn what_is_dropped_leaves_the_books() {
        let book = book(100);
        let (a, b) = (book.hold(Bytes(30)), book.hold_leaving(Bytes(50)));
        assert_eq!(book.total(), Bytes(80));
        a.set(Bytes(40));
        b.set(Bytes(10));
        assert_eq!((book.total(), book.peak(), a.bytes()), (Bytes(50), Bytes(90), Bytes(40)));
        drop((a, b));
        assert_eq!((book.total(), book.peak()), (Bytes(0), Bytes(90)));
    }

    #[test]
    fn what_leaves_is_no_excess() {
        let book = book(100);
        let _leaving = book.hold_leaving(Bytes(1_000));
        let staying = book.hold(Bytes(100));
        assert_eq!(book.excess(), None);
        staying.set(Bytes(101));
        assert_eq!(book.excess(), Some(Excess::State { bytes: Bytes(101), limit: Bytes(100) }));
        staying.leave();
        assert_eq!((book.excess(), book.total()), (None, Bytes(1_101)));
    }

    #[test]
    fn a_full_process_is_an_excess_however_little_is_in_the_books() {
        let brake = MemoryBrake::with_probe(Bytes(1_000), || Bytes(950));
        let book = MemoryBook::new(Bytes(100), brake);
        assert!(book.is_tight());
        assert_eq!(book.excess(), Some(Excess::Process { resident: Bytes(950), limit: Bytes(1_000) }));
    }

    #[test]
    fn threads_agree_on_the_sum() {
        let book = book(u64::MAX);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let holding = book.hold(Bytes(0));
                    (0..10_000).for_each(|bytes| holding.set(Bytes(bytes % 97)));
                });
            }
        });
        assert_eq!(book.total(), Bytes(0));
    }
}
