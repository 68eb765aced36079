//! What good reports become.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, TimestampMillisecondType};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use flate2::write::GzEncoder;
use gristmill::convert::{ConvertOptions, ConvertTarget, convert};
use gristmill::units;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;

use super::{
    Bed, DAY, GENERATED_VOLUME_HEADER, MANIFEST_ID, NODE_HEADER, POD_HEADER, VOLUME_HEADER, csv, manifest, payload,
    pod_row, reports, times,
};
use crate::binary::Invocation;
use crate::bucket::files_below;
use crate::csv::Row;
use crate::delivery::{ORG, SOURCE, into_csv, milliseconds};

/// All rows of an object.
fn batch(object: &[u8]) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(object)).unwrap();
    let batches: Vec<RecordBatch> =
        builder.with_batch_size(1 << 20).build().unwrap().map(|batch| batch.unwrap()).collect();
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().unwrap()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).unwrap_or_else(|| panic!("{column} in {:?}", batch.schema()));
    column.as_string::<i32>().iter().map(|text| text.unwrap_or("(null)").to_owned()).collect()
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<Option<f64>> {
    let column = batch.column_by_name(column).unwrap_or_else(|| panic!("{column} in {:?}", batch.schema()));
    column.as_primitive::<Float64Type>().iter().collect()
}

async fn rows_of_run(bed: &Bed, day: &str) -> Vec<Row> {
    let target = tempfile::tempdir().unwrap();
    let mut settings = into_csv(bed.settings.clone(), target.path());
    settings["reference"]["enabled_tag_keys"] = serde_json::json!(["app", "tier", "zone", "team", "disk"]);
    Invocation::with("run", &settings).run().await.expect(0, &[]);
    crate::csv::parse(&std::fs::read_to_string(target.path().join(format!("{day}.csv"))).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_become_objects_that_a_run_reads() {
    let bed = Bed::new();
    for (name, text) in reports() {
        bed.write(name, text);
    }
    bed.write("notes.txt", "no report");
    let report = bed.input.path().join("report.json");
    let ended = bed.convert(&["--report", report.to_str().unwrap()]).await;
    ended.expect(0, &["in all: 20 of 20 rows", "4 label pairs with several colons dropped", "ignored: notes.txt"]);
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["total"]["rows_written"], 20);
    assert_eq!(report["files"][0]["label_pairs_dropped"], 4);
    assert_eq!(report["objects"].as_array().map(Vec::len), Some(8));

    let rows = rows_of_run(&bed, DAY).await;
    let find = |namespace: &str, source: &str| {
        let is_it = |row: &&Row| {
            row["namespace"].as_deref() == Some(namespace) && row["data_source"].as_deref() == Some(source)
        };
        rows.iter().find(is_it).unwrap_or_else(|| panic!("{namespace} {source} in {rows:#?}"))
    };
    let number = |row: &Row, column: &str| row[column].as_ref().unwrap().parse::<f64>().unwrap();
    let web = find("shop", "Pod");
    assert_eq!(number(web, "pod_usage_cpu_core_hours"), 4.0);
    assert_eq!(number(web, "pod_request_cpu_core_hours"), 2.0);
    assert_eq!(number(web, "pod_effective_usage_cpu_core_hours"), 4.0);
    assert_eq!(number(web, "pod_usage_memory_gigabyte_hours"), 8.0);
    assert_eq!(number(web, "pod_effective_usage_memory_gigabyte_hours"), 16.0);
    assert_eq!(number(web, "node_capacity_cpu_core_hours"), 32.0);
    assert_eq!(web["pod_labels"].as_deref(), Some(r#"{"app":"web","team":"red","tier":"front","zone":"eu-1"}"#));
    let bank = find("bank", "Pod");
    assert_eq!(bank["pod_labels"].as_deref(), Some(r#"{"app":"db","zone":"eu-1"}"#));
    let volume = find("shop", "Storage");
    assert_eq!(volume["persistentvolume"].as_deref(), Some("volume-1"));
    assert_eq!(volume["node"].as_deref(), Some("node-1"));
    // 20 GiB for 4 of October's 744 hours.
    assert!((number(volume, "volume_request_storage_gigabyte_months") - 20.0 * 4.0 / 744.0).abs() < 1e-12);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_the_reference_s_generator_give_the_same_rows() {
    let (operators, generated) = (Bed::new(), Bed::new());
    for (name, text) in reports() {
        let text_of_generator = match name {
            "u_report.1.csv" => {
                let rows = text.lines().skip(1).map(|row| {
                    let row = row.replace(",web-1,claim-1,", ",web-1,node-1,claim-1,");
                    row.replace(",gp2,", ",gp2,ebs.csi.aws.com,vol-1,")
                });
                csv(GENERATED_VOLUME_HEADER, &rows.collect::<Vec<_>>())
            }
            _ => text.clone(),
        };
        operators.write(name, text);
        generated.write(name, text_of_generator);
    }
    operators.convert(&[]).await.expect(0, &["8 objects"]);
    generated.convert(&[]).await.expect(0, &["8 objects"]);
    let objects = files_below(generated.output.path());
    let volumes = objects.iter().filter(|(key, _)| key.contains("storage_usage"));
    let handles: Vec<Vec<String>> = volumes.map(|(_, object)| texts(&batch(object), "csi_volume_handle")).collect();
    assert_eq!(handles.len(), 2);
    assert!(handles.iter().flatten().all(|handle| handle == "vol-1"), "{handles:?}");
    let (expected, found) = (rows_of_run(&operators, DAY).await, rows_of_run(&generated, DAY).await);
    assert!(expected.iter().any(|row| row["persistentvolumeclaim"].as_deref() == Some("claim-1")));
    let without_ids = |rows: Vec<Row>| -> Vec<Row> {
        rows.into_iter().map(|row| row.into_iter().filter(|(column, _)| column != "uuid").collect()).collect()
    };
    assert_eq!(without_ids(found), without_ids(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_and_its_folder_give_identical_objects() {
    let files = reports();
    let manifest = manifest(files.iter().map(|(name, _)| *name));
    let folder = Bed::new();
    folder.write("manifest.json", &manifest);
    for (name, text) in &files {
        folder.write(name, text);
    }
    folder.write("ros.csv", "not,listed\n1,2\n");
    folder.convert(&[]).await.expect(0, &["ignored: ros.csv"]);
    let objects = folder.objects();
    assert_eq!(objects.len(), 8);
    assert!(objects.iter().all(|(key, _)| key.contains(&format!(".{DAY}.{MANIFEST_ID}.0"))), "{objects:?}");

    // The manifest last and the reports backwards: the order in the archive must not show.
    let contents = files.iter().rev().map(|(name, text)| (*name, text.as_bytes()));
    let archive = payload(contents.chain([("manifest.json", manifest.as_bytes())]));
    let packed = Bed::with("anything", &archive);
    packed.convert_file("anything").await.expect(0, &["in all: 20 of 20 rows"]);
    assert!(packed.objects() == objects, "objects of payload and folder differ");
    let listed: Vec<_> = std::fs::read_dir(packed.input.path()).unwrap().collect();
    assert_eq!(listed.len(), 1, "nothing is unpacked beside the payload");
}

/// A file of several blocks with quotes, line ends in fields, two days and a wide spread of labels.
fn large_report() -> String {
    let mut rows = Vec::new();
    for hour in 0..24 {
        for pod in 0..400 {
            let day = if (hour + pod) % 7 == 0 { "2025-10-02" } else { DAY };
            let labels = format!("\"label_app:a{}|label_note:say \"\"{}\"\",\nplease\"", pod % 17, pod + hour);
            rows.push(pod_row(day, hour, &format!("pod-{pod}"), &format!("space-{}", pod % 9), &labels));
        }
    }
    csv(POD_HEADER, &rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_workers_gives_the_same_objects() {
    let text = large_report();
    assert!(text.len() > 2 << 20, "the file has several blocks");
    let mut first = None;
    for workers in ["1", "2", "5"] {
        let bed = Bed::with("pods.csv", &text);
        bed.convert(&["--workers", workers, "--rows-per-file", "1000"]).await.expect(0, &["9600 of 9600 rows"]);
        let objects = bed.objects();
        assert!(objects.len() > 10);
        assert!(first.get_or_insert_with(|| objects.clone()) == &objects, "{workers} workers");
    }
    let rows: usize = first
        .unwrap()
        .iter()
        .filter(|(key, _)| !key.contains("/daily/"))
        .map(|(_, object)| batch(object).num_rows())
        .sum();
    assert_eq!(rows, 9_600);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_are_bounded_and_none_is_lost() {
    // Each block of the file has rows of 24 days, so that no day is complete before the end.
    let mut rows = Vec::new();
    for pod in 0..400 {
        for day in 1..=24 {
            rows.push(pod_row(&format!("2025-10-{day:02}"), 3, &format!("pod-{pod}"), "shop", "label_app:x"));
        }
    }
    let bed = Bed::with("pods.csv", csv(POD_HEADER, &rows));
    let mut first = None;
    for workers in [1, 3] {
        let out = tempfile::tempdir().unwrap();
        let target = ConvertTarget::Folder(out.path().to_owned());
        let mut options = ConvertOptions::new(bed.input.path(), target, ORG, SOURCE.parse().unwrap());
        (options.workers, options.most_waiting) = (workers, units::Bytes(256 << 10));
        let report = convert(&options).await.unwrap();
        assert_eq!((report.total.rows_read, report.total.rows_written), (9_600, 9_600));
        let raw = report.objects.iter().filter(|object| !object.key.contains("/daily/"));
        assert!(raw.clone().count() > 24, "days are written in pieces");
        assert_eq!(raw.map(|object| object.row_count).sum::<usize>(), 9_600);
        let mut objects = files_below(out.path());
        objects.sort();
        assert!(first.get_or_insert_with(|| objects.clone()) == &objects, "{workers} workers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_have_names_types_and_metadata_of_the_reference() {
    let files = reports();
    let bed = Bed::new();
    bed.write("manifest.json", manifest(files.iter().map(|(name, _)| *name)));
    for (name, text) in &files {
        bed.write(name, text);
    }
    bed.convert(&[]).await.expect(0, &[]);
    let raw = bed.object("pod_usage", false);
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(&raw)).unwrap();
    let metadata = builder.metadata();
    assert_eq!(metadata.num_row_groups(), 1);
    let column = metadata.row_group(0).column(0);
    assert_eq!(column.compression(), Compression::SNAPPY);
    assert!(column.statistics().is_some() && column.dictionary_page_offset().is_some());
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let value = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    assert_eq!(value("manifestid").as_deref(), Some(MANIFEST_ID));
    assert_eq!(value("reportdatestart").as_deref(), Some(DAY));
    assert_eq!(value("reportnumhours").as_deref(), Some("4"));

    let raw = batch(&raw);
    let schema = raw.schema();
    for field in schema.fields() {
        let expected = match field.name().as_str() {
            name if name.starts_with("report_period") || name.starts_with("interval") => {
                DataType::Timestamp(TimeUnit::Millisecond, None)
            }
            name if name.ends_with("seconds") || name.ends_with("bytes") || name.ends_with("cores") => {
                DataType::Float64
            }
            _ => DataType::Utf8,
        };
        assert_eq!((field.data_type(), field.is_nullable()), (&expected, true), "{}", field.name());
    }
    let daily = batch(&bed.object("pod_usage", true));
    assert!(daily.column_by_name("interval_end").is_none());
    assert_eq!(texts(&daily, "node_role"), ["(null)"; 2]);
    let start = daily.column_by_name("interval_start").unwrap().as_primitive::<TimestampMillisecondType>();
    assert_eq!(start.values().to_vec(), [milliseconds(DAY); 2]);
    let volumes = batch(&bed.object("storage_usage", true));
    for added in ["node", "csi_driver", "csi_volume_handle"] {
        assert_eq!(texts(&volumes, added), ["(null)"], "{added}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn converters_and_filters_apply_to_every_row() {
    let row = |pod: &str, namespace: &str, usage: &str, labels: &str| {
        pod_row(DAY, 1, pod, namespace, labels).replacen(",3600,", &format!(",{usage},"), 1)
    };
    let text = csv(
        POD_HEADER,
        &[
            row("a&b", "null", "oops", "label_my_label_x:1|label_e:"),
            row("\"say \"\"hi\"\"\"", "nan", "", ""),
            row("p", "NA-not", "NAN", "label_u:é|broken|label_a:b:c"),
            row("limit", "shop", "1000000000000000000", "label_k:1|label_label_k:2"),
            row("beyond", "shop", "1000000000000000001000", ""),
            row("infinite", "shop", "inf", ""),
        ],
    );
    let bed = Bed::with("pods.csv", &text);
    let ended = bed.convert(&[]).await;
    ended.expect(
        0,
        &[
            "4 of 6 rows",
            "2 rows dropped as anomalies",
            "1 label pairs with several colons",
            "1 unreadable numbers taken as 0",
        ],
    );
    let raw = batch(&bed.object("pod_usage", false));
    assert_eq!(texts(&raw, "pod"), ["a&amp;b", "say &quot;hi&quot;", "p", "limit"]);
    assert_eq!(texts(&raw, "namespace"), ["", "", "NA-not", "shop"]);
    assert_eq!(texts(&raw, "pod_labels"), [r#"{"my_x": "1", "e": ""}"#, "{}", r#"{"u": "\u00e9"}"#, r#"{"k": "2"}"#]);
    assert_eq!(numbers(&raw, "pod_usage_cpu_core_seconds"), [Some(0.0), Some(0.0), None, Some(1e18)]);
    let effective = [Some(1_800.0), Some(1_800.0), Some(1_800.0), Some(1e18)];
    assert_eq!(numbers(&raw, "pod_effective_usage_cpu_core_seconds"), effective);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_copy_groups_sums_and_sorts() {
    let mut rows: Vec<String> = (0..24).map(|hour| pod_row(DAY, hour, "b", "shop", "label_app:x")).collect();
    rows[3] = rows[3].replace("i-1", "i-9");
    rows[4] = rows[4].replace(",8,28800,", ",16,28800,").replace(",3600,", ",0.1,");
    rows.push(pod_row(DAY, 5, "a", "shop", "label_app:x"));
    rows.push(pod_row(DAY, 6, "b", "shop", "label_app:y"));
    let bed = Bed::with("pods.csv", csv(POD_HEADER, &rows));
    bed.convert(&[]).await.expect(0, &["26 of 26 rows"]);
    let daily = batch(&bed.object("pod_usage", true));
    assert_eq!(texts(&daily, "pod"), ["a", "b", "b"]);
    assert_eq!(texts(&daily, "pod_labels"), [r#"{"app": "x"}"#, r#"{"app": "x"}"#, r#"{"app": "y"}"#]);
    assert_eq!(texts(&daily, "resource_id"), ["i-1", "i-9", "i-1"]);
    assert_eq!(
        numbers(&daily, "pod_usage_cpu_core_seconds"),
        [Some(3_600.0), Some(23.0 * 3_600.0 + 0.1), Some(3_600.0)]
    );
    assert_eq!(numbers(&daily, "node_capacity_cpu_cores"), [Some(8.0), Some(16.0), Some(8.0)]);
    assert_eq!(
        numbers(&daily, "node_capacity_cpu_core_seconds"),
        [Some(28_800.0), Some(24.0 * 28_800.0), Some(28_800.0)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_graphics_processors_and_unknown_columns_are_converted() {
    let header = "report_period_start,report_period_end,interval_start,interval_end,node,namespace,pod,gpu_uuid,\
                  gpu_model_name,gpu_vendor_name,gpu_memory_capacity_mib,gpu_pod_uptime,mig_instance_id,mig_profile,mig_strategy";
    let row = |hour: u32, id: &str, model: &str, profile: &str| {
        format!("{},n,s,p,{id},{model},nvidia_com_gpu,40960,600,7,{profile},single", times(DAY, hour))
    };
    let gpus = csv(
        header,
        &[row(0, "g1", "NVIDIA-A100", "2g.10gb"), row(1, "g1", "NVIDIA-A100", "2g.10gb"), row(0, "g2", "T4", "1g.5gb")],
    );
    let machines = csv(
        &format!("{NODE_HEADER},vm_name,vm_labels,vm_uptime_total_seconds,namespace").replace("node_labels,", ""),
        &[format!("{},n,vm-1,label_os:l,3600,s", times(DAY, 0)), format!("{},n,vm-1,label_os:l,1800,s", times(DAY, 1))],
    );
    let nodes = csv(&format!("{NODE_HEADER},Some Thing"), &[format!("{},n,,<&>", times(DAY, 0))]);
    let bed = Bed::with("gpu.csv", gpus);
    bed.write("vm.csv", machines);
    bed.write("nodes.csv", nodes);
    bed.convert(&[]).await.expect(0, &["gpu.csv (gpu_usage): 3 of 3", "vm.csv (vm_usage): 2 of 2"]);

    let raw = batch(&bed.object("gpu_usage", false));
    assert_eq!(texts(&raw, "gpu_model_name"), ["NVIDIA A100", "NVIDIA A100", "T4"]);
    assert_eq!(texts(&raw, "gpu_vendor_name"), ["nvidia"; 3]);
    assert_eq!(texts(&raw, "mig_instance_id"), ["7", "7", "(null)"]);
    assert_eq!(numbers(&raw, "mig_slice_count"), [Some(2.0), Some(2.0), None]);
    assert_eq!(numbers(&raw, "mig_memory_capacity_mib"), [Some(10_240.0), Some(10_240.0), None]);
    assert_eq!(numbers(&raw, "gpu_max_slices"), [Some(7.0), Some(7.0), None]);
    let daily = batch(&bed.object("gpu_usage", true));
    assert_eq!(texts(&daily, "mig_profile"), ["2g.10gb", "(null)"]);
    assert_eq!(numbers(&daily, "gpu_pod_uptime"), [Some(1_200.0), Some(600.0)]);
    let machines = batch(&bed.object("vm_usage", true));
    assert_eq!(numbers(&machines, "vm_uptime_total_seconds"), [Some(5_400.0)]);
    assert_eq!(texts(&machines, "vm_labels"), [r#"{"os": "l"}"#]);
    assert_eq!(texts(&batch(&bed.object("node_labels", false)), "some_thing"), ["<&>"]);
    assert!(batch(&bed.object("node_labels", true)).column_by_name("some_thing").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_two_months_go_to_their_folders_and_empty_reports_leave_nothing() {
    let rows = [format!("{},n,label_a:1", times("2025-10-31", 23)), format!("{},n,label_a:1", times("2025-11-01", 0))];
    let bed = Bed::with("nodes.csv", csv(NODE_HEADER, &rows));
    bed.write("volumes.csv", csv(VOLUME_HEADER, &[]));
    bed.convert(&["--manifest-id", "28"]).await.expect(0, &["volumes.csv (storage_usage): 0 of 0 rows", "4 objects"]);
    let keys: Vec<String> = bed.objects().into_iter().map(|(key, _)| key).collect();
    for part in
        ["month=10/node_labels.2025-10-31.28.0_0.parquet", "month=11/node_labels.2025-11-01.28.0_daily_0.parquet"]
    {
        assert!(keys.iter().any(|key| key.ends_with(part)), "{part} in {keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_conversion_replaces_the_first_only_when_asked() {
    let bed = Bed::with("pods.csv", csv(POD_HEADER, &[pod_row(DAY, 0, "a", "s", ""), pod_row(DAY, 1, "a", "s", "")]));
    bed.convert(&["--rows-per-file", "1"]).await.expect(0, &["4 objects"]);
    let before = bed.objects();
    bed.convert(&[]).await.expect(64, &["is already there", "--replace"]);
    assert!(bed.objects() == before);
    bed.convert(&["--replace"]).await.expect(0, &["2 objects"]);
    assert_eq!(bed.objects().len(), 2, "what the first one wrote beyond the second is gone");
    bed.convert(&["--manifest-id", "2"]).await.expect(0, &["2 objects"]);
    assert_eq!(bed.objects().len(), 4, "another delivery stands beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_report_and_day_are_numbered() {
    let rows = |days: &[&str]| {
        csv(NODE_HEADER, &days.iter().map(|day| format!("{},n,label_a:1", times(day, 0))).collect::<Vec<_>>())
    };
    let bed = Bed::with("a.csv", rows(&["2025-10-01"]));
    bed.write("b.csv", rows(&["2025-10-02"]));
    bed.write("c.csv", rows(&["2025-10-02", "2025-10-01"]));
    bed.convert(&[]).await.expect(0, &["8 objects"]);
    let mut names: Vec<String> =
        bed.objects().iter().map(|(key, _)| key.rsplit('/').next().unwrap().to_owned()).collect();
    names.retain(|name| !name.contains("daily"));
    names.sort();
    let expected =
        ["01.1.0_0", "01.1.1_0", "02.1.0_0", "02.1.1_0"].map(|name| format!("node_labels.2025-10-{name}.parquet"));
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_an_extended_header_are_whole() {
    let long = |end: &str| format!("{}{end}.csv", "long-".repeat(30));
    let row = |label: &str| csv(NODE_HEADER, &[format!("{},n,label_a:{label}", times(DAY, 0))]);
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let header_of = |content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header
    };
    // Both names begin with the same hundred characters and more: the library writes a header of GNU for the first.
    let content = row("gnu");
    archive.append_data(&mut header_of(&content), long("gnu"), content.as_bytes()).unwrap();
    let content = row("posix");
    archive.append_pax_extensions([("path", long("posix").as_bytes()), ("mtime", b"1759276800.5")]).unwrap();
    archive.append_data(&mut header_of(&content), "short.csv", content.as_bytes()).unwrap();
    let manifest = manifest([long("gnu").as_str(), long("posix").as_str()]);
    archive.append_data(&mut header_of(&manifest), "manifest.json", manifest.as_bytes()).unwrap();
    let bed = Bed::with("p.tar.gz", archive.into_inner().unwrap().finish().unwrap());
    bed.convert_file("p.tar.gz")
        .await
        .expect(0, &["long-gnu.csv (node_labels): 1 of 1", "long-posix.csv", "4 objects"]);
}
