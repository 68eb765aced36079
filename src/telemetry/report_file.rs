//! A report → a JSON file that is whole or not there: temporary name, then rename.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::error::{ErrorKind, Failure};

/// Writes a report. Pipes and devices are written into, since a rename would put a file in their place.
/// Errors: the file cannot be written, or the report has no JSON.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Failure {
        kind: ErrorKind::Bug,
        message: "the report cannot be written as JSON".to_owned(),
        cause: Some(Box::new(error)),
    })?;
    let unwritable = |error: io::Error| Failure {
        kind: ErrorKind::FileUnwritable,
        message: format!("file `{}` cannot be written", path.display()),
        cause: Some(Box::new(error)),
    };
    // A link stays one: what it points to is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_special = std::fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file());
    if is_special { std::fs::write(&path, text) } else { replace(&path, &text) }.map_err(unwritable)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut temporary_name = OsString::from(".");
    temporary_name.push(name);
    // Two commands at once must not write into each other's file.
    temporary_name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary_name);
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _best_effort = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_report_is_replaced_as_a_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, "something longer than the report").unwrap();
        write_json(&path, &[1, 2]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[\n  1,\n  2\n]");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let nowhere = folder.path().join("missing").join("report.json");
        assert_eq!(write_json(&nowhere, &[1]).unwrap_err().kind, ErrorKind::FileUnwritable);
        write_json(Path::new("/dev/null"), &[1]).unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }

    #[test]
    fn what_has_no_json_is_an_error_and_no_empty_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let no_json = BTreeMap::from([((1, 2), 3)]);
        assert_eq!(write_json(&path, &no_json).unwrap_err().kind, ErrorKind::Bug);
        assert!(!path.exists());
    }
}
