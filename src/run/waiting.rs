//! Days that were left to others → days that are written, by whomever: looked at in the ledger from time to time, and taken over once
//! nobody holds them. A pod that ends has seen every day of the period written, failed, or held for too long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracing::{Instrument, info};

use super::claims::Claims;
use super::report;
use super::units::Unit;
use super::window::LeftDays;
use crate::error::{ErrorKind, Failure};
use crate::ledger::Standing;
use crate::runtime::retry::{Attempts, RetryPolicy};
use crate::telemetry::report::RunReport;
use crate::time::UsageDay;

/// Looks per lease, once they have become rare.
const LOOKS_PER_LEASE: u32 = 3;
/// The first pause: a day that others hold is mostly written within seconds.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Days that the message about days of others names.
const NAMED_DAYS: usize = 5;

/// What became of a day that was left to others.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    /// It has the rows that it would have here.
    Written,
    /// Nobody is at it, or somebody wrote other rows than those that it would have here.
    Free,
    /// Somebody is at it: who, and for how long.
    Held(String),
}

fn fate(fingerprint: &[u8], standing: Option<&Standing>) -> Fate {
    let Some(standing) = standing else { return Fate::Free };
    let is_written = standing.written.as_ref().is_some_and(|(found, _)| found == fingerprint);
    match &standing.claim {
        _ if is_written => Fate::Written,
        Some(claim) if claim.expires_in_seconds > 0.0 || standing.is_being_written => {
            Fate::Held(format!("{}, expires in {:.0} s unless renewed", claim.claimed_by, claim.expires_in_seconds))
        }
        None if standing.is_being_written => Fate::Held("a run without claims, which is writing it".to_owned()),
        _ => Fate::Free,
    }
}

/// How long nothing may move. What counts is a day less to wait for, so the whole wait is bounded by their number.
struct Patience {
    limit: Duration,
    since: Instant,
    pauses: Attempts,
    policy: RetryPolicy,
}

impl Patience {
    fn new(claims: &Claims) -> Self {
        let settings = claims.settings();
        let lease = Duration::from_secs(settings.lease_seconds);
        // A pause is up to twice as long as asked for.
        let longest_pause = lease / LOOKS_PER_LEASE / 2;
        let limit = Duration::from_secs(settings.wait_seconds);
        let policy = RetryPolicy {
            retries: usize::MAX,
            total: limit,
            first_pause: FIRST_PAUSE.min(longest_pause),
            longest_pause,
        };
        Self { limit, since: Instant::now(), pauses: policy.begin(), policy }
    }

    fn moved(&mut self) {
        (self.since, self.pauses) = (Instant::now(), self.policy.begin());
    }

    /// The pause before the next look; `None` if there is none.
    fn pause(&mut self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.since.elapsed())?;
        Some(self.pauses.pause_after(Duration::ZERO)?.min(left)).filter(|pause| !pause.is_zero())
    }
}

/// Waits until every day that was left is written, takes over those that nobody holds, and notes in the report what became of them.
pub async fn wait_for_others(mut left: Vec<(Unit<'_>, LeftDays)>, report: &mut RunReport) {
    let Some((context, claims)) =
        left.first().and_then(|(unit, _)| Some((unit.context, unit.context.sharing.claims()?)))
    else {
        return;
    };
    context.progress.stage("wait for other pods");
    let day_count: usize = left.iter().map(|(_, days)| days.len()).sum();
    info!(day_count, "days are left to other pods");
    let mut patience = Patience::new(claims);
    loop {
        let before: usize = left.iter().map(|(_, days)| days.len()).sum();
        let mut held = Vec::new();
        for (unit, days) in &mut left {
            let span = unit.context.span();
            match look(unit, days, claims, report).instrument(span).await {
                Ok(still_held) => held.extend(still_held),
                Err(Some(failure)) => return report::stop(report, &failure),
                // The report says why.
                Err(None) => return,
            }
            context.progress.health().moved();
        }
        left.retain(|(_, days)| !days.is_empty());
        let now: usize = left.iter().map(|(_, days)| days.len()).sum();
        if now == 0 {
            return;
        }
        if now < before {
            patience.moved();
        }
        let Some(pause) = patience.pause() else { return report::stop(report, &held_for_too_long(now, &held, claims)) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            failure = context.options.stopping.asked() => return report::stop(report, &failure),
        }
    }
}

/// Looks at the days of one unit once; those that are settled are taken out of `days`. Answers who holds the others.
/// Errors: why the run ends; `None` if the report has that already.
async fn look(
    unit: &Unit<'_>,
    days: &mut LeftDays,
    claims: &Claims,
    report: &mut RunReport,
) -> Result<Vec<String>, Option<Failure>> {
    let source = &unit.context.config.source;
    let asked = claims.look(source.uuid, days.keys().copied().collect());
    let standings = unit.context.options.stopping.unless_asked(asked).await.map_err(Some)?;
    let fates: BTreeMap<UsageDay, Fate> =
        days.iter().map(|(day, fingerprint)| (*day, fate(fingerprint, standings.get(day)))).collect();
    let (mut free, mut held) = (BTreeSet::new(), Vec::new());
    for (day, fate) in fates {
        match fate {
            Fate::Written => {
                days.remove(&day);
                report::written_by_others(report, source, day);
                info!(%day, "day was written by another run meanwhile");
            }
            Fate::Free => {
                free.insert(day);
            }
            Fate::Held(by) => held.push(unit.context.named_text(format!("{day} by {by}"))),
        }
    }
    if !free.is_empty() {
        info!(window = %unit.window, day_count = free.len(), "days that nobody holds are taken over");
        let end = unit.run(Some(&free), report).await;
        if end.stops_run {
            return Err(None);
        }
        // Written, unchanged or failed: either way this pod is done with them.
        days.retain(|day, _| !free.contains(day));
        days.extend(end.left);
    }
    Ok(held)
}

fn held_for_too_long(day_count: usize, held: &[String], claims: &Claims) -> Failure {
    let seconds = claims.settings().wait_seconds;
    let mut named = held.iter().take(NAMED_DAYS).cloned().collect::<Vec<_>>().join("; ");
    if held.len() > NAMED_DAYS {
        named.push_str(&format!("; {} others", held.len() - NAMED_DAYS));
    }
    let message = format!(
        "{day_count} days are left to other pods and none of them was written for {seconds} s (claims.wait_seconds): {named}"
    );
    Failure::new(ErrorKind::HeldByOthers, message)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::Claim;

    fn standing(written: Option<&[u8]>, expires_in_seconds: Option<f64>, is_being_written: bool) -> Standing {
        let claim = |expires_in_seconds| Claim { claimed_by: "another".to_owned(), token: 1, expires_in_seconds };
        let written = written.map(|bytes| (bytes.to_vec(), Uuid::nil()));
        Standing { written, claim: expires_in_seconds.map(claim), is_being_written }
    }

    #[test]
    fn a_day_is_written_free_or_held() {
        let fate = |written, expires, busy| fate(b"ours", Some(&standing(written, expires, busy)));
        let held = |text: &str| Fate::Held(text.to_owned());
        assert_eq!(fate(Some(b"ours"), None, false), Fate::Written);
        assert_eq!(fate(Some(b"ours"), Some(5.0), true), Fate::Written, "somebody writes it again");
        assert_eq!(fate(Some(b"other"), None, false), Fate::Free);
        assert_eq!(fate(Some(b"other"), Some(5.0), false), held("another, expires in 5 s unless renewed"));
        assert_eq!(fate(None, Some(5.0), false), held("another, expires in 5 s unless renewed"));
        assert_eq!(fate(None, Some(-0.1), false), Fate::Free, "expired");
        assert_eq!(fate(None, Some(-3.0), true), held("another, expires in -3 s unless renewed"));
        assert_eq!(fate(None, None, true), held("a run without claims, which is writing it"));
        assert_eq!(fate(None, None, false), Fate::Free, "given back");
        assert_eq!(super::fate(b"ours", None), Fate::Free);
    }
}
