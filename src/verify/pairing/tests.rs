//! Large groups of one identity, and which columns decide that rows are equal.

use std::time::{Duration, Instant};

use super::*;
use crate::schema::target::{OCP_DAILY_SUMMARY, TargetType};
use crate::verify::layout::{Layout, Marks};
use crate::verify::matching::{Matched, Tolerance};
use crate::verify::rows::Texts;

const CAPACITY: &str = "persistentvolumeclaim_capacity_gigabyte";

/// Rows with these values in some columns and nothing in the others.
fn rows<'a>(cells: impl Iterator<Item = Vec<(&'a str, Option<String>)>>, texts: &mut Texts) -> Rows {
    let mut rows = Rows::default();
    for cells in cells {
        let value = |name: &str| cells.iter().find(|(column, _)| *column == name).and_then(|(_, cell)| cell.as_deref());
        rows.push(OCP_DAILY_SUMMARY.rollup_columns().map(|column| value(column.name)), texts).unwrap();
    }
    rows
}

/// Volumes of one identity with these capacities.
fn volumes(capacities: impl Iterator<Item = String>, texts: &mut Texts) -> Rows {
    let storage = |capacity| vec![("data_source", Some("Storage".to_owned())), (CAPACITY, Some(capacity))];
    rows(capacities.map(storage), texts)
}

fn matched(target: &Rows, other: &Rows, texts: &Texts) -> Matched {
    let (layout, marks, tolerance) = (Layout::new(true), Marks::new(texts), Tolerance::DEFAULT);
    Day { layout: &layout, marks: &marks, target, other, tolerance }.matched(true)
}

const MANY: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn many_rows_of_one_identity_find_their_partners_in_any_order() {
    let (begin, mut texts) = (Instant::now(), Texts::default());
    let target = volumes((0..MANY).map(|number| format!("{}.5", number / 2)), &mut texts);
    // Backwards, and off by one unit of the last place.
    let other = volumes((0..MANY).rev().map(|number| format!("{}.500000000000001", number / 2)), &mut texts);
    let found = matched(&target, &other, &texts);
    assert_eq!(found.equal, MANY);
    assert!(found.unequal.is_empty() && found.missing.is_empty() && found.extra.is_empty());
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
}

#[test]
fn many_rows_that_are_left_over_are_sorted_out_as_fast() {
    let (begin, mut texts) = (Instant::now(), Texts::default());
    let target = volumes((0..MANY).map(|number| number.to_string()), &mut texts);
    let twice = volumes((0..2 * MANY).map(|number| (number % MANY).to_string()), &mut texts);
    let found = matched(&target, &twice, &texts);
    assert_eq!((found.equal, found.repeated_in_other.len() as u64, found.missing.len()), (MANY, MANY, 0));
    let found = matched(&twice, &target, &texts);
    assert_eq!((found.equal, found.repeated_in_target.len() as u64, found.beside.len()), (MANY, MANY, 0));
    // All alike, and all other than their partners by less than a class is wide.
    let alike = volumes((0..MANY).map(|_| "1".to_owned()), &mut texts);
    let drifted = volumes((0..MANY).map(|_| "1.000000001".to_owned()), &mut texts);
    assert_eq!(matched(&alike, &drifted, &texts).unequal.len() as u64, MANY);
    let none = volumes((0..MANY).map(|_| "NaN".to_owned()), &mut texts);
    assert_eq!(matched(&none, &none, &texts).unequal.len() as u64, MANY);
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
}

#[test]
fn values_near_round_numbers_are_of_one_class() {
    const ONE: i128 = 1_000_000_000_000_000;
    let class = |number| number_class(number, CLASS_WIDTH);
    for number in [0, 1, ONE / 1_000, ONE, 2 * ONE, 10 * ONE, 1_024 * ONE, 1_000_000 * ONE] {
        assert_eq!(class(number), class(number + 1), "{number}");
        assert_eq!(class(number), class(number - 1), "{number}");
    }
    assert_ne!(class(ONE), class(-ONE));
    assert_ne!(class(ONE), class(ONE + ONE / 1_000));
    assert_ne!(class(NULL_NUMBER), class(0));
}

#[test]
fn every_column_of_every_sort_of_row_counts() {
    let kinds = [("Pod", "ns", RowSort::Pod), ("Storage", "ns", RowSort::Storage)];
    let unallocated = ("Pod", "Worker unallocated", RowSort::Unallocated);
    // What all rows have in common is checked before rows are compared: see `WRONG_CLUSTER`; a day is read by its date.
    let fixed = ["cluster_id", "source_uuid", "usage_start"];
    let columns = || OCP_DAILY_SUMMARY.rollup_columns().filter(|column| !fixed.contains(&column.name));
    for (data_source, namespace, sort) in kinds.into_iter().chain([unallocated]) {
        let value = |name: &str, target_type| match (name, target_type) {
            ("data_source", _) => Some(data_source.to_owned()),
            ("namespace", _) => Some(namespace.to_owned()),
            ("pod_labels", _) if sort == RowSort::Unallocated => None,
            (_, TargetType::Integer | TargetType::Decimal) => Some("1".to_owned()),
            (_, TargetType::Json) => Some("{}".to_owned()),
            (_, TargetType::Date) => Some("2025-10-01".to_owned()),
            _ => Some("a".to_owned()),
        };
        let other_value = |target_type| match target_type {
            TargetType::Integer | TargetType::Decimal => "2",
            TargetType::Json => "{\"b\": 1}",
            TargetType::Date => "2025-10-02",
            _ => "b",
        };
        let row: Vec<(&str, Option<String>)> =
            columns().map(|column| (column.name, value(column.name, column.target_type))).collect();
        for column in columns() {
            for changed in [Some(other_value(column.target_type).to_owned()), None] {
                let mut texts = Texts::default();
                let mut damaged = row.clone();
                let cell = damaged.iter_mut().find(|(name, _)| *name == column.name).unwrap();
                if cell.1 == changed {
                    continue;
                }
                cell.1 = changed;
                let target = rows([damaged].into_iter(), &mut texts);
                let other = rows([row.clone()].into_iter(), &mut texts);
                assert_eq!(matched(&target, &other, &texts).equal, 0, "{} of {sort:?}", column.name);
            }
        }
        let mut texts = Texts::default();
        let same = rows([row].into_iter(), &mut texts);
        assert_eq!(matched(&same, &same, &texts).equal, 1, "{sort:?}");
    }
}
