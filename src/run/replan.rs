//! Objects that were replaced between listing and reading → the same days planned anew, a bounded number of times: only
//! footers of changed objects are read again, and days written from the object that is gone are written once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Context;
use super::closing::ClosedDay;
use super::pipeline::Outcome;
use super::schedule::End;
use super::unchanged::{DayState, Decisions, Purpose, decide};
use super::window::{self, PreparedWindow};
use crate::discover::ObjectInfo;
use crate::error::{ErrorKind, Failure};
use crate::footers::{Footer, FooterError};
use crate::plan::{BadObject, Plan};
use crate::rollups::facts::ReferenceData;
use crate::runtime::retry::{Attempts, RetryPolicy};
use crate::sink::Sink;
use crate::time::{UsageDay, Window};

/// An upload of several objects takes seconds; one that goes on for longer is met again by the next run.
const POLICY: RetryPolicy = RetryPolicy {
    retries: 3,
    total: Duration::from_secs(24 * 3_600),
    first_pause: Duration::from_millis(250),
    longest_pause: Duration::from_secs(5),
};

/// The listed object and its footer.
type Footers = [(Arc<ObjectInfo>, Result<Footer, FooterError>)];

/// Footers of objects that are listed with the same key, size and tag as before.
pub fn footers_still_true(
    known: &Footers,
    objects: &[Arc<ObjectInfo>],
) -> Vec<(Arc<ObjectInfo>, Result<Footer, FooterError>)> {
    let still_true = known.iter().filter(|(object, footer)| footer.is_ok() && is_listed(objects, object));
    still_true.filter_map(|(object, footer)| Some((Arc::clone(object), Ok(footer.as_ref().ok()?.clone())))).collect()
}

/// Prepares a window, again as long as objects change between listing and footer. What still changes then stays a bad object
/// of its days.
pub async fn prepare_settled(context: &Context<'_>, window: Window) -> Result<(PreparedWindow, [f64; 2]), Failure> {
    let mut attempts = POLICY.begin();
    let (mut prepared, mut seconds) = window::prepare(context, window).await?;
    let first_listing = objects_of(&prepared);
    while let Some(failure) = changed_object(&prepared.plan) {
        if !wait(&mut attempts, failure).await {
            window::plan_anew(context, &mut prepared, |object| is_listed(&first_listing, object));
            break;
        }
        let (again, more) = window::prepare_with(context, window, &prepared.footers).await?;
        prepared = again;
        seconds = [seconds[0] + more[0], seconds[1] + more[1]];
    }
    Ok((prepared, seconds))
}

/// Decides what becomes of each day, on a new plan if an object changed while node roles were derived.
pub async fn decide_settled(
    context: &Context<'_>,
    prepared: &mut PreparedWindow,
    reference: &mut ReferenceData,
    sink: &Arc<dyn Sink>,
    purpose: Purpose,
) -> Result<Decisions, Failure> {
    let stopping = &context.options.stopping;
    let mut attempts = POLICY.begin();
    let first_listing = objects_of(prepared);
    loop {
        let decided = decide(context, prepared, reference, &**sink, purpose);
        let failure = match stopping.unless_asked(decided).await {
            Err(failure) if failure.kind == ErrorKind::ObjectChanged => failure,
            result => return result,
        };
        if !wait(&mut attempts, &failure).await {
            let is_alike = prepared.footers.iter().all(|(object, _)| is_listed(&first_listing, object));
            return Err(if is_alike { inconsistent(&failure) } else { failure });
        }
        let (again, _) = stopping.unless_asked(prepare_settled(context, prepared.plan.window)).await?;
        *prepared = again;
    }
}

/// Plans and writes the days anew whose objects changed while the window was read. A failure on the way ends the run, as
/// part of the outcome: days that were written stay there.
pub async fn write_changed_days(
    context: &Context<'_>,
    prepared: &mut PreparedWindow,
    decisions: &mut Decisions,
    mut reference: ReferenceData,
    sink: &Arc<dyn Sink>,
    outcome: &mut Outcome<ClosedDay>,
) {
    let mut attempts = POLICY.begin();
    let mut first_listing: Option<Plan> = None;
    while outcome.end.stopped_by.is_none() {
        let is_changed = |failure: &&Failure| failure.kind == ErrorKind::ObjectChanged;
        let Some(failure) = outcome.end.failed_days.values().find(is_changed) else { return };
        if !wait(&mut attempts, failure).await {
            if let Some(first) = first_listing {
                tell_inconsistent(&mut outcome.end, &first, &prepared.plan);
            }
            return;
        }
        let roles = reference.node_roles.clone();
        let (mut again, now) = match plan_again(context, prepared, &mut reference, sink).await {
            Ok(planned) => planned,
            Err(failure) if failure.kind == ErrorKind::ObjectChanged => continue,
            Err(failure) => {
                outcome.end.stopped_by = Some(failure);
                return;
            }
        };
        let mut days = changed_days(&prepared.plan, &again.plan, &now);
        days.extend(outcome.end.failed_days.iter().filter(|(_, failure)| is_changed(failure)).map(|(day, _)| *day));
        if roles != reference.node_roles {
            // Roles are a fact of the whole window.
            days.extend(again.plan.window.days());
        }
        // Days that stand as a run of now would write them, such as those that the object came back for, are left alone again.
        now.apply(&mut again.plan, context.config);
        let part = only(&again.plan, &days);
        match window::write_days(context, &part, &again.scans, &reference, sink, &now).await {
            Ok(more) => take_over(outcome, more, &days),
            Err(failure) => {
                outcome.end.stopped_by = Some(failure);
                return;
            }
        }
        decisions.take_over(now, &days);
        first_listing.get_or_insert(std::mem::replace(prepared, again).plan);
    }
}

/// Days that failed for an object that changes at each read, although all of their objects were listed alike all the time: another run
/// would end in the same way.
fn tell_inconsistent(end: &mut End, first: &Plan, last: &Plan) {
    let objects = |plan: &Plan, day: UsageDay| {
        plan.days.iter().find(|planned| planned.day == day).map(|planned| planned.objects.clone())
    };
    for (day, failure) in &mut end.failed_days {
        let (first, last) = (objects(first, *day).unwrap_or_default(), objects(last, *day).unwrap_or_default());
        let is_alike = first.len() == last.len() && last.iter().all(|object| is_listed(&first, object));
        if failure.kind == ErrorKind::ObjectChanged && is_alike && !last.is_empty() {
            *failure = inconsistent(failure);
        }
    }
}

/// The failure of an object that was replaced, if it was not.
fn inconsistent(failure: &Failure) -> Failure {
    let message = format!(
        "the listing of an object stays as it is, and each time it is read it is another one: {}",
        failure.message_with_causes()
    );
    Failure::new(ErrorKind::ObjectInconsistent, message)
}

/// The window as it is now, and what is to become of its days.
async fn plan_again(
    context: &Context<'_>,
    prepared: &PreparedWindow,
    reference: &mut ReferenceData,
    sink: &Arc<dyn Sink>,
) -> Result<(PreparedWindow, Decisions), Failure> {
    let stopping = &context.options.stopping;
    let prepare = window::prepare_with(context, prepared.plan.window, &prepared.footers);
    let (again, _) = stopping.unless_asked(prepare).await?;
    let of_objects = [ErrorKind::ObjectChanged, ErrorKind::ObjectInconsistent];
    let concerns_all = |kind: ErrorKind| !kind.is_of_one_day() && !of_objects.contains(&kind);
    if let Some(bad) = again.plan.bad_objects.iter().find(|bad| concerns_all(bad.failure.kind)) {
        return Err(Failure::new(bad.failure.kind, bad.failure.message_with_causes()));
    }
    let decided = decide(context, &again, reference, &**sink, Purpose::Compute);
    let decisions = stopping.unless_asked(decided).await?;
    Ok((again, decisions))
}

/// Waits before the next look; false if there is none.
async fn wait(attempts: &mut Attempts, failure: &Failure) -> bool {
    let Some(pause) = attempts.pause_after(Duration::ZERO) else { return false };
    warn!(error = %failure.message_with_causes(), pause_seconds = pause.as_secs_f64(), "planning again");
    tokio::time::sleep(pause).await;
    true
}

fn objects_of(prepared: &PreparedWindow) -> Vec<Arc<ObjectInfo>> {
    prepared.footers.iter().map(|(object, _)| Arc::clone(object)).collect()
}

/// Whether an object is among others, which are sorted by key, and still the same there.
fn is_listed(objects: &[Arc<ObjectInfo>], object: &ObjectInfo) -> bool {
    let found = objects.binary_search_by(|listed| listed.key.cmp(&object.key));
    found.is_ok_and(|index| is_same(&objects[index], object))
}

fn changed_object(plan: &Plan) -> Option<&Failure> {
    plan.bad_objects.iter().map(|bad| &bad.failure).find(|failure| failure.kind == ErrorKind::ObjectChanged)
}

fn is_same(a: &ObjectInfo, b: &ObjectInfo) -> bool {
    a.key == b.key && a.size == b.size && a.etag == b.etag && a.last_modified == b.last_modified
}

/// Days that have other objects than before. Of a day that nothing had changed of, the target's ledger tells.
fn changed_days(before: &Plan, now: &Plan, decisions: &Decisions) -> BTreeSet<UsageDay> {
    let is_changed = |before: &[Arc<ObjectInfo>], now: &[Arc<ObjectInfo>]| {
        before.len() != now.len() || before.iter().zip(now).any(|(before, now)| !is_same(before, now))
    };
    let changed = now.days.iter().filter(|now| match before.days.iter().find(|before| before.day == now.day) {
        Some(before) => is_changed(&before.objects, &now.objects),
        None => !decisions.states.get(&now.day).is_some_and(DayState::is_left_out),
    });
    changed.map(|now| now.day).collect()
}

/// The part of a plan that concerns some days. The others are given up in it, so that their rows in shared row groups are
/// passed over.
pub(super) fn only(plan: &Plan, days: &BTreeSet<UsageDay>) -> Plan {
    let is_wanted = |day: &UsageDay| days.contains(day);
    let chunks = plan.chunks.iter().filter(|chunk| chunk.days.iter().any(is_wanted));
    let mut bad_objects: Vec<BadObject> = plan
        .bad_objects
        .iter()
        .map(|bad| BadObject {
            days: bad.days.iter().copied().filter(is_wanted).collect(),
            failure: Failure::new(bad.failure.kind, bad.failure.message_with_causes()),
        })
        .collect();
    bad_objects.push(BadObject {
        days: plan.window.days().filter(|day| !is_wanted(day)).collect(),
        failure: Failure::new(ErrorKind::ObjectChanged, "not planned again"),
    });
    Plan {
        window: plan.window,
        days: plan.days.iter().filter(|planned| is_wanted(&planned.day)).cloned().collect(),
        chunks: chunks.cloned().collect(),
        bad_objects,
        object_count: plan.object_count,
        absent_columns: plan.absent_columns.clone(),
        of_other_periods: plan.of_other_periods.clone(),
        oddities: plan.oddities.clone(),
    }
}

/// How some days ended this time replaces how they ended before.
fn take_over(outcome: &mut Outcome<ClosedDay>, more: Outcome<ClosedDay>, days: &BTreeSet<UsageDay>) {
    outcome.end.failed_days.retain(|day, _| !days.contains(day));
    outcome.end.failed_days.extend(more.end.failed_days.into_iter().filter(|(day, _)| days.contains(day)));
    outcome.end.left_days.retain(|day| !days.contains(day));
    outcome.end.left_days.extend(more.end.left_days);
    outcome.end.stopped_by = outcome.end.stopped_by.take().or(more.end.stopped_by);
    outcome.end.peak_state_bytes = outcome.end.peak_state_bytes.max(more.end.peak_state_bytes);
    // A day that failed this time keeps the rows that were written before it.
    outcome.days.retain(|day, _| !outcome.end.failed_days.contains_key(day));
    outcome.days.extend(more.days);
    outcome.fetch_seconds += more.fetch_seconds;
    outcome.compute_seconds += more.compute_seconds;
}
