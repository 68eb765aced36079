//! What each command takes on the command line, with the text of `--help`.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use uuid::Uuid;

use crate::objects::DEFAULT_ROWS_PER_FILE;
use crate::verify::Tolerance;

#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Configuration file (see config/config.yaml for every key).
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Overrides one key, for instance `--set period.month=previous`; may be repeated. Secrets are refused here.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub(super) overrides: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// Write the report of the run to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// A period without any object is a success instead of an error. Never deletes anything.
    #[arg(long)]
    pub(super) allow_empty: bool,
    /// Write days again although nothing changed that their rows are made from. What target.guard refuses it refuses all the same.
    #[arg(long)]
    pub(super) force: bool,
    /// Days without any input row lose their old rows in the target instead of keeping them. A month without any object is
    /// never touched.
    #[arg(long)]
    pub(super) delete_empty_days: bool,
    /// Share the days with other pods that run the same: this is number INDEX, from 0, of COUNT [default: JOB_COMPLETION_INDEX and
    /// JOB_COMPLETION_COUNT, else it runs alone].
    #[arg(long, value_name = "INDEX/COUNT")]
    pub(super) shard: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// A period without any object is no error.
    #[arg(long)]
    pub(super) allow_empty: bool,
    /// Also compute the days that a run would write, and print how their rows and totals differ from those in the target. Takes as
    /// long as the run, writes nothing, needs only SELECT.
    #[arg(long)]
    pub(super) diff: bool,
    /// Write the plan to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// `recompute` (the second engine over the source objects), a CSV file or a folder of them, or a table.
    #[arg(long, value_name = "recompute|FILE.csv|FOLDER|SCHEMA.TABLE")]
    pub(super) against: String,
    /// Configuration file whose target.postgres is the database of the table that --against names.
    #[arg(long, value_name = "FILE")]
    pub(super) against_config: Option<PathBuf>,
    /// Write what was found to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Relative tolerance of decimals; besides, the last of 15 places may differ by one. 0 asks for the same digits.
    #[arg(long, value_name = "RATIO", default_value_t = Tolerance::DEFAULT.relative)]
    pub(super) tolerance: f64,
}

#[derive(Debug, Args)]
pub(super) struct ShowConfigArguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    pub(super) config: Option<PathBuf>,
    /// Overrides one key; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    pub(super) overrides: Vec<String>,
    /// Print the JSON schema of the configuration instead.
    #[arg(long)]
    pub(super) schema: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// Whose numbers the SQL agrees with.
    #[arg(long, value_enum, default_value = "balanced")]
    pub(super) semantics: SemanticsName,
}

/// The names of `semantics` in the configuration.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum SemanticsName {
    /// The books close.
    Balanced,
    /// As the reference's SQL on PostgreSQL.
    SelfHosted,
    /// As the reference's SQL on Trino.
    Trino,
}

/// How generated label columns are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Labels {
    /// JSON text, as the reference writes it.
    Json,
    /// `MAP<string, string>`.
    Map,
}

#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    /// Folder that will hold `data/` and `manifest.json`; must not hold them yet.
    #[arg(long, value_name = "DIR", required_unless_present = "config", conflicts_with = "config")]
    pub(super) out: Option<PathBuf>,
    /// Write into the `storage` of this configuration instead. Its organisation, source and period are what `--org-id`,
    /// `--source-uuid`, `--cluster-id`, `--start-date` and `--days` default to, so that `run` finds the rows.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Overrides one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE", requires = "config")]
    pub(super) overrides: Vec<String>,
    /// Hourly pod rows in all.
    #[arg(long, default_value_t = 100_000)]
    pub(super) rows: u64,
    /// Days over which they are spread [default: 30, or those of the configuration].
    #[arg(long)]
    pub(super) days: Option<u32>,
    /// First day [default: 2025-10-01, or that of the configuration].
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) start_date: Option<NaiveDate>,
    /// Other seeds give other clusters; the same arguments give the same bytes.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How label columns are stored.
    #[arg(long, value_enum, default_value = "json")]
    pub(super) labels: Labels,
    /// Give every second pod a label text of its own, so that dictionary pages overflow.
    #[arg(long)]
    pub(super) unique_labels: bool,
    /// Give every second pod another label text each hour: `--rows 2000000 --days 1` is a day of a million label sets.
    #[arg(long)]
    pub(super) hourly_labels: bool,
    /// Also volumes.
    #[arg(long)]
    pub(super) storage: bool,
    /// Also the daily objects.
    #[arg(long)]
    pub(super) daily: bool,
    /// Organisation segment of the keys.
    #[arg(long)]
    pub(super) org_id: Option<String>,
    /// Source uuid. Where the configuration lists several sources: which of them.
    #[arg(long, value_name = "UUID")]
    pub(super) source_uuid: Option<Uuid>,
    /// Cluster id, noted in the manifest.
    #[arg(long)]
    pub(super) cluster_id: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true))]
pub(super) struct ConvertArguments {
    /// A folder of CSV files, one CSV file, or a payload (`.tar.gz` with its manifest.json).
    #[arg(long = "in", value_name = "PATH")]
    pub(super) input: PathBuf,
    /// Folder that will hold `data/`.
    #[arg(long, value_name = "DIR", group = "where")]
    pub(super) out: Option<PathBuf>,
    /// Takes organisation, source and cluster from a configuration, and its storage unless `--out` names a folder.
    #[arg(long, value_name = "FILE", group = "where")]
    pub(super) config: Option<PathBuf>,
    /// Overrides one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE", requires = "config")]
    pub(super) overrides: Vec<String>,
    /// Organisation segment of the keys.
    #[arg(long, required_unless_present = "config")]
    pub(super) org_id: Option<String>,
    /// Source uuid. Where the configuration lists several sources: which of them.
    #[arg(long, value_name = "UUID", required_unless_present = "config")]
    pub(super) source_uuid: Option<Uuid>,
    /// Cluster id that the manifest must name.
    #[arg(long)]
    pub(super) cluster_id: Option<String>,
    /// Name of the delivery in the objects' names; without it the manifest's uuid, or 1.
    #[arg(long, value_name = "ID")]
    pub(super) manifest_id: Option<String>,
    /// Most rows of an object.
    #[arg(long, default_value_t = DEFAULT_ROWS_PER_FILE)]
    pub(super) rows_per_file: u32,
    /// Threads that compute; three quarters of the CPUs if absent.
    #[arg(long)]
    pub(super) workers: Option<usize>,
    /// Replace what an earlier conversion of the same delivery wrote.
    #[arg(long)]
    pub(super) replace: bool,
    /// Write what was converted and what was dropped to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
}
