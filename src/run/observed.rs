//! A run that operators see: metrics and probes while it lasts, its report on standard output and in the files at its end.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use super::{RunOptions, run};
use crate::config::Config;
use crate::error::Failure;
use crate::telemetry::last_words;
use crate::telemetry::progress::Progress;
use crate::telemetry::report_file::write_json;
use crate::telemetry::server::MetricsServer;

/// Runs, tells how it went, and gives the exit code. The port answers until everything is told.
/// Errors: the port cannot be opened, nothing is begun then; the report's file cannot be written.
pub async fn run_and_tell(
    config: &Config,
    options: &RunOptions,
    progress: &Progress,
    report_file: Option<&Path>,
) -> Result<u8, Failure> {
    let health = Arc::clone(progress.health());
    let _server = config.metrics_listen.map(|listen| MetricsServer::start(listen, health)).transpose()?;
    // Who is told to stop takes no further work, and is not to be killed for standing still.
    let is_told = async {
        options.stopping.asked().await;
        progress.health().stopping();
        std::future::pending::<Infallible>().await
    };
    let report = tokio::select! {
        report = run(config, options, progress) => report,
        never = is_told => match never {},
    };
    let is_for_people = std::io::stdout().is_terminal();
    if is_for_people || !config.logging.json {
        print(&report.text());
    }
    if !is_for_people {
        print(&format!("{}\n", last_words::line(&report)));
    }
    last_words::leave(&config.logging.termination_log, &last_words::short_line(&report));
    if let Some(path) = report_file {
        write_json(path, &report)?;
    }
    Ok(report.exit_code)
}

/// A reader that closed the pipe has what it wanted.
fn print(text: &str) {
    let _unread = std::io::stdout().write_all(text.as_bytes());
}
