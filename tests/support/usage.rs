//! Random usage rows → Parquet objects in the key layout, cut into files and row groups in any way.

// Each test binary uses a part of this file.
#![allow(dead_code)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

/// Source of all generated usage.
pub const SOURCE: &str = "00000000-0000-0000-0000-00000000abcd";
/// Organisation segment of the keys.
pub const ORG: &str = "org7";
/// 2025-02-27T00:00:00Z in milliseconds: the window may reach the end of a short month.
pub const FIRST_DAY_MILLISECONDS: i64 = 1_740_614_400_000;
/// The same day as a date.
pub const FIRST_DATE: &str = "2025-02-27";

const HOUR: i64 = 3_600_000;

/// Column name and its values.
pub type Column = (&'static str, ArrayRef);

/// A small deterministic random source (SplitMix64, Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    /// Next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    /// One of some values.
    pub fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// Fisher-Yates.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }

    fn amount(&mut self) -> Option<f64> {
        match self.below(12) {
            0 => None,
            1 => Some(0.0),
            // Fractions that no double holds exactly, over many orders of magnitude.
            _ => {
                let magnitude = self.pick(&[1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5]);
                Some(self.below(1_000_000) as f64 / 7.0 * magnitude)
            }
        }
    }
}

/// One hourly pod row.
#[derive(Debug, Clone)]
pub struct PodRow {
    pub milliseconds: i64,
    pub namespace: Option<String>,
    pub node: Option<String>,
    pub pod: Option<String>,
    pub resource_id: Option<String>,
    pub labels: Option<String>,
    pub usage: [Option<f64>; 8],
    pub capacity: [Option<f64>; 4],
}

/// One hourly volume row.
#[derive(Debug, Clone)]
pub struct VolumeRow {
    pub milliseconds: i64,
    pub names: [Option<String>; 6],
    pub labels: [Option<String>; 2],
    pub amounts: [Option<f64>; 4],
}

/// One label row of a node or namespace.
#[derive(Debug, Clone)]
pub struct LabelRow {
    pub milliseconds: i64,
    pub name: Option<String>,
    pub labels: Option<String>,
}

/// A cluster's usage of some days.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    pub pods: Vec<PodRow>,
    pub volumes: Vec<VolumeRow>,
    pub node_labels: Vec<LabelRow>,
    pub namespace_labels: Vec<LabelRow>,
}

/// The columns of `PodRow::usage`.
pub const USAGE_COLUMNS: [&str; 8] = [
    "pod_usage_cpu_core_seconds",
    "pod_request_cpu_core_seconds",
    "pod_effective_usage_cpu_core_seconds",
    "pod_limit_cpu_core_seconds",
    "pod_usage_memory_byte_seconds",
    "pod_request_memory_byte_seconds",
    "pod_effective_usage_memory_byte_seconds",
    "pod_limit_memory_byte_seconds",
];

fn texts(values: &[&str]) -> Vec<Option<String>> {
    let mut texts: Vec<Option<String>> = values.iter().map(|text| Some((*text).to_owned())).collect();
    texts.push(None);
    texts
}

impl Usage {
    /// Random rows over `days` days. `null_labels` adds null and blank label texts, which not all semantics take.
    pub fn random(random: &mut Random, row_count: usize, days: usize, null_labels: bool) -> Self {
        let namespaces = texts(&["a", "b", "openshift-x", "", "Worker unallocated", "é,\"q\""]);
        let nodes = texts(&["n1", "n2", "n3", "", " "]);
        let pods = texts(&["p1", "p2", "p3", "p4", "p5"]);
        let ids = texts(&["i-1", "i-2", ""]);
        let mut labels: Vec<Option<String>> = [
            r#"{"app": "x", "env": "prod"}"#,
            r#"{"env": "dev", "other": "1"}"#,
            r#"{"app": "\u00e9", "n": 2.50}"#,
            "{}",
        ]
        .map(|text| Some(text.to_owned()))
        .to_vec();
        if null_labels {
            labels.extend([None, Some(" ".to_owned())]);
        }
        let mut usage = Usage::default();
        let time = |random: &mut Random| FIRST_DAY_MILLISECONDS + random.below(days * 24) as i64 * HOUR;
        for _ in 0..row_count {
            usage.pods.push(PodRow {
                milliseconds: time(random),
                namespace: random.pick(&namespaces),
                node: random.pick(&nodes),
                pod: random.pick(&pods),
                resource_id: random.pick(&ids),
                labels: random.pick(&labels),
                usage: std::array::from_fn(|_| random.amount()),
                capacity: std::array::from_fn(|_| random.amount()),
            });
        }
        for _ in 0..row_count / 3 {
            usage.volumes.push(VolumeRow {
                milliseconds: time(random),
                names: [
                    random.pick(&namespaces),
                    random.pick(&pods),
                    random.pick(&texts(&["claim-1", "claim-2", ""])),
                    random.pick(&texts(&["pv-1", "pv-2", "pv-3"])),
                    random.pick(&texts(&["fast"])),
                    random.pick(&texts(&["h1", "h2"])),
                ],
                labels: [random.pick(&labels), random.pick(&labels)],
                amounts: std::array::from_fn(|_| random.amount()),
            });
        }
        for _ in 0..row_count / 4 {
            let (node_time, namespace_time) = (time(random), time(random));
            let (node, namespace) = (random.pick(&nodes), random.pick(&namespaces));
            let row = |milliseconds, name, labels| LabelRow { milliseconds, name, labels };
            usage.node_labels.push(row(node_time, node, random.pick(&labels)));
            usage.namespace_labels.push(row(namespace_time, namespace, random.pick(&labels)));
        }
        usage
    }

    /// Shuffles all rows.
    pub fn shuffle(&mut self, random: &mut Random) {
        random.shuffle(&mut self.pods);
        random.shuffle(&mut self.volumes);
        random.shuffle(&mut self.node_labels);
        random.shuffle(&mut self.namespace_labels);
    }

    /// Writes raw and daily objects below `folder/data`, each report in `file_count` files with row groups of at most
    /// `row_group_rows` rows.
    pub fn write(&self, folder: &Path, file_count: usize, row_group_rows: usize) {
        let cut = Cut { folder, file_count, row_group_rows };
        cut.write("pod_usage", &self.pods, pod_columns);
        cut.write("storage_usage", &self.volumes, volume_columns);
        cut.write("node_labels", &self.node_labels, |rows| label_columns("node", "node_labels", rows));
        cut.write("namespace_labels", &self.namespace_labels, |rows| {
            label_columns("namespace", "namespace_labels", rows)
        });
    }
}

struct Cut<'a> {
    folder: &'a Path,
    file_count: usize,
    row_group_rows: usize,
}

impl Cut<'_> {
    fn write<T>(&self, report: &str, rows: &[T], columns: impl Fn(&[T]) -> Vec<Column>) {
        let rows_per_file = rows.len().div_ceil(self.file_count).max(1);
        for (number, part) in rows.chunks(rows_per_file).enumerate() {
            for variant in ["", "daily/"] {
                // Both months of a window that reaches into the next one; rows are selected by time as well.
                for month in ["02", "03"] {
                    let folder = self.folder.join(format!(
                        "data/parquet/{variant}{ORG}/OCP/{report}/source={SOURCE}/year=2025/month={month}"
                    ));
                    fs::create_dir_all(&folder).expect("a folder");
                    write_file(&folder.join(format!("part-{number}.parquet")), columns(part), self.row_group_rows);
                }
            }
        }
    }
}

/// Writes one object.
pub fn write_file(path: &Path, columns: Vec<Column>, row_group_rows: usize) {
    fs::write(path, parquet(columns, row_group_rows)).expect("a file");
}

/// One object with row groups of at most `row_group_rows` rows.
pub fn parquet(columns: Vec<Column>, row_group_rows: usize) -> Vec<u8> {
    parquet_with(columns, WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows)))
}

/// One object, written with properties of the test's own.
pub fn parquet_with(columns: Vec<Column>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .expect("columns of one length");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.into_inner().expect("a footer")
}

fn times(values: impl Iterator<Item = i64>) -> Column {
    ("interval_start", Arc::new(TimestampMillisecondArray::from_iter_values(values)))
}

fn text<T>(rows: &[T], get: impl Fn(&T) -> &Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(|row| get(row).as_deref()).collect::<StringArray>())
}

fn numbers<T>(rows: &[T], get: impl Fn(&T) -> Option<f64>) -> ArrayRef {
    Arc::new(rows.iter().map(get).collect::<Float64Array>())
}

/// Columns of the pod report.
pub fn pod_columns(rows: &[PodRow]) -> Vec<Column> {
    let mut columns = vec![
        times(rows.iter().map(|row| row.milliseconds)),
        ("namespace", text(rows, |row| &row.namespace)),
        ("node", text(rows, |row| &row.node)),
        ("pod", text(rows, |row| &row.pod)),
        ("resource_id", text(rows, |row| &row.resource_id)),
        ("pod_labels", text(rows, |row| &row.labels)),
    ];
    for (position, name) in USAGE_COLUMNS.into_iter().enumerate() {
        columns.push((name, numbers(rows, |row| row.usage[position])));
    }
    let capacities = [
        "node_capacity_cpu_cores",
        "node_capacity_cpu_core_seconds",
        "node_capacity_memory_bytes",
        "node_capacity_memory_byte_seconds",
    ];
    for (position, name) in capacities.into_iter().enumerate() {
        columns.push((name, numbers(rows, |row| row.capacity[position])));
    }
    columns
}

/// Columns of the storage report.
pub fn volume_columns(rows: &[VolumeRow]) -> Vec<Column> {
    let mut columns = vec![times(rows.iter().map(|row| row.milliseconds))];
    let names = ["namespace", "pod", "persistentvolumeclaim", "persistentvolume", "storageclass", "csi_volume_handle"];
    for (position, name) in names.into_iter().enumerate() {
        columns.push((name, text(rows, |row| &row.names[position])));
    }
    columns.push(("persistentvolume_labels", text(rows, |row| &row.labels[0])));
    columns.push(("persistentvolumeclaim_labels", text(rows, |row| &row.labels[1])));
    let amounts = [
        "persistentvolumeclaim_capacity_bytes",
        "persistentvolumeclaim_capacity_byte_seconds",
        "volume_request_storage_byte_seconds",
        "persistentvolumeclaim_usage_byte_seconds",
    ];
    for (position, name) in amounts.into_iter().enumerate() {
        columns.push((name, numbers(rows, |row| row.amounts[position])));
    }
    columns
}

/// Columns of a label report.
pub fn label_columns(name: &'static str, labels: &'static str, rows: &[LabelRow]) -> Vec<Column> {
    vec![
        times(rows.iter().map(|row| row.milliseconds)),
        (name, text(rows, |row| &row.name)),
        (labels, text(rows, |row| &row.labels)),
    ]
}
