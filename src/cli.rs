//! Command line → one of the commands → exit code.

use std::future::Future;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::config::{self, Config, Resolved, TERMINATION_LOG};
use crate::convert::{ConvertOptions, ConvertTarget, convert_until};
use crate::error::{ErrorKind, Failure};
use crate::generate::{GenerateError, GenerateOptions, LabelStyle, Output, generate};
use crate::init_db::{InitOptions, init_db as make_ready};
use crate::objects::DEFAULT_ROWS_PER_FILE;
use crate::rollups::reference_sql;
use crate::rollups::semantics::Semantics;
use crate::run::observed::run_and_tell;
use crate::run::verify::{VerifyOptions, verify_target};
use crate::run::{self, RunOptions, check};
use crate::runtime::limits;
use crate::runtime::stopping::stop_signal;
use crate::store::Store;
use crate::telemetry::progress::Progress;
use crate::telemetry::report_file::write_json;
use crate::telemetry::{last_words, logs};
use crate::time::{UsageDay, Window};
use crate::verify::{Against, Tolerance};

/// Grinds raw OpenShift usage (Parquet in S3, MinIO or a folder) into exact daily rows in PostgreSQL.
///
/// Start with `gristmill check --config FILE`, which reports everything that would stop a run, then `gristmill run`.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Aggregate a period and write it to the target, replacing each day as a whole.
    Run(RunArguments),
    /// Print what a run would read: days, objects, row groups, bytes, memory. Reads footers only, writes nothing.
    Plan(PlanArguments),
    /// Look for everything that would stop a run and say how to mend it. Writes nothing.
    Check(ConfigArguments),
    /// Create schema, tables, partitions and ledger on an empty database; only the ledger beside existing tables.
    InitDb(ConfigArguments),
    /// Compare what lies in the target with something else, row by row. Writes nothing. Exits 0 only if everything was
    /// compared and is equal, 1 for differences, 2 if nothing could be compared.
    Verify(VerifyArguments),
    /// Print the effective configuration with secrets redacted, or its JSON schema.
    Config(ShowConfigArguments),
    /// Make synthetic usage reports to try things with, in a folder or where a configuration expects them.
    Generate(GenerateArguments),
    /// Print the rollup as SQL, commented: what the second engine runs to compare.
    Explain(ExplainArguments),
    /// Convert the cluster operator's CSV reports into the Parquet objects that a run reads.
    Convert(ConvertArguments),
}

#[derive(Debug, Args)]
struct ConfigArguments {
    /// Configuration file (see config/config.yaml for every key).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Overrides one key, for instance `--set period.month=previous`; may be repeated. Secrets are refused here.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Write the report of the run to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// A period without any object is a success instead of an error. Never deletes anything.
    #[arg(long)]
    allow_empty: bool,
    /// Days without any input row lose their old rows in the target instead of keeping them. A month without any object is
    /// never touched.
    #[arg(long)]
    delete_empty_days: bool,
}

#[derive(Debug, Args)]
struct PlanArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// A period without any object is no error.
    #[arg(long)]
    allow_empty: bool,
}

#[derive(Debug, Args)]
struct VerifyArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// `recompute` (the second engine over the source objects), a CSV file or a folder of them, or a table.
    #[arg(long, value_name = "recompute|FILE.csv|FOLDER|SCHEMA.TABLE")]
    against: String,
    /// Configuration file whose target.postgres is the database of the table that --against names.
    #[arg(long, value_name = "FILE")]
    against_config: Option<PathBuf>,
    /// Write what was found to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Relative tolerance of decimals; besides, the last of 15 places may differ by one. 0 asks for the same digits.
    #[arg(long, value_name = "RATIO", default_value_t = Tolerance::DEFAULT.relative)]
    tolerance: f64,
}

#[derive(Debug, Args)]
struct ShowConfigArguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", required_unless_present = "schema")]
    config: Option<PathBuf>,
    /// Overrides one key; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    overrides: Vec<String>,
    /// Print the JSON schema of the configuration instead.
    #[arg(long)]
    schema: bool,
}

#[derive(Debug, Args)]
struct ExplainArguments {
    /// Whose numbers the SQL agrees with.
    #[arg(long, value_enum, default_value = "balanced")]
    semantics: SemanticsName,
}

/// The names of `semantics` in the configuration.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum SemanticsName {
    /// The books close.
    Balanced,
    /// As the reference's SQL on PostgreSQL.
    SelfHosted,
    /// As the reference's SQL on Trino.
    Trino,
}

/// How generated label columns are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Labels {
    /// JSON text, as the reference writes it.
    Json,
    /// `MAP<string, string>`.
    Map,
}

#[derive(Debug, Args)]
struct GenerateArguments {
    /// Folder that will hold `data/` and `manifest.json`; must not hold them yet.
    #[arg(long, value_name = "DIR", required_unless_present = "config", conflicts_with = "config")]
    out: Option<PathBuf>,
    /// Write into the `storage` of this configuration instead. Its organisation, source and period are what `--org-id`,
    /// `--source-uuid`, `--cluster-id`, `--start-date` and `--days` default to, so that `run` finds the rows.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE", requires = "config")]
    overrides: Vec<String>,
    /// Hourly pod rows in all.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Days over which they are spread [default: 30, or those of the configuration].
    #[arg(long)]
    days: Option<u32>,
    /// First day [default: 2025-10-01, or that of the configuration].
    #[arg(long, value_name = "YYYY-MM-DD")]
    start_date: Option<NaiveDate>,
    /// Other seeds give other clusters; the same arguments give the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How label columns are stored.
    #[arg(long, value_enum, default_value = "json")]
    labels: Labels,
    /// Give every second pod a label text of its own, so that dictionary pages overflow.
    #[arg(long)]
    unique_labels: bool,
    /// Give every second pod another label text each hour: `--rows 2000000 --days 1` is a day of a million label sets.
    #[arg(long)]
    hourly_labels: bool,
    /// Also volumes.
    #[arg(long)]
    storage: bool,
    /// Also the daily objects.
    #[arg(long)]
    daily: bool,
    /// Organisation segment of the keys.
    #[arg(long)]
    org_id: Option<String>,
    /// Source uuid.
    #[arg(long, value_name = "UUID")]
    source_uuid: Option<Uuid>,
    /// Cluster id, noted in the manifest.
    #[arg(long)]
    cluster_id: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true))]
struct ConvertArguments {
    /// A folder of CSV files, one CSV file, or a payload (`.tar.gz` with its manifest.json).
    #[arg(long = "in", value_name = "PATH")]
    input: PathBuf,
    /// Folder that will hold `data/`.
    #[arg(long, value_name = "DIR", group = "where")]
    out: Option<PathBuf>,
    /// Takes organisation, source and cluster from a configuration, and its storage unless `--out` names a folder.
    #[arg(long, value_name = "FILE", group = "where")]
    config: Option<PathBuf>,
    /// Overrides one key of the configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE", requires = "config")]
    overrides: Vec<String>,
    /// Organisation segment of the keys.
    #[arg(long, required_unless_present = "config")]
    org_id: Option<String>,
    /// Source uuid.
    #[arg(long, value_name = "UUID", required_unless_present = "config")]
    source_uuid: Option<Uuid>,
    /// Cluster id that the manifest must name.
    #[arg(long)]
    cluster_id: Option<String>,
    /// Name of the delivery in the objects' names; without it the manifest's uuid, or 1.
    #[arg(long, value_name = "ID")]
    manifest_id: Option<String>,
    /// Most rows of an object.
    #[arg(long, default_value_t = DEFAULT_ROWS_PER_FILE)]
    rows_per_file: u32,
    /// Threads that compute; three quarters of the CPUs if absent.
    #[arg(long)]
    workers: Option<usize>,
    /// Replace what an earlier conversion of the same delivery wrote.
    #[arg(long)]
    replace: bool,
    /// Write what was converted and what was dropped to this file as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs a command; the exit code is that of docs/operations.md.
pub fn execute(cli: Cli) -> u8 {
    let result = match cli.command {
        Command::Run(arguments) => run_command(&arguments),
        Command::Plan(arguments) => plan_command(&arguments),
        Command::Check(arguments) => check_command(&arguments),
        Command::InitDb(arguments) => init_db_command(&arguments),
        Command::Verify(arguments) => verify_command(&arguments),
        Command::Config(arguments) => config_command(&arguments),
        Command::Generate(arguments) => generate_command(&arguments),
        Command::Explain(arguments) => explain_command(&arguments),
        Command::Convert(arguments) => convert_command(&arguments),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("error: {}", failure.full_text());
        failure.kind.exit_code()
    })
}

fn load(arguments: &ConfigArguments) -> Result<Resolved, Failure> {
    let resolved = config::load_resolved(&arguments.config, &arguments.overrides)?;
    logs::start(&resolved.config.logging);
    Ok(resolved)
}

fn run_command(arguments: &RunArguments) -> Result<u8, Failure> {
    let config =
        load(&arguments.config).inspect_err(|failure| leave_failure(Path::new(TERMINATION_LOG), failure))?.config;
    let options = RunOptions {
        allow_empty: arguments.allow_empty,
        delete_empty_days: arguments.delete_empty_days,
        ..RunOptions::default()
    };
    let progress = Progress::new();
    let report = arguments.report.as_deref();
    until_stopped(run_and_tell(&config, &options, &progress, report))
        .inspect_err(|failure| leave_failure(&config.logging.termination_log, failure))
}

fn leave_failure(log: &Path, failure: &Failure) {
    last_words::leave(log, &last_words::failure_line(failure));
}

fn plan_command(arguments: &PlanArguments) -> Result<u8, Failure> {
    let config = load(&arguments.config)?.config;
    let options = RunOptions { allow_empty: arguments.allow_empty, ..RunOptions::default() };
    let progress = Progress::hidden();
    let text = until_stopped(run::plan_text(&config, &options, &progress))?;
    print(&text);
    Ok(0)
}

fn check_command(arguments: &ConfigArguments) -> Result<u8, Failure> {
    let config = load(arguments)?.config;
    let found = until_stopped(async { Ok(check::check(&config).await) })?;
    print(&found.text());
    Ok(found.exit_code())
}

fn init_db_command(arguments: &ConfigArguments) -> Result<u8, Failure> {
    let config = load(arguments)?.config;
    let lines = until_stopped(init_db(&config))?;
    lines.iter().for_each(|line| print(&format!("{line}\n")));
    Ok(0)
}

fn verify_command(arguments: &VerifyArguments) -> Result<u8, Failure> {
    if !(0.0..1.0).contains(&arguments.tolerance) {
        return Err(Failure::new(ErrorKind::Usage, "--tolerance is a ratio from 0 up to, not including, 1"));
    }
    let against = Against::parse(&arguments.against)?;
    if arguments.against_config.is_some() && !matches!(against, Against::Table(_)) {
        return Err(Failure::new(ErrorKind::Usage, "--against-config goes with --against SCHEMA.TABLE"));
    }
    let config = load(&arguments.config)?.config;
    let against_config = match &arguments.against_config {
        Some(path) => Some(config::load(path, &[])?),
        None => None,
    };
    let options = VerifyOptions { against, against_config, tolerance: Tolerance::relative(arguments.tolerance) };
    let progress = Progress::new();
    let report = until_stopped(verify_target(&config, &options, &progress))?;
    print(&report.text());
    if let Some(path) = &arguments.report {
        write_json(path, &report)?;
    }
    Ok(report.exit_code)
}

async fn init_db(config: &Config) -> Result<Vec<String>, Failure> {
    let missing = || Failure::new(ErrorKind::Config, "init-db needs target.postgres");
    let postgres = config.postgres.as_ref().ok_or_else(missing)?;
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let months: Vec<_> = windows.into_iter().map(Window::month).collect();
    let reference_schema = match &config.reference.from {
        config::ReferenceFrom::Postgres { schema } => schema,
        config::ReferenceFrom::Inline { .. } => &postgres.schema,
    };
    let source = config.source.report_period_id.is_none().then_some(&config.source);
    let options = InitOptions { reference_schema, months: &months, source };
    Ok(make_ready(postgres, &options, Uuid::new_v4()).await?)
}

fn config_command(arguments: &ShowConfigArguments) -> Result<u8, Failure> {
    if arguments.schema {
        print(&config::json_schema_text());
        return Ok(0);
    }
    let path = arguments.config.as_deref().unwrap_or(Path::new(""));
    let resolved = config::load_resolved(path, &arguments.overrides)?;
    print(&config::effective_yaml(&resolved.effective));
    // A comment, so that what is printed stays a configuration.
    let performance = &resolved.config.performance;
    print(&format!("# here: {}\n", limits::limits(performance.memory_limit)));
    Ok(0)
}

fn explain_command(arguments: &ExplainArguments) -> Result<u8, Failure> {
    let semantics = match arguments.semantics {
        SemanticsName::Balanced => Semantics::Balanced,
        SemanticsName::SelfHosted => Semantics::SelfHosted,
        SemanticsName::Trino => Semantics::Trino,
    };
    print(&reference_sql::explained(semantics));
    Ok(0)
}

fn generate_command(arguments: &GenerateArguments) -> Result<u8, Failure> {
    let runtime = new_runtime()?;
    let mut options = match &arguments.config {
        Some(file) => generate_into(&config::load(file, &arguments.overrides)?, arguments, &runtime)?,
        None => {
            let folder = arguments.out.as_deref().expect("the parser asks for one of --out and --config");
            GenerateOptions::new(arguments.rows, arguments.days.unwrap_or(30), folder)
        }
    };
    options.start = arguments.start_date.map_or(options.start, UsageDay::from_date);
    options.seed = arguments.seed;
    options.labels = match arguments.labels {
        Labels::Json => LabelStyle::Json,
        Labels::Map => LabelStyle::Map,
    };
    (options.unique_labels, options.hourly_labels) = (arguments.unique_labels, arguments.hourly_labels);
    options.storage = arguments.storage;
    options.daily = arguments.daily;
    options.org_id = arguments.org_id.clone().unwrap_or(options.org_id);
    options.source = arguments.source_uuid.unwrap_or(options.source);
    options.cluster_id = arguments.cluster_id.clone().unwrap_or(options.cluster_id);
    let report = generate(&options)?;
    print(&format!(
        "{} objects, {} nodes, {} namespaces; {} names them\n",
        report.objects.len(),
        report.node_count,
        report.namespace_count,
        report.manifest
    ));
    Ok(0)
}

/// Options that put the rows where a run with the same configuration looks for them.
fn generate_into(
    config: &Config,
    arguments: &GenerateArguments,
    runtime: &tokio::runtime::Runtime,
) -> Result<GenerateOptions, Failure> {
    let days = arguments.days.unwrap_or_else(|| (config.period.end.0 - config.period.start.0).unsigned_abs() + 1);
    let output = match &config.storage.location {
        // A folder may be new; everything else needs a client.
        config::Location::Folder(folder) => Output::Folder(folder.clone()),
        config::Location::S3 { .. } => {
            let store = Store::new(&config.storage).map_err(GenerateError::from)?;
            Output::Store { store, runtime: runtime.handle().clone() }
        }
    };
    Ok(GenerateOptions {
        out: output,
        start: config.period.start,
        org_id: config.org_id.clone(),
        source: config.source.uuid,
        cluster_id: config.source.cluster_id.clone(),
        ..GenerateOptions::new(arguments.rows, days, "")
    })
}

fn convert_command(arguments: &ConvertArguments) -> Result<u8, Failure> {
    let options = convert_options(arguments)?;
    // Stopped, it removes what it has written.
    let report =
        new_runtime()?.block_on(async { convert_until(&options, stop_signal().map_err(no_runtime)?).await })?;
    print(&report.text());
    if let Some(path) = &arguments.report {
        write_json(path, &report)?;
    }
    Ok(0)
}

/// What the command line says wins over the configuration.
fn convert_options(arguments: &ConvertArguments) -> Result<ConvertOptions, Failure> {
    let config = match &arguments.config {
        None => None,
        Some(path) => {
            let config = config::load_resolved(path, &arguments.overrides)?.config;
            logs::start(&config.logging);
            Some(config)
        }
    };
    let missing = |name: &str| Failure::new(ErrorKind::Usage, format!("convert needs `{name}` or `--config`"));
    let of_config = config.as_ref();
    let org_id = arguments.org_id.clone().or_else(|| of_config.map(|config| config.org_id.clone()));
    let source = arguments.source_uuid.or_else(|| of_config.map(|config| config.source.uuid));
    let folder = arguments.out.clone().map(ConvertTarget::Folder);
    let target = folder.or_else(|| of_config.map(|config| ConvertTarget::Storage(Box::new(config.storage.clone()))));
    let mut options = ConvertOptions::new(
        &arguments.input,
        target.ok_or_else(|| missing("--out"))?,
        org_id.ok_or_else(|| missing("--org-id"))?,
        source.ok_or_else(|| missing("--source-uuid"))?,
    );
    let cpus = limits::limits(None).cpus;
    let configured_workers = of_config.and_then(|config| config.performance.max_workers);
    options.workers = arguments.workers.or(configured_workers).unwrap_or_else(|| limits::default_workers(cpus));
    options.cluster_id =
        arguments.cluster_id.clone().or_else(|| of_config.map(|config| config.source.cluster_id.clone()));
    options.manifest_id.clone_from(&arguments.manifest_id);
    options.rows_per_file = arguments.rows_per_file;
    options.replace = arguments.replace;
    Ok(options)
}

/// Runs on a fresh runtime until the work ends or the process is told to stop. What is dropped then rolls back.
fn until_stopped<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    new_runtime()?.block_on(async {
        let stop = stop_signal().map_err(no_runtime)?;
        tokio::select! {
            result = work => result,
            failure = stop => Err(Failure { message: failure.message + "; nothing is half-written", ..failure }),
        }
    })
}

fn new_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure { kind: ErrorKind::Bug, message: "the async runtime cannot start".to_owned(), cause: Some(Box::new(error)) }
}

/// Standard output is the result; a reader that closed the pipe has what it wanted.
fn print(text: &str) {
    use std::io::Write;
    let _unread = std::io::stdout().write_all(text.as_bytes());
}
