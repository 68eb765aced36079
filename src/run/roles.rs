//! A window's pod and node-label objects → the roles of its nodes, and those of each day's nodes: the first pass where node roles
//! are derived.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;

use super::Context;
use super::fingerprint::{hexadecimal, roles_digest, roles_from};
use super::schedule::CompleteDay;
use super::window::{PreparedWindow, compile, pipeline};
use crate::config::OnBadDay;
use crate::error::{ErrorKind, Failure};
use crate::ledger::NotedRoles;
use crate::merge::merge;
use crate::plan::{Plan, plan};
use crate::rollups::facts::{NodeRole, ReferenceData};
use crate::rollups::node_roles;
use crate::telemetry::progress::Progress;
use crate::time::UsageDay;

/// What the first pass gave.
pub struct DerivedRoles {
    /// The roles of the window.
    pub roles: Vec<NodeRole>,
    /// What they came from.
    from: String,
    /// Digest of the roles of each day's nodes, by date.
    of_days: BTreeMap<String, String>,
}

impl DerivedRoles {
    /// What the ledger notes about the roles of a day.
    pub fn noted(&self, day: UsageDay) -> NotedRoles {
        NotedRoles::new(self.from.clone(), self.of_days.clone(), day)
    }
}

/// What the first pass would read. Roles need other columns of the same objects; which row groups hold them is planned like
/// anything else.
pub fn role_plan(context: &Context<'_>, prepared: &PreparedWindow) -> Plan {
    let window = prepared.plan.window;
    let scans = node_roles::scans(context.config.semantics, |report| prepared.has_raw(report, window.month()));
    plan(window, &scans, &prepared.footers)
}

/// Reads the columns that roles come from, over the whole window. Days that fail anyway, since an object of them cannot be used,
/// give no roles, as if they were not delivered yet; once they are, days with nodes of other roles are written again.
/// Errors: whatever else stands in the way, since a role may depend on any day.
pub async fn derive(
    context: &Context<'_>,
    prepared: &PreparedWindow,
    role_plan: &Plan,
) -> Result<DerivedRoles, Failure> {
    if let Some(bad) = role_plan.bad_objects.iter().find(|bad| !prepared.fails_days_of(bad)) {
        return Err(Failure::new(
            bad.failure.kind,
            format!("node roles are derived from the whole window: {}", bad.failure.message_with_causes()),
        ));
    }
    let month = prepared.plan.window.month();
    let scans = node_roles::scans(context.config.semantics, |report| prepared.has_raw(report, month));
    let roles = Arc::new(Mutex::new(node_roles::Roles::default()));
    let close = |day: CompleteDay| {
        let (roles, number) = (Arc::clone(&roles), day.state.day);
        let add = move |_worker| {
            let (tables, _) = merge(&day.state);
            roles.lock().unwrap_or_else(PoisonError::into_inner).add_day(&tables);
            Ok(())
        };
        context.pool.run(move || format!("node roles of {number}"), ErrorKind::Bug, add).boxed()
    };
    let known_days: BTreeSet<UsageDay> = role_plan.bad_objects.iter().flat_map(|bad| bad.days.clone()).collect();
    // One further bad day is enough to have no roles, and its rows are not those that the person waits for.
    let uncounted = Progress::hidden();
    let mut pipeline = pipeline(context, &ReferenceData::default(), context.pool.worker_count() + 1);
    pipeline.rules.on_bad_day = if known_days.is_empty() { OnBadDay::Stop } else { OnBadDay::Continue };
    pipeline.pass = "node roles";
    pipeline.progress = &uncounted;
    pipeline.is_counted = false;
    let outcome = pipeline.run(role_plan, compile(&scans), close).await;
    let failed_days = outcome.end.failed_days.into_iter().filter(|(day, _)| !known_days.contains(day));
    if let Some(failure) = outcome.end.stopped_by.into_iter().chain(failed_days.map(|(_, failure)| failure)).next() {
        return Err(failure);
    }
    let found = roles.lock().unwrap_or_else(PoisonError::into_inner);
    let roles = found.finish();
    let of_days = found.of_days(&roles).into_iter();
    let of_days = of_days.map(|(day, roles)| (day.to_string(), hexadecimal(&roles_digest(roles.iter())))).collect();
    Ok(DerivedRoles { roles, from: roles_from(context.config, role_plan), of_days })
}
