//! Configuration → everything that would stop a run, with the fix for each. Nothing is written.
//!
//! The steps are those of a run, by the same functions and up to the first row that it would read: the look at the database, listing and
//! footers of each window, its small tables and report period, and what becomes of its days.

use std::fmt::Write;

use super::preflight::{database_in_use, preflight};
use super::sinks::Sinks;
use super::unchanged::Purpose;
use super::window::open_window;
use super::{Context, Resources, RunOptions, replan, window};
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

    fn append(&mut self, later: Self) {
        self.notes.extend(later.notes);
        for problem in later.problems {
            if !self.problems.iter().any(|(known, _, _)| *known == problem.0) {
                self.problems.push(problem);
            }
        }
    }

    fn add(&mut self, failure: &Failure) {
        let what = failure.message_with_causes();
        if !self.problems.iter().any(|(known, _, _)| *known == what) {
            self.problems.push((what, failure.kind.fix().to_owned(), failure.kind.exit_code()));
        }
    }
}

/// Looks at storage, target and what a run does with both before it reads; a problem in one does not hide those of the others.
pub async fn check(config: &Config) -> Found {
    let windows = Window::split_by_month(config.period.start, config.period.end);
    let mut target = Found::default();
    check_target(config, &windows, &mut target).await;
    let mut storage = Found::default();
    storage.notes.push(format!("configuration: {} to {} (UTC)", config.period.start, config.period.end));
    // A run that stops at its target does not come to open a window.
    let mut opened = target.problems.is_empty().then(Found::default);
    check_storage(config, &windows, &mut storage, opened.as_mut()).await;
    let mut found = storage;
    found.append(target);
    found.append(opened.unwrap_or_default());
    found
}

async fn check_storage(config: &Config, windows: &[Window], found: &mut Found, mut opened: Option<&mut Found>) {
    let resources = match Resources::new(config) {
        Ok(resources) => resources,
        Err(failure) => return found.add(&failure),
    };
    let (options, progress) = (RunOptions::default(), Progress::hidden());
    let views = config.per_source();
    for context in resources.contexts(&views, &options, &progress) {
        if let Err(failure) = check_source(&context, windows, found, opened.as_deref_mut()).await {
            // A storage that refuses one source refuses the others as well.
            return found.add(&context.named(failure));
        }
    }
}

/// Errors: the storage refuses.
async fn check_source(
    context: &Context<'_>,
    windows: &[Window],
    found: &mut Found,
    mut opened: Option<&mut Found>,
) -> Result<(), Failure> {
    let mut object_count = 0;
    for window in windows {
        let (mut prepared, _) = replan::prepare_settled(context, *window).await?;
        let plan = &prepared.plan;
        object_count += plan.object_count;
        let mut note = |text: String| found.notes.push(context.named_text(text));
        note(format!(
            "storage: window {window} has {} objects, {} rows at most, {} to read",
            plan.object_count,
            plan.row_count(),
            plan.stored_bytes()
        ));
        std::mem::take(&mut prepared.warnings).into_iter().for_each(&mut note);
        let largest = plan.chunks.iter().map(|chunk| chunk.decoded_bytes).max().unwrap_or(Bytes(0));
        note(format!("storage: the largest row group decodes to {largest}"));
        plan.bad_objects.iter().for_each(|bad| found.add(&bad.failure));
        if let Some(opened) = opened.as_deref_mut() {
            check_window(context, prepared, opened).await;
        }
    }
    if object_count == 0 {
        found.add(&window::no_objects(context, windows).await);
    }
    Ok(())
}

/// Opens a window as a run does. Its bad objects are known already.
async fn check_window(context: &Context<'_>, mut prepared: window::PreparedWindow, found: &mut Found) {
    let known = prepared.plan.bad_objects.len();
    let sinks = match Sinks::unprepared(context) {
        Ok(sinks) => sinks,
        Err(failure) => return found.add(&context.named(failure)),
    };
    let sink = async |reference: &_| Ok(sinks.of(reference));
    match open_window(context, &mut prepared, Purpose::Check, sink, |_, _| ()).await {
        Ok(opened) => {
            opened.decisions.apply(&mut prepared.plan, context.config);
            // Days that keep their rows; the run goes on with the others and ends so.
            for bad in prepared.plan.bad_objects.iter().skip(known) {
                let failure = Failure::new(bad.failure.kind, bad.failure.message_with_causes());
                found.add(&context.named(failure));
            }
        }
        Err(failure) if prepared.plan.bad_objects.iter().any(|bad| bad.failure.kind == failure.kind) => {}
        Err(failure) => found.add(&context.named(failure)),
    }
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
    let Some(postgres) = database_in_use(config) else { return };
    let preflight = preflight(config, postgres, windows, uuid::Uuid::new_v4()).await;
    found.notes.extend(preflight.notes);
    found.notes.extend(preflight.warnings.into_iter().map(|warning| format!("beware: {warning}")));
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
