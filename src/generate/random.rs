//! (seed, topic, two positions) → a short stream of numbers. Stateless, so that any file can be made without the others.

/// What the numbers are for; two topics never share a stream.
#[derive(Debug, Clone, Copy)]
pub(super) enum Topic {
    /// Properties of a node.
    Node = 1,
    /// Properties of a deployment.
    Deployment = 2,
    /// What runs in a slot over its whole life.
    Slot = 3,
    /// One pod in a slot.
    Pod = 4,
    /// What a pod uses in one hour.
    PodHour = 5,
    /// Properties of a volume.
    Volume = 6,
    /// What a volume holds in one hour.
    VolumeHour = 7,
}

/// A stream of numbers (splitmix64).
#[derive(Debug)]
pub(super) struct Draws {
    state: u64,
}

impl Draws {
    /// The stream of one topic at one place.
    pub(super) fn new(seed: u64, topic: Topic, first: u64, second: u64) -> Self {
        let mut state = mix(seed ^ STEP.wrapping_mul(topic as u64));
        state = mix(state ^ first);
        state = mix(state.wrapping_add(STEP) ^ second);
        Self { state }
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A position below `bound`; `bound` must not be 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.bits()) * (bound as u128);
        usize::try_from(product >> 64).expect("smaller than the bound, which is a usize")
    }

    /// A number in [0, 1). Only multiplied afterwards, so that every machine computes the same bits.
    pub(super) fn unit(&mut self) -> f64 {
        const TWO_TO_MINUS_53: f64 = 1.0 / 9_007_199_254_740_992.0;
        (self.bits() >> 11) as f64 * TWO_TO_MINUS_53
    }

    /// One of the items.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Letters and digits as Kubernetes uses them in generated names (no vowels, no look-alikes).
    pub(super) fn suffix(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length).map(|_| char::from(self.pick(LETTERS))).collect()
    }
}

/// The odd constant of splitmix64: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let mut mixed = value;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_gives_the_same_numbers_and_another_place_others() {
        let take = |seed, topic, first, second| Draws::new(seed, topic, first, second).bits();
        assert_eq!(take(1, Topic::Pod, 2, 3), take(1, Topic::Pod, 2, 3));
        assert_ne!(take(1, Topic::Pod, 2, 3), take(1, Topic::Pod, 3, 2));
        assert_ne!(take(1, Topic::Pod, 2, 3), take(1, Topic::PodHour, 2, 3));
        assert_ne!(take(1, Topic::Pod, 2, 3), take(2, Topic::Pod, 2, 3));
    }

    #[test]
    fn positions_stay_below_their_bound_and_reach_both_ends() {
        let mut draws = Draws::new(7, Topic::Slot, 0, 0);
        let positions: Vec<usize> = (0..1_000).map(|_| draws.below(10)).collect();
        assert_eq!(positions.iter().max(), Some(&9));
        assert_eq!(positions.iter().min(), Some(&0));
        let mean = (0..1_000).map(|_| draws.unit()).sum::<f64>() / 1_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
