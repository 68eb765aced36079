//! Floating-point values → a sum whose stored digits do not depend on the order of addition.

/// A sum and its rounding error, carried beside it (two-sum after Knuth, The Art of Computer Programming 2, 4.2.2).
///
/// The error of the result is about n · 2^-106 relative for n terms of one sign, far below the 53 bits that are kept, so any
/// order of the same terms rounds to the same double.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CompensatedSum {
    /// Leading part.
    pub high: f64,
    /// What the leading part does not hold.
    pub low: f64,
}

impl CompensatedSum {
    /// Adds one value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let sum = self.high + value;
        let part = sum - self.high;
        self.low += (self.high - (sum - part)) + (value - part);
        self.high = sum;
    }

    /// Adds another sum.
    #[inline]
    pub fn add_sum(&mut self, other: CompensatedSum) {
        self.add(other.high);
        self.low += other.low;
    }

    /// The sum `count` times. The product's rounding error is kept like that of an addition: how a sum is split into its
    /// two parts depends on the order of its terms, and must not show.
    pub fn times(self, count: u32) -> Self {
        if count == 1 {
            return self;
        }
        let count = f64::from(count);
        let high = self.high * count;
        let error = self.high.mul_add(count, -high);
        Self { high, low: self.low.mul_add(count, error) }
    }

    /// The sum as one double. An infinite or NaN leading part stays what it is.
    pub fn value(self) -> f64 {
        let value = self.high + self.low;
        if value.is_nan() && !self.high.is_nan() { self.high } else { value }
    }
}

/// The greater of two doubles; NaN is greater than all, and -0.0 equals 0.0 (the result is then 0.0).
#[inline]
pub fn greatest(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() {
        f64::NAN
    } else if left == right {
        // Adding zero turns -0.0 into 0.0, so that the result does not depend on which zero came first.
        left + 0.0
    } else if left > right {
        left
    } else {
        right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = CompensatedSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    #[test]
    fn small_terms_are_not_lost() {
        assert_eq!(sum(&[1e16, 1.0, -1e16]).to_bits(), 1.0_f64.to_bits());
        assert_eq!(sum(&[0.1; 10]).to_bits(), 1.0_f64.to_bits());
    }

    #[test]
    fn infinity_and_nan_show() {
        assert!(sum(&[f64::INFINITY, 1.0]).is_infinite());
        assert!(sum(&[f64::NAN, 1.0]).is_nan());
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    #[test]
    fn greatest_takes_nan_for_the_greatest_and_ignores_the_sign_of_zero() {
        assert!(greatest(f64::NAN, 1.0).is_nan());
        assert_eq!(greatest(-0.0, 0.0).to_bits(), 0.0_f64.to_bits());
        assert_eq!(greatest(-0.0, -0.0).to_bits(), 0.0_f64.to_bits());
        assert_eq!(greatest(-1.0, 2.0).to_bits(), 2.0_f64.to_bits());
    }

    proptest! {
        #[test]
        fn order_does_not_show_in_a_multiple(values in prop::collection::vec(0.0_f64..1e6, 50..200), count in 1_u32..9) {
            let (mut forward, mut backward) = (CompensatedSum::default(), CompensatedSum::default());
            values.iter().for_each(|value| forward.add(*value));
            values.iter().rev().for_each(|value| backward.add(*value));
            prop_assert_eq!(forward.times(count).value().to_bits(), backward.times(count).value().to_bits());
        }

        #[test]
        fn order_and_grouping_do_not_matter(values in prop::collection::vec(0.0_f64..1e15, 1..200), cut in 0_usize..200) {
            let forward = sum(&values);
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(forward.to_bits(), sum(&reversed).to_bits());
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut parts = CompensatedSum::default();
            for part in [right, left] {
                let mut partial = CompensatedSum::default();
                part.iter().for_each(|value| partial.add(*value));
                parts.add_sum(partial);
            }
            prop_assert_eq!(forward.to_bits(), parts.value().to_bits());
        }
    }
}
