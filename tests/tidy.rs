//! Reads the sources and fails where they leave the structure that docs/architecture.md describes.
//!
//! Every complaint names file and line. The rules themselves are data in `tests/tidy/layers.rs`.

#[path = "tidy/debt.rs"]
mod debt;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/tokens.rs"]
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use debt::OPENSHIFT_DEBT;
use gristmill::error::ErrorKind;
use gristmill::schema::target::{OCP_DAILY_SUMMARY, Writer};
use layers::{ALLOWED, COLUMN_NAME_EXCEPTIONS, COLUMN_NAMERS, CONFINED, ENVIRONMENT_READERS, FOUNDATION, PURE, WIRING};
use tokens::{Kind, Token, is_path_mark, segments_after, segments_at, test_items, tokens, without_tests};

/// Most lines of a file, tests aside.
const MOST_LINES: usize = 500;

/// A Rust file of the project.
struct SourceFile {
    /// Path from the project's folder, with slashes.
    path: String,
    text: String,
    /// All tokens.
    all: Vec<Token>,
    /// Tokens outside tests.
    code: Vec<Token>,
}

impl SourceFile {
    /// The module below `src/` that the file belongs to.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// Whether the whole file is tests: `tests.rs`, or a file in a `tests` folder.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.starts_with("tests/")
    }

    /// How many modules lie between the file's module and the crate: `src/plan/mod.rs` and `src/plan.rs` have 1.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        inside.split('/').count()
    }
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder whose name ends so, sorted; paths from the project's folder.
fn files_below(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![project().join(folder)];
    while let Some(current) = folders.pop() {
        let Ok(entries) = fs::read_dir(&current) else { continue };
        for entry in entries {
            let path = entry.expect("a folder of the project can be read").path();
            let from_project =
                path.strip_prefix(project()).expect("found below it").to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                folders.push(path);
            } else if from_project.ends_with(ending) {
                found.push(from_project);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    let text = fs::read_to_string(project().join(path));
    assert!(text.is_ok(), "{path}: {text:?}");
    text.unwrap_or_default()
}

fn sources_below(folder: &str) -> Vec<SourceFile> {
    let sources: Vec<SourceFile> = files_below(folder, ".rs")
        .into_iter()
        .map(|path| {
            let text = read(&path);
            let all = tokens(&text);
            let code = without_tests(&all);
            SourceFile { path, text, all, code }
        })
        .collect();
    assert!(!sources.is_empty(), "no Rust files below {folder}");
    sources
}

/// Files of `src/` that are not tests.
fn production() -> Vec<SourceFile> {
    sources_below("src").into_iter().filter(|file| !file.is_test()).collect()
}

fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} breaches:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is() {
    let mut complaints = Vec::new();
    for file in sources_below("src").iter().chain(&sources_below("tests")) {
        if !file.text.starts_with("//!") {
            complaints.push(format!("{}:1: opens without `//!`", file.path));
        }
    }
    report(&complaints);
}

#[test]
fn files_are_short() {
    let mut complaints = Vec::new();
    for file in production() {
        let lines_of = |item: &std::ops::Range<usize>| file.all[item.end - 1].line + 1 - file.all[item.start].line;
        let test_lines: usize = test_items(&file.all).iter().map(lines_of).sum();
        let lines = file.text.lines().count() - test_lines;
        if lines > MOST_LINES {
            complaints.push(format!("{}: {lines} lines without tests, {MOST_LINES} are allowed", file.path));
        }
    }
    report(&complaints);
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut complaints = Vec::new();
    for file in production() {
        let module = file.module();
        if WIRING.contains(&module) || module == "lib" {
            continue;
        }
        let own_edges: &[&str] = match allowed.get(module) {
            Some(edges) => edges,
            None if FOUNDATION.contains(&module) => &[],
            None => {
                complaints.push(format!("{}:1: module `{module}` has no line in tests/tidy/layers.rs", file.path));
                continue;
            }
        };
        for (used, line) in crate_modules_used(&file) {
            let is_allowed =
                used == module || FOUNDATION.contains(&used.as_str()) || own_edges.contains(&used.as_str());
            if !is_allowed {
                complaints.push(format!(
                    "{}:{line}: `{module}` must not use `{used}` (an edge is a line in tests/tidy/layers.rs)",
                    file.path
                ));
            }
        }
    }
    report(&complaints);
}

/// Modules of the crate that a file names by `crate::…` or by enough `super::`, with lines.
fn crate_modules_used(file: &SourceFile) -> Vec<(String, usize)> {
    let mut used = segments_after(&file.code, "crate");
    let code: Vec<&Token> = file.code.iter().filter(|token| token.kind != Kind::Comment).collect();
    for at in 0..code.len() {
        if !code[at].is_word("super") || (at > 0 && code[at - 1].is_mark(':')) {
            continue;
        }
        let mut end = at;
        while code[end].is_word("super") && is_path_mark(&code, end + 1) {
            end += 3;
        }
        if (end - at) / 3 == file.depth() {
            segments_at(&code, end, &mut used);
        }
    }
    // The macro is exported at the root of the crate and defined in `error`.
    used.retain(|(segment, _)| segment != "impl_failure" && segment != "self");
    used
}

#[test]
fn the_table_of_layers_has_no_cycle_and_names_real_order() {
    let mut below: BTreeSet<&str> = FOUNDATION.into_iter().collect();
    for (module, edges) in ALLOWED {
        for edge in *edges {
            assert!(below.contains(edge), "tests/tidy/layers.rs: `{module}` uses `{edge}`, which stands after it");
        }
        assert!(below.insert(module), "tests/tidy/layers.rs: `{module}` stands there twice");
    }
}

#[test]
fn computing_modules_neither_wait_nor_reach_outside() {
    let mut complaints = Vec::new();
    for file in production().iter().filter(|file| PURE.contains(&file.module())) {
        for token in &file.code {
            if token.is_word("async") || token.is_word("tokio") || token.is_word("tokio_postgres") {
                complaints.push(format!("{}:{}: `{}` in a computing module", file.path, token.line, token.text));
            }
        }
        for (segment, line) in segments_after(&file.code, "std") {
            if ["fs", "env", "net", "process"].contains(&segment.as_str()) {
                complaints.push(format!("{}:{line}: `std::{segment}` in a computing module", file.path));
            }
        }
    }
    report(&complaints);
}

#[test]
fn some_words_stay_in_their_place() {
    let mut complaints = Vec::new();
    for file in production() {
        for (word, places, reason) in CONFINED {
            if places.iter().any(|place| file.path.starts_with(place)) {
                continue;
            }
            for token in file.code.iter().filter(|token| token.is_word(word)) {
                complaints.push(format!("{}:{}: `{word}` belongs to {places:?}: {reason}", file.path, token.line));
            }
        }
        if !ENVIRONMENT_READERS.iter().any(|place| file.path.starts_with(place)) {
            for (_, line) in segments_after(&file.code, "std").iter().filter(|(segment, _)| segment == "env") {
                complaints.push(format!("{}:{line}: `std::env` belongs to {ENVIRONMENT_READERS:?}", file.path));
            }
        }
    }
    report(&complaints);
}

/// Names of the report columns, as `src/schema/source.rs` declares them: `NAME = "name"`.
fn report_columns() -> Vec<String> {
    let path = "src/schema/source.rs";
    let declared = tokens(&read(path));
    let names: Vec<String> = declared
        .windows(3)
        .filter(|window| window[0].kind == Kind::Word && window[1].is_mark('=') && window[2].kind == Kind::Text)
        .map(|window| window[2].text.clone())
        .collect();
    assert!(names.len() > 20, "{path}: the declarations of columns no longer look like `NAME = \"name\"`");
    names
}

#[test]
fn columns_are_named_only_in_schema_and_rollups() {
    let mut names: BTreeSet<String> = report_columns().into_iter().collect();
    let of_rollup = OCP_DAILY_SUMMARY.columns.iter().filter(|column| column.writer == Writer::Rollup);
    names.extend(of_rollup.map(|column| column.name.to_owned()));
    let mut complaints = Vec::new();
    for file in production() {
        if COLUMN_NAMERS.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for token in file.code.iter().filter(|token| token.kind == Kind::Text && names.contains(&token.text)) {
            let is_exception = COLUMN_NAME_EXCEPTIONS
                .iter()
                .any(|(place, name, _)| file.path.starts_with(place) && token.text == *name);
            if !is_exception {
                complaints.push(format!(
                    "{}:{}: column name \"{}\"; use its constant in src/schema",
                    file.path, token.line, token.text
                ));
            }
        }
    }
    report(&complaints);
}

#[test]
fn tests_are_neither_ignored_nor_meant_to_panic_and_code_does_not_unwrap() {
    let mut complaints = Vec::new();
    for file in sources_below("src").iter().chain(&sources_below("tests")) {
        for window in file.all.windows(3) {
            let opens_attribute = window[0].is_mark('#') && window[1].is_mark('[');
            if opens_attribute && (window[2].is_word("ignore") || window[2].is_word("should_panic")) {
                complaints.push(format!("{}:{}: #[{}]", file.path, window[2].line, window[2].text));
            }
        }
    }
    for file in production() {
        for window in file.code.windows(3) {
            if window[0].is_mark('.') && window[1].is_word("unwrap") && window[2].is_mark('(') {
                complaints.push(format!("{}:{}: unwrap() outside tests", file.path, window[1].line));
            }
        }
    }
    report(&complaints);
}

#[test]
fn nothing_is_left_for_later_or_named_by_no_role() {
    let mut complaints = Vec::new();
    for file in sources_below("src") {
        let stem = Path::new(&file.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = Path::new(&file.path).parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        for name in ["utils", "util", "common", "helpers", "helper", "misc"] {
            if stem == name || folder == name {
                complaints.push(format!("{}:1: a module is named by its role, not `{name}`", file.path));
            }
        }
    }
    let texts = [files_below("src", ".rs"), files_below("docs", ".md"), files_below("scripts", ".sh")].concat();
    for path in texts.iter().map(String::as_str).chain(["README.md", "CHANGELOG.md", "Cargo.toml"]) {
        for (index, line) in read(path).lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX", "HACK"] {
                if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word) {
                    complaints.push(format!("{path}:{}: {word}", index + 1));
                }
            }
            if ["root", "home"].iter().any(|owner| line.contains(&format!("/{owner}/"))) {
                complaints.push(format!("{path}:{}: a path of somebody's machine", index + 1));
            }
        }
    }
    report(&complaints);
}

/// The value of a line of the lock file that starts so.
fn lock_field<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix('"')
}

#[test]
fn the_lock_file_has_one_arrow_and_one_tls_provider() {
    let lock = read("Cargo.lock");
    let mut arrows: BTreeMap<&str, &str> = BTreeMap::new();
    let mut complaints = Vec::new();
    let lines: Vec<&str> = lock.lines().collect();
    for (index, pair) in lines.windows(2).enumerate() {
        let (Some(name), Some(version)) = (lock_field(pair[0], "name = \""), lock_field(pair[1], "version = \""))
        else {
            continue;
        };
        if name.starts_with("aws-lc") {
            complaints.push(format!("Cargo.lock:{}: {name}: a second TLS provider beside ring", index + 1));
        }
        let is_arrow = name == "parquet" || name == "arrow" || name.starts_with("arrow-");
        if is_arrow && arrows.insert(name, version).is_some() {
            complaints.push(format!("Cargo.lock:{}: {name} is there twice", index + 1));
        }
    }
    let versions: BTreeSet<&str> = arrows.values().copied().collect();
    assert!(arrows.contains_key("parquet") && arrows.contains_key("arrow-array"), "{arrows:?}");
    if versions.len() > 1 {
        complaints.push(format!("Cargo.lock: arrow and parquet in several versions: {arrows:?}"));
    }
    report(&complaints);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    let mut documents = files_below("docs", ".md");
    documents.extend(["README.md".to_owned(), "CHANGELOG.md".to_owned()]);
    for document in documents {
        let folder = project().join(&document).parent().expect("a file lies in a folder").to_owned();
        for (index, line) in read(&document).lines().enumerate() {
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                let path = target.split('#').next().unwrap_or_default();
                let is_local = !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:");
                if is_local && !folder.join(path).exists() {
                    complaints.push(format!("{document}:{}: link to `{path}`, which does not exist", index + 1));
                }
            }
        }
    }
    report(&complaints);
}

/// All kinds of failure; `the_operations_page_lists_every_error` notices if one is missing here.
const KINDS: &[ErrorKind] = &[
    ErrorKind::Usage,
    ErrorKind::Config,
    ErrorKind::ObjectUnreadable,
    ErrorKind::ColumnMissing,
    ErrorKind::ColumnUnusable,
    ErrorKind::ReportUnknown,
    ErrorKind::ReportUnreadable,
    ErrorKind::PayloadUnusable,
    ErrorKind::LabelMalformed,
    ErrorKind::LabelRefused,
    ErrorKind::ValueUnusable,
    ErrorKind::NotConserved,
    ErrorKind::NoObjects,
    ErrorKind::ObjectsDisappeared,
    ErrorKind::ChangeTooLarge,
    ErrorKind::TwoManifests,
    ErrorKind::SomeDaysFailed,
    ErrorKind::MemoryBudget,
    ErrorKind::ObjectChanged,
    ErrorKind::StorageUnavailable,
    ErrorKind::KeyUnusable,
    ErrorKind::ObjectArchived,
    ErrorKind::FewerObjects,
    ErrorKind::ObjectInconsistent,
    ErrorKind::StorageAnswerUnusable,
    ErrorKind::ClocksDiffer,
    ErrorKind::BucketMissing,
    ErrorKind::AccessDenied,
    ErrorKind::CertificateRefused,
    ErrorKind::DatabaseUnavailable,
    ErrorKind::DatabaseFull,
    ErrorKind::LockBusy,
    ErrorKind::HeldByOthers,
    ErrorKind::LoginRefused,
    ErrorKind::TargetShape,
    ErrorKind::PrivilegeMissing,
    ErrorKind::RowsHidden,
    ErrorKind::RowsAltered,
    ErrorKind::DatabaseRefused,
    ErrorKind::ReportPeriodMissing,
    ErrorKind::FileUnwritable,
    ErrorKind::NotComparable,
    ErrorKind::Interrupted,
    ErrorKind::Bug,
];

#[test]
fn the_operations_page_lists_every_error() {
    let page = read("docs/operations.md");
    let mut complaints = Vec::new();
    for kind in KINDS {
        let row = format!("| `{kind:?}` | {} | {} |", kind.exit_code(), kind.fix());
        if !page.lines().any(|line| line == row) {
            complaints.push(format!("docs/operations.md: this row is missing or differs:\n{row}"));
        }
    }
    report(&complaints);
    let to_report = KINDS.iter().filter(|kind| kind.fix() == ErrorKind::Bug.fix());
    assert_eq!(to_report.count(), 1, "a kind of src/error.rs has no fix of its own");

    let declared = tokens(&read("src/error.rs"));
    let start = declared.windows(2).position(|pair| pair[0].is_word("enum") && pair[1].is_word("ErrorKind"));
    let variants = declared[start.expect("src/error.rs declares ErrorKind")..]
        .iter()
        .take_while(|token| !token.is_mark('}'))
        .filter(|token| token.is_mark(','))
        .count();
    assert_eq!(KINDS.len(), variants, "a kind of src/error.rs is missing in tests/tidy.rs and docs/operations.md");
}

#[test]
fn the_reader_of_sources_understands_rust() {
    let source = r##"
        use crate::{schema::source, plan};
        // crate::comment
        fn f<'a>(x: &'a str) { let _ = ('"', b'x', "crate::text \" ", r#"raw " text"#, std::fs::read(x)); }
        #[cfg(test)]
        mod tests { use crate::sink; fn g() { x.unwrap(); } }
        use std::{collections::{BTreeMap, fs}, env};
    "##;
    let all = tokens(source);
    let code = without_tests(&all);
    let names = |root: &str| segments_after(&code, root).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("crate"), ["schema", "plan"]);
    assert_eq!(names("std"), ["fs", "collections", "env"]);
    let texts: Vec<&str> =
        code.iter().filter(|token| token.kind == Kind::Text).map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["crate::text \\\" ", "raw \" text"]);
    assert!(!code.iter().any(|token| token.is_word("unwrap")));
    assert_eq!(segments_after(&all, "crate").last(), Some(&("sink".to_owned(), 6)));
}

/// Words of OpenShift's reports and of the reference's tables, in lower case: parts of names and of texts, SQL among them.
const OPENSHIFT_WORDS: [&str; 13] = [
    "ocp",
    "openshift",
    "koku",
    "namespace",
    "cluster_id",
    "cluster_alias",
    "clusterid",
    "node_role",
    "noderole",
    "report_period",
    "reportperiod",
    "interval_start",
    "unallocated",
];

/// What PostgreSQL's own catalogs call theirs.
const CATALOG_WORDS: [&str; 4] = ["pg_namespace", "relnamespace", "typnamespace", "regnamespace"];

/// Folders that may know them: what is computed, the names of the outside world, and what makes or converts its reports.
const OPENSHIFT_FOLDERS: [&str; 5] = ["src/rollups/", "src/schema/", "src/generate/", "src/convert/", "src/objects/"];

/// How many tokens of a file's code hold such a word.
fn openshift_words(file: &SourceFile) -> usize {
    let is_one = |token: &&Token| {
        let text = CATALOG_WORDS.iter().fold(token.text.to_lowercase(), |text, word| text.replace(word, ""));
        token.kind != Kind::Comment && OPENSHIFT_WORDS.iter().any(|word| text.contains(word))
    };
    file.code.iter().filter(is_one).count()
}

#[test]
fn only_rollups_know_openshift_apart_from_a_debt_that_shrinks() {
    let files = production();
    let outside = files.iter().filter(|file| !OPENSHIFT_FOLDERS.iter().any(|folder| file.path.starts_with(folder)));
    let found: BTreeMap<&str, usize> =
        outside.map(|file| (file.path.as_str(), openshift_words(file))).filter(|(_, words)| *words > 0).collect();
    let known: BTreeMap<&str, usize> = OPENSHIFT_DEBT.iter().copied().collect();
    let mut complaints = Vec::new();
    for (path, words) in &found {
        match known.get(path) {
            None => complaints.push(format!("{path}: {words} words of OpenShift in a file that had none")),
            Some(before) if words > before => {
                complaints.push(format!("{path}: {words} words of OpenShift, {before} are known"))
            }
            Some(before) if words < before => {
                complaints.push(format!("{path}: {words} words left: lower tests/tidy/debt.rs from {before}"))
            }
            Some(_) => {}
        }
    }
    let gone = known.keys().filter(|path| !found.contains_key(*path));
    complaints.extend(gone.map(|path| format!("{path}: no word is left: take it out of tests/tidy/debt.rs")));
    report(&complaints);
}
