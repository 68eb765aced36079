//! What objects lack or have twice → a few warnings, however many objects and columns there are.

use std::collections::BTreeMap;

use crate::rollups::declaration::{Kernel, Measure, Scan};
use crate::schema::source::{Column, ColumnType, Found, SourceTable};

/// Objects that a warning names.
const NAMED_OBJECTS: usize = 3;

/// Columns about which a user should know, over the objects of a window.
#[derive(Debug, Clone, Default)]
pub struct Oddities {
    /// Objects that are read, by report.
    object_counts: BTreeMap<SourceTable, usize>,
    of_columns: BTreeMap<(SourceTable, Oddity), Objects>,
}

/// What is odd about a column of some objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Oddity {
    /// A measure is not there and reads as null.
    ReadsAsNull(&'static str),
    /// A measure is not there, and the greater of two others is taken.
    Computed(&'static str, [&'static str; 2]),
    /// Further columns have the same name but for letter case.
    Alike(&'static str),
}

/// Some objects: how many, and the first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Objects {
    count: usize,
    first: Vec<String>,
}

impl Oddities {
    /// Notes an object that is read for a scan. `names` are those of its columns.
    pub(super) fn note<'a>(&mut self, object: &str, scan: &Scan, names: impl Iterator<Item = &'a str> + Clone) {
        *self.object_counts.entry(scan.table).or_default() += 1;
        for column in scan.columns() {
            let oddity = match column.find(names.clone()) {
                Found::Nowhere if column.column_type == ColumnType::Number => missing(scan, column),
                Found::At(_) if names.clone().filter(|name| column.is_alike(name)).nth(1).is_some() => {
                    Oddity::Alike(column.name)
                }
                _ => continue,
            };
            let objects = self.of_columns.entry((scan.table, oddity)).or_default();
            objects.count += 1;
            if objects.first.len() < NAMED_OBJECTS {
                objects.first.push(object.to_owned());
            }
        }
    }

    /// One line for all measures that the same objects lack, and one for each other column.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines: Vec<(SourceTable, &Objects, Vec<String>)> = Vec::new();
        let mut others = Vec::new();
        for ((table, oddity), objects) in &self.of_columns {
            let place = || self.place(*table, objects);
            match oddity {
                Oddity::ReadsAsNull(column) => {
                    let column = format!("`{column}`");
                    match lines.iter_mut().find(|(of, known, _)| of == table && *known == objects) {
                        Some((.., columns)) => columns.push(column),
                        None => lines.push((*table, objects, vec![column])),
                    }
                }
                Oddity::Computed(column, [left, right]) => others.push(format!(
                    "{table}: measure column `{column}` is missing in {}; the greater of `{left}` and `{right}` is taken",
                    place()
                )),
                Oddity::Alike(column) => others.push(format!(
                    "{table}: column `{column}` is there in several letter cases in {}; only this very name is read",
                    place()
                )),
            }
        }
        let text = |(table, objects, columns): (SourceTable, &Objects, Vec<String>)| {
            let names = columns.join(", ");
            let (what, are, read) = match columns.len() {
                1 => ("measure column", "is", "it reads"),
                _ => ("measure columns", "are", "they read"),
            };
            format!("{table}: {what} {names} {are} missing in {}; {read} as null there", self.place(table, objects))
        };
        lines.into_iter().map(text).chain(others).collect()
    }

    fn place(&self, table: SourceTable, objects: &Objects) -> String {
        let total = self.object_counts.get(&table).copied().unwrap_or_default();
        let names: Vec<String> = objects.first.iter().map(|name| format!("`{name}`")).collect();
        let more = objects.count - objects.first.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{} of {total} objects ({}{more})", objects.count, names.join(", "))
    }
}

/// A measure that is not there, and what is taken in its place.
fn missing(scan: &Scan, wanted: &'static Column) -> Oddity {
    let sums = scan.kernels.iter().filter_map(|kernel| match kernel {
        Kernel::Grouped(grouped) => Some(&grouped.sums),
        _ => None,
    });
    let computed = sums.flatten().find_map(|measure| match measure {
        Measure::OrGreatest { column, left, right, .. } if column.name == wanted.name => {
            Some(Oddity::Computed(column.name, [left.name, right.name]))
        }
        _ => None,
    });
    computed.unwrap_or(Oddity::ReadsAsNull(wanted.name))
}
