//! The operator's CSV reports, converted by the program and read by a run; payloads, threads, bad input.

mod bad;
mod foreign;
mod good;
mod store;

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{Ended, Invocation, Running};
use crate::bucket::files_below;
use crate::delivery::{ORG, SOURCE, settings};

/// The day of most reports.
const DAY: &str = "2025-10-01";
/// Uuid of the payload.
const MANIFEST_ID: &str = "8a1f0c52-0000-4000-8000-000000000007";

const POD_HEADER: &str = "report_period_start,report_period_end,interval_start,interval_end,pod,namespace,node,\
    resource_id,pod_usage_cpu_core_seconds,pod_request_cpu_core_seconds,pod_limit_cpu_core_seconds,\
    pod_usage_memory_byte_seconds,pod_request_memory_byte_seconds,pod_limit_memory_byte_seconds,\
    node_capacity_cpu_cores,node_capacity_cpu_core_seconds,node_capacity_memory_bytes,\
    node_capacity_memory_byte_seconds,pod_labels";
const VOLUME_HEADER: &str = "report_period_start,report_period_end,interval_start,interval_end,namespace,pod,\
    persistentvolumeclaim,persistentvolume,storageclass,persistentvolumeclaim_capacity_bytes,\
    persistentvolumeclaim_capacity_byte_seconds,volume_request_storage_byte_seconds,\
    persistentvolumeclaim_usage_byte_seconds,persistentvolume_labels,persistentvolumeclaim_labels";
/// The reference's generator also writes the node and the driver's names.
const GENERATED_VOLUME_HEADER: &str = "report_period_start,report_period_end,interval_start,interval_end,namespace,pod,node,\
    persistentvolumeclaim,persistentvolume,storageclass,csi_driver,csi_volume_handle,\
    persistentvolumeclaim_capacity_bytes,persistentvolumeclaim_capacity_byte_seconds,\
    volume_request_storage_byte_seconds,persistentvolumeclaim_usage_byte_seconds,persistentvolume_labels,\
    persistentvolumeclaim_labels";
const NODE_HEADER: &str = "report_period_start,report_period_end,interval_start,interval_end,node,node_labels";
const NAMESPACE_HEADER: &str =
    "report_period_start,report_period_end,interval_start,interval_end,namespace,namespace_labels";

/// The four dates of an hour, as the operator writes them.
fn times(day: &str, hour: u32) -> String {
    let month = &day[..7];
    format!(
        "{month}-01 00:00:00 +0000 UTC,{month}-28 00:00:00 +0000 UTC,{day} {hour:02}:00:00 +0000 UTC,\
         {day} {hour:02}:59:59 +0000 UTC"
    )
}

/// One hour of a pod that uses 1 core and 2 GiB, asks for half a core and 4 GiB, on a node of 8 cores and 32 GiB.
fn pod_row(day: &str, hour: u32, pod: &str, namespace: &str, labels: &str) -> String {
    format!(
        "{},{pod},{namespace},node-1,i-1,3600,1800.0,7200,7730941132800,15461882265600,0,8,28800,34359738368,\
         123695058124800,{labels}",
        times(day, hour)
    )
}

/// Header and rows as a file.
fn csv(header: &str, rows: &[String]) -> String {
    let mut text = format!("{header}\n");
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}

/// Reports of a few hours: name and text.
fn reports() -> Vec<(&'static str, String)> {
    let hours = 0..4;
    let pods = hours.clone().flat_map(|hour| {
        [
            pod_row(DAY, hour, "web-1", "shop", "label_app:web|label_tier:front"),
            pod_row(DAY, hour, "db-1", "bank", "label_app:db|label_url:http://x"),
        ]
    });
    let volumes = hours.clone().map(|hour| {
        format!(
            "{},shop,web-1,claim-1,volume-1,gp2,21474836480,77309411328000,77309411328000,19327352832000,\
             label_disk:fast,label_app:claim",
            times(DAY, hour)
        )
    });
    let nodes = hours.clone().map(|hour| format!("{},node-1,label_zone:eu-1", times(DAY, hour)));
    let namespaces = hours.map(|hour| format!("{},shop,label_team:red", times(DAY, hour)));
    vec![
        ("u_report.0.csv", csv(POD_HEADER, &pods.collect::<Vec<_>>())),
        ("u_report.1.csv", csv(VOLUME_HEADER, &volumes.collect::<Vec<_>>())),
        ("u_report.2.csv", csv(NODE_HEADER, &nodes.collect::<Vec<_>>())),
        ("u_report.3.csv", csv(NAMESPACE_HEADER, &namespaces.collect::<Vec<_>>())),
    ]
}

/// The manifest of files.
fn manifest<'n>(files: impl IntoIterator<Item = &'n str>) -> String {
    let files: Vec<&str> = files.into_iter().collect();
    json!({
        "uuid": MANIFEST_ID,
        "cluster_id": "cluster-7",
        "version": "5.4.0",
        "date": "2025-10-01T05:00:00.000000+00:00",
        "start": "2025-10-01T00:00:00.000000+00:00",
        "end": "2025-10-01T03:59:59.000000+00:00",
        "files": files,
    })
    .to_string()
}

/// A compressed archive of files in the given order.
fn payload<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("payload/{name}"), content).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// An input, a folder for the objects, and settings that read them.
pub struct Bed {
    input: TempDir,
    pub output: TempDir,
    pub settings: Value,
}

impl Bed {
    fn new() -> Self {
        let output = tempfile::tempdir().unwrap();
        let settings = settings(output.path(), DAY, DAY);
        Self { input: tempfile::tempdir().unwrap(), output, settings }
    }

    /// A bed with one file in its input.
    fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let bed = Self::new();
        bed.write(name, content);
        bed
    }

    /// A bed with a report of so many pods.
    pub fn with_pods(count: u32) -> Self {
        let rows: Vec<_> =
            (0..count).map(|pod| pod_row(DAY, 0, &format!("pod-{pod}"), "shop", "label_app:web")).collect();
        Self::with("pods.csv", csv(POD_HEADER, &rows))
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::File::create(self.input.path().join(name)).unwrap().write_all(content.as_ref()).unwrap();
    }

    /// Converts the whole input folder.
    pub async fn convert(&self, extra: &[&str]) -> Ended {
        self.convert_path(self.input.path(), extra).await
    }

    /// Converts a file of the input folder.
    async fn convert_file(&self, name: &str) -> Ended {
        self.convert_path(&self.input.path().join(name), &[]).await
    }

    async fn convert_path(&self, path: &Path, extra: &[&str]) -> Ended {
        self.invocation(path, extra).run().await
    }

    /// Converts the whole input folder and does not wait for it.
    pub fn start_converting(&self, extra: &[&str]) -> Running {
        self.invocation(self.input.path(), extra).start()
    }

    fn invocation(&self, path: &Path, extra: &[&str]) -> Invocation {
        let mut settings = self.settings.clone();
        settings["target"] = json!({"kind": "none"});
        Invocation::with("convert", &settings).arguments(&["--in", path.to_str().unwrap()]).arguments(extra)
    }

    /// Every file below the output, sorted.
    pub fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = files_below(self.output.path());
        files.sort();
        files
    }

    /// The only object of a report.
    fn object(&self, report: &str, is_daily: bool) -> Vec<u8> {
        let part =
            if is_daily { format!("/daily/{ORG}/OCP/{report}/") } else { format!("/parquet/{ORG}/OCP/{report}/") };
        let mut found: Vec<_> = self.objects().into_iter().filter(|(key, _)| key.contains(&part)).collect();
        assert_eq!(found.len(), 1, "{part}");
        assert!(found[0].0.contains(SOURCE));
        found.remove(0).1
    }
}
