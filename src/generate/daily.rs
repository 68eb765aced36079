//! Raw rows of one file → its daily rows, as the reference groups them: per file, so a pod may have several a day.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::label_set::RowLabels;
use super::tables::{Content, GeneratedColumn, Row};
use crate::time::SECONDS_PER_DAY;

/// Groups the rows of one raw file; bounded by the number of its rows.
#[derive(Debug)]
pub(super) struct DailyGroups<'c> {
    /// What the texts and numbers of a row hold, in their order.
    texts: Vec<Content>,
    numbers: Vec<Content>,
    groups: BTreeMap<Key<'c>, Row<'c>>,
}

/// Names that are part of the key, then label sets; all rows of a file have the same day.
type Key<'c> = (Vec<Cow<'c, str>>, Vec<RowLabels<'c>>);

impl<'c> DailyGroups<'c> {
    /// No groups yet.
    pub(super) fn new(columns: &[GeneratedColumn]) -> Self {
        let of = |contents: &[Content]| {
            columns.iter().map(|column| column.content).filter(|content| contents.contains(content)).collect()
        };
        Self {
            texts: of(&[Content::Key, Content::Greatest]),
            numbers: of(&[Content::Sum, Content::Maximum]),
            groups: BTreeMap::new(),
        }
    }

    /// Adds a raw row to its group.
    pub(super) fn add(&mut self, row: &Row<'c>) {
        let is_key = self.texts.iter().map(|content| *content == Content::Key);
        let names = row.texts.iter().zip(is_key).filter(|(_, is_key)| *is_key).map(|(text, _)| text.clone());
        let key = (names.collect(), row.labels.clone());
        let Some(group) = self.groups.get_mut(&key) else {
            let milliseconds_per_day = SECONDS_PER_DAY * 1_000;
            let midnight = row.interval_start.div_euclid(milliseconds_per_day) * milliseconds_per_day;
            self.groups.insert(key, Row { interval_start: midnight, ..row.clone() });
            return;
        };
        for ((content, value), text) in self.texts.iter().zip(&mut group.texts).zip(&row.texts) {
            if *content == Content::Greatest && text > value {
                value.clone_from(text);
            }
        }
        for ((content, value), number) in self.numbers.iter().zip(&mut group.numbers).zip(&row.numbers) {
            *value = if *content == Content::Sum { *value + number } else { value.max(*number) };
        }
    }

    /// The groups, sorted by their keys.
    pub(super) fn into_rows(self) -> impl Iterator<Item = Row<'c>> {
        self.groups.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_maxima_and_the_greatest_text_are_kept_per_key() {
        let column = |content| GeneratedColumn { name: "any", content };
        let columns = [
            column(Content::IntervalStart),
            column(Content::Key),
            column(Content::Sum),
            column(Content::Greatest),
            column(Content::Maximum),
        ];
        let row = |hour: i64, key: &'static str, text: &'static str, sum: f64, maximum: f64| Row {
            interval_start: hour * 3_600_000,
            texts: vec![Cow::from(key), Cow::from(text)],
            labels: Vec::new(),
            numbers: vec![sum, maximum],
        };
        let mut groups = DailyGroups::new(&columns);
        for raw in [row(25, "b", "", 1.0, 4.0), row(26, "a", "z", 8.0, 1.0), row(27, "b", "i-1", 2.0, 3.0)] {
            groups.add(&raw);
        }
        let rows: Vec<Row> = groups.into_rows().collect();
        let texts: Vec<String> = rows.iter().map(|row| row.texts.join("/")).collect();
        assert_eq!(texts, ["a/z", "b/i-1"]);
        assert_eq!(rows[1].numbers, [3.0, 4.0]);
        assert_eq!(rows[1].interval_start, 86_400_000);
    }
}
