//! What a day's rows were made from, as short digests under readable names → which of it is different now.
//!
//! These digests only explain. Whether a day is the same is decided by its fingerprint, which is over the values themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::UsageDay;

/// The setting that says which reports are read.
pub const SEMANTICS: &str = "semantics";
/// Objects of a day that are noted by name. Reports have a handful per day; an upload in pieces has hundreds at most.
const MOST_OBJECTS: usize = 1_000;
/// Objects that a message names; the others are counted.
const NAMED_OBJECTS: usize = 3;

/// What a day was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFrom {
    /// Number of objects that held rows of the day.
    pub object_count: usize,
    /// Key → digest of size and version; `None` if there were too many to note.
    pub objects: Option<BTreeMap<String, String>>,
    /// Report → how much of it held rows of the day; empty in a row of an earlier version.
    #[serde(default)]
    pub reports: BTreeMap<String, Extent>,
    /// Name of a setting or a reference table → digest of its value.
    pub facts: BTreeMap<String, String>,
    /// Which old rows gave way: `target.postgres.replace`. It reaches no row of ours, so it is not in the fingerprint.
    pub replace: String,
    /// Where node roles are derived: from what, and what came out.
    pub roles: Option<NotedRoles>,
}

/// How much input a report gave for a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Objects that may hold rows of the day.
    pub objects: u64,
    /// Rows of their row groups that may be of it.
    pub rows: u64,
}

/// Derived node roles as they were used for a day; whole digests in hexadecimal, because these do decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedRoles {
    /// Everything that the roles of the window came from.
    pub from: String,
    /// The roles of the day's nodes.
    pub of_day: String,
    /// The same of every day of the window that has nodes, as they came out with this day's: days that were left alone then need
    /// not be looked at again. By date.
    pub of_days: BTreeMap<String, String>,
}

impl NotedRoles {
    /// What is noted about a day of a window whose roles came from `from`, with what came out for its days. A day without nodes has
    /// no roles, which is the empty text.
    pub fn new(from: String, of_days: BTreeMap<String, String>, day: UsageDay) -> Self {
        Self { of_day: of_days.get(&day.to_string()).cloned().unwrap_or_default(), from, of_days }
    }
}

impl MadeFrom {
    /// Notes objects as (key, digest of size and version).
    pub fn note_objects(&mut self, objects: impl ExactSizeIterator<Item = (String, String)>) {
        self.object_count = objects.len();
        self.objects = (self.object_count <= MOST_OBJECTS).then(|| objects.collect());
    }

    /// The report that shrank most below so many percent of its objects, if one did: its name, and how much there was and is. Where the rows
    /// were noted they must have shrunk below the same share: small objects may have been put together. Daily copies stand for
    /// the raw report.
    pub fn shrunken(&self, now: &Self, min_percent: f64) -> Option<(String, Extent, Extent)> {
        // Other semantics read other reports.
        if !self.facts.is_empty() && self.facts.get(SEMANTICS) != now.facts.get(SEMANTICS) {
            return None;
        }
        let (before, now) = match (&self.objects, self.reports.is_empty()) {
            (None, true) => (self.of_all(), now.of_all()),
            _ => (self.extents(), now.extents()),
        };
        // Counts of objects and rows are far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let share = |before: u64, now: u64| if before == 0 { 100.0 } else { now as f64 * 100.0 / before as f64 };
        let of_report = before.into_iter().map(|(report, before)| {
            let now = now.get(&report).copied().unwrap_or_default();
            let rows_share = if before.rows == 0 { 0.0 } else { share(before.rows, now.rows) };
            (share(before.objects, now.objects).max(rows_share), (report, before, now))
        });
        let least = of_report.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        (least.0 < min_percent).then_some(least.1)
    }

    /// Per report; of a row of an earlier version as far as its keys tell.
    fn extents(&self) -> BTreeMap<String, Extent> {
        if !self.reports.is_empty() {
            return self.reports.clone();
        }
        let mut extents: BTreeMap<String, Extent> = BTreeMap::new();
        for key in self.objects.iter().flat_map(BTreeMap::keys) {
            let Some((above, below)) = key.split_once("/source=") else { continue };
            // Earlier versions read what is passed over now.
            let is_hidden = below.split('/').any(|segment| segment.starts_with(['_', '.']));
            let Some(report) = above.rsplit('/').next().filter(|_| !is_hidden) else { continue };
            let daily = if above.contains("/parquet/daily/") { "daily/" } else { "" };
            extents.entry(format!("{daily}{report}")).or_default().objects += 1;
        }
        extents
    }

    /// Of a row that knows no more than the number of all objects.
    fn of_all(&self) -> BTreeMap<String, Extent> {
        BTreeMap::from([("all reports".to_owned(), Extent { objects: self.object_count as u64, rows: 0 })])
    }

    /// As it is kept in the ledger.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers have a JSON form")
    }

    /// What `to_json` wrote; `None` for anything else.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What is different now, one phrase each; empty if all that is noted is the same.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        match (&self.objects, &now.objects) {
            (Some(before), Some(now)) => objects(before, now, &mut found),
            _ if self.object_count != now.object_count => {
                found.push(format!("{} objects instead of {}", now.object_count, self.object_count));
            }
            // Which of so many it is was not noted.
            _ => {}
        }
        for (name, digest) in &now.facts {
            if self.facts.get(name) != Some(digest) {
                found.push(format!("{name} changed"));
            }
        }
        let of_day = |noted: &Self| noted.roles.as_ref().map(|roles| roles.of_day.clone());
        if of_day(self) != of_day(now) {
            found.push("derived node roles changed".to_owned());
        }
        if self.replace != now.replace {
            found.push("target.postgres.replace changed".to_owned());
        }
        found
    }
}

/// Objects that are new, have other contents, or are gone.
fn objects(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>, found: &mut Vec<String>) {
    let new = now.keys().filter(|key| !before.contains_key(*key)).map(|key| (key, "new"));
    let changed =
        |(key, digest): (_, &String)| before.get(key).filter(|known| *known != digest).map(|_| (key, "changed"));
    let gone = before.keys().filter(|key| !now.contains_key(*key)).map(|key| (key, "gone"));
    let all: Vec<(&String, &str)> = new.chain(now.iter().filter_map(changed)).chain(gone).collect();
    found.extend(all.iter().take(NAMED_OBJECTS).map(|(key, how)| format!("object `{key}` is {how}")));
    if all.len() > NAMED_OBJECTS {
        found.push(format!("{} other objects", all.len() - NAMED_OBJECTS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_from(objects: &[(&str, &str)], facts: &[(&str, &str)]) -> MadeFrom {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect()
        };
        let mut made = MadeFrom { facts: own(facts).into_iter().collect(), ..MadeFrom::default() };
        made.note_objects(own(objects).into_iter());
        made
    }

    #[test]
    fn differences_are_named() {
        let before = made_from(&[("a", "1"), ("b", "1"), ("c", "1")], &[("semantics", "1"), ("enabled keys", "1")]);
        assert_eq!(before.differences(&before), Vec::<String>::new());
        let now = made_from(&[("a", "1"), ("b", "2"), ("d", "1")], &[("semantics", "1"), ("enabled keys", "2")]);
        let named = ["object `d` is new", "object `b` is changed", "object `c` is gone", "enabled keys changed"];
        assert_eq!(before.differences(&now), named);
        let mut other = before.clone();
        other.replace = "reference".to_owned();
        other.roles = Some(NotedRoles { of_day: "y".to_owned(), ..NotedRoles::default() });
        let named = ["derived node roles changed", "target.postgres.replace changed"];
        assert_eq!(before.differences(&other), named);
        // Roles that came out the same from other objects are the same roles.
        let mut again = other.clone();
        again.roles = Some(NotedRoles { from: "z".to_owned(), of_day: "y".to_owned(), ..NotedRoles::default() });
        assert_eq!(other.differences(&again), Vec::<String>::new());
    }

    #[test]
    fn a_report_that_shrank_is_found() {
        let of = |reports: &[(&str, u64, u64)]| MadeFrom {
            reports: reports
                .iter()
                .map(|(name, objects, rows)| ((*name).to_owned(), Extent { objects: *objects, rows: *rows }))
                .collect(),
            ..MadeFrom::default()
        };
        let before = of(&[("pods", 24, 2_400), ("storage", 1, 100)]);
        let shrunken = |now: &MadeFrom| before.shrunken(now, 50.0).map(|(report, _, _)| report);
        assert_eq!(shrunken(&before), None);
        assert_eq!(shrunken(&of(&[("pods", 12, 1_200), ("storage", 1, 100)])), None, "half is not less than half");
        assert_eq!(shrunken(&of(&[("pods", 11, 1_100), ("storage", 1, 100)])).as_deref(), Some("pods"));
        assert_eq!(shrunken(&of(&[("pods", 1, 2_400), ("storage", 1, 100)])), None, "put together");
        assert_eq!(shrunken(&of(&[("pods", 24, 240), ("storage", 1, 100)])), None, "as many objects, with fewer rows");
        let gone = before.shrunken(&of(&[("pods", 24, 2_400)]), 50.0).unwrap();
        assert_eq!(gone, ("storage".to_owned(), Extent { objects: 1, rows: 100 }, Extent::default()));
        assert_eq!(before.shrunken(&of(&[]), 0.0), None, "0 accepts any number");
        assert_eq!(of(&[]).shrunken(&before, 100.0), None, "more than before");
    }

    #[test]
    fn a_row_of_an_earlier_version_tells_by_its_keys_or_its_count() {
        let key = |report: &str, number: u64| {
            format!("data/parquet/o/OCP/{report}/source=s/year=2025/month=10/{number}.parquet")
        };
        let keys: Vec<String> =
            (0..4).map(|number| key("pod_usage", number)).chain([key("storage_usage", 0)]).collect();
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
        let before = made_from(&pairs, &[]);
        let now = |reports: &[(&str, u64)]| MadeFrom {
            reports: reports
                .iter()
                .map(|(name, objects)| ((*name).to_owned(), Extent { objects: *objects, rows: 9 }))
                .collect(),
            ..MadeFrom::default()
        };
        assert_eq!(before.shrunken(&now(&[("pod_usage", 2), ("storage_usage", 1)]), 50.0), None);
        let shrunken = before.shrunken(&now(&[("pod_usage", 1), ("storage_usage", 1)]), 50.0);
        assert_eq!(shrunken.map(|(report, _, _)| report).as_deref(), Some("pod_usage"));
        let many = MadeFrom { object_count: 2_000, ..MadeFrom::default() };
        let few = MadeFrom { object_count: 999, ..now(&[("pod_usage", 999)]) };
        assert!(many.shrunken(&few, 50.0).is_some());
        assert!(many.shrunken(&few, 49.0).is_none());
    }

    #[test]
    fn what_is_passed_over_now_and_what_other_semantics_read_is_not_missed() {
        let folder = "data/parquet/daily/o/OCP/pod_usage/source=s/year=2025/month=10";
        let keys =
            [format!("{folder}/a.parquet"), format!("{folder}/_temporary/a.parquet"), format!("{folder}/.b.parquet")];
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
        let reports = |objects| BTreeMap::from([("daily/pod_usage".to_owned(), Extent { objects, rows: 9 })]);
        let before = made_from(&pairs, &[]);
        assert_eq!(before.shrunken(&MadeFrom { reports: reports(1), ..MadeFrom::default() }, 50.0), None);
        assert!(before.shrunken(&MadeFrom { reports: reports(0), ..MadeFrom::default() }, 50.0).is_some());
        let of = |semantics| MadeFrom { reports: reports(4), ..made_from(&[], &[(SEMANTICS, semantics)]) };
        let now = |semantics| MadeFrom { reports: BTreeMap::new(), ..made_from(&[], &[(SEMANTICS, semantics)]) };
        assert!(of("1").shrunken(&now("1"), 50.0).is_some());
        assert_eq!(of("1").shrunken(&now("2"), 50.0), None);
    }

    #[test]
    fn many_objects_are_counted() {
        let names: Vec<String> = (0..2_000).map(|number| format!("o{number}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let none = made_from(&[], &[]);
        assert_eq!(none.differences(&made_from(&pairs[..5], &[])).last().map(String::as_str), Some("2 other objects"));
        let many = made_from(&pairs, &[]);
        assert_eq!((many.object_count, &many.objects), (2_000, &None));
        assert_eq!(none.differences(&many), ["2000 objects instead of 0"]);
    }

    #[test]
    fn it_survives_the_ledger() {
        let made = made_from(&[("a", "1")], &[("semantics", "1")]);
        assert_eq!(MadeFrom::from_json(&made.to_json()), Some(made));
        assert_eq!(MadeFrom::from_json("[1]"), None);
    }
}
