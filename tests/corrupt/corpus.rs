//! The committed corpus of the fuzz targets, each file once; `UPDATE_CORPUS=1` writes its objects again.

use std::path::{Path, PathBuf};

use super::objects::{reports, ways};
use crate::fuzzing::TARGETS;
use crate::fuzzing::grind_object::note_panics;
use crate::usage::parquet_with;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Small objects, one of each report for some ways of writing.
fn write_objects() {
    for (way, properties) in ways().into_iter().step_by(3) {
        for (number, (report, columns)) in reports(1).into_iter().enumerate() {
            let rows = columns.into_iter().map(|(name, array)| (name, array.slice(0, 12))).collect();
            let properties = properties.clone().set_max_row_group_row_count(Some(8));
            let object = parquet_with(rows, properties.set_key_value_metadata(None));
            let name = format!("{}-{}", way.replace([',', ' '], "-"), report.folder());
            let number = u8::try_from(number).unwrap();
            std::fs::write(folder("footers").join(name), [&[number], &object[..]].concat()).unwrap();
        }
    }
}

#[test]
fn the_corpus_holds_no_surprise() {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        write_objects();
    }
    note_panics();
    for (target, check) in TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(folder(target)).unwrap() {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            assert!(data.len() < 32 * 1024, "{} is small", path.display());
            check(&data);
            count += 1;
        }
        assert!(count >= 5, "{target} has {count} files");
    }
}
