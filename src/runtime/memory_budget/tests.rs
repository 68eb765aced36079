//! Permits are fair and bounded; accounts refuse with the figures.

use std::time::Duration;

use super::*;

const KIB: u64 = 1024;

#[tokio::test]
async fn a_dropped_permit_frees_its_bytes() {
    let budget = MemoryBudget::new(Bytes(10 * KIB));
    let first = budget.acquire(Bytes(6 * KIB)).await;
    let waiting = tokio::time::timeout(Duration::from_millis(20), budget.acquire(Bytes(6 * KIB))).await;
    assert!(waiting.is_err(), "12 KiB do not fit into 10");
    drop(first);
    let second = budget.acquire(Bytes(6 * KIB)).await;
    assert_eq!(second.bytes(), Bytes(6 * KIB));
    assert_eq!(budget.in_flight(), Bytes(6 * KIB));
    assert_eq!(budget.peak(), Bytes(6 * KIB));
}

#[tokio::test]
async fn a_request_larger_than_the_budget_runs_alone() {
    let budget = MemoryBudget::new(Bytes(4 * KIB));
    let all = budget.acquire(Bytes(1 << 40)).await;
    assert_eq!(all.bytes(), budget.total());
    assert!(tokio::time::timeout(Duration::from_millis(20), budget.acquire(Bytes(1))).await.is_err());
}

#[tokio::test]
async fn a_large_request_is_not_overtaken_by_small_ones() {
    let budget = MemoryBudget::new(Bytes(4 * KIB));
    let first = budget.acquire(Bytes(2 * KIB)).await;
    let large = tokio::spawn({
        let budget = budget.clone();
        async move { budget.acquire(Bytes(4 * KIB)).await.bytes() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let small = tokio::time::timeout(Duration::from_millis(20), budget.acquire(Bytes(KIB))).await;
    assert!(small.is_err(), "one KiB is free, but the large request came first");
    drop(first);
    assert_eq!(large.await.unwrap(), Bytes(4 * KIB));
}

#[tokio::test]
async fn many_tasks_never_exceed_the_budget() {
    let budget = MemoryBudget::new(Bytes(8 * KIB));
    let tasks = (1..=40).map(|index| {
        let budget = budget.clone();
        tokio::spawn(async move {
            let permit = budget.acquire(Bytes(index % 5 * KIB)).await;
            tokio::task::yield_now().await;
            drop(permit);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(budget.peak() <= budget.total(), "{}", budget.peak());
    assert_eq!(budget.in_flight(), Bytes(0));
}

#[tokio::test]
async fn a_permit_grows_by_what_is_free_and_never_waits() {
    let budget = MemoryBudget::new(Bytes(10 * KIB));
    let (mut first, mut second) = (budget.acquire(Bytes(2 * KIB)).await, budget.acquire(Bytes(3 * KIB)).await);
    first.grow(Bytes(KIB));
    assert_eq!(first.bytes(), Bytes(2 * KIB), "it does not shrink");
    first.grow(Bytes(4 * KIB));
    assert_eq!((first.bytes(), budget.in_flight()), (Bytes(4 * KIB), Bytes(7 * KIB)));
    second.grow(Bytes(1 << 40));
    assert_eq!((second.bytes(), budget.in_flight()), (Bytes(6 * KIB), Bytes(10 * KIB)));
    first.grow(Bytes(9 * KIB));
    assert_eq!(first.bytes(), Bytes(4 * KIB), "nothing is free");
    assert!(tokio::time::timeout(Duration::from_millis(20), budget.acquire(Bytes(1))).await.is_err());
    drop((first, second));
    assert_eq!((budget.in_flight(), budget.acquire(Bytes(10 * KIB)).await.bytes()), (Bytes(0), Bytes(10 * KIB)));
}
