//! CSV files → the rows of a day. Columns are found by their header, others are passed over; the files are read once to
//! learn where which days lie, and then only from a day's first row to its last.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::delimited::{NullStyle, Record};
use super::error::VerifyError;
use super::rows::{Rows, Texts};
use super::source::{Coverage, Fill, RowSource, bad_value};
use super::values::date;
use crate::postgres::reading::Occupied;
use crate::schema::identity::{CLUSTER_ID, DAY, SOURCE};
use crate::schema::target::OCP_DAILY_SUMMARY;
use crate::time::{UsageDay, Window};

/// The CSV files of one side.
pub struct FileSource {
    place: String,
    /// Paths without links or dots.
    origins: Vec<String>,
    files: Vec<CsvFile>,
    occupied: Occupied,
    problems: Vec<String>,
}

/// One file and where its days lie.
struct CsvFile {
    path: PathBuf,
    /// Position in the header of each rollup column.
    positions: Vec<usize>,
    nulls: NullStyle,
    field_count: usize,
    /// Day → bytes from the start of its first record to the end of its last, and its rows.
    days: BTreeMap<UsageDay, Stretch>,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    start: u64,
    end: u64,
    row_count: u64,
}

impl FileSource {
    /// A file, or every `*.csv` of a folder. Reads them once.
    /// Errors: a file cannot be read, or is no CSV. A missing column is a problem of the columns.
    pub fn open(path: &Path, windows: &[Window]) -> Result<Self, VerifyError> {
        let mut paths = if path.is_dir() { csv_files(path)? } else { vec![path.to_owned()] };
        paths.sort();
        let place =
            if path.is_dir() { format!("folder {}", path.display()) } else { format!("file {}", path.display()) };
        let origins = paths.iter().map(|path| path.canonicalize().map_err(|error| file_error(path, error)));
        let origins =
            origins.map(|path| path.map(|path| path.display().to_string())).collect::<Result<_, VerifyError>>()?;
        let mut source =
            Self { place, origins, files: Vec::new(), occupied: Occupied::default(), problems: Vec::new() };
        for path in paths {
            source.add(path, windows)?;
        }
        Ok(source)
    }

    fn add(&mut self, path: PathBuf, windows: &[Window]) -> Result<(), VerifyError> {
        let mut reader = Reader::open(&path)?;
        if !reader.next()? {
            self.problems.push(format!("`{}` has no header", path.display()));
            return Ok(());
        }
        let header: Vec<String> = (0..reader.record.len())
            .map(|at| reader.record.field(at).0.trim_start_matches('\u{feff}').to_owned())
            .collect();
        let at = |name: &str| header.iter().position(|column| column == name);
        let positions: Vec<Option<usize>> = OCP_DAILY_SUMMARY.rollup_columns().map(|column| at(column.name)).collect();
        for (column, _) in OCP_DAILY_SUMMARY.rollup_columns().zip(&positions).filter(|(_, at)| at.is_none()) {
            self.problems.push(format!("`{}` has no column `{}`", path.display(), column.name));
        }
        for column in OCP_DAILY_SUMMARY.rollup_columns() {
            if header.iter().filter(|name| *name == column.name).count() > 1 {
                // Which of them holds the values is anybody's guess.
                self.problems.push(format!("`{}` has column `{}` more than once", path.display(), column.name));
            }
        }
        let positions: Option<Vec<usize>> = positions.into_iter().collect();
        let (Some(positions), Some(day), Some(cluster), Some(source)) =
            (positions, at(DAY), at(CLUSTER_ID), at(SOURCE))
        else {
            return Ok(());
        };
        let mut file =
            CsvFile { path, positions, nulls: NullStyle::Empty, field_count: header.len(), days: BTreeMap::new() };
        while reader.next()? {
            if reader.number == 2 {
                file.nulls = reader.record.null_style();
            }
            reader.expect_fields(file.field_count)?;
            let text = reader.record.value(day, file.nulls);
            let Some(date) = text.and_then(date) else {
                self.problems.push(format!("`{}`, record {}: `{DAY}` is no date", file.path.display(), reader.number));
                return Ok(());
            };
            let (date, end) = (UsageDay::from_date(date), reader.position);
            let start = end - reader.record.stored_bytes;
            let stretch = file.days.entry(date).or_insert(Stretch { start, end, row_count: 0 });
            stretch.end = end;
            stretch.row_count += 1;
            *self.occupied.days.entry(date).or_default() += 1;
            if windows.iter().any(|window| window.contains(date)) {
                let name = |at| reader.record.value(at, file.nulls).map(str::to_owned);
                self.occupied.clusters.insert(name(cluster));
                self.occupied.sources.insert(name(source).map(|id| id.to_ascii_lowercase()));
            }
        }
        self.files.push(file);
        Ok(())
    }
}

impl RowSource for FileSource {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn origins(&self) -> Vec<String> {
        self.origins.clone()
    }

    fn column_problems(&mut self) -> BoxFuture<'_, Result<Vec<String>, VerifyError>> {
        let problems = self.problems.clone();
        async move { Ok(problems) }.boxed()
    }

    fn coverage(&mut self) -> BoxFuture<'_, Result<Coverage, VerifyError>> {
        let occupied = self.occupied.clone();
        async move { Ok(Some(occupied)) }.boxed()
    }

    fn day(&mut self, day: UsageDay) -> BoxFuture<'_, Result<Fill, VerifyError>> {
        let parts: Vec<DayPart> = self.files.iter().filter_map(|file| file.part(day)).collect();
        let fill: Fill = Box::new(move |rows, texts| parts.iter().try_for_each(|part| part.read(rows, texts)));
        async move { Ok(fill) }.boxed()
    }
}

impl CsvFile {
    fn part(&self, day: UsageDay) -> Option<DayPart> {
        let stretch = *self.days.get(&day)?;
        let day_column = OCP_DAILY_SUMMARY.rollup_columns().position(|column| column.name == DAY)?;
        Some(DayPart {
            path: self.path.clone(),
            positions: self.positions.clone(),
            day_position: self.positions[day_column],
            nulls: self.nulls,
            field_count: self.field_count,
            day,
            stretch,
        })
    }
}

/// The rows of a day in one file.
struct DayPart {
    path: PathBuf,
    positions: Vec<usize>,
    day_position: usize,
    nulls: NullStyle,
    field_count: usize,
    day: UsageDay,
    stretch: Stretch,
}

impl DayPart {
    fn read(&self, rows: &mut Rows, texts: &mut Texts) -> Result<(), VerifyError> {
        let mut reader = Reader::open(&self.path)?;
        reader.skip_to(self.stretch.start)?;
        let day = self.day.to_string();
        let mut found = 0;
        while reader.position < self.stretch.end && reader.next()? {
            reader.expect_fields(self.field_count)?;
            let record = &reader.record;
            let is_of_day = record.field(self.day_position).0.starts_with(&day);
            if !is_of_day {
                continue;
            }
            let cells = self.positions.iter().map(|position| record.value(*position, self.nulls));
            let place = || self.path.display().to_string();
            rows.push(cells, texts).map_err(|bad| bad_value(&place(), self.day, bad))?;
            found += 1;
        }
        if found == self.stretch.row_count {
            return Ok(());
        }
        Err(reader.error("the file changed while it was read"))
    }
}

/// Reads the records of a file and knows where it is.
struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    record: Record,
    /// Records so far.
    number: u64,
    /// Bytes so far.
    position: u64,
}

impl Reader {
    fn open(path: &Path) -> Result<Self, VerifyError> {
        let file = File::open(path).map_err(|source| file_error(path, source))?;
        let input = BufReader::with_capacity(1 << 18, file);
        Ok(Self { path: path.to_owned(), input, record: Record::default(), number: 0, position: 0 })
    }

    fn skip_to(&mut self, position: u64) -> Result<(), VerifyError> {
        self.input.seek(SeekFrom::Start(position)).map_err(|source| file_error(&self.path, source))?;
        self.position = position;
        Ok(())
    }

    fn next(&mut self) -> Result<bool, VerifyError> {
        self.number += 1;
        let read = match self.record.read_csv(&mut self.input) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(self.error(&error.to_string())),
            Err(error) => return Err(file_error(&self.path, error)),
        };
        self.position += self.record.stored_bytes;
        Ok(read)
    }

    fn expect_fields(&self, count: usize) -> Result<(), VerifyError> {
        match self.record.len() {
            found if found == count => Ok(()),
            found => Err(self.error(&format!("has {found} fields, the header has {count}"))),
        }
    }

    fn error(&self, problem: &str) -> VerifyError {
        VerifyError::Record { path: self.path.display().to_string(), record: self.number, problem: problem.to_owned() }
    }
}

fn csv_files(folder: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let entries = std::fs::read_dir(folder).map_err(|source| file_error(folder, source))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| file_error(folder, source))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
    }
    Ok(files)
}

fn file_error(path: &Path, source: io::Error) -> VerifyError {
    VerifyError::File { path: path.display().to_string(), source }
}
