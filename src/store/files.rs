//! A local folder → its files as a bucket would list them. A name that is no key hides no other file.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use walkdir::WalkDir;

use super::list_answer::Listed;

/// Stands in a key for what is no UTF-8 in the name of a file. Such a file cannot be read.
pub(super) const NO_TEXT: char = char::REPLACEMENT_CHARACTER;

/// Files below a folder at any depth; `prefix` is the folder's key, with a slash at its end. A folder that is not there has none.
/// Errors: a folder cannot be read, or links go in a circle.
pub(super) fn below(folder: &Path, prefix: &str) -> Result<Vec<Listed>, walkdir::Error> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).min_depth(1).follow_links(true) {
        let key_of = |path: &Path| {
            let inside = path.strip_prefix(folder).unwrap_or(path);
            let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
            (format!("{prefix}{}", parts.join("/")), parts.iter().any(|part| part.starts_with(['_', '.'])))
        };
        let (entry, metadata) = match entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata))) {
            Ok(found) => found,
            Err(error) => {
                let (key, is_hidden) = key_of(error.path().unwrap_or(folder));
                let is_link =
                    error.path().is_some_and(|path| path.symlink_metadata().is_ok_and(|link| link.is_symlink()));
                match error.io_error().map(std::io::Error::kind) {
                    // Whatever is passed over stands in nobody's way.
                    _ if is_hidden => {}
                    // A link to nothing is a file without contents, and not no file.
                    Some(ErrorKind::NotFound) if is_link => files.push(nothing(key)),
                    // Removed meanwhile, or a folder that is not there.
                    Some(ErrorKind::NotFound) => {}
                    _ => return Err(error),
                }
                continue;
            }
        };
        if !metadata.is_file() {
            continue;
        }
        files.push(Listed {
            key: key_of(entry.path()).0,
            size: metadata.len(),
            etag: Some(etag(&metadata)),
            last_modified: modified(&metadata).into(),
        });
    }
    Ok(files)
}

fn nothing(key: String) -> Listed {
    Listed { key, size: 0, etag: None, last_modified: DateTime::UNIX_EPOCH }
}

fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or_else(|_| DateTime::<Utc>::UNIX_EPOCH.into())
}

/// What tells versions of a file apart, in the form in which the client library tells it when the file is read.
fn etag(metadata: &Metadata) -> String {
    let age = modified(metadata).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}-{:x}", metadata.ino(), age.as_micros(), metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn keys(folder: &Path) -> Vec<String> {
        let mut keys: Vec<String> = below(folder, "p/").unwrap().into_iter().map(|file| file.key).collect();
        keys.sort();
        keys
    }

    #[test]
    fn odd_names_hide_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &[u8]| std::fs::write(folder.path().join(OsStr::from_bytes(name)), "x").unwrap();
        std::fs::create_dir(folder.path().join("deeper.parquet")).unwrap();
        [&b"a.parquet"[..], b"b\n.parquet", b"c\xFF.parquet", b"d#1", b"deeper.parquet/e"].into_iter().for_each(write);
        std::os::unix::fs::symlink("nothing", folder.path().join("dangling")).unwrap();
        std::fs::create_dir(folder.path().join("_tmp")).unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("_tmp/circle")).unwrap();
        assert_eq!(
            keys(folder.path()),
            ["p/a.parquet", "p/b\n.parquet", "p/c\u{FFFD}.parquet", "p/d#1", "p/dangling", "p/deeper.parquet/e"]
        );
        assert_eq!(keys(&folder.path().join("not-there")), [""; 0]);
    }

    #[test]
    fn a_circle_of_links_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).unwrap();
        let error = below(folder.path(), "p/").unwrap_err();
        assert!(error.loop_ancestor().is_some() && error.path().unwrap().ends_with("circle"), "{error}");
    }

    #[tokio::test]
    async fn the_tag_of_a_file_is_the_one_that_reading_it_gives() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "abc").unwrap();
        let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let read = store.head(&object_store::path::Path::from("a")).await.unwrap();
        let [listed] = &below(folder.path(), "").unwrap()[..] else { panic!("one file") };
        assert_eq!(
            (listed.etag.clone(), listed.size, listed.last_modified),
            (read.e_tag, read.size, read.last_modified)
        );
    }
}
