//! Reports and payloads that cannot be converted: what is said, and that nothing is written.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Bed, DAY, NODE_HEADER, POD_HEADER, csv, manifest, payload, pod_row, reports, times};
use crate::binary::Ended;

/// The program refuses, says so, and leaves no file, not even a temporary one.
fn expect_refused(bed: &Bed, ended: &Ended, parts: &[&str]) {
    ended.expect(65, parts);
    let left: Vec<String> = bed.objects().into_iter().map(|(key, _)| key).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_of_no_known_report_is_named() {
    let bed = Bed::with("odd.csv", "a,b\n1,2\n");
    bed.write("pods.csv", csv(POD_HEADER, &[pod_row(DAY, 0, "p", "n", "")]));
    expect_refused(&bed, &bed.convert(&[]).await, &["`odd.csv`", "2 columns", "no known report", "docs/convert.md"]);
    let empty = Bed::with("empty.csv", "");
    expect_refused(&empty, &empty.convert(&[]).await, &["nothing is in any of the 1 CSV files", "`empty.csv`"]);
    let twice = Bed::with("nodes.csv", format!("{NODE_HEADER},Node\n"));
    expect_refused(&twice, &twice.convert(&[]).await, &["`nodes.csv`", "column `node` twice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_other_fields_than_the_header_is_named_by_its_line() {
    let good = format!("{},\"two\nlines\",label_a:1", times(DAY, 0));
    for (bad, found) in [(times(DAY, 1), "4 fields"), (format!("{good},more"), "7 fields")] {
        let bed = Bed::with("nodes.csv", csv(NODE_HEADER, &[good.clone(), String::new(), bad]));
        let ended = bed.convert(&[]).await;
        expect_refused(&bed, &ended, &["`nodes.csv`", "line 5", found, "the header has 6"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_deep_in_a_file_leaves_no_object_of_the_rows_before() {
    let mut rows: Vec<String> = (0..6_000).map(|pod| pod_row(DAY, 0, &format!("p{pod}"), "n", "label_a:1")).collect();
    rows.push("short".to_owned());
    let bed = Bed::with("pods.csv", csv(POD_HEADER, &rows));
    let ended = bed.convert(&["--rows-per-file", "500"]).await;
    expect_refused(&bed, &ended, &["`pods.csv`", "line 6002", "1 fields"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_that_are_none_are_named_by_line_and_column() {
    let row = format!("{},n,", times(DAY, 0));
    for (from, to, column) in [
        ("2025-10-01 00:00:00 +0000 UTC,2025-10-01 00:59", "yesterday,2025-10-01 00:59", "interval_start"),
        ("2025-10-01 00:00:00 +0000 UTC,2025-10-01 00:59", ",2025-10-01 00:59", "interval_start"),
        ("2025-10-28 00:00:00", "2025-10-32 00:00:00", "report_period_end"),
    ] {
        let bad = row.replace(from, to);
        assert_ne!(bad, row);
        let bed = Bed::with("nodes.csv", csv(NODE_HEADER, &[row.clone(), bad]));
        let ended = bed.convert(&[]).await;
        expect_refused(&bed, &ended, &["`nodes.csv`", "line 3", column, "no readable date"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_no_csv_are_refused() {
    let header = format!("{NODE_HEADER}\n");
    let good = format!("{},n,\n", times(DAY, 0));
    let not_text = [header.as_bytes(), good.as_bytes(), b"\xff\xfe,\n"].concat();
    let open = format!("{header}{good}{},\"n,\n", times(DAY, 1));
    let long = format!("{header}{},{}", times(DAY, 0), "x".repeat(17 << 20));
    for (content, parts) in [
        (not_text, ["line 3", "not UTF-8"]),
        (open.into_bytes(), ["line 3", "not closed"]),
        (long.into_bytes(), ["line 2", "longer than"]),
    ] {
        let bed = Bed::with("nodes.csv", content);
        let ended = bed.convert(&[]).await;
        expect_refused(&bed, &ended, &["`nodes.csv`"]);
        ended.expect(65, &parts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_needs_its_manifest_and_every_file_that_it_names() {
    let files = reports();
    let contents = || files.iter().map(|(name, text)| (*name, text.as_bytes()));
    let bed = Bed::with("p.tar.gz", payload(contents()));
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["p.tar.gz", "no manifest.json", "whole payload"]);

    let named = manifest(files.iter().map(|(name, _)| *name).chain(["lost.csv", "gone.csv"]));
    let with_manifest = |text: &str| {
        let mut all: Vec<(&str, &[u8])> = contents().collect();
        all.push(("manifest.json", text.as_bytes()));
        payload(all)
    };
    let bed = Bed::with("p.tar.gz", with_manifest(&named));
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["2 missing files", "`gone.csv`"]);
    let bed = Bed::with("p.tar.gz", with_manifest("{}"));
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["no manifest of the operator"]);
    let other = named.replace("cluster-7", "cluster-8");
    let bed = Bed::with("p.tar.gz", with_manifest(&other.replace(",\"lost.csv\",\"gone.csv\"", "")));
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["`cluster-8`", "expected `cluster-7`"]);
    let twice = payload(contents().chain(contents().take(1)));
    let bed = Bed::with("p.tar.gz", twice);
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["two files named `u_report.0.csv`"]);
    // The same holds for an unpacked payload.
    let bed = Bed::with("manifest.json", &named);
    expect_refused(&bed, &bed.convert(&[]).await, &["6 missing files"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_endless_payloads_are_refused() {
    let files = reports();
    let named = manifest(files.iter().map(|(name, _)| *name));
    let contents = files.iter().map(|(name, text)| (*name, text.as_bytes()));
    let whole = payload([("manifest.json", named.as_bytes())].into_iter().chain(contents));
    let bed = Bed::with("cut.tar.gz", &whole[..whole.len() / 2]);
    expect_refused(&bed, &bed.convert_file("cut.tar.gz").await, &["cut.tar.gz", "cannot be read"]);
    let bed = Bed::with("no.tar.gz", b"\x1f\x8bnothing of the kind");
    expect_refused(&bed, &bed.convert_file("no.tar.gz").await, &["no.tar.gz", "cannot be read"]);

    // 20 MiB of line ends in twenty KiB, in a file that claims to hold them.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = tar::Header::new_ustar();
    header.set_path("bomb.csv").unwrap();
    header.set_size(20 << 20);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    for _ in 0..20 {
        bomb.write_all(&vec![b'\n'; 1 << 20]).unwrap();
    }
    let bed = Bed::with("bomb.tar.gz", bomb.finish().unwrap());
    expect_refused(&bed, &bed.convert_file("bomb.tar.gz").await, &["bomb.tar.gz", "500 times its size"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_outputs_that_cannot_be_used_are_named() {
    let bed = Bed::with("notes.txt", "x");
    expect_refused(&bed, &bed.convert(&[]).await, &["holds no CSV file"]);
    expect_refused(&bed, &bed.convert_file("missing.csv").await, &["missing.csv", "cannot be read"]);

    let bed = Bed::with("nodes.csv", csv(NODE_HEADER, &[format!("{},n,", times(DAY, 0))]));
    let in_the_way = bed.output.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    bed.convert(&["--out", in_the_way.to_str().unwrap()]).await.expect(78, &["cannot write", "file/data/parquet"]);
    bed.convert(&["--manifest-id", "a.b"]).await.expect(64, &["--manifest-id", "letters"]);
    bed.convert(&["--rows-per-file", "0"]).await.expect(64, &["--rows-per-file"]);
    bed.convert(&["--org-id", "a/b"]).await.expect(64, &["--org-id", "single folder"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_header_beyond_belief_is_refused() {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.append_pax_extensions([("comment", "x".repeat(70 << 10).as_bytes())]).unwrap();
    let bed = Bed::with("p.tar.gz", archive.into_inner().unwrap().finish().unwrap());
    expect_refused(&bed, &bed.convert_file("p.tar.gz").await, &["p.tar.gz", "an extended header is longer than"]);
}
