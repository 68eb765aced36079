//! YAML text, environment and `--set` → one validated, immutable `Config`; every problem is reported at once.

mod effective;
mod expand;
mod header_text;
mod json_schema;
mod load;
mod location;
mod overrides;
mod pages;
mod period;
mod problem;
mod registry;
mod settings;
mod shard;
mod sources;
mod suggest;
mod tree;
mod validate;
mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use uuid::Uuid;

use crate::rollups::facts::{CostCategory, NodeRole};
use crate::rollups::semantics::Semantics;
use crate::time::UsageDay;
use crate::units::Bytes;

pub use effective::{Effective, effective_yaml};
pub use header_text::{check_control_characters, check_header_text, without_line_end};
pub use json_schema::{json_schema, json_schema_text};
pub use load::{Input, Resolved, load, load_resolved, parse, resolve};
pub use pages::{commented_config, reference_page};
pub use problem::{ConfigProblems, Place, Problem};
pub use shard::{Shard, shard_of, shard_of_environment};

/// What one run does. Built by `load`, never changed afterwards.
#[derive(Debug, Clone)]
pub struct Config {
    /// Key segment of the organisation in object keys (contract, section 1.1); a leading `acct` is removed.
    pub org_id: String,
    /// The cluster that a stage works for: the first where there are several.
    pub source: Source,
    /// The clusters after it, where `sources` lists several.
    pub other_sources: Vec<Source>,
    /// Days to build, resolved against the clock at load time.
    pub period: Period,
    /// Where the reports lie.
    pub storage: Storage,
    /// Where the rows go.
    pub target: Target,
    /// Connection to PostgreSQL; present if the target or the reference data need it.
    pub postgres: Option<Postgres>,
    /// Which of the three named behaviours.
    pub semantics: Semantics,
    /// `labels.on_malformed`.
    pub on_malformed_label: OnMalformedLabel,
    /// `on_bad_day`.
    pub on_bad_day: OnBadDay,
    /// `input.on_two_manifests`.
    pub on_two_manifests: OnTwoManifests,
    /// `input.on_disappeared`.
    pub on_disappeared: OnDisappeared,
    /// `target.guard.max_change_percent`; absent: any change is written.
    pub max_change_percent: Option<f64>,
    /// `target.guard.min_objects_percent`; 0 accepts any number.
    pub min_objects_percent: f64,
    /// Where the small tables come from. One copy for the views of all sources: inline lists may be long.
    pub reference: Arc<Reference>,
    /// Threads and memory.
    pub performance: Performance,
    /// How days are shared between pods.
    pub claims: Claims,
    /// Seconds that a COPY under way may still take after SIGTERM.
    pub stopping_grace_seconds: u64,
    /// Log format and level, termination log.
    pub logging: Logging,
    /// `metrics.listen`: where metrics and probes are served; absent: nowhere.
    pub metrics_listen: Option<SocketAddr>,
}

impl Config {
    /// The same configuration once per source, each for that source alone. Files of several sources have a folder each: their
    /// names are days, and every source has the same days.
    pub fn per_source(&self) -> Vec<Config> {
        if self.other_sources.is_empty() {
            return vec![self.clone()];
        }
        self.sources().map(|source| self.of_source(source)).collect()
    }

    /// All clusters in the order in which they are listed.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.source).chain(&self.other_sources)
    }

    fn of_source(&self, source: &Source) -> Config {
        let mut config = Config { source: source.clone(), other_sources: Vec::new(), ..self.clone() };
        if let Target::File { path, .. } = &mut config.target {
            path.push(source.folder_name());
        }
        config
    }
}

/// One cluster.
#[derive(Debug, Clone)]
pub struct Source {
    /// Provider uuid: the `source=` folder, lower case with dashes.
    pub uuid: Uuid,
    /// Stamped on every row; at most 50 characters.
    pub cluster_id: String,
    /// Stamped on every row; at most 256 characters.
    pub cluster_alias: String,
    /// Stamped on every row; looked up if absent.
    pub report_period_id: Option<i32>,
}

impl Source {
    /// Name of the folder with its files where several sources have one; the objects of a source lie under the same name.
    pub fn folder_name(&self) -> String {
        format!("source={}", self.uuid)
    }
}

/// An inclusive range of days in UTC; `crate::time::Window::split_by_month` cuts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// First day.
    pub start: UsageDay,
    /// Last day.
    pub end: UsageDay,
    /// The day that is running now in UTC: it and later days are marked incomplete.
    pub today: UsageDay,
}

/// Where the reports lie: the folder that holds `data/`.
#[derive(Debug, Clone)]
pub enum Location {
    /// `s3://bucket[/prefix]`
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Path inside it without slashes at its ends; may be empty.
        prefix: String,
    },
    /// `file:///folder`
    Folder(PathBuf),
}

/// Access to the object store.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Bucket or folder.
    pub location: Location,
    /// URL of an S3 server other than AWS.
    pub endpoint: Option<String>,
    /// Region for signatures.
    pub region: String,
    /// Static access key; absent: the provider chain of object_store.
    pub access_key: Option<SecretString>,
    /// Static secret key.
    pub secret_key: Option<SecretString>,
    /// Whether plain http is accepted.
    pub allow_http: bool,
    /// `https://host/bucket/key` instead of `https://bucket.host/key`.
    pub path_style: bool,
    /// PEM file with further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// `storage.compare_objects_by`.
    pub compare_objects_by: CompareObjectsBy,
    /// Requests under way at once.
    pub concurrent_requests: usize,
    /// Seconds until a connection must stand.
    pub connect_timeout_seconds: u64,
    /// Seconds until a request must be answered in full.
    pub request_timeout_seconds: u64,
    /// Attempts after the first one.
    pub retries: usize,
    /// Seconds that one request may take with all its attempts.
    pub retry_seconds: u64,
}

/// Where the rows go.
#[derive(Debug, Clone)]
pub enum Target {
    /// The table of `Config::postgres`.
    Postgres,
    /// One file per day.
    File {
        /// Folder.
        path: PathBuf,
        /// `csv` or `parquet`.
        format: FileFormat,
    },
    /// Counted and dropped.
    None,
}

/// Format of the file target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Comma-separated text.
    Csv,
    /// Parquet.
    Parquet,
}

/// Connection to PostgreSQL and what is replaced there.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Host name, address, or folder of a Unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Password; absent: none is sent.
    pub password: Option<SecretString>,
    /// Schema of the target table.
    pub schema: String,
    /// Name of the target table.
    pub table: String,
    /// Which old rows a day's rows replace.
    pub replace: Replace,
    /// TLS.
    pub ssl_mode: SslMode,
    /// PEM file with the authorities that may sign the server's certificate; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// Days written at the same time.
    pub connections: usize,
    /// Seconds until a connection must stand.
    pub connect_timeout_seconds: u64,
    /// Seconds one statement, or one COPY without progress, may take.
    pub statement_timeout_seconds: u64,
    /// Seconds to wait for the lock of a day.
    pub lock_timeout_seconds: u64,
    /// Attempts at a day after the first one.
    pub retries: usize,
    /// Seconds after which no further attempt at the same day begins.
    pub retry_seconds: u64,
    /// Whether the reference's own advisory locks are taken as well.
    pub reference_locks: bool,
    /// Most days that all pods together write at once; absent: as many as they have connections.
    pub max_writers: Option<usize>,
}

/// Which old rows of a day are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// Only rows this rollup wrote.
    Own,
    /// What the reference deletes: cost-model and distribution rows too.
    Reference,
}

/// TLS towards PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Plain text.
    Disable,
    /// Encrypted, certificate unchecked.
    Require,
    /// Certificate checked, name unchecked.
    VerifyCa,
    /// Certificate and name checked.
    VerifyFull,
}

/// What a malformed label text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMalformedLabel {
    /// The day fails.
    Error,
    /// Taken as `{}`, counted and reported (`semantics: balanced` only).
    Empty,
}

/// What happens to the other days when one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadDay {
    /// They are written.
    Continue,
    /// No further day is started.
    Stop,
}

/// What two deliveries of one report type and day do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTwoManifests {
    /// Reported.
    Warn,
    /// The day fails.
    Error,
}

/// How versions of an object are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareObjectsBy {
    /// By entity tag and size.
    Etag,
    /// By size and time of the upload.
    SizeAndTime,
}

/// What a day does that the ledger has and whose objects are all gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisappeared {
    /// It fails and keeps its rows.
    Error,
    /// It is a day without input.
    Accept,
}

/// Where the small tables come from.
#[derive(Debug, Clone)]
pub struct Reference {
    /// PostgreSQL or the configuration.
    pub from: ReferenceFrom,
    /// Where node roles come from.
    pub node_roles: NodeRoles,
}

/// Source of enabled keys and cost categories.
#[derive(Debug, Clone)]
pub enum ReferenceFrom {
    /// Tables in a schema of `Config::postgres`.
    Postgres {
        /// Schema of the small tables.
        schema: String,
    },
    /// Written in the configuration.
    Inline {
        /// Label keys that are kept.
        enabled_tag_keys: Vec<String>,
        /// LIKE patterns and their category.
        cost_categories: Vec<CostCategory>,
    },
}

/// Source of node roles.
#[derive(Debug, Clone)]
pub enum NodeRoles {
    /// The reference's node table (only with `ReferenceFrom::Postgres`).
    Postgres,
    /// Written in the configuration.
    Inline(Vec<NodeRole>),
    /// Computed from the usage of the window (contract, section 3.3).
    Derive,
}

/// Threads and memory; `None` means `auto`.
#[derive(Debug, Clone, Copy)]
pub struct Performance {
    /// Threads of the CPU pool; auto: three quarters of the CPUs, rounded up.
    pub max_workers: Option<usize>,
    /// Bytes for chunks in flight and the state of open days; auto: half of the memory limit.
    pub memory_budget: Option<Bytes>,
    /// What the process may use in all; auto: what the container or the machine has.
    pub memory_limit: Option<Bytes>,
}

/// Days that several pods share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Seconds that a claim on a day holds without being renewed.
    pub lease_seconds: u64,
    /// Longest time to wait for days of other pods without any of them being written.
    pub wait_seconds: u64,
}

/// Logs.
#[derive(Debug, Clone)]
pub struct Logging {
    /// Text or JSON.
    pub json: bool,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// File for the final report in short.
    pub termination_log: PathBuf,
}

/// Where Kubernetes looks for the last words of a container, unless told otherwise.
pub const TERMINATION_LOG: &str = "/dev/termination-log";
