//! Physical units of reports and rollups, and the conversion factors between them, each once.

use std::fmt;

/// Seconds in an hour.
pub const SECONDS_PER_HOUR: f64 = 3_600.0;
/// Gibibytes in a byte: 2^-30. Columns called `gigabyte` hold GiB (contract, section 0).
pub const GIBIBYTES_PER_BYTE: f64 = 1.0 / 1_073_741_824.0;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    /// Three significant digits in B, KiB, MiB or GiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (unit, size) in UNITS {
            if self.0 >= size {
                // Precision loss above 2^53 bytes does not show in three digits.
                #[allow(clippy::cast_precision_loss)]
                let value = self.0 as f64 / size as f64;
                let places = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
                return write!(f, "{value:.places$} {unit}");
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl std::ops::Add for Bytes {
    type Output = Bytes;
    fn add(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_add(other.0))
    }
}

impl std::ops::Sub for Bytes {
    type Output = Bytes;
    /// Not below zero.
    fn sub(self, other: Bytes) -> Bytes {
        Bytes(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Bytes>>(iter: I) -> Bytes {
        iter.fold(Bytes(0), |a, b| a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_show_three_digits() {
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes(1536).to_string(), "1.50 KiB");
        assert_eq!(Bytes(268_435_456).to_string(), "256 MiB");
    }
}
