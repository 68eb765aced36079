//! Question: how many times longer than merely reading and decoding the needed columns does a whole run take?
//!
//! Reads and decodes the columns that the daily summary needs of these files (without volumes nobody looks for pods' names), and
//! nothing else, with the reader settings that the engine uses and as many threads, and then runs the engine with the `none`
//! target over the same files, in turns. Prints median and spread of both and their ratio; then time and peak memory of one run
//! as a process of its own. All must see the same number of rows.
//!
//! `cargo bench --bench decode [-- FOLDER [RUNS [THREADS]]]`; without a folder it makes one million hourly pod rows (30 days
//! × 1,400 pods) first, without THREADS all cores work. The last line holds the figures as JSON, for other benchmarks.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::{Buf, Bytes};
use gristmill::config;
use gristmill::decode::{BATCH_ROWS, Batches, RowGroup};
use gristmill::generate::{GenerateOptions, generate};
use gristmill::plan::projection::project;
use gristmill::rollups::declaration::{Scan, without_empty_tables};
use gristmill::rollups::ocp_daily_summary::scans;
use gristmill::rollups::semantics::Semantics;
use gristmill::run::{RunOptions, run};
use gristmill::schema::source::{SourceTable, Variant};
use gristmill::telemetry::progress::Progress;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One row group of one file.
struct Piece {
    path: PathBuf,
    metadata: Arc<ParquetMetaData>,
    row_group: usize,
    scan: usize,
}

fn main() {
    // `cargo bench` passes `--bench`; what is left are our own arguments.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runs: usize = arguments.get(1).map_or(5, |text| text.parse().unwrap());
    let made = tempfile::tempdir().unwrap();
    let folder = match arguments.first() {
        Some(folder) => PathBuf::from(folder),
        None => {
            let folder = made.path().join("data-set");
            generate(&GenerateOptions::new(1_008_000, 30, &folder)).unwrap();
            folder
        }
    };
    let workers: usize = match arguments.get(2) {
        Some(text) => text.parse().unwrap(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    assert!(workers > 0, "THREADS is at least 1");
    let files = files(&folder);
    let scans = without_empty_tables(scans(Semantics::Balanced, |_| true), |table| !of_table(&files, table).is_empty());
    let pieces = pieces(&files, &scans);
    let settings = settings(&folder, workers);
    let (mut floor, mut engine, mut rows) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=runs {
        let started = Instant::now();
        let bytes;
        (rows, bytes) = decode_all(&pieces, &scans, workers);
        floor.push(started.elapsed().as_secs_f64());
        let (seconds, engine_rows, engine_bytes) = run_engine(&settings);
        assert_eq!(engine_rows, rows, "the engine saw all rows");
        assert!(bytes <= engine_bytes, "the floor reads no column that the engine leaves out: {bytes}, {engine_bytes}");
        engine.push(seconds);
    }
    let process = run_process(&settings);
    assert_eq!(process["rows_in"], rows, "the program saw all rows");
    // The first round warms memory and page cache.
    let figures = serde_json::json!({
        "rows": rows, "threads": workers, "floor_seconds": floor[1..], "engine_seconds": engine[1..],
    });
    let (floor, engine) = (spread(&floor[1..]), spread(&engine[1..]));
    println!("{rows} rows, {} row groups, {workers} threads, {runs} rounds", pieces.len());
    println!("decode floor  {:.3} s median ({:.3} to {:.3})", floor[1], floor[0], floor[2]);
    println!("whole run     {:.3} s median ({:.3} to {:.3}), target none", engine[1], engine[0], engine[2]);
    println!("ratio         {:.2}", engine[1] / floor[1]);
    let peak_memory = process["peak_memory_bytes"].as_f64().unwrap() / 1_048_576.0;
    let seconds = process["wall_seconds"].as_f64().unwrap();
    println!("as a process  {seconds:.3} s, peak memory {peak_memory:.0} MiB");
    println!("json {figures}");
}

/// Least, median and greatest.
fn spread(seconds: &[f64]) -> [f64; 3] {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}

/// Row groups of the raw files of all scans.
fn pieces(files: &[PathBuf], scans: &[Scan]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (scan, declaration) in scans.iter().enumerate() {
        for path in of_table(files, declaration.table) {
            let file = File::open(path).unwrap();
            let metadata = Arc::new(ParquetMetaDataReader::new().parse_and_finish(&file).unwrap());
            for row_group in 0..metadata.num_row_groups() {
                pieces.push(Piece { path: path.clone(), metadata: Arc::clone(&metadata), row_group, scan });
            }
        }
    }
    pieces
}

fn of_table(files: &[PathBuf], table: SourceTable) -> Vec<&PathBuf> {
    assert_eq!(table.variant, Variant::Raw);
    let report = format!("/{}/", table.report.folder());
    let is_raw = |path: &str| path.contains(&report) && !path.contains("/parquet/daily/");
    files.iter().filter(|path| is_raw(&path.to_string_lossy())).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Rows, and bytes that were read.
fn decode_all(pieces: &[Piece], scans: &[Scan], workers: usize) -> (u64, u64) {
    let (next, all_rows, all_bytes) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (rows, bytes) = decode(piece, &scans[piece.scan]);
                    all_rows.fetch_add(rows, Ordering::Relaxed);
                    all_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
            });
        }
    });
    (all_rows.into_inner(), all_bytes.into_inner())
}

fn decode(piece: &Piece, scan: &Scan) -> (u64, u64) {
    let columns = scan.columns();
    let projection = project("file", &piece.metadata, piece.row_group, &columns).unwrap();
    let bytes = ColumnBytes::read(piece, &projection.leaves);
    let read = bytes.columns.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let row_group = RowGroup {
        object: "file",
        metadata: Arc::clone(&piece.metadata),
        row_group: piece.row_group,
        projection: &projection,
        columns: &columns,
        batch_rows: BATCH_ROWS,
    };
    let rows = Batches::open(bytes, row_group).unwrap().map(|batch| batch.unwrap().row_count as u64).sum();
    (rows, read)
}

/// The bytes of the needed columns of one row group.
#[derive(Clone)]
struct ColumnBytes {
    file_bytes: u64,
    /// Where each begins.
    columns: Vec<(u64, Bytes)>,
}

impl ColumnBytes {
    fn read(piece: &Piece, leaves: &[usize]) -> Self {
        let mut file = File::open(&piece.path).unwrap();
        let file_bytes = file.metadata().unwrap().len();
        let read = |leaf: &usize| {
            let (start, length) = piece.metadata.row_group(piece.row_group).column(*leaf).byte_range();
            // Nothing is filled with zeros before it is read.
            let mut buffer = Vec::with_capacity(usize::try_from(length).unwrap());
            file.seek(SeekFrom::Start(start)).unwrap();
            let read = (&mut file).take(length).read_to_end(&mut buffer).unwrap();
            assert_eq!(read as u64, length, "the file holds the whole column");
            (start, Bytes::from(buffer))
        };
        Self { columns: leaves.iter().map(read).collect(), file_bytes }
    }

    /// From a position to the end of its column.
    fn rest(&self, start: u64) -> Bytes {
        let holds = |(first, bytes): &&(u64, Bytes)| (*first..first + bytes.len() as u64).contains(&start);
        let (first, bytes) = self.columns.iter().find(holds).expect("only needed columns are decoded");
        bytes.slice(usize::try_from(start - first).unwrap()..)
    }
}

impl Length for ColumnBytes {
    fn len(&self) -> u64 {
        self.file_bytes
    }
}

impl ChunkReader for ColumnBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.rest(start).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(self.rest(start).slice(..length))
    }
}

/// The configuration of a run over generated data into the `none` target.
fn settings(folder: &Path, workers: usize) -> String {
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).unwrap()).unwrap();
    let text = |key: &str| manifest[key].as_str().unwrap_or_else(|| panic!("manifest.json names {key}")).to_owned();
    serde_json::json!({
        "version": 1,
        "organization": {"org_id": text("org_id")},
        "source": {"uuid": text("source_uuid"), "cluster_id": text("cluster_id")},
        "period": {"start_date": text("start_date"), "end_date": text("end_date")},
        "storage": {"url": format!("file://{}", folder.canonicalize().unwrap().display())},
        "target": {"kind": "none"},
        "reference": {
            "from": "inline",
            "enabled_tag_keys": ["app", "component", "environment", "team", "tier", "version"],
            "node_roles": [],
        },
        "performance": {"max_workers": workers},
        "logging": {"level": "warn"},
    })
    .to_string()
}

/// Seconds, rows and bytes read of one run inside this process, whose memory is as warm as the floor's.
fn run_engine(settings: &str) -> (f64, u64, u64) {
    let input = config::Input {
        text: settings,
        file_name: "benchmark",
        overrides: &[],
        environment: &|_| None,
        secret_file: &|_| Err(std::io::Error::other("no secrets")),
        now: chrono::Utc::now(),
    };
    let config = config::parse(&input).unwrap_or_else(|problems| panic!("{problems}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let options = RunOptions::default();
    let started = Instant::now();
    let report = runtime.block_on(async { run(&config, &options, &Progress::hidden()).await });
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(report.exit_code, 0, "{:?}", report.error);
    (seconds, report.rows_in, report.bytes_read)
}

/// Report of one run as a process of its own.
fn run_process(settings: &str) -> serde_json::Value {
    let scratch = tempfile::tempdir().unwrap();
    let (config, report) = (scratch.path().join("config.yaml"), scratch.path().join("report.json"));
    fs::write(&config, settings).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_gristmill"))
        .args(["run", "--config"])
        .arg(&config)
        .arg("--report")
        .arg(&report)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "the run succeeds");
    serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap()
}
