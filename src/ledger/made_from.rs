//! What a day's rows were made from, as short digests under readable names → which of it is different now.
//!
//! These digests only explain. Whether a day is the same is decided by its fingerprint, which is over the values themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::UsageDay;

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
    /// Name of a setting or a reference table → digest of its value.
    pub facts: BTreeMap<String, String>,
    /// Which old rows gave way: `target.postgres.replace`. It reaches no row of ours, so it is not in the fingerprint.
    pub replace: String,
    /// Where node roles are derived: from what, and what came out.
    pub roles: Option<NotedRoles>,
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
