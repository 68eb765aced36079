//! The gate before days, and the order in which pods begin with them; without any waiting.

use arrow_schema::{DataType, Field, Schema};
use chrono::DateTime;
use parquet::arrow::ArrowWriter;

use super::*;
use crate::config::Shard;
use crate::discover::ObjectInfo;
use crate::footers::footer_of;
use crate::labels::EnabledKeys;
use crate::plan::missing::Oddities;
use crate::plan::projection::Projection;
use crate::plan::{BadObject, DayPlan};
use crate::rollups::ocp_daily_summary;
use crate::rollups::semantics::Semantics;
use crate::schema::source::{ReportType, SourceTable, Variant};
use crate::time::{BillingMonth, Window};

/// First day of a month.
const FIRST: i32 = 20_362;
const CLAIMS: Gate = Gate::Claims { empty_days: false };

fn days(numbers: &[i32]) -> Vec<UsageDay> {
    numbers.iter().map(|number| UsageDay(FIRST + number)).collect()
}

fn day(number: i32) -> UsageDay {
    UsageDay(FIRST + number)
}

fn scans() -> Arc<Vec<CompiledScan>> {
    let scans = ocp_daily_summary::scans(Semantics::Balanced, |_| true);
    Arc::new(scans.iter().map(CompiledScan::new).collect())
}

/// A scan that others wait for, and one that waits for it.
fn feeding_and_waiting(scans: &[CompiledScan]) -> [usize; 2] {
    let waiting = scans.iter().position(|scan| scan.after.is_some()).unwrap();
    let feeding = scans.iter().position(|scan| Some(scan.name) == scans[waiting].after).unwrap();
    [feeding, waiting]
}

/// Chunks as (scan, days); a day without any is empty.
fn plan(day_count: i32, chunks: &[(usize, Vec<UsageDay>)]) -> Plan {
    let month = BillingMonth { year: 2025, month: 10 };
    let table = SourceTable { report: ReportType::PodUsage, variant: Variant::Raw };
    let mut file = Vec::new();
    let schema = Schema::new(vec![Field::new("column", DataType::Boolean, true)]);
    ArrowWriter::try_new(&mut file, Arc::new(schema), None).unwrap().close().unwrap();
    let object = Arc::new(ObjectInfo {
        key: "data/x".to_owned(),
        table,
        month,
        size: Bytes(file.len() as u64),
        etag: None,
        last_modified: DateTime::UNIX_EPOCH,
        manifest: None,
    });
    let footer = Arc::new(footer_of(&object, &file.into()).unwrap());
    let empty = Schema::empty();
    let projection = Arc::new(Projection { roots: vec![], leaves: vec![], unchecked: vec![], schema: Arc::new(empty) });
    let chunk = |(scan, days): &(usize, Vec<UsageDay>)| ChunkPlan {
        scan: *scan,
        footer: Arc::clone(&footer),
        row_group: 0,
        projection: Arc::clone(&projection),
        days: days.clone(),
        passed_over: Vec::new(),
        row_count: 10,
        column_ranges: Vec::new(),
        stored_bytes: Bytes(10),
        decoded_bytes: Bytes(10),
        is_in_doubt: false,
    };
    let planned = |day: UsageDay| DayPlan {
        reports: BTreeMap::new(),
        day,
        chunk_count: chunks.iter().filter(|(_, days)| days.contains(&day)).count(),
        objects: Vec::new(),
        row_count: 10,
        stored_bytes: Bytes(10),
    };
    Plan {
        window: Window { start: day(0), end: day(day_count - 1) },
        days: (0..day_count).map(day).map(planned).collect(),
        chunks: chunks.iter().map(chunk).collect(),
        bad_objects: Vec::new(),
        object_count: 1,
        absent_columns: BTreeMap::new(),
        of_other_periods: crate::plan::OtherPeriods::default(),
        oddities: Oddities::default(),
    }
}

/// One chunk per day.
fn plain_plan(day_count: i32) -> Plan {
    let chunks: Vec<_> = (0..day_count).map(|number| (0, days(&[number]))).collect();
    plan(day_count, &chunks)
}

fn rules(open_days: usize, gate: Gate, share: Option<Share>) -> DayRules {
    let keys = Arc::new(EnabledKeys::new(Vec::new()));
    DayRules {
        open_days,
        book: MemoryBook::unlimited(),
        on_bad_day: OnBadDay::Continue,
        worker_count: 1,
        labels: LabelSettings { keys, rules: Semantics::Balanced.label_rules(false), cache_bytes: 1 << 16 },
        share,
        gate,
        closing_waits: false,
    }
}

fn share(index: u32, count: u32) -> Share {
    Share::new(Shard { index, count }, day(0), 0)
}

fn done(schedule: &mut Schedule<'_>, chunk: usize) {
    let rows_of_days = schedule.plan.chunks[chunk].days.iter().map(|day| (*day, 1)).collect();
    schedule.chunk_done(chunk, Ok(ChunkCounts { row_count: 1, rows_of_days, outside: None }));
}

/// Runs a schedule as the pipeline does, each step ending before the next one begins. Answers the days in the order in which they were
/// asked for, and those that were closed.
fn drive(schedule: &mut Schedule<'_>, is_ours: impl Fn(UsageDay) -> bool) -> [Vec<UsageDay>; 2] {
    let (mut asked, mut closed) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        let mut moved = false;
        for complete in schedule.take_complete_days() {
            assert_eq!(schedule.day_closed(complete.state.day, Ok(())), Some(()));
            closed.push(complete.state.day);
            moved = true;
        }
        if let Some(chunk) = schedule.next_chunk() {
            assert!(schedule.ready(chunk).is_some(), "it waits for nothing");
            done(schedule, chunk);
            moved = true;
        }
        if let Some(day) = schedule.next_claim() {
            asked.push(day);
            schedule.claimed(day, Ok(is_ours(day)));
            moved = true;
        }
        if !moved {
            return [asked, closed];
        }
    }
    panic!("it never ends");
}

#[test]
fn without_a_gate_nothing_is_asked() {
    let plan = plain_plan(3);
    let mut schedule = Schedule::new(&plan, scans(), rules(2, Gate::Open, None));
    assert_eq!(drive(&mut schedule, |_| panic!("nobody asks")), [vec![], days(&[0, 1, 2])]);
}

#[test]
fn a_day_is_claimed_when_it_would_be_opened_and_not_before() {
    let plan = plain_plan(4);
    let mut schedule = Schedule::new(&plan, scans(), rules(2, CLAIMS, None));
    assert_eq!((schedule.next_chunk(), schedule.next_claim()), (None, Some(day(0))));
    // It is asked for until there is an answer.
    assert_eq!((schedule.next_chunk(), schedule.next_claim()), (None, Some(day(0))));
    schedule.claimed(day(0), Ok(true));
    assert_eq!(schedule.next_claim(), None, "it can be opened now");
    assert_eq!(schedule.next_chunk(), Some(0));
    assert_eq!(schedule.next_claim(), Some(day(1)));
    schedule.claimed(day(1), Ok(true));
    assert_eq!(schedule.next_chunk(), Some(1));
    assert_eq!((schedule.next_chunk(), schedule.next_claim()), (None, None), "two days are open, no more are wanted");
    done(&mut schedule, 0);
    assert_eq!(schedule.next_claim(), None, "it is complete, and not written yet");
    assert_eq!(schedule.take_complete_days().len(), 1);
    assert_eq!(schedule.next_claim(), None);
    schedule.day_closed(day(0), Ok(()));
    assert_eq!(schedule.next_claim(), Some(day(2)));
}

#[test]
fn days_that_are_claimed_go_on_while_the_next_one_is_asked_for() {
    let chunks = [(0, days(&[0])), (0, days(&[0, 1])), (0, days(&[1])), (0, days(&[0]))];
    let plan = plan(2, &chunks);
    let mut schedule = Schedule::new(&plan, scans(), rules(4, CLAIMS, None));
    schedule.claimed(day(0), Ok(true));
    assert_eq!(schedule.next_chunk(), Some(0));
    // The second chunk needs the second day; the last one is of the first day alone, and must not overtake it.
    assert_eq!((schedule.next_claim(), schedule.next_chunk()), (Some(day(1)), None));
    schedule.claimed(day(1), Ok(false));
    assert_eq!(schedule.next_chunk(), Some(1));
    let to = schedule.ready(1).unwrap();
    assert_eq!((to.open.len(), to.given_up), (1, days(&[1])), "rows of the other day are passed over");
    [0, 1].into_iter().for_each(|chunk| done(&mut schedule, chunk));
    assert_eq!(drive(&mut schedule, |_| panic!("both are answered")), [vec![], days(&[0])]);
    let end = schedule.end();
    assert_eq!((end.left_days.into_iter().collect::<Vec<_>>(), end.failed_days.len()), (days(&[1]), 0));
    assert!(end.stopped_by.is_none());

    // Chunks of the open day alone do go on.
    let chunks = [(0, days(&[0])), (0, days(&[0])), (0, days(&[1]))];
    let plan = self::plan(2, &chunks);
    let mut schedule = Schedule::new(&plan, scans(), DayRules { worker_count: 2, ..rules(4, CLAIMS, None) });
    schedule.claimed(day(0), Ok(true));
    assert_eq!([schedule.next_chunk(), schedule.next_chunk(), schedule.next_chunk()], [Some(0), Some(1), None]);
    assert_eq!(schedule.next_claim(), Some(day(1)));
}

#[test]
fn days_of_others_are_passed_over_and_are_no_failures() {
    let mut plan = plain_plan(6);
    plan.bad_objects = vec![BadObject { days: days(&[4]), failure: Failure::new(ErrorKind::ObjectUnreadable, "bad") }];
    let mut schedule = Schedule::new(&plan, scans(), rules(2, CLAIMS, None));
    let [asked, closed] = drive(&mut schedule, |day| day.0 % 2 == FIRST % 2);
    assert_eq!(asked, days(&[0, 1, 2, 3, 5]), "a bad day is not asked for");
    assert_eq!(closed, days(&[0, 2]));
    let end = schedule.end();
    assert_eq!(end.left_days.into_iter().collect::<Vec<_>>(), days(&[1, 3, 5]));
    assert_eq!(end.failed_days.into_keys().collect::<Vec<_>>(), days(&[4]));
}

#[test]
fn a_claim_that_is_lost_while_its_day_is_written_leaves_the_day_to_others() {
    let plan = plain_plan(2);
    let mut schedule = Schedule::new(&plan, scans(), rules(2, Gate::Open, None));
    let chunk = schedule.next_chunk().unwrap();
    done(&mut schedule, chunk);
    assert_eq!(schedule.take_complete_days().len(), 1);
    let lost: Result<(), Failure> = Err(Failure::new(ErrorKind::HeldByOthers, "lost"));
    assert_eq!(schedule.day_closed(day(0), lost), None);
    assert_eq!(drive(&mut schedule, |_| true)[1], days(&[1]));
    let end = schedule.end();
    assert!(end.stopped_by.is_none() && end.failed_days.is_empty());
    assert_eq!(end.left_days.into_iter().collect::<Vec<_>>(), days(&[0]));
}

#[test]
fn empty_days_are_claimed_only_if_they_lose_their_rows() {
    let plan = plan(3, &[(0, days(&[1]))]);
    let mut schedule = Schedule::new(&plan, scans(), rules(2, CLAIMS, None));
    assert_eq!(drive(&mut schedule, |_| true), [days(&[1]), days(&[1, 0, 2])]);
    let gate = Gate::Claims { empty_days: true };
    let mut schedule = Schedule::new(&plan, scans(), rules(2, gate, None));
    assert_eq!(drive(&mut schedule, |asked| asked != day(0)), [days(&[1, 0, 2]), days(&[1, 2])]);
    assert_eq!(schedule.end().left_days.into_iter().collect::<Vec<_>>(), days(&[0]));
}

#[test]
fn a_pod_begins_with_its_own_days_and_goes_on_with_those_of_others() {
    let plan = plain_plan(7);
    let mut schedule = Schedule::new(&plan, scans(), rules(1, CLAIMS, Some(share(1, 3))));
    let [asked, closed] = drive(&mut schedule, |_| true);
    assert_eq!(asked, days(&[1, 4, 0, 2, 3, 5, 6]));
    assert_eq!(closed, asked);
}

#[test]
fn what_waits_comes_after_what_it_waits_for_whatever_the_order_of_days() {
    let scans = scans();
    let [feeding, waiting] = feeding_and_waiting(&scans);
    let mut chunks = Vec::new();
    for number in 0..9 {
        // Row groups that hold the end of one day and the beginning of the next.
        let spanning = days(&[number, (number + 1).min(8)][..if number < 8 { 2 } else { 1 }]);
        chunks.push((feeding, days(&[number])));
        chunks.push((feeding, spanning.clone()));
        chunks.push((waiting, spanning));
        chunks.push((waiting, days(&[number])));
    }
    let plan = plan(9, &chunks);
    for count in 2..6 {
        for index in 0..count {
            for workers in 1..4 {
                let share = share(index, count);
                let order = in_turns(&plan, &scans, workers, |day| share.has(day));
                let all: Vec<usize> = (0..plan.chunks.len()).collect();
                assert_eq!(
                    {
                        let mut sorted = order.clone();
                        sorted.sort_unstable();
                        sorted
                    },
                    all,
                    "each once"
                );
                for (position, chunk) in
                    order.iter().enumerate().filter(|(_, chunk)| plan.chunks[**chunk].scan == waiting)
                {
                    let needed = |other: &usize| {
                        let other = &plan.chunks[*other];
                        other.scan == feeding && other.days.iter().any(|day| plan.chunks[*chunk].days.contains(day))
                    };
                    assert!(!order[position..].iter().any(needed), "{index}/{count}, {workers} workers: {order:?}");
                }
            }
        }
    }
}

#[test]
fn the_first_of_large_days_is_read_alone_however_much_memory_there_is() {
    let chunks: Vec<_> = [0, 0, 1, 2].iter().map(|number| (0, days(&[*number]))).collect();
    let mut plan = plan(3, &chunks);
    plan.chunks.iter_mut().for_each(|chunk| chunk.row_count = 1_000_000);
    let mut schedule = Schedule::new(&plan, scans(), rules(8, Gate::Open, None));
    let begun: Vec<usize> = std::iter::from_fn(|| schedule.next_chunk()).collect();
    assert_eq!(begun, [0, 1], "the limit is no reason to wait, not knowing the others' size is");
    assert!(schedule.open[&day(0)].state.excess().is_none());
    done(&mut schedule, 0);
    done(&mut schedule, 1);
    assert_eq!(schedule.take_complete_days().len(), 1);
    let begun: Vec<usize> = std::iter::from_fn(|| schedule.next_chunk()).collect();
    assert_eq!(begun, [2, 3], "it was small, and so the others are begun side by side");
}

#[test]
fn while_closing_waits_one_large_day_is_opened() {
    let mut plan = plain_plan(6);
    plan.chunks.iter_mut().for_each(|chunk| chunk.row_count = 50_000);
    let waits = |gate| DayRules { worker_count: 2, closing_waits: true, ..rules(4, gate, None) };
    let mut schedule = Schedule::new(&plan, scans(), waits(Gate::Open));
    let begun: Vec<usize> = std::iter::from_fn(|| schedule.next_chunk()).collect();
    assert_eq!(begun, [0]);
    schedule.closing_begins();
    let begun: Vec<usize> = std::iter::from_fn(|| schedule.next_chunk()).collect();
    assert_eq!(begun, [1, 2, 3]);

    // Small days cost little while they wait.
    plan.chunks.iter_mut().for_each(|chunk| chunk.row_count = 1);
    let mut schedule = Schedule::new(&plan, scans(), waits(Gate::Open));
    assert_eq!(std::iter::from_fn(|| schedule.next_chunk()).count(), 6);
    let mut schedule = Schedule::new(&plan, scans(), waits(CLAIMS));
    let next = || {
        let claim = schedule.next_claim();
        claim.into_iter().for_each(|day| schedule.claimed(day, Ok(true)));
        schedule.next_chunk()
    };
    assert_eq!(std::iter::from_fn(next).count(), 4, "a pod leaves others to others all the same");
}

#[test]
fn days_that_take_turns_keep_step_in_each_scan() {
    let scans = scans();
    let [feeding, _] = feeding_and_waiting(&scans);
    let small = scans.iter().position(|scan| scan.after.is_none() && scan.name != scans[feeding].name).unwrap();
    // The first day comes alone; of the other two, one has a small object more.
    let chunks =
        [(small, 1), (small, 1), (small, 2), (feeding, 0), (feeding, 1), (feeding, 1), (feeding, 2), (feeding, 2)];
    let plan = plan(3, &chunks.map(|(scan, number)| (scan, days(&[number]))));
    let order = in_turns(&plan, &scans, 2, |_| true);
    let days_of = |scan: usize| {
        let chunks = order.iter().map(|chunk| &plan.chunks[*chunk]).filter(move |chunk| chunk.scan == scan);
        chunks.map(|chunk| chunk.days[0].0 - FIRST).collect::<Vec<_>>()
    };
    assert_eq!([days_of(feeding), days_of(small)], [vec![0, 1, 2, 1, 2], vec![1, 2, 1]]);
    let scans_of: Vec<usize> = order.iter().skip(1).map(|chunk| plan.chunks[*chunk].scan).collect();
    assert_eq!(scans_of.chunk_by(|a, b| a == b).count(), 2, "one scan after the other: {scans_of:?}");
}
