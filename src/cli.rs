//! Command line → one of the commands → exit code.

mod arguments;
mod stopped;

use std::path::Path;
use std::time::Duration;

use clap::{Parser, Subcommand};
use uuid::Uuid;

use crate::config::{self, Config, Resolved, TERMINATION_LOG};
use crate::convert::{ConvertOptions, ConvertTarget, convert_until};
use crate::error::{ErrorKind, Failure};
use crate::generate::{GenerateError, GenerateOptions, LabelStyle, Output, generate};
use crate::init_db::{InitOptions, init_db_until as make_ready};
use crate::rollups::reference_sql;
use crate::rollups::semantics::Semantics;
use crate::run::observed::run_and_tell;
use crate::run::planning::{PlanOptions, plan_period};
use crate::run::verify::{VerifyOptions, verify_target};
use crate::run::{RunOptions, check};
use crate::runtime::limits;
use crate::runtime::stopping::Stopping;
use crate::store::Store;
use crate::telemetry::progress::Progress;
use crate::telemetry::report_file::write_json;
use crate::telemetry::{last_words, logs};
use crate::time::{UsageDay, Window};
use crate::verify::{Against, Tolerance};
use arguments::{
    ConfigArguments, ConvertArguments, ExplainArguments, GenerateArguments, Labels, PlanArguments, RunArguments,
    SemanticsName, ShowConfigArguments, VerifyArguments,
};
use stopped::{new_runtime, stopping, until_stopped, until_taken_back, within_grace};

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
    /// Print what a run would read (days, objects, row groups, bytes, memory), which days it would leave out and why. Reads
    /// footers, the ledger, and what derived node roles come from if that changed. Writes nothing.
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
    let shard = config::shard_of_environment(arguments.shard.as_deref())
        .inspect_err(|failure| leave_failure(&config.logging.termination_log, failure))?;
    let progress = Progress::new();
    within_grace(Duration::from_secs(config.stopping_grace_seconds), async |stopping| {
        let options = RunOptions {
            allow_empty: arguments.allow_empty,
            delete_empty_days: arguments.delete_empty_days,
            force: arguments.force,
            shard,
            stopping,
            ..RunOptions::default()
        };
        run_and_tell(&config, &options, &progress, arguments.report.as_deref()).await
    })
    .and_then(|told| told)
    .inspect_err(|failure| leave_failure(&config.logging.termination_log, failure))
}

fn leave_failure(log: &Path, failure: &Failure) {
    last_words::leave(log, &last_words::failure_line(failure));
}

fn plan_command(arguments: &PlanArguments) -> Result<u8, Failure> {
    let config = load(&arguments.config)?.config;
    let options = PlanOptions { allow_empty: arguments.allow_empty, diff: arguments.diff };
    let progress = Progress::hidden();
    let report = until_stopped(plan_period(&config, options, &progress))?;
    print(&report.text());
    if let Some(path) = &arguments.report {
        write_json(path, &report)?;
    }
    Ok(report.exit_code)
}

fn check_command(arguments: &ConfigArguments) -> Result<u8, Failure> {
    let config = load(arguments)?.config;
    let found = until_stopped(async { Ok(check::check(&config).await) })?;
    print(&found.text());
    Ok(found.exit_code())
}

fn init_db_command(arguments: &ConfigArguments) -> Result<u8, Failure> {
    let config = load(arguments)?.config;
    // A statement that is given up is over at once: no grace.
    let lines = within_grace(Duration::ZERO, async |stopping| init_db(&config, &stopping).await)??;
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
    let reports = until_stopped(verify_target(&config, &options, &progress))?;
    print(&reports.text());
    if let Some(path) = &arguments.report {
        write_json(path, &reports)?;
    }
    Ok(reports.exit_code())
}

async fn init_db(config: &Config, stopping: &Stopping) -> Result<Vec<String>, Failure> {
    let missing = || Failure::new(ErrorKind::Config, "init-db needs target.postgres");
    let postgres = config.postgres.as_ref().ok_or_else(missing)?;
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let months: Vec<_> = windows.into_iter().map(Window::month).collect();
    let reference_schema = match &config.reference.from {
        config::ReferenceFrom::Postgres { schema } => schema,
        config::ReferenceFrom::Inline { .. } => &postgres.schema,
    };
    let sources: Vec<_> = config.sources().cloned().collect();
    let options = InitOptions { reference_schema, months: &months, sources: &sources };
    make_ready(postgres, &options, Uuid::new_v4(), stopping).await
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
        Some(file) => {
            let config = config::load(file, &arguments.overrides)?;
            generate_into(&of_one_source(config, arguments.source_uuid, "generate")?, arguments, &runtime)?
        }
        None => {
            let folder = arguments.out.as_deref().expect("the parser asks for one of --out and --config");
            GenerateOptions::new(arguments.rows, arguments.days.unwrap_or(30), folder)
        }
    };
    options.stopping = stopping(&runtime)?;
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

/// The configuration for the one source that a command works for. Where a single source is configured, `--source-uuid` replaces
/// it; where several are, it says which.
fn of_one_source(config: Config, wanted: Option<Uuid>, command: &str) -> Result<Config, Failure> {
    if config.other_sources.is_empty() {
        return Ok(config);
    }
    let views = config.per_source();
    let usage = |text: String| Failure::new(ErrorKind::Usage, text);
    let wanted = wanted.ok_or_else(|| {
        let count = views.len();
        usage(format!("{command} works for one source and the configuration lists {count}; name it with --source-uuid"))
    })?;
    let named = views.into_iter().find(|view| view.source.uuid == wanted);
    named.ok_or_else(|| usage(format!("--source-uuid {wanted} is none of the sources that the configuration lists")))
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
    let report = until_taken_back(async |stop| convert_until(&options, stop).await)?;
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
            Some(of_one_source(config, arguments.source_uuid, "convert")?)
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

/// Standard output is the result; a reader that closed the pipe has what it wanted.
fn print(text: &str) {
    use std::io::Write;
    let _unread = std::io::stdout().write_all(text.as_bytes());
}
