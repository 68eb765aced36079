//! A planned window and what the target's ledger says about its days → what becomes of each day, and why: known before any of its
//! rows is fetched, and whether anything is written afterwards or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tracing::info;
use uuid::Uuid;

use super::Context;
use super::fingerprint::{Facts, Ingredients, roles_from};
use super::roles::{self, DerivedRoles};
use super::window::PreparedWindow;
use crate::config::{Config, NodeRoles, OnDisappeared};
use crate::error::{ErrorKind, Failure};
use crate::ledger::{Basis, ENGINE_VERSION, Extent, MadeFrom, NotedRoles, Recorded};
use crate::plan::{BadObject, Plan};
use crate::rollups::facts::ReferenceData;
use crate::sink::{RecordedDays, Sink};
use crate::time::{UsageDay, Window};

/// What becomes of a day, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DayState {
    /// The target keeps no ledger: every day is written.
    Untracked,
    /// The ledger does not have it.
    New,
    /// Something that its rows are made from is different now.
    Changed(Vec<String>),
    /// Others deleted or added rows since, or made the table anew.
    RowsDiffer {
        /// Rows that the ledger has.
        recorded: u64,
        /// Rows that are there.
        found: u64,
    },
    /// Nothing changed: it is neither read nor written.
    Unchanged,
    /// Nothing changed, and it is written all the same.
    Forced,
    /// No object holds rows of it, and none is missed.
    NoInput,
    /// The ledger has it, and all of its objects are gone.
    Disappeared {
        /// Rows that the ledger has.
        recorded: u64,
    },
    /// A report has far fewer objects and rows of it than the ledger says its rows were made from.
    FewerObjects {
        /// The report.
        report: String,
        /// What it gave then.
        before: Extent,
        /// What it would give.
        now: Extent,
    },
    /// An object of it cannot be used.
    Unusable,
    /// It is another pod's, and the target cannot tell whether that one writes it.
    OfAnotherShard,
}

impl DayState {
    /// Short name, as `plan` and its JSON have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Untracked => "to be written",
            Self::New => "new",
            Self::Changed(_) => "changed",
            Self::RowsDiffer { .. } => "rows differ",
            Self::Unchanged => "unchanged",
            Self::Forced => "unchanged, forced",
            Self::NoInput => "no input",
            Self::Disappeared { .. } => "disappeared",
            Self::FewerObjects { .. } => "far fewer objects",
            Self::Unusable => "unusable",
            Self::OfAnotherShard => "of another shard",
        }
    }

    /// Whether it is neither read nor written.
    pub fn is_left_out(&self) -> bool {
        matches!(self, Self::Unchanged | Self::OfAnotherShard)
    }

    /// Why it is so, where the name alone does not say.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Changed(reasons) => reasons.clone(),
            Self::RowsDiffer { recorded, found } => {
                vec![format!("the target has {found} rows, the ledger {recorded}")]
            }
            Self::Disappeared { recorded } => {
                vec![format!("the ledger has {recorded} rows; none of their objects is there any more")]
            }
            Self::FewerObjects { report, before, now } => {
                vec![format!("{}; target.guard.min_objects_percent refuses that", fewer_objects(report, *before, *now))]
            }
            _ => Vec::new(),
        }
    }

    /// Why the day is given up before anything of it is read.
    pub fn refusal(&self, day: UsageDay, config: &Config) -> Option<Failure> {
        match self {
            Self::Disappeared { recorded } => {
                let message =
                    format!("day {day}: the ledger has {recorded} rows of it, none of their objects is there any more");
                Some(Failure::new(ErrorKind::ObjectsDisappeared, message))
            }
            Self::FewerObjects { report, before, now } => {
                let (what, allowed) = (fewer_objects(report, *before, *now), config.min_objects_percent);
                let message = format!(
                    "day {day}: {what}; target.guard.min_objects_percent is {allowed}; the day is left as it was"
                );
                Some(Failure::new(ErrorKind::FewerObjects, message))
            }
            _ => None,
        }
    }
}

fn fewer_objects(report: &str, before: Extent, now: Extent) -> String {
    let of_rows = match before.rows {
        0 => String::new(),
        rows => format!(" and {} rows instead of {rows}", now.rows),
    };
    format!("{report} has {} objects instead of {}{of_rows}", now.objects, before.objects)
}

/// What a run, or somebody who only looks, does with the days of a window.
#[derive(Debug, Default)]
pub struct Decisions {
    /// Every day of the window.
    pub states: BTreeMap<UsageDay, DayState>,
    /// What the days would be noted with. Where only the states are asked for, derived roles may be missing in them.
    pub ingredients: BTreeMap<UsageDay, Ingredients>,
    /// Days that the target's ledger has, and the run that wrote each.
    pub last_runs: BTreeMap<UsageDay, Uuid>,
    /// Whether the target has a ledger.
    pub has_ledger: bool,
    /// Why derived node roles are not known, if somebody who only looks met that.
    pub no_roles: Option<Failure>,
    /// Seconds of the first pass over the objects that roles come from, if there was one.
    pub roles_seconds: Option<f64>,
    /// What that pass reads, if it is still to be done: the ingredients have no roles yet.
    pub roles_to_come: Option<Plan>,
}

impl Decisions {
    /// Days that are neither read nor written.
    pub fn left_out(&self) -> BTreeSet<UsageDay> {
        self.states.iter().filter(|(_, state)| state.is_left_out()).map(|(day, _)| *day).collect()
    }

    /// What was decided later about some days holds instead.
    pub fn take_over(&mut self, now: Self, days: &BTreeSet<UsageDay>) {
        self.states.extend(now.states.into_iter().filter(|(day, _)| days.contains(day)));
        self.ingredients.extend(now.ingredients.into_iter().filter(|(day, _)| days.contains(day)));
        self.last_runs.extend(now.last_runs.into_iter().filter(|(day, _)| days.contains(day)));
    }

    /// What a writer of the day goes by; `None` without a ledger.
    pub fn basis(&self, day: UsageDay, token: Option<i64>) -> Option<Basis> {
        self.has_ledger.then(|| Basis { last_run: self.last_runs.get(&day).copied(), token })
    }

    /// Takes days that are left out of the plan, and gives up those whose objects are gone.
    pub fn apply(&self, plan: &mut Plan, config: &Config) {
        let left_out = self.left_out();
        let unchanged = self.states.values().filter(|state| **state == DayState::Unchanged).count();
        if unchanged > 0 {
            info!(window = %plan.window, day_count = unchanged, "days are left out, nothing changed");
        }
        plan.leave_out(&left_out);
        // An unusable object is the failure of the days' own pods.
        plan.bad_objects.iter_mut().for_each(|bad| bad.days.retain(|day| !left_out.contains(day)));
        for (day, state) in &self.states {
            if let Some(failure) = state.refusal(*day, config) {
                plan.bad_objects.push(BadObject { days: vec![*day], failure });
            }
        }
    }
}

/// What the decisions are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Days that are not unchanged will be computed.
    Compute,
    /// The same, and roles that no state depends on may be derived while rows are read.
    Begin,
    /// The states themselves.
    Look,
    /// Whether any day would be refused; no row is read for that, so derived roles are taken as they were noted.
    Check,
}

/// Decides about every day of a window. Where node roles are derived and needed, they are in `reference` afterwards.
/// Errors: the ledger or the target cannot be read; roles cannot be derived although days are to be computed.
pub async fn decide(
    context: &Context<'_>,
    prepared: &PreparedWindow,
    reference: &mut ReferenceData,
    sink: &dyn Sink,
    purpose: Purpose,
) -> Result<Decisions, Failure> {
    let recorded = sink.recorded(prepared.plan.window).await?;
    let comparison = Comparison {
        context,
        prepared,
        facts: Facts::new(context.config, reference),
        has_ledger: recorded.is_some(),
        recorded: recorded.unwrap_or_default(),
    };
    let derives = matches!(context.config.reference.node_roles, NodeRoles::Derive);
    let role_plan = derives.then(|| roles::role_plan(context, prepared));
    let from = role_plan.as_ref().map(|plan| roles_from(context.config, plan));
    // What came out of the same objects before comes out of them again. Otherwise the roles are taken as they were at first:
    // whatever differs then differs for another reason.
    let known = from.as_ref().and_then(|from| comparison.known_roles(from));
    let is_uncertain = from.is_some() && known.is_none();
    let mut ingredients = comparison.ingredients(|day| match known {
        Some(known) => Some(NotedRoles::new(known.from.clone(), known.of_days.clone(), day)),
        None => comparison.made_from(day)?.roles.clone(),
    });
    let equal_otherwise = comparison.equal(&ingredients);
    let counts = sink.row_counts(&equal_otherwise).await?;
    let stands = |day: &UsageDay| comparison.row_count(*day) == Some(found(&counts, *day));
    let (mut no_roles, mut roles_seconds, mut roles_to_come) = (None, None, None);
    if let Some(role_plan) = role_plan {
        // The pass is needed if roles are all that could have changed of some day, or if rows are computed.
        let settled = |day: &UsageDay| equal_otherwise.contains(day) && stands(day);
        let is_computed = |day: UsageDay| comparison.has_rows(day) && (context.options.force || !settled(&day));
        let computes =
            !matches!(purpose, Purpose::Look | Purpose::Check) && comparison.window().days().any(is_computed);
        if computes && purpose == Purpose::Begin && comparison.has_only_new_rows() {
            roles_to_come = Some(role_plan);
        } else if computes || (purpose != Purpose::Check && is_uncertain && !equal_otherwise.is_empty()) {
            let started = Instant::now();
            let derived = derive(context, prepared, &role_plan).await;
            roles_seconds = Some(started.elapsed().as_secs_f64());
            match derived {
                Ok(derived) => {
                    ingredients = comparison.ingredients(|day| Some(derived.noted(day)));
                    reference.node_roles = derived.roles;
                }
                Err(failure) if purpose == Purpose::Look && failure.kind.is_of_one_day() => no_roles = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
    }
    let equal: BTreeSet<UsageDay> = comparison.equal(&ingredients).into_iter().collect();
    let state = |day: UsageDay| match no_roles {
        Some(_) if is_uncertain && equal.contains(&day) => DayState::Unusable,
        _ => comparison.state(day, &ingredients[&day], equal.contains(&day).then(|| found(&counts, day))),
    };
    let states = comparison.window().days().map(|day| (day, state(day))).collect();
    let last_runs = comparison.recorded.iter().map(|(day, recorded)| (*day, recorded.run_id)).collect();
    let has_ledger = comparison.has_ledger;
    Ok(Decisions { states, ingredients, last_runs, has_ledger, no_roles, roles_seconds, roles_to_come })
}

/// The ingredients of the planned days, once their roles are derived.
pub fn ingredients_with(
    context: &Context<'_>,
    plan: &Plan,
    reference: &ReferenceData,
    derived: &DerivedRoles,
) -> BTreeMap<UsageDay, Ingredients> {
    let facts = Facts::new(context.config, reference);
    plan.days.iter().map(|day| (day.day, facts.of_day(day, Some(derived.noted(day.day))))).collect()
}

/// Decides about a window without any object: its days stay as they are, but some may be missed, unless such a window is allowed.
pub async fn decide_empty(context: &Context<'_>, window: Window, sink: &dyn Sink) -> Result<Decisions, Failure> {
    let recorded = sink.recorded(window).await?.unwrap_or_default();
    let state = |day: UsageDay| match recorded.get(&day) {
        Some(recorded) if !context.options.allow_empty && is_missed(context, recorded) => {
            DayState::Disappeared { recorded: recorded.row_count.unsigned_abs() }
        }
        _ => DayState::NoInput,
    };
    Ok(Decisions { states: window.days().map(|day| (day, state(day))).collect(), ..Decisions::default() })
}

async fn derive(context: &Context<'_>, prepared: &PreparedWindow, role_plan: &Plan) -> Result<DerivedRoles, Failure> {
    context.progress.stage("derive node roles");
    roles::derive(context, prepared, role_plan).await
}

/// Whether a day that was written has objects to miss. One that was emptied on purpose has none.
fn is_missed(context: &Context<'_>, recorded: &Recorded) -> bool {
    let had_objects = recorded.made_from.as_ref().is_none_or(|made_from| made_from.object_count > 0);
    had_objects && context.config.on_disappeared == OnDisappeared::Error
}

fn found(counts: &BTreeMap<UsageDay, u64>, day: UsageDay) -> u64 {
    counts.get(&day).copied().unwrap_or(0)
}

/// Both sides: what a run of now would note, and what is noted.
struct Comparison<'a> {
    context: &'a Context<'a>,
    prepared: &'a PreparedWindow,
    facts: Facts,
    has_ledger: bool,
    recorded: RecordedDays,
}

impl Comparison<'_> {
    fn window(&self) -> Window {
        self.prepared.plan.window
    }

    fn ingredients(&self, roles: impl Fn(UsageDay) -> Option<NotedRoles>) -> BTreeMap<UsageDay, Ingredients> {
        let days = self.prepared.plan.days.iter();
        days.map(|day| (day.day, self.facts.of_day(day, roles(day.day)))).collect()
    }

    fn made_from(&self, day: UsageDay) -> Option<&MadeFrom> {
        self.recorded.get(&day)?.made_from.as_ref()
    }

    /// What is noted about roles that came from these objects, by whichever day of the window was written last.
    fn known_roles(&self, from: &str) -> Option<&NotedRoles> {
        let made_from = self.recorded.values().filter_map(|recorded| recorded.made_from.as_ref());
        made_from.filter_map(|made_from| made_from.roles.as_ref()).find(|noted| noted.from == from)
    }

    fn row_count(&self, day: UsageDay) -> Option<u64> {
        self.recorded.get(&day).map(|recorded| recorded.row_count.unsigned_abs())
    }

    fn has_rows(&self, day: UsageDay) -> bool {
        self.prepared.plan.days.iter().any(|planned| planned.day == day && planned.chunk_count > 0)
    }

    /// Whether no day with rows was ever written: then the states follow from that alone.
    fn has_only_new_rows(&self) -> bool {
        self.window().days().all(|day| !self.has_rows(day) || !self.recorded.contains_key(&day))
    }

    fn is_unusable(&self, day: UsageDay) -> bool {
        self.prepared.plan.bad_objects.iter().any(|bad| bad.days.contains(&day))
    }

    /// Days that were made from the same things, and whose old rows gave way in the same manner.
    fn equal(&self, ingredients: &BTreeMap<UsageDay, Ingredients>) -> Vec<UsageDay> {
        let is_equal = |(day, now): &(&UsageDay, &Ingredients)| {
            let recorded = self.recorded.get(day);
            let same_rows = recorded.is_some_and(|recorded| recorded.fingerprint == now.fingerprint);
            same_rows && self.made_from(**day).is_some_and(|before| before.replace == now.made_from.replace)
        };
        ingredients.iter().filter(is_equal).map(|(day, _)| *day).collect()
    }

    /// A report that lost more of its objects since the day was written than the guard allows.
    fn shrunken(&self, recorded: &Recorded, now: &Ingredients) -> Option<(String, Extent, Extent)> {
        let before = recorded.made_from.as_ref()?;
        before.shrunken(&now.made_from, self.context.config.min_objects_percent)
    }

    /// `rows_found` is given for a day that was made from the same things.
    fn state(&self, day: UsageDay, now: &Ingredients, rows_found: Option<u64>) -> DayState {
        if self.context.sharing.leaves_out(self.context.config.source.uuid, day) {
            return DayState::OfAnotherShard;
        }
        if self.is_unusable(day) {
            return DayState::Unusable;
        }
        if !self.has_ledger {
            return if self.has_rows(day) { DayState::Untracked } else { DayState::NoInput };
        }
        let Some(recorded) = self.recorded.get(&day) else {
            return if self.has_rows(day) { DayState::New } else { DayState::NoInput };
        };
        let row_count = recorded.row_count.unsigned_abs();
        match rows_found {
            Some(found) if found != row_count => DayState::RowsDiffer { recorded: row_count, found },
            Some(_) if self.context.options.force => DayState::Forced,
            Some(_) => DayState::Unchanged,
            None if self.has_rows(day) => match self.shrunken(recorded, now) {
                Some((report, before, now)) => DayState::FewerObjects { report, before, now },
                None => DayState::Changed(differences(recorded, now)),
            },
            None if is_missed(self.context, recorded) => DayState::Disappeared { recorded: row_count },
            None => DayState::NoInput,
        }
    }
}

/// What is different, by name as far as it is known.
fn differences(recorded: &Recorded, now: &Ingredients) -> Vec<String> {
    let mut reasons = Vec::new();
    if recorded.engine_version != ENGINE_VERSION {
        reasons.push(format!("written by engine version {}, this is {ENGINE_VERSION}", recorded.engine_version));
    }
    match &recorded.made_from {
        Some(made_from) => reasons.extend(made_from.differences(&now.made_from)),
        None => reasons.push("what it was made from was not noted by the version that wrote it".to_owned()),
    }
    if reasons.is_empty() {
        reasons.push("other objects or values than those that were noted".to_owned());
    }
    reasons
}
