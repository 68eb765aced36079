//! Calendar types: the usage day (unit of work) and the billing month (unit of folders and divisors), both in UTC.

use std::fmt;

use chrono::{Datelike, NaiveDate};

/// Seconds in a UTC day; there are no leap seconds in usage reports.
pub const SECONDS_PER_DAY: i64 = 86_400;

/// One calendar day in UTC, as days since 1970-01-01 (the encoding of Arrow's Date32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageDay(pub i32);

impl UsageDay {
    /// The day of a calendar date.
    pub fn from_date(date: NaiveDate) -> Self {
        Self(date.num_days_from_ce() - EPOCH_FROM_CE)
    }

    /// The calendar date of this day; saturates at the limits of the calendar (±262,000 years).
    pub fn date(self) -> NaiveDate {
        let day = self.0.saturating_add(EPOCH_FROM_CE);
        let limit = if day < 0 { NaiveDate::MIN } else { NaiveDate::MAX };
        NaiveDate::from_num_days_from_ce_opt(day).unwrap_or(limit)
    }

    /// The month this day lies in.
    pub fn month(self) -> BillingMonth {
        let date = self.date();
        BillingMonth { year: date.year(), month: date.month() }
    }

    /// The day after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Days between 0001-01-01 (day 1 of the common era) and 1970-01-01.
const EPOCH_FROM_CE: i32 = 719_163;

impl fmt::Display for UsageDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date().format("%Y-%m-%d"))
    }
}

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillingMonth {
    /// Four-digit year.
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
}

impl BillingMonth {
    /// First day of the month.
    pub fn first_day(self) -> UsageDay {
        let date = NaiveDate::from_ymd_opt(self.year, self.month, 1);
        UsageDay::from_date(date.expect("a billing month is built from a valid date"))
    }

    /// The month after this one.
    pub fn next(self) -> Self {
        if self.month == 12 {
            Self { year: self.year + 1, month: 1 }
        } else {
            Self { year: self.year, month: self.month + 1 }
        }
    }

    /// The month before this one.
    pub fn previous(self) -> Self {
        if self.month == 1 {
            Self { year: self.year - 1, month: 12 }
        } else {
            Self { year: self.year, month: self.month - 1 }
        }
    }

    /// Last day of the month.
    pub fn last_day(self) -> UsageDay {
        UsageDay(self.next().first_day().0 - 1)
    }

    /// 28, 29, 30 or 31.
    pub fn day_count(self) -> u32 {
        (self.next().first_day().0 - self.first_day().0).unsigned_abs()
    }
}

impl fmt::Display for BillingMonth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// Days that are built together: inside one month, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First day.
    pub start: UsageDay,
    /// Last day, in the same month as `start`.
    pub end: UsageDay,
}

impl Window {
    /// The window's month (folders and divisors).
    pub fn month(self) -> BillingMonth {
        self.start.month()
    }

    /// All days in order.
    pub fn days(self) -> impl DoubleEndedIterator<Item = UsageDay> {
        (self.start.0..=self.end.0).map(UsageDay)
    }

    /// Whether a day belongs to the window.
    pub fn contains(self, day: UsageDay) -> bool {
        self.start <= day && day <= self.end
    }

    /// Cuts an inclusive range of days into one window per month, in order.
    pub fn split_by_month(start: UsageDay, end: UsageDay) -> Vec<Window> {
        let mut windows = Vec::new();
        let mut first = start;
        while first <= end {
            let last = first.month().last_day().min(end);
            windows.push(Window { start: first, end: last });
            first = last.next();
        }
        windows
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> UsageDay {
        UsageDay::from_date(text.parse().expect("a date"))
    }

    #[test]
    fn epoch_is_day_zero() {
        assert_eq!(day("1970-01-01").0, 0);
        assert_eq!(day("1969-12-31").0, -1);
        assert_eq!(day("2025-10-01").to_string(), "2025-10-01");
    }

    #[test]
    fn leap_february_has_29_days() {
        assert_eq!(day("2024-02-10").month().day_count(), 29);
        assert_eq!(day("2025-02-10").month().day_count(), 28);
        assert_eq!(day("2100-02-10").month().day_count(), 28);
    }

    #[test]
    fn a_range_over_new_year_is_cut_at_the_month() {
        let windows = Window::split_by_month(day("2025-12-30"), day("2026-01-02"));
        let texts: Vec<String> = windows.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2025-12-30..2025-12-31", "2026-01-01..2026-01-02"]);
    }
}
