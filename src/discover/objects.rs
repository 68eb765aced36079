//! The one rule by which an object below a listed folder counts as a report, and the account of those that do not.

use std::collections::BTreeSet;

use crate::units::Bytes;

/// What counts as a report ends so, in any letter case.
const ENDING: &str = ".parquet";
/// What some writers append to the name of a folder to mark that it is there.
const FOLDER_MARK: &str = "_$folder$";
/// Names of which a message gives the first ones.
const NAMED_KEYS: usize = 3;

/// What an object is, by its name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is read.
    Report,
    /// A segment of its name begins with `_` or `.`: the work of a writer that is not done, or a file of a tool. Hive and Trino
    /// pass over it as well.
    Hidden,
    /// Its name does not end with `.parquet`.
    OtherEnding,
    /// It is empty and marks a folder. Nobody misses it.
    FolderMark,
}

impl Role {
    /// Of an object whose name begins after the listed folder.
    pub fn of(name: &str, size: Bytes) -> Self {
        let is_empty = size.0 == 0;
        if is_empty && (name.ends_with('/') || name.is_empty() || name.ends_with(FOLDER_MARK)) {
            return Role::FolderMark;
        }
        if name.split('/').any(|segment| segment.starts_with(['_', '.'])) {
            return Role::Hidden;
        }
        let ending = name.len().checked_sub(ENDING.len()).and_then(|at| name.get(at..));
        let is_report = ending.is_some_and(|ending| ending.eq_ignore_ascii_case(ENDING));
        if is_report { Role::Report } else { Role::OtherEnding }
    }
}

/// Objects that are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver {
    hidden: BTreeSet<String>,
    other_ending: BTreeSet<String>,
}

impl PassedOver {
    /// Notes an object that is no report; each key counts once.
    pub fn note(&mut self, role: Role, key: String) {
        match role {
            Role::Hidden => _ = self.hidden.insert(key),
            Role::OtherEnding => _ = self.other_ending.insert(key),
            Role::Report | Role::FolderMark => {}
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.hidden.len() + self.other_ending.len()
    }

    /// A sentence for each reason, with the first names.
    pub fn sentences(&self) -> Vec<String> {
        let reasons = [
            (&self.other_ending, ["its name does not end with .parquet", "their names do not end with .parquet"]),
            (
                &self.hidden,
                ["a part of its name begins with `_` or `.`", "a part of their names begins with `_` or `.`"],
            ),
        ];
        let sentence = |(keys, [of_one, of_several]): (&BTreeSet<String>, [&str; 2])| {
            let named: Vec<String> = keys.iter().take(NAMED_KEYS).map(|key| format!("`{key}`")).collect();
            let more = keys.len() - named.len();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let (objects, reason) = if keys.len() == 1 { ("object is", of_one) } else { ("objects are", of_several) };
            format!("{} {objects} passed over, since {reason}: {}{more}", keys.len(), named.join(", "))
        };
        reasons.into_iter().filter(|(keys, _)| !keys.is_empty()).map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_says_what_counts() {
        let role = |name: &str| Role::of(name, Bytes(10));
        for report in
            ["a.parquet", "deeper/still/b.parquet", "c.PARQUET", "d.Parquet", "a_b/c.d/e.f.parquet", "x//y.parquet"]
        {
            assert_eq!(role(report), Role::Report, "{report}");
        }
        for hidden in [
            "_temporary/0/_temporary/attempt_1/a.parquet",
            ".hive-staging_hive_1/a.parquet",
            ".x.parquet",
            "_x.parquet",
            "._x.parquet",
            "_SUCCESS",
            "deeper/_delta_log/1.json",
            "../a.parquet",
        ] {
            assert_eq!(role(hidden), Role::Hidden, "{hidden}");
        }
        for other in [
            "20251002_101500_00012_abcde",
            "d.csv",
            "e.parquet.tmp",
            "f.parquet.gz",
            "parquet",
            "é.parque",
            "x.parquet/",
        ] {
            assert_eq!(role(other), Role::OtherEnding, "{other}");
        }
    }

    #[test]
    fn empty_marks_of_folders_are_nothing_to_speak_of() {
        for mark in ["", "/", "x/", "x.parquet/", "x_$folder$", "_temporary/", "_temporary_$folder$"] {
            assert_eq!(Role::of(mark, Bytes(0)), Role::FolderMark, "{mark}");
        }
        // Empty all the same, and yet it calls itself a report.
        assert_eq!(Role::of("a.parquet", Bytes(0)), Role::Report);
        assert_eq!(Role::of("notes", Bytes(0)), Role::OtherEnding);
    }

    #[test]
    fn what_is_passed_over_is_told_by_number_and_first_names() {
        let mut passed_over = PassedOver::default();
        for number in 0..5 {
            passed_over.note(Role::OtherEnding, format!("k{number}"));
            passed_over.note(Role::OtherEnding, "k0".to_owned());
        }
        passed_over.note(Role::Hidden, "_x".to_owned());
        passed_over.note(Role::FolderMark, "y/".to_owned());
        assert_eq!(passed_over.count(), 6);
        assert_eq!(
            passed_over.sentences(),
            [
                "5 objects are passed over, since their names do not end with .parquet: `k0`, `k1`, `k2` and 2 more",
                "1 object is passed over, since a part of its name begins with `_` or `.`: `_x`",
            ]
        );
    }
}
