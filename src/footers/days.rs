//! Statistics of `interval_start` → the days a row group touches.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use crate::schema::source::{Found, INTERVAL_START};
use crate::time::{SECONDS_PER_DAY, UsageDay};

/// Days that the rows of a row group may lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaySpan {
    /// From the first to the last day, both inclusive. Rows without a time lie on no day and are not covered.
    Known(UsageDay, UsageDay),
    /// The footer does not tell: any day.
    Unknown,
}

impl DaySpan {
    /// Whether a row of this day may be in the row group.
    pub fn may_contain(self, day: UsageDay) -> bool {
        match self {
            DaySpan::Known(first, last) => first <= day && day <= last,
            DaySpan::Unknown => true,
        }
    }
}

/// How the numbers of a column are turned into days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Ticks since 1970, so many per second.
    Ticks(i64),
    /// Days since 1970.
    Days,
}

/// The leaf that holds the time of a row; `None` if there is no such top-level column, or more than one.
pub(super) fn time_column(schema: &SchemaDescriptor) -> Option<usize> {
    let Found::At(root) = INTERVAL_START.find(schema.root_schema().get_fields().iter().map(|field| field.name()))
    else {
        return None;
    };
    let is_time =
        |leaf: &usize| schema.get_column_root_idx(*leaf) == root && schema.column(*leaf).path().parts().len() == 1;
    (0..schema.num_columns()).find(is_time)
}

/// The days between the least and the greatest value, where statistics of a usable type are there.
pub(super) fn span_of(chunk: &ColumnChunkMetaData) -> DaySpan {
    let (Some(clock), Some(statistics)) = (clock_of(chunk.column_descr()), chunk.statistics()) else {
        return DaySpan::Unknown;
    };
    let ends = match statistics {
        Statistics::Int64(values) => values.min_opt().copied().zip(values.max_opt().copied()),
        Statistics::Int32(values) => {
            values.min_opt().map(|v| i64::from(*v)).zip(values.max_opt().map(|v| i64::from(*v)))
        }
        _ => None,
    };
    // Statistics in the wrong order are not believed.
    let ends = ends.filter(|(least, greatest)| least <= greatest);
    let days = ends.and_then(|(least, greatest)| Some((day_of(least, clock)?, day_of(greatest, clock)?)));
    days.map_or(DaySpan::Unknown, |(first, last)| DaySpan::Known(first, last))
}

/// Units by the logical type, else by the older converted type. Values are UTC whatever the column's flag says (contract,
/// section 9.4, T2). INT96 has no trustworthy order, text has no day.
fn clock_of(column: &ColumnDescriptor) -> Option<Clock> {
    const MILLIS: Clock = Clock::Ticks(1_000);
    const MICROS: Clock = Clock::Ticks(1_000_000);
    const NANOS: Clock = Clock::Ticks(1_000_000_000);
    match (column.physical_type(), column.logical_type_ref(), column.converted_type()) {
        (PhysicalType::INT64, Some(LogicalType::Timestamp(timestamp)), _) => Some(match timestamp.unit {
            TimeUnit::MILLIS => MILLIS,
            TimeUnit::MICROS => MICROS,
            TimeUnit::NANOS => NANOS,
        }),
        (PhysicalType::INT64, None, ConvertedType::TIMESTAMP_MILLIS) => Some(MILLIS),
        (PhysicalType::INT64, None, ConvertedType::TIMESTAMP_MICROS) => Some(MICROS),
        (PhysicalType::INT32, Some(LogicalType::Date), _) | (PhysicalType::INT32, None, ConvertedType::DATE) => {
            Some(Clock::Days)
        }
        _ => None,
    }
}

/// The UTC day of a value, also before 1970; `None` beyond the calendar.
fn day_of(value: i64, clock: Clock) -> Option<UsageDay> {
    let days = match clock {
        Clock::Ticks(per_second) => value.div_euclid(per_second * SECONDS_PER_DAY),
        Clock::Days => value,
    };
    i32::try_from(days).ok().map(UsageDay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_floored_to_the_utc_day() {
        let day = |value, per_second| day_of(value, Clock::Ticks(per_second)).map(|day| day.0);
        assert_eq!(day(0, 1_000), Some(0));
        assert_eq!(day(86_399_999, 1_000), Some(0));
        assert_eq!(day(86_400_000, 1_000), Some(1));
        assert_eq!(day(-1, 1_000), Some(-1));
        assert_eq!(day(-86_400_000_000, 1_000_000), Some(-1));
        assert_eq!(day(-86_400_000_001, 1_000_000), Some(-2));
        assert_eq!(day(i64::MAX, 1_000_000_000), Some(106_751));
        assert_eq!(day(i64::MAX, 1_000), None);
        assert_eq!(day_of(20_000, Clock::Days), Some(UsageDay(20_000)));
    }

    #[test]
    fn an_unknown_span_may_contain_any_day() {
        let span = DaySpan::Known(UsageDay(3), UsageDay(4));
        assert!(span.may_contain(UsageDay(3)) && span.may_contain(UsageDay(4)));
        assert!(!span.may_contain(UsageDay(2)) && !span.may_contain(UsageDay(5)));
        assert!(DaySpan::Unknown.may_contain(UsageDay(-9)));
    }
}
