//! The three forms of `period` and today's date → an inclusive range of days.

use chrono::{DateTime, NaiveDate, Utc};

use super::Period;
use super::problem::Problems;
use super::settings::Settings;
use super::value::{MonthChoice, Value};
use crate::time::{BillingMonth, UsageDay};

/// Ten years. Plans keep a record per day, so the number of days needs a limit.
const MAX_DAYS: i32 = 3_660;

const FORMS: &str = "give start_date and end_date, or month, or last_days";

/// Resolves the period. `None` if something was reported.
pub(super) fn resolve(settings: &mut Settings, now: DateTime<Utc>, problems: &mut Problems) -> Option<Period> {
    let today = UsageDay::from_date(now.date_naive());
    let dates_given = settings.is_given("period.start_date") || settings.is_given("period.end_date");
    let month_given = settings.is_given("period.month");
    let last_days_given = settings.is_given("period.last_days");
    match (dates_given, month_given, last_days_given) {
        (true, false, false) => from_dates(settings, today, problems),
        (false, true, false) => from_month(settings, today),
        (false, false, true) => from_last_days(settings, today, problems),
        (false, false, false) => {
            problems.add(settings.section_place("period"), "period", format!("missing: {FORMS}"));
            None
        }
        _ => {
            let surplus = if last_days_given { "period.last_days" } else { "period.month" };
            problems.add(settings.place(surplus), "period", format!("more than one form is given; {FORMS}"));
            None
        }
    }
}

fn from_dates(settings: &Settings, today: UsageDay, problems: &mut Problems) -> Option<Period> {
    settings.require("period.start_date", "period.end_date is given", problems);
    settings.require("period.end_date", "period.start_date is given", problems);
    let start = date(settings, "period.start_date")?;
    let end = date(settings, "period.end_date")?;
    let place = settings.place("period.end_date");
    if end < start {
        problems.add(place, "period.end_date", format!("{end} lies before start_date {start}; swap the two"));
        return None;
    }
    let period = Period { start: UsageDay::from_date(start), end: UsageDay::from_date(end), today };
    let day_count = period.end.0 - period.start.0 + 1;
    if day_count > MAX_DAYS {
        let text = format!("the period has {day_count} days, at most {MAX_DAYS} are allowed; run it in parts");
        problems.add(place, "period.end_date", text);
        return None;
    }
    Some(period)
}

fn from_month(settings: &mut Settings, today: UsageDay) -> Option<Period> {
    let Some(Value::Month(choice)) = settings.value("period.month") else { return None };
    let month: BillingMonth = match *choice {
        MonthChoice::Current => today.month(),
        MonthChoice::Previous => today.month().previous(),
        MonthChoice::Of(month) => month,
    };
    let is_running = month == today.month();
    let end = if is_running { today } else { month.last_day() };
    derive_dates(settings, Period { start: month.first_day(), end, today }, "period.month")
}

fn from_last_days(settings: &mut Settings, today: UsageDay, problems: &mut Problems) -> Option<Period> {
    let days: i32 = settings.number("period.last_days")?;
    let start = UsageDay(today.0 - (days - 1));
    if start.0 < 0 {
        let place = settings.place("period.last_days");
        problems.add(place, "period.last_days", "reaches back before 1970-01-01; check the clock of this machine");
        return None;
    }
    derive_dates(settings, Period { start, end: today, today }, "period.last_days")
}

/// Shows the resolved dates in the effective configuration.
fn derive_dates(settings: &mut Settings, period: Period, from: &str) -> Option<Period> {
    let how = format!("from {from}, today is {} (UTC)", period.today);
    settings.derive("period.start_date", Value::Date(period.start.date()), &how);
    settings.derive("period.end_date", Value::Date(period.end.date()), &how);
    Some(period)
}

fn date(settings: &Settings, path: &str) -> Option<NaiveDate> {
    match settings.value(path) {
        Some(Value::Date(date)) => Some(*date),
        _ => None,
    }
}
