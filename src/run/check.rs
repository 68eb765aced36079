//! Configuration → everything that would stop a run, with the fix for each. Nothing is written.

use std::fmt::Write;

use super::preflight::preflight;
use super::{Context, Resources, RunOptions, window};
use crate::config::{Config, Target};
use crate::error::Failure;
use crate::telemetry::progress::Progress;
use crate::time::Window;
use crate::units::Bytes;

/// What the look found.
#[derive(Debug, Default)]
pub struct Found {
    /// What is in order or worth knowing.
    notes: Vec<String>,
    /// Problems with their fix and the exit code a run would end with.
    problems: Vec<(String, String, u8)>,
}

impl Found {
    /// Lines for people: `ok`, then `problem` with its fix.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "ok       {note}");
        }
        for (what, fix, _) in &self.problems {
            let _infallible = writeln!(text, "problem  {what}\n         fix: {fix}");
        }
        let _infallible = match self.problems.len() {
            0 => writeln!(text, "nothing stands in the way of a run"),
            1 => writeln!(text, "1 problem"),
            count => writeln!(text, "{count} problems"),
        };
        text
    }

    /// 0, or the exit code of the first problem.
    pub fn exit_code(&self) -> u8 {
        self.problems.first().map_or(0, |(_, _, exit_code)| *exit_code)
    }

    fn add(&mut self, failure: &Failure) {
        let what = failure.message_with_causes();
        if !self.problems.iter().any(|(known, _, _)| *known == what) {
            self.problems.push((what, failure.kind.fix().to_owned(), failure.kind.exit_code()));
        }
    }
}

/// Looks at storage and target; a problem in one does not hide those of the other.
pub async fn check(config: &Config) -> Found {
    let mut found = Found::default();
    let windows = Window::split_by_month(config.period.start, config.period.end);
    found.notes.push(format!("configuration: {} to {} (UTC)", config.period.start, config.period.end));
    check_storage(config, &windows, &mut found).await;
    check_target(config, &windows, &mut found).await;
    found
}

async fn check_storage(config: &Config, windows: &[Window], found: &mut Found) {
    let resources = match Resources::new(config) {
        Ok(resources) => resources,
        Err(failure) => return found.add(&failure),
    };
    let (options, progress) = (RunOptions::default(), Progress::hidden());
    let views = config.per_source();
    for context in resources.contexts(&views, &options, &progress) {
        if let Err(failure) = check_source(&context, windows, found).await {
            // A storage that refuses one source refuses the others as well.
            return found.add(&context.named(failure));
        }
    }
}

async fn check_source(context: &Context<'_>, windows: &[Window], found: &mut Found) -> Result<(), Failure> {
    let mut object_count = 0;
    for window in windows {
        let (prepared, _) = window::prepare(context, *window).await?;
        let plan = &prepared.plan;
        object_count += plan.object_count;
        let mut note = |text: String| found.notes.push(context.named_text(text));
        note(format!(
            "storage: window {window} has {} objects, {} rows at most, {} to read",
            plan.object_count,
            plan.row_count(),
            plan.stored_bytes()
        ));
        prepared.warnings.into_iter().for_each(&mut note);
        let largest = plan.chunks.iter().map(|chunk| chunk.decoded_bytes).max().unwrap_or(Bytes(0));
        note(format!("storage: the largest row group decodes to {largest}"));
        plan.bad_objects.iter().for_each(|bad| found.add(&bad.failure));
    }
    if object_count == 0 {
        found.add(&window::no_objects(context, windows).await);
    }
    Ok(())
}

async fn check_target(config: &Config, windows: &[Window], found: &mut Found) {
    if let Target::File { path, .. } = &config.target {
        match std::fs::create_dir_all(path).and_then(|()| tempfile_in(path)) {
            Ok(()) => found.notes.push(format!("target: folder {} can be written", path.display())),
            Err(error) => found.add(&Failure {
                kind: crate::error::ErrorKind::FileUnwritable,
                message: format!("folder `{}` cannot be written", path.display()),
                cause: Some(Box::new(error)),
            }),
        }
    }
    let Some(postgres) = &config.postgres else { return };
    let preflight = preflight(config, postgres, windows, uuid::Uuid::new_v4()).await;
    found.notes.extend(preflight.notes);
    for finding in preflight.problems {
        found.problems.push((finding.what, finding.fix, finding.kind.exit_code()));
    }
}

/// Creates and removes a file, to know that it can be done.
fn tempfile_in(folder: &std::path::Path) -> std::io::Result<()> {
    let path = folder.join(format!(".gristmill-check-{}", std::process::id()));
    std::fs::write(&path, b"")?;
    std::fs::remove_file(path)
}
