//! Scans, listing and footers → which row groups of which objects make up each day, as a value that can be printed.

pub mod display;
pub mod missing;
mod other_periods;
pub mod projection;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use parquet::file::metadata::ColumnChunkMetaData;

use crate::discover::{ManifestName, ObjectInfo};
use crate::error::Failure;
use crate::footers::{DaySpan, Footer, FooterError, RowGroupSpan, column_range, is_guess_in_doubt, plain_size};
use crate::rollups::declaration::Scan;
use crate::schema::source::SourceTable;
use crate::time::{UsageDay, Window};
use crate::units::Bytes;

use missing::Oddities;
pub use other_periods::OtherPeriods;
use projection::{Projection, project};

/// One row group to read for one scan.
#[derive(Debug, Clone)]
pub struct ChunkPlan {
    /// Position of the scan.
    pub scan: usize,
    /// Footer of the object.
    pub footer: Arc<Footer>,
    /// Position of the row group.
    pub row_group: usize,
    /// Columns to read.
    pub projection: Arc<Projection>,
    /// Days of the window that its rows may lie on and that are to be computed, in order; never empty.
    pub days: Vec<UsageDay>,
    /// Further days of the window that its rows may lie on, and that are left out: such rows are passed over.
    pub passed_over: Vec<UsageDay>,
    /// Rows of the row group.
    pub row_count: u64,
    /// Where the needed leaf columns lie in the object.
    pub column_ranges: Vec<Range<u64>>,
    /// Bytes of the needed columns as stored.
    pub stored_bytes: Bytes,
    /// Bytes of the needed columns once decompressed: what the chunk may hold in memory.
    pub decoded_bytes: Bytes,
    /// Whether that is a guess for some column, to be put right once its pages are there.
    pub is_in_doubt: bool,
}

/// What is known about one day before any row is read.
#[derive(Debug, Clone)]
pub struct DayPlan {
    /// The day.
    pub day: UsageDay,
    /// Row groups that may hold rows of the day.
    pub chunk_count: usize,
    /// Objects that may hold rows of the day, sorted by key.
    pub objects: Vec<Arc<ObjectInfo>>,
    /// Rows of those row groups: an upper bound where a row group spans days.
    pub row_count: u64,
    /// Report, raw or daily → objects and rows of those row groups, each counted once however often it is read.
    pub reports: BTreeMap<SourceTable, (usize, u64)>,
    /// Bytes of the needed columns as stored.
    pub stored_bytes: Bytes,
}

/// An object that cannot be used, and the days that are therefore given up.
#[derive(Debug)]
pub struct BadObject {
    /// Days of the window that it may belong to.
    pub days: Vec<UsageDay>,
    /// What is wrong with it.
    pub failure: Failure,
}

/// Everything that will be read for one window.
#[derive(Debug)]
pub struct Plan {
    /// The window.
    pub window: Window,
    /// Every day of the window that is to be computed, in order.
    pub days: Vec<DayPlan>,
    /// Chunks in the order in which they are fetched: by day, and on each day scans that others wait for first.
    pub chunks: Vec<ChunkPlan>,
    /// Objects that cannot be used.
    pub bad_objects: Vec<BadObject>,
    /// Objects whose footer was read.
    pub object_count: usize,
    /// Columns that some object lacks and that read as null there: column name and number of objects.
    pub absent_columns: BTreeMap<&'static str, usize>,
    /// Objects whose rows are of other days than their place says.
    pub of_other_periods: OtherPeriods,
    /// Measures that objects lack, and names that are there twice but for letter case.
    pub oddities: Oddities,
}

impl Plan {
    /// Bytes of all chunks as stored.
    pub fn stored_bytes(&self) -> Bytes {
        self.chunks.iter().map(|chunk| chunk.stored_bytes).sum()
    }

    /// Takes days out: row groups that hold nothing else are not read; those that do are read for the other days.
    pub fn leave_out(&mut self, days: &BTreeSet<UsageDay>) {
        self.days.retain(|planned| !days.contains(&planned.day));
        for chunk in &mut self.chunks {
            chunk.passed_over.extend(chunk.days.iter().filter(|day| days.contains(day)));
            chunk.days.retain(|day| !days.contains(day));
        }
        self.chunks.retain(|chunk| !chunk.days.is_empty());
    }

    /// Rows of all chunks.
    pub fn row_count(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.row_count).sum()
    }
}

/// Plans one window.
///
/// Footers that could not be read, and objects without usable times, give up the days that the object may belong to: the
/// day of its name, as long as every readable object with such a name keeps to the day in it; otherwise every day of the
/// window.
pub fn plan(window: Window, scans: &[Scan], footers: &[(Arc<ObjectInfo>, Result<Footer, FooterError>)]) -> Plan {
    let mut plan = Plan {
        window,
        days: Vec::new(),
        chunks: Vec::new(),
        bad_objects: Vec::new(),
        object_count: footers.len(),
        absent_columns: BTreeMap::new(),
        of_other_periods: OtherPeriods::default(),
        oddities: Oddities::default(),
    };
    // An object without usable times tells no more about its name than one that cannot be read.
    let names_are_true = footers.iter().all(|(object, footer)| match footer {
        Ok(footer) if has_times(scans, footer) => keeps_to_its_name(object, footer),
        Ok(_) | Err(_) => true,
    });
    let mut projections = Projections::default();
    for (object, footer) in footers {
        let by_name = || days_of_name(window, object.manifest.as_ref().filter(|_| names_are_true));
        match footer {
            Ok(footer) => {
                plan.of_other_periods.note(window, object, footer);
                let given_up = (!has_times(scans, footer)).then(by_name);
                plan_object(&mut plan, scans, &Arc::new(footer.clone()), given_up.as_deref(), &mut projections);
            }
            Err(error) => plan.bad_objects.push(BadObject { days: by_name(), failure: Failure::of(error) }),
        }
    }
    let waits = |chunk: &ChunkPlan| scans[chunk.scan].after().is_some();
    plan.chunks.sort_by(|a, b| {
        // A chunk that waits comes after everything it may wait for on any of its days: nothing that is in hand can then
        // wait for what has not begun.
        let place = |chunk: &ChunkPlan| if waits(chunk) { chunk.days.last() } else { chunk.days.first() }.copied();
        let key = |chunk: &ChunkPlan| (place(chunk), waits(chunk), chunk.scan, chunk.row_group);
        key(a).cmp(&key(b)).then_with(|| a.footer.object.key.cmp(&b.footer.object.key))
    });
    plan.days = window.days().map(|day| day_plan(day, &plan.chunks)).collect();
    plan
}

/// `given_up` are the days that an object without usable times may belong to.
fn plan_object(
    plan: &mut Plan,
    scans: &[Scan],
    footer: &Arc<Footer>,
    given_up: Option<&[UsageDay]>,
    projections: &mut Projections,
) {
    let window = plan.window;
    let metadata = footer.metadata();
    for (scan, declaration) in scans.iter().enumerate() {
        if declaration.table != footer.object.table {
            continue;
        }
        let columns = declaration.columns();
        let mut is_read = false;
        for span in footer.row_groups.iter().filter(|span| span.row_count > 0) {
            let days: Vec<UsageDay> = window.days().filter(|day| span.days.may_contain(*day)).collect();
            if days.is_empty() {
                continue;
            }
            let projection = match project(&footer.object.key, &metadata, span.index, &columns) {
                Ok(projection) => projection,
                Err(error) => {
                    let days = given_up.map_or(days, <[UsageDay]>::to_vec);
                    plan.bad_objects.push(BadObject { days, failure: error.into() });
                    continue;
                }
            };
            if !is_read {
                is_read = true;
                let names = metadata.file_metadata().schema_descr().root_schema().get_fields().iter();
                plan.oddities.note(&footer.object.key, declaration, names.map(|field| field.name()));
                let absent = columns.iter().zip(&projection.roots).filter(|(_, root)| root.is_none());
                absent.for_each(|(column, _)| *plan.absent_columns.entry(column.name).or_default() += 1);
            }
            let row_group = metadata.row_group(span.index);
            let column_range = |leaf: &usize| {
                let range = column_range(row_group.column(*leaf), footer.object.size);
                range.expect("a footer with a column outside its object is refused when it is read")
            };
            let leaves = || projection.leaves.iter().map(|leaf| row_group.column(*leaf));
            let stored = |chunk: &ColumnChunkMetaData| Bytes(u64::try_from(chunk.compressed_size()).unwrap_or(0));
            plan.chunks.push(ChunkPlan {
                scan,
                footer: Arc::clone(footer),
                row_group: span.index,
                days,
                passed_over: Vec::new(),
                row_count: span.row_count,
                column_ranges: projection.leaves.iter().map(column_range).collect(),
                stored_bytes: leaves().map(stored).sum(),
                decoded_bytes: leaves().map(|chunk| plain_size(chunk).bytes()).sum(),
                is_in_doubt: leaves().any(is_guess_in_doubt),
                projection: projections.shared(projection),
            });
        }
    }
}

/// Most objects have the same columns: their chunks share one projection.
#[derive(Default)]
struct Projections(Vec<Arc<Projection>>);

impl Projections {
    /// So many are compared with; a bucket in which more alternate costs memory, not time.
    const COMPARED: usize = 16;

    fn shared(&mut self, projection: Projection) -> Arc<Projection> {
        let known = self.0.iter().rev().take(Self::COMPARED).find(|known| ***known == projection);
        known.cloned().unwrap_or_else(|| {
            let new = Arc::new(projection);
            self.0.push(Arc::clone(&new));
            new
        })
    }
}

fn day_plan(day: UsageDay, chunks: &[ChunkPlan]) -> DayPlan {
    let (objects, reports) = (Vec::new(), BTreeMap::new());
    let mut plan = DayPlan { day, chunk_count: 0, objects, row_count: 0, reports, stored_bytes: Bytes(0) };
    let mut objects: BTreeMap<&str, &Arc<ObjectInfo>> = BTreeMap::new();
    let mut row_groups = BTreeSet::new();
    for chunk in chunks.iter().filter(|chunk| chunk.days.contains(&day)) {
        plan.chunk_count += 1;
        plan.row_count += chunk.row_count;
        plan.stored_bytes = plan.stored_bytes + chunk.stored_bytes;
        let object = &chunk.footer.object;
        if row_groups.insert((&object.key, chunk.row_group)) {
            let (object_count, row_count) = plan.reports.entry(object.table).or_default();
            *object_count += usize::from(!objects.contains_key(object.key.as_str()));
            *row_count += chunk.row_count;
        }
        objects.insert(&object.key, object);
    }
    plan.objects = objects.into_values().cloned().collect();
    plan
}

/// Whether the times of an object can be read at all. Every scan's first column is the time.
fn has_times(scans: &[Scan], footer: &Footer) -> bool {
    let tells_days = |span: &RowGroupSpan| matches!(span.days, DaySpan::Known(..));
    if footer.row_groups.iter().any(tells_days) {
        return true;
    }
    let has_rows = !footer.row_groups.is_empty();
    let mut of_object = scans.iter().filter(|scan| has_rows && scan.table == footer.object.table);
    let metadata = footer.metadata();
    of_object.all(|scan| project(&footer.object.key, &metadata, 0, &scan.columns()[..1]).is_ok())
}

/// Whether all rows of an object lie on the day of its name, as far as both say anything.
fn keeps_to_its_name(object: &ObjectInfo, footer: &Footer) -> bool {
    let Some(name) = &object.manifest else { return true };
    footer.row_groups.iter().filter(|span| span.row_count > 0).all(|span| match span.days {
        DaySpan::Known(first, last) => first == name.day && last == name.day,
        DaySpan::Unknown => false,
    })
}

fn days_of_name(window: Window, name: Option<&ManifestName>) -> Vec<UsageDay> {
    match name {
        Some(name) => window.days().filter(|day| *day == name.day).collect(),
        None => window.days().collect(),
    }
}
