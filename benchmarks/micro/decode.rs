//! Question: how many times longer than merely decoding the needed columns does a whole run take?
//!
//! Decodes the columns that the daily summary needs, with the reader settings that the engine uses and as many threads, and
//! then runs the engine with the `none` target over the same files, in turns. Prints median and spread of both and their
//! ratio; then time and peak memory of one run as a process of its own. All must see the same number of rows.
//!
//! `cargo bench --bench decode [-- FOLDER [RUNS [THREADS]]]`; without a folder it makes one million hourly pod rows (30 days
//! × 1,400 pods) first, without THREADS all cores work. The last line holds the figures as JSON, for other benchmarks.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use gristmill::config;
use gristmill::decode::{BATCH_ROWS, Batches, RowGroup};
use gristmill::generate::{GenerateOptions, generate};
use gristmill::plan::projection::project;
use gristmill::rollups::declaration::Scan;
use gristmill::rollups::ocp_daily_summary::scans;
use gristmill::rollups::semantics::Semantics;
use gristmill::run::{RunOptions, run};
use gristmill::schema::source::Variant;
use gristmill::telemetry::progress::Progress;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

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
    let scans = scans(Semantics::Balanced, |_| true);
    let pieces = pieces(&folder, &scans);
    let settings = settings(&folder, workers);
    let (mut floor, mut engine, mut rows) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=runs {
        let started = Instant::now();
        rows = decode_all(&pieces, &scans, workers);
        floor.push(started.elapsed().as_secs_f64());
        let (seconds, engine_rows) = run_engine(&settings);
        assert_eq!(engine_rows, rows, "the engine saw all rows");
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
fn pieces(folder: &Path, scans: &[Scan]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (scan, declaration) in scans.iter().enumerate() {
        assert_eq!(declaration.table.variant, Variant::Raw);
        let report = format!("/{}/", declaration.table.report.folder());
        let is_raw = |path: &str| path.contains(&report) && !path.contains("/parquet/daily/");
        for path in files(folder).into_iter().filter(|path| is_raw(&path.to_string_lossy())) {
            let file = File::open(&path).unwrap();
            let metadata = Arc::new(ParquetMetaDataReader::new().parse_and_finish(&file).unwrap());
            for row_group in 0..metadata.num_row_groups() {
                pieces.push(Piece { path: path.clone(), metadata: Arc::clone(&metadata), row_group, scan });
            }
        }
    }
    pieces
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

fn decode_all(pieces: &[Piece], scans: &[Scan], workers: usize) -> u64 {
    let (next, rows) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    rows.fetch_add(decode(piece, &scans[piece.scan]), Ordering::Relaxed);
                }
            });
        }
    });
    rows.into_inner()
}

fn decode(piece: &Piece, scan: &Scan) -> u64 {
    let columns = scan.columns();
    let projection = project("file", &piece.metadata, piece.row_group, &columns).unwrap();
    // Read at once, as the engine does.
    let bytes = bytes::Bytes::from(fs::read(&piece.path).unwrap());
    let row_group = RowGroup {
        object: "file",
        metadata: Arc::clone(&piece.metadata),
        row_group: piece.row_group,
        projection: &projection,
        columns: &columns,
        batch_rows: BATCH_ROWS,
    };
    Batches::open(bytes, row_group).unwrap().map(|batch| batch.unwrap().row_count as u64).sum()
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

/// Seconds and rows of one run inside this process, whose memory is as warm as the floor's.
fn run_engine(settings: &str) -> (f64, u64) {
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
    (seconds, report.rows_in)
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
