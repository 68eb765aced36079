//! Positions of rows → the same positions in the order of small numbers: one pass to count, one to place.

/// Sorts positions by a number below `rank_count`; equals stay in their order.
pub fn sort_by_rank(positions: &mut Vec<u32>, rank_count: usize, rank: impl Fn(u32) -> u32) {
    let mut starts = vec![0_u32; rank_count + 1];
    for position in positions.iter() {
        starts[rank(*position) as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut sorted = vec![0; positions.len()];
    for position in positions.iter() {
        let place = &mut starts[rank(*position) as usize];
        sorted[*place as usize] = *position;
        *place += 1;
    }
    *positions = sorted;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_stay_in_their_order() {
        let ranks = [3, 0, 3, 1, 0, 3];
        let mut positions: Vec<u32> = (0..6).collect();
        sort_by_rank(&mut positions, 4, |position| ranks[position as usize]);
        assert_eq!(positions, [1, 4, 3, 0, 2, 5]);
        sort_by_rank(&mut Vec::new(), 0, |_| 0);
    }
}
