//! Byte ranges of columns → byte ranges of requests.

use std::ops::Range;

/// Sorts ranges and joins those that overlap or are at most `gap_bytes` apart. Empty ranges vanish.
pub(super) fn coalesce(mut ranges: Vec<Range<u64>>, gap_bytes: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap_bytes) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Cuts ranges into pieces of at most `piece_bytes`, in order.
pub(super) fn split(ranges: &[Range<u64>], piece_bytes: u64) -> Vec<Range<u64>> {
    let mut pieces = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(piece_bytes));
            pieces.push(start..end);
            start = end;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(ranges: &[(u64, u64)], gap_bytes: u64) -> Vec<(u64, u64)> {
        let ranges = ranges.iter().map(|(start, end)| *start..*end).collect();
        coalesce(ranges, gap_bytes).into_iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn neighbours_within_the_gap_are_joined() {
        assert_eq!(joined(&[(20, 30), (0, 10)], 10), [(0, 30)]);
        assert_eq!(joined(&[(20, 30), (0, 10)], 9), [(0, 10), (20, 30)]);
        assert_eq!(joined(&[(0, 100), (10, 20), (50, 120), (7, 7)], 0), [(0, 120)]);
        assert_eq!(joined(&[(5, 5)], 100), []);
        assert_eq!(joined(&[(0, 1), (0, u64::MAX)], u64::MAX), [(0, u64::MAX)]);
    }

    #[test]
    fn long_ranges_are_cut_without_loss() {
        assert_eq!(split(&[0..25, 30..35], 10), [0..10, 10..20, 20..25, 30..35]);
        assert_eq!(split(&[], 10), [] as [Range<u64>; 0]);
    }
}
