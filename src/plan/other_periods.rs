//! Objects whose rows all lie outside of the period that their place stands for: they add nothing, and somebody expects that they do.

use crate::discover::ObjectInfo;
use crate::footers::{DaySpan, Footer};
use crate::time::{UsageDay, Window};

/// Objects that a message names.
const NAMED_OBJECTS: usize = 3;

/// Objects with rows of other periods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherPeriods {
    /// Key, first and last day of its rows; the first few.
    named: Vec<(String, UsageDay, UsageDay)>,
    count: usize,
}

impl OtherPeriods {
    /// Notes an object if none of its rows is of the month of its folder, or none of the window although its name is of a day there.
    pub fn note(&mut self, window: Window, object: &ObjectInfo, footer: &Footer) {
        if let Some((first, last)) = days_of(footer) {
            self.note_days(window, object, first, last);
        }
    }

    /// The same for an object whose rows are known to lie between two days.
    pub fn note_days(&mut self, window: Window, object: &ObjectInfo, first: UsageDay, last: UsageDay) {
        let outside = |from: UsageDay, to: UsageDay| last < from || to < first;
        let is_named_for_window = object.manifest.as_ref().is_some_and(|name| window.contains(name.day));
        let is_of_other_month = outside(object.month.first_day(), object.month.last_day());
        if is_of_other_month || (is_named_for_window && outside(window.start, window.end)) {
            self.count += 1;
            if self.named.len() < NAMED_OBJECTS {
                self.named.push((object.key.clone(), first, last));
            }
        }
    }

    /// What the reader should know; nothing if there is no such object.
    pub fn sentence(&self) -> Option<String> {
        let name = |(key, first, last): &(String, UsageDay, UsageDay)| format!("`{key}` ({first} to {last})");
        let named: Vec<String> = self.named.iter().map(name).collect();
        let more = self.count - named.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let objects = if self.count == 1 { "object has" } else { "objects have" };
        let sentence = || {
            format!(
                "{} {objects} rows of other days alone than those that folder and name stand for, and add nothing: {}{more}",
                self.count,
                named.join(", ")
            )
        };
        (self.count > 0).then(sentence)
    }
}

/// First and last day of all rows; `None` if there are none, or if the footer does not tell.
fn days_of(footer: &Footer) -> Option<(UsageDay, UsageDay)> {
    let mut days = None;
    for span in footer.row_groups.iter().filter(|span| span.row_count > 0) {
        let DaySpan::Known(first, last) = span.days else { return None };
        days = match days {
            None => Some((first, last)),
            Some((least, greatest)) => Some((first.min(least), last.max(greatest))),
        };
    }
    days
}
