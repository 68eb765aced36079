//! The list of all keys, each with type, range, unit, default and reason: what is accepted, what `config --schema`
//! prints, the shipped config.yaml and docs/configuration.md are all made from it. A new key is one more entry here.

mod input;
mod output;

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct Key {
    /// `storage.access_key`
    pub(super) path: &'static str,
    /// What values it takes.
    pub(super) kind: Kind,
    /// Unit of the value; empty where it has none.
    pub(super) unit: &'static str,
    /// What holds if it is not given.
    pub(super) default: Fallback,
    /// What it means.
    pub(super) doc: &'static str,
    /// Why the default is what it is, or why the key exists.
    pub(super) reason: &'static str,
    /// What the shipped config.yaml says.
    pub(super) shipped: &'static str,
}

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text of at most so many characters, without NUL.
    Text { max_chars: usize },
    /// Name of a schema or table: at most 63 bytes, as PostgreSQL cuts longer ones.
    Identifier,
    /// A text that is never printed.
    Secret,
    /// Path of a file that holds the secret of the same name.
    SecretFile,
    /// Path in the file system.
    Path,
    /// Whole number, both ends inclusive.
    Integer { min: i64, max: i64 },
    /// Number with or without decimal places, both ends inclusive.
    Number { min: i64, max: i64 },
    /// Whole number, or `auto`.
    AutoInteger { min: i64, max: i64 },
    /// Number of bytes such as `256MiB`, or `auto`.
    AutoBytes,
    /// `true` or `false`
    Flag,
    /// One of some words; the pairs are other spellings and the word they stand for.
    Choice { names: &'static [&'static str], aliases: &'static [(&'static str, &'static str)] },
    /// Uuid in any case.
    Uuid,
    /// `YYYY-MM-DD`
    Date,
    /// `current`, `previous` or `YYYY-MM`
    Month,
    /// List of texts.
    TextList,
    /// List of `{namespace, cost_category_id}`.
    CostCategories,
    /// List of `{node, resource_id, role}`, or `derive`.
    NodeRoles,
    /// List of `{uuid, cluster_id, cluster_alias, report_period_id}`.
    Sources,
}

/// What holds if a key is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Nothing does: the key is required.
    Required,
    /// The key is required in the case that the text describes.
    RequiredIf(&'static str),
    /// This value, as one would write it.
    Fixed(&'static str),
    /// A value that follows from others; the text says from which.
    Derived(&'static str),
    /// Nothing, and that is fine; the text says what happens then.
    Unset(&'static str),
}

/// A group of keys.
#[derive(Debug)]
pub(super) struct Section {
    /// `target.postgres`
    pub(super) path: &'static str,
    /// What its keys are about.
    pub(super) doc: &'static str,
}

/// All sections, parents before children.
pub(super) const SECTIONS: &[Section] = &[
    Section { path: "organization", doc: "Whose data it is." },
    Section {
        path: "source",
        doc: "The one OpenShift cluster whose usage is summed up; `sources` at the top level lists several instead.",
    },
    Section {
        path: "period",
        doc: "The days to build, in UTC. Exactly one of three forms: start_date with end_date, or month, or last_days. Days \
              that are not over yet are built too and marked incomplete.",
    },
    Section { path: "storage", doc: "Where the Parquet objects lie." },
    Section { path: "input", doc: "What counts as sound input." },
    Section { path: "labels", doc: "How label texts are read." },
    Section { path: "target", doc: "Where the daily rows go." },
    Section { path: "target.file", doc: "Files instead of a database; used if target.kind is file." },
    Section { path: "target.guard", doc: "What a day may not do to the rows that it replaces." },
    Section {
        path: "target.postgres",
        doc: "The database; used if target.kind is postgres, and for reading if reference.from is postgres.",
    },
    Section { path: "reference", doc: "The small tables that the rollup needs besides usage." },
    Section { path: "performance", doc: "Threads and memory. Neither changes a result." },
    Section {
        path: "claims",
        doc: "Days that several pods share (`run --shard`, indexed Jobs), with target.kind: postgres.",
    },
    Section { path: "stopping", doc: "What happens after SIGTERM or SIGINT." },
    Section { path: "logging", doc: "Log lines on standard error, and what is left behind at the end." },
    Section { path: "metrics", doc: "Figures for Prometheus and answers to probes, while a run is under way." },
];

/// Keys of an entry of `reference.cost_categories`.
pub(super) const COST_CATEGORY_KEYS: &[&str] = &["namespace", "cost_category_id"];
/// Keys of an entry of `sources`: those of `source`.
pub(super) const SOURCE_KEYS: &[&str] = &["uuid", "cluster_id", "cluster_alias", "report_period_id"];
/// Keys of an entry of `reference.node_roles`.
pub(super) const NODE_ROLE_KEYS: &[&str] = &["node", "resource_id", "role"];

/// All keys in the order of the shipped file.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    input::KEYS.iter().chain(output::KEYS)
}

/// The key at a path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    keys().find(|key| key.path == path)
}

/// The section at a path.
pub(super) fn find_section(path: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// Paths of all sections and keys.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|section| section.path).chain(keys().map(|key| key.path))
}

impl Kind {
    /// Type and range in words.
    pub(super) fn describe(self) -> String {
        match self {
            Kind::Text { max_chars } => format!("text, 1 to {max_chars} characters"),
            Kind::Identifier => "text, 1 to 63 bytes".to_owned(),
            Kind::Secret => "text, never printed".to_owned(),
            Kind::SecretFile => "path of a file of at most 64 KiB".to_owned(),
            Kind::Path => "path".to_owned(),
            Kind::Integer { min, max } if min == max => format!("the number {min}"),
            Kind::Integer { min, max } => format!("whole number, {min} to {max}"),
            Kind::Number { min, max } => format!("number, {min} to {max}"),
            Kind::AutoInteger { min, max } => format!("auto, or a whole number, {min} to {max}"),
            Kind::AutoBytes => "auto, or a size such as 256MiB, 1GiB or 1048576, at least 1".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::Choice { names, .. } => names.join(", "),
            Kind::Uuid => "uuid".to_owned(),
            Kind::Date => "YYYY-MM-DD, 1970-01-01 to 9999-12-31".to_owned(),
            Kind::Month => "current, previous or YYYY-MM, 1970-01 to 9999-12".to_owned(),
            Kind::TextList => "list of texts".to_owned(),
            Kind::CostCategories => "list of {namespace, cost_category_id}".to_owned(),
            Kind::NodeRoles => "derive, or a list of {node, resource_id, role}".to_owned(),
            Kind::Sources => "list of {uuid, cluster_id, cluster_alias, report_period_id}".to_owned(),
        }
    }

    /// Whether the value must never be printed.
    pub(super) fn is_secret(self) -> bool {
        self == Kind::Secret
    }
}

impl Fallback {
    /// The default in words.
    pub(super) fn describe(self) -> String {
        match self {
            Fallback::Required => "none; required".to_owned(),
            Fallback::RequiredIf(case) => format!("none; required if {case}"),
            Fallback::Fixed(text) => text.to_owned(),
            Fallback::Derived(text) => text.to_owned(),
            Fallback::Unset(text) => format!("none; {text}"),
        }
    }
}
