//! Files in which nothing is, and files that are something else than reports: passed over with a warning, or refused for what they are.

use std::io::Write;
use std::os::unix::fs::symlink;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Bed, DAY, NODE_HEADER, POD_HEADER, csv, manifest, payload, pod_row, reports, times};
use crate::binary::Ended;

/// What a writer leaves that had nothing to write.
const NOTHING: [&[u8]; 6] = [b"", b"\n", b"\r\n", b"\xEF\xBB\xBF", b"\xEF\xBB\xBF\n", b" \t\n\n  \r\n"];

/// Refused, and nothing is written.
fn expect_refused(bed: &Bed, ended: &Ended, parts: &[&str]) {
    ended.expect(65, parts);
    assert!(bed.objects().is_empty());
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A payload of the usual reports and of some others, all named by its manifest.
fn payload_with(more: &[(&str, &[u8])]) -> Vec<u8> {
    let files = reports();
    let named = manifest(files.iter().map(|(name, _)| *name).chain(more.iter().map(|(name, _)| *name)));
    let contents = files.iter().map(|(name, text)| (*name, text.as_bytes()));
    payload(contents.chain(more.iter().copied()).chain([("manifest.json", named.as_bytes())]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_which_nothing_is_leaves_the_others_of_its_delivery() {
    let without = Bed::with("p.tar.gz", payload_with(&[]));
    without.convert_file("p.tar.gz").await.expect(0, &["8 objects"]);
    let expected = without.objects();
    for nothing in NOTHING {
        // In a payload: first, and after the others.
        for name in ["a_first.csv", "z_last.csv"] {
            let bed = Bed::with("p.tar.gz", payload_with(&[(name, nothing)]));
            let report = bed.input.path().join("report.json");
            let path = bed.input.path().join("p.tar.gz");
            let ended = bed.convert_path(&path, &["--report", report.to_str().unwrap()]).await;
            ended.expect(0, &[&format!("warning: {name} is empty and was passed over"), "in all: 20 of 20 rows"]);
            assert_eq!(bed.objects(), expected, "{nothing:?}");
            let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
            assert_eq!(report["empty"], serde_json::json!([name]));
            assert_eq!(report["files"].as_array().map(Vec::len), Some(4));
        }
        // In a folder without a manifest, beside a file that has a header only.
        let bed = Bed::with("empty.csv", nothing);
        bed.write("header.csv", format!("{NODE_HEADER}\n"));
        bed.write("pods.csv", csv(POD_HEADER, &[pod_row(DAY, 0, "p", "n", "")]));
        let warning = "warning: empty.csv is empty and was passed over";
        bed.convert(&[]).await.expect(0, &[warning, "header.csv (node_labels): 0 of 0 rows", "2 objects"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blank_lines_are_no_records_wherever_they_stand() {
    let row = |hour| format!("{},n,label_a:{hour}", times(DAY, hour));
    let plain = Bed::with("nodes.csv", csv(NODE_HEADER, &[row(0), row(1)]));
    plain.convert(&[]).await.expect(0, &["2 of 2 rows"]);
    let blank = csv(NODE_HEADER, &[String::new(), row(0), "  \t ".to_owned(), "\r".to_owned(), row(1), " ".to_owned()]);
    let bed = Bed::with("nodes.csv", format!("\u{feff}\n \r\n{blank}"));
    bed.convert(&[]).await.expect(0, &["2 of 2 rows"]);
    assert_eq!(bed.objects(), plain.objects());
    // Line numbers count them: a mark and two blank lines, the header, two rows and three blank lines.
    let bed = Bed::with("nodes.csv", format!("\u{feff}\n \r\n{blank}short\n"));
    expect_refused(&bed, &bed.convert(&[]).await, &["line 10", "1 fields"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_in_which_nothing_is_anywhere_is_refused() {
    let files = [("a.csv", b"".as_slice()), ("b.csv", b"\n".as_slice())];
    let named = manifest(files.iter().map(|(name, _)| *name));
    let packed = payload(files.into_iter().chain([("manifest.json", named.as_bytes())]));
    let bed = Bed::with("p.tar.gz", packed);
    let says = ["nothing is in any of the 2 CSV files", "`a.csv`", "fetch it again"];
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &says);
    let bed = Bed::with("a.csv", "");
    bed.write("b.csv", "\n");
    expect_refused(&bed, &bed.convert(&[]).await, &says);
    let bed = Bed::with("one.csv", "\n\n");
    expect_refused(&bed, &bed.convert_file("one.csv").await, &["file `one.csv` is empty"]);
    // Empty, and none of the delivery: it changes nothing.
    let bed = Bed::with("p.tar.gz", payload([("lost.csv", b"".as_slice()), ("manifest.json", named.as_bytes())]));
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["2 missing files"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_another_kind_are_refused_for_what_they_are() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    archive.append_data(&mut header, "u_report.0.csv", b"a,b\n".as_slice()).unwrap();
    let archive = archive.into_inner().unwrap();
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(NODE_HEADER.bytes().flat_map(|byte| [byte, 0])).collect();
    let cases: [(&str, &[u8], &[&str]); 9] = [
        ("payload.tar", &archive, &["a tar archive that is not compressed", "compress it with gzip"]),
        ("payload.zip", b"PK\x03\x04\x14\0\0\0", &["a zip archive", "unpack it"]),
        ("pods.parquet", b"PAR1\x15\x04\x15", &["a Parquet file", "converted already"]),
        ("payload.tar.gz", b"<!DOCTYPE html><html>secret</html>", &["an HTML page", "fetch the payload again"]),
        ("answer.csv", b"<?xml version=\"1.0\"?><Error>secret</Error>", &["an XML document", "fetch"]),
        ("error.csv", b"{\"errors\": [{\"detail\": \"secret\"}]}", &["a JSON document", "fetch"]),
        ("wide.csv", &wide, &["UTF-16", "save it as UTF-8"]),
        ("program.csv", b"\x7fELF\0\0\0\"secret", &["bytes that are no text"]),
        ("packed.csv", b"BZh91AY&SY", &["compressed with bzip2", "unpack it"]),
    ];
    for (name, content, parts) in cases {
        let bed = Bed::with(name, content);
        let ended = bed.convert_file(name).await;
        expect_refused(&bed, &ended, &[format!("`{name}`").as_str(), "name the operator's reports"]);
        expect_refused(&bed, &ended, parts);
        assert!(!ended.all_text().contains("secret"), "{name}");
        // As one of several, under the name of a report: a delivery with a bad file is refused as a whole.
        let bed = Bed::with("p.tar.gz", payload_with(&[("z_odd.csv", content)]));
        expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["`z_odd.csv`", parts[0]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_that_are_no_payload_are_refused_for_what_is_in_them() {
    let text = csv(NODE_HEADER, &[format!("{},n,", times(DAY, 0))]);
    let cases: [(&[u8], &str); 5] = [
        (text.as_bytes(), "in it is a single text; unpack it with gunzip"),
        (b"", "nothing is in it"),
        (b"{\"detail\": \"secret\"}", "in it is a JSON document"),
        (b"<html>secret</html>", "in it is an HTML page"),
        (b"PAR1\x15\x04", "in it is a Parquet file"),
    ];
    for (content, says) in cases {
        let bed = Bed::with("p.tar.gz", gzip(content));
        let ended = bed.convert_file("p.tar.gz").await;
        expect_refused(&bed, &ended, &["p.tar.gz", "no payload", says]);
        assert!(!ended.all_text().contains("secret"));
    }
    let bed = Bed::with("p.tar.gz", gzip(&[0; 1024]));
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["no manifest.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_a_pipe_or_a_dangling_link_in_place_of_a_report_is_named() {
    let bed = Bed::with("pods.csv", csv(POD_HEADER, &[pod_row(DAY, 0, "p", "n", "")]));
    std::fs::create_dir(bed.input.path().join("nodes.csv")).unwrap();
    expect_refused(&bed, &bed.convert(&[]).await, &["nodes.csv", "is a folder and no file"]);
    std::fs::remove_dir(bed.input.path().join("nodes.csv")).unwrap();
    symlink("/no/such/report", bed.input.path().join("nodes.csv")).unwrap();
    expect_refused(&bed, &bed.convert(&[]).await, &["nodes.csv", "cannot be read"]);
    std::fs::remove_file(bed.input.path().join("nodes.csv")).unwrap();
    expect_refused(&bed, &bed.convert_path("/dev/null".as_ref(), &[]).await, &["`/dev/null` is a pipe or a device"]);
    // A folder of payloads is none of reports.
    let bed = Bed::with("p.tar.gz", payload_with(&[]));
    expect_refused(&bed, &bed.convert(&[]).await, &["holds no CSV file; it holds `p.tar.gz`"]);
}
