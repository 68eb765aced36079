//! How long chunks are fetched and computed → how many of them to have in hand.

use crate::units::Bytes;

/// Chunks in hand per worker: enough to hide the latency of requests, few enough to stay in the order of the days.
const CHUNKS_PER_WORKER: usize = 8;
/// With so many stored bytes in hand only as many chunks are read ahead as keep the workers busy: more would only fill memory.
const ENOUGH_BYTES: Bytes = Bytes(8 << 20);
/// The same before anything is known about the pace, and with more bytes per worker in hand than are computed in the time that an answer
/// takes: 24 MiB in 50 ms are 480 MiB a second.
const AT_FIRST: usize = 2;
const MOST_BYTES_PER_WORKER: u64 = 24 << 20;

/// Times so far, summed over chunks, and what is in hand.
#[derive(Debug, Default, Clone, Copy)]
pub struct Pace {
    /// Seconds that chunks waited for their bytes.
    pub fetch_seconds: f64,
    /// Seconds that chunks were decoded and aggregated.
    pub compute_seconds: f64,
    fetched: u32,
    computed: u32,
    bytes_in_hand: Bytes,
}

impl Pace {
    /// A chunk of so many stored bytes is begun.
    pub fn begun(&mut self, bytes: Bytes) {
        self.bytes_in_hand = self.bytes_in_hand + bytes;
    }

    /// A chunk's bytes are there, or cannot be had.
    pub fn fetched(&mut self, seconds: f64) {
        self.fetch_seconds += seconds;
        self.fetched += 1;
    }

    /// A chunk was computed.
    pub fn computed(&mut self, seconds: f64) {
        self.compute_seconds += seconds;
        self.computed += 1;
    }

    /// A chunk's bytes are no longer held.
    pub fn released(&mut self, bytes: Bytes) {
        self.bytes_in_hand = self.bytes_in_hand - bytes;
    }

    /// How many chunks may be in hand. While the run waits for its target nothing large is read ahead of the workers; a single worker
    /// keeps one chunk ahead.
    pub fn chunks_in_hand(&self, worker_count: usize, target_is_waited_for: bool) -> usize {
        if target_is_waited_for && self.bytes_in_hand >= ENOUGH_BYTES {
            return worker_count.max(AT_FIRST);
        }
        worker_count * self.chunks_per_worker(worker_count)
    }

    /// One that is computed, and as many on their way as are computed while one is fetched.
    fn chunks_per_worker(&self, worker_count: usize) -> usize {
        if self.bytes_in_hand < ENOUGH_BYTES {
            return CHUNKS_PER_WORKER;
        }
        if self.bytes_in_hand.0 / worker_count.max(1) as u64 >= MOST_BYTES_PER_WORKER {
            return AT_FIRST;
        }
        if self.fetched == 0 || self.computed == 0 || self.compute_seconds <= 0.0 {
            return AT_FIRST;
        }
        let fetch = self.fetch_seconds / f64::from(self.fetched);
        let compute = self.compute_seconds / f64::from(self.computed);
        let keeps_up = |on_their_way: &usize| fetch <= compute * (*on_their_way as f64);
        (1..CHUNKS_PER_WORKER).find(keeps_up).map_or(CHUNKS_PER_WORKER, |on_their_way| on_their_way + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers; chunks of so many MiB are fetched in 100 ms and computed in 40.
    fn pace(mebibytes_in_hand: u64) -> Pace {
        let mut pace = Pace::default();
        pace.begun(Bytes(mebibytes_in_hand << 20));
        pace.fetched(0.1);
        pace.computed(0.04);
        pace
    }

    #[test]
    fn as_many_are_on_their_way_as_are_computed_while_one_is_fetched() {
        assert_eq!(pace(20).chunks_in_hand(2, false), 2 * (1 + 3));
    }

    #[test]
    fn a_slow_target_lets_nothing_large_be_read_ahead() {
        assert_eq!(pace(20).chunks_in_hand(1, true), 2);
        assert_eq!(pace(20).chunks_in_hand(2, true), 2);
        assert_eq!(pace(20).chunks_in_hand(5, true), 5);
        assert_eq!(pace(7).chunks_in_hand(2, true), 2 * CHUNKS_PER_WORKER, "small chunks take no room");
    }

    #[test]
    fn much_in_hand_is_enough_however_long_it_took() {
        assert_eq!(pace(48).chunks_in_hand(2, false), 2 * AT_FIRST);
    }
}
