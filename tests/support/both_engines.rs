//! One configuration → the rows of each day by the native engine and by the reference SQL, and their differences.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use futures::FutureExt;
use futures::future::BoxFuture;
use gristmill::config::Config;
use gristmill::enrich::NumberForm;
use gristmill::error::Failure;
use gristmill::run::recompute::recompute;
use gristmill::run::{RunOptions, run_into};
use gristmill::schema::target::{OCP_DAILY_SUMMARY, TargetType};
use gristmill::sink::{DayRows, Rows, Sink, Written};
use gristmill::telemetry::progress::Progress;
use gristmill::time::UsageDay;

/// Texts of a row, then its numbers; each in the order of the target's columns.
pub type EngineRow = (Vec<Option<String>>, Vec<Option<f64>>);

/// Rows of a day, and how many rows were read for it.
#[derive(Debug, Clone, Default)]
pub struct EngineDay {
    pub rows: Vec<EngineRow>,
    pub input_row_count: u64,
}

/// The days of a run.
pub type EngineDays = BTreeMap<UsageDay, EngineDay>;

/// Relative to the greater of two numbers, or to the operands of a difference. Neither is rounded.
const RELATIVE_TOLERANCE: f64 = 1e-12;

/// Differences that a message shows.
const SHOWN: usize = 4;

/// Keeps what would be written.
#[derive(Default)]
struct Kept {
    days: Mutex<EngineDays>,
}

impl Sink for Kept {
    fn replace(&self, rows: DayRows) -> BoxFuture<'_, Result<Written, Failure>> {
        async move {
            let row_count = rows.row_count();
            let Rows::Columns(columns) = &rows.rows else { panic!("a run makes batches when they are asked for") };
            // Doubles as they are before rounding.
            let batches = (0..columns.batch_count()).map(|index| columns.batch_in(index, NumberForm::Double));
            let batches: Vec<RecordBatch> = batches.collect::<Result<_, _>>().expect("a day that rounds has columns");
            let day = EngineDay { rows: rows_of(&batches), input_row_count: rows.input_row_count };
            self.days.lock().expect("no panic in a test").insert(rows.day, day);
            Ok(Written::Dropped { row_count })
        }
        .boxed()
    }

    fn parallel_days(&self) -> usize {
        1
    }
}

/// The rows of the engine that writes.
pub async fn native(config: &Config) -> Result<EngineDays, String> {
    let kept = Arc::new(Kept::default());
    let report =
        run_into(config, &RunOptions::default(), &Progress::hidden(), Arc::clone(&kept) as Arc<dyn Sink>).await;
    if report.exit_code != 0 {
        let days: Vec<String> = report.days.into_iter().filter_map(|day| day.error).collect();
        return Err(format!("{:?} {days:?}", report.error));
    }
    Ok(kept.days.lock().expect("no panic in a test").clone())
}

/// The rows of the reference SQL.
pub async fn reference_sql(config: &Config) -> Result<EngineDays, String> {
    let mut days = EngineDays::new();
    let keep = async |day: gristmill::sql::RecomputedDay| {
        let rows = rows_of(&day.batches);
        days.insert(day.day, EngineDay { rows, input_row_count: day.input_row_count });
        Ok(())
    };
    let ended = recompute(config, &RunOptions::default(), &Progress::hidden(), keep).await;
    ended.map_err(|failure| failure.full_text())?;
    Ok(days)
}

/// Same days, same numbers of input rows, same rows: texts exactly, numbers within the tolerance.
pub fn same_days(native: &EngineDays, sql: &EngineDays) -> Result<(), String> {
    let mut problems = Vec::new();
    for (day, found) in sql {
        let Some(expected) = native.get(day) else {
            problems.push(format!("{day}: only the SQL has the day"));
            continue;
        };
        if expected.input_row_count != found.input_row_count {
            problems.push(format!("{day}: {} rows in, by SQL {}", expected.input_row_count, found.input_row_count));
        }
        problems.extend(different_rows(&expected.rows, &found.rows).into_iter().map(|text| format!("{day}: {text}")));
    }
    problems.extend(native.keys().filter(|day| !sql.contains_key(day)).map(|day| format!("{day}: not in the SQL")));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "{} differences:\n    {}",
            problems.len(),
            problems[..problems.len().min(SHOWN)].join("\n    ")
        )),
    }
}

fn different_rows(native: &[EngineRow], sql: &[EngineRow]) -> Vec<String> {
    let mut by_texts: BTreeMap<&[Option<String>], Vec<&[Option<f64>]>> = BTreeMap::new();
    for (texts, numbers) in sql {
        by_texts.entry(texts).or_default().push(numbers);
    }
    let mut problems = Vec::new();
    for (texts, numbers) in native {
        let candidates = by_texts.entry(texts).or_default();
        match candidates.iter().position(|candidate| are_close(texts, numbers, candidate)) {
            Some(position) => drop(candidates.swap_remove(position)),
            None => problems.push(format!("native {texts:?}\n      {numbers:?}\n      SQL has {candidates:?}")),
        }
    }
    for (texts, rows) in by_texts {
        problems.extend(rows.iter().map(|numbers| format!("only SQL {texts:?} {numbers:?}")));
    }
    problems
}

fn are_close(texts: &[Option<String>], left: &[Option<f64>], right: &[Option<f64>]) -> bool {
    let is_difference = is_unallocated(texts);
    let pairs = left.iter().zip(right).enumerate();
    pairs.into_iter().all(|(position, pair)| match pair {
        (Some(one), Some(other)) => {
            // What is left of a capacity is as exact as the capacity and the use are, however little it is.
            let operand = if is_difference { capacity_of(position, left) } else { 0.0 };
            let scale = one.abs().max(other.abs()).max(operand);
            (one - other).abs() <= RELATIVE_TOLERANCE * scale
        }
        (one, other) => one.is_none() && other.is_none(),
    })
}

/// The capacity that a difference was taken from.
fn capacity_of(position: usize, numbers: &[Option<f64>]) -> f64 {
    let names: Vec<&str> =
        OCP_DAILY_SUMMARY.rollup_columns().filter(|c| c.target_type == TargetType::Decimal).map(|c| c.name).collect();
    let capacity = if names[position].contains("memory") {
        "node_capacity_memory_gigabyte_hours"
    } else {
        "node_capacity_cpu_core_hours"
    };
    let at = names.iter().position(|name| *name == capacity).expect("a column of the target");
    numbers[at].map_or(0.0, f64::abs)
}

fn is_unallocated(texts: &[Option<String>]) -> bool {
    let mut names = OCP_DAILY_SUMMARY.rollup_columns().filter(|c| c.target_type != TargetType::Decimal).map(|c| c.name);
    let usage_cost = names.position(|name| name == "infrastructure_usage_cost").expect("a column of the target");
    texts[usage_cost].is_none()
}

/// The rows of batches in which numbers are doubles.
pub fn rows_of(batches: &[RecordBatch]) -> Vec<EngineRow> {
    let names: Vec<&str> = OCP_DAILY_SUMMARY.rollup_columns().map(|column| column.name).collect();
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let found: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(found, names, "the target's columns in order");
        for row in 0..batch.num_rows() {
            let (mut texts, mut numbers) = (Vec::new(), Vec::new());
            for column in batch.columns() {
                let is_null = column.is_null(row);
                match column.data_type() {
                    DataType::Float64 => {
                        numbers.push((!is_null).then(|| column.as_primitive::<Float64Type>().value(row)))
                    }
                    _ => texts.push((!is_null).then(|| text(column.as_ref(), row))),
                }
            }
            rows.push((texts, numbers));
        }
    }
    rows
}

fn text(column: &dyn Array, row: usize) -> String {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary::<Int32Type>();
            let key = dictionary.key(row).expect("nulls were looked at before");
            dictionary.values().as_string::<i32>().value(key).to_owned()
        }
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Date32 => UsageDay(column.as_primitive::<Date32Type>().value(row)).to_string(),
        DataType::FixedSizeBinary(16) => {
            uuid::Uuid::from_slice(column.as_fixed_size_binary().value(row)).expect("16 bytes").to_string()
        }
        other => panic!("no column of the target has type {other}"),
    }
}
