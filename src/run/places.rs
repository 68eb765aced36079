//! Where the rows of an object lie whose footer does not tell, once they were read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::aggregate::ChunkCounts;
use crate::discover::ObjectInfo;
use crate::footers::DaySpan;
use crate::plan::{ChunkPlan, OtherPeriods};
use crate::time::{UsageDay, Window};

/// Objects without statistics of their times, by key.
#[derive(Default)]
pub struct Places(BTreeMap<String, Place>);

struct Place {
    object: Arc<ObjectInfo>,
    /// Whether any of its rows lies in the window.
    is_inside: bool,
    /// First and last day of the others.
    outside: Option<(UsageDay, UsageDay)>,
}

impl Places {
    /// Notes where the rows of a chunk were found.
    pub fn note(&mut self, chunk: &ChunkPlan, counts: &ChunkCounts) {
        let is_told = chunk.footer.row_groups.iter().any(|span| matches!(span.days, DaySpan::Known(..)));
        if is_told {
            return;
        }
        let object = &chunk.footer.object;
        let new = || Place { object: Arc::clone(object), is_inside: false, outside: None };
        let place = self.0.entry(object.key.clone()).or_insert_with(new);
        place.is_inside |= counts.rows_of_days.iter().any(|(_, rows)| *rows > 0);
        if let Some((first, last)) = counts.outside {
            let (least, greatest) = place.outside.unwrap_or((first, last));
            place.outside = Some((first.min(least), last.max(greatest)));
        }
    }

    /// Objects of which no row lies in the window although their folder or name says so.
    pub fn of_other_periods(&self, window: Window) -> OtherPeriods {
        let mut found = OtherPeriods::default();
        for place in self.0.values().filter(|place| !place.is_inside) {
            if let Some((first, last)) = place.outside {
                found.note_days(window, &place.object, first, last);
            }
        }
        found
    }
}
