//! Hours of pods that come, go and take the places of others: rows of equal keys, and no others, share a group.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What happens to the pods between one hour and the next.
#[derive(Debug, Clone)]
enum Change {
    /// New pods in the places of others.
    Replaced { at: usize, count: usize },
    /// A pod appears.
    Added { at: usize },
    /// A pod is gone.
    Gone { at: usize },
    /// A pod stands where another one stood before.
    Moved { from: usize, to: usize },
    /// Pods of before the changes of the last hours stand where they stood.
    Restored { at: usize, count: usize },
    /// A pod has a replica behind it, which is the same group.
    Doubled { at: usize },
    /// Everything from here on comes first.
    Rotated { at: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0..10_000_usize;
    prop_oneof![
        (at(), 1..6_usize).prop_map(|(at, count)| Change::Replaced { at, count }),
        at().prop_map(|at| Change::Added { at }),
        at().prop_map(|at| Change::Gone { at }),
        (at(), at()).prop_map(|(from, to)| Change::Moved { from, to }),
        (at(), 1..6_usize).prop_map(|(at, count)| Change::Restored { at, count }),
        at().prop_map(|at| Change::Doubled { at }),
        at().prop_map(|at| Change::Rotated { at }),
    ]
}

/// Rows of all hours: the number of a pod each.
fn rows(pod_count: u32, hours: &[Vec<Change>]) -> Vec<u32> {
    let mut pods: Vec<u32> = (0..pod_count).collect();
    let mut next = pod_count;
    let mut new = || {
        next += 1;
        next
    };
    let mut rows = pods.clone();
    for changes in hours {
        for change in changes {
            let pod_count = pods.len();
            let place = |at: usize| at % pod_count;
            match *change {
                Change::Replaced { at, count } => {
                    let start = place(at);
                    let end = pods.len().min(start + count);
                    pods[start..end].iter_mut().for_each(|pod| *pod = new());
                }
                Change::Added { at } => pods.insert(place(at), new()),
                Change::Gone { at } if pods.len() > 1 => drop(pods.remove(place(at))),
                Change::Gone { .. } => {}
                Change::Moved { from, to } => pods[place(to)] = pods[place(from)],
                Change::Restored { at, count } => {
                    let start = place(at);
                    for (at, pod) in pods.iter_mut().enumerate().skip(start).take(count) {
                        *pod = rows.get(at).copied().unwrap_or(*pod);
                    }
                }
                Change::Doubled { at } => pods.insert(place(at), pods[place(at)]),
                Change::Rotated { at } => pods.rotate_left(place(at)),
            }
        }
        rows.extend(&pods);
    }
    rows
}

proptest! {
    #[test]
    fn rows_of_equal_keys_and_no_others_share_a_group(
        pod_count in 1..300_u32,
        hours in prop::collection::vec(prop::collection::vec(change(), 0..8), 1..8),
        batch_rows in 1..200_usize,
        namespaces in 1..7_u32,
    ) {
        let rows = rows(pod_count, &hours);
        let parts = [
            rows.iter().map(|pod| pod % namespaces).collect::<Vec<u32>>(),
            rows.iter().map(|pod| pod / 3).collect(),
            rows.clone(),
        ];
        let mut partial = GroupedPartial::new(3, 0, 0, 0);
        let (mut groups, mut known) = (Vec::new(), HashMap::new());
        for start in (0..rows.len()).step_by(batch_rows) {
            let batch = start..rows.len().min(start + batch_rows);
            let keys: Vec<&[u32]> = parts.iter().map(|part| &part[batch.clone()]).collect();
            partial.find_groups(&keys, Some(&parts[0][batch.clone()]), &mut groups);
            prop_assert_eq!(groups.len(), batch.len());
            for (group, row) in groups.iter().zip(batch) {
                let is_named = NameId(parts[0][row]).is_named();
                prop_assert_eq!(*group == NO_GROUP, !is_named);
                if is_named {
                    let key = parts.each_ref().map(|part| part[row]);
                    prop_assert_eq!(*known.entry(key).or_insert(*group), *group);
                    prop_assert_eq!(partial.group(*group as usize).keys, key.as_slice());
                }
            }
        }
        prop_assert_eq!(partial.len(), known.len());
    }
}
