//! What objects lack or have twice → one warning per column, however many objects there are.

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
    /// A measure that is not there, and what is taken in its place.
    Missing(&'static str, String),
    /// Further columns have the same name but for letter case.
    Alike(&'static str),
}

/// Some objects: how many, and the first ones.
#[derive(Debug, Clone, Default)]
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
                Found::Nowhere if column.column_type == ColumnType::Number => {
                    Oddity::Missing(column.name, instead_of(scan, column))
                }
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

    /// One line per report and column.
    pub fn warnings(&self) -> Vec<String> {
        let line = |((table, oddity), objects): (&(SourceTable, Oddity), &Objects)| {
            let total = self.object_counts.get(table).copied().unwrap_or_default();
            let objects = format!("{} of {total} objects ({})", objects.count, objects.names());
            match oddity {
                Oddity::Missing(column, instead) => {
                    format!("{table}: measure column `{column}` is missing in {objects}; {instead}")
                }
                Oddity::Alike(column) => format!(
                    "{table}: further columns differ from `{column}` in letter case only in {objects}; they are not read"
                ),
            }
        };
        self.of_columns.iter().map(line).collect()
    }
}

impl Objects {
    fn names(&self) -> String {
        let names: Vec<String> = self.first.iter().map(|name| format!("`{name}`")).collect();
        let more = self.count - self.first.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        names.join(", ") + &more
    }
}

/// What is taken in place of a measure that is not there.
fn instead_of(scan: &Scan, wanted: &Column) -> String {
    let sums = scan.kernels.iter().filter_map(|kernel| match kernel {
        Kernel::Grouped(grouped) => Some(&grouped.sums),
        _ => None,
    });
    let other = sums.flatten().find_map(|measure| match measure {
        Measure::OrGreatest { column, left, right, .. } if column.name == wanted.name => Some((left.name, right.name)),
        _ => None,
    });
    match other {
        Some((left, right)) => format!("the greater of `{left}` and `{right}` is taken instead"),
        None => "it reads as null there".to_owned(),
    }
}
