//! Key and bytes → an object below a folder or in a bucket, whole or not at all.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::GenerateError;
use crate::store::{Store, StoreError};

/// Where generated objects go.
#[derive(Clone)]
pub enum Output {
    /// A folder that will hold `data/` and the manifest.
    Folder(PathBuf),
    /// A bucket or an existing folder, as a configuration names it.
    Store {
        /// Its client.
        store: Store,
        /// Where requests wait. Its threads must not be the ones that generate.
        runtime: Handle,
    },
}

impl Output {
    /// Errors: `OutputNotEmpty` if the manifest or anything below one of the prefixes exists.
    pub(super) fn require_empty(&self, prefixes: &[String], manifest: &str) -> Result<(), GenerateError> {
        match self {
            Output::Folder(folder) => {
                let in_the_way = [folder.join("data"), folder.join(manifest)].into_iter().find(|path| path.exists());
                in_the_way.map_or(Ok(()), |path| {
                    Err(GenerateError::OutputNotEmpty { place: path.display().to_string(), argument: "out" })
                })
            }
            Output::Store { store, runtime } => {
                for prefix in prefixes {
                    if !runtime.block_on(store.list(prefix))?.is_empty() {
                        let place = format!("{}/{prefix}", store.place());
                        return Err(GenerateError::OutputNotEmpty { place, argument: "source-uuid" });
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes one object; an unfinished one is never seen under its key. A folder keeps no metadata.
    pub(super) fn write(
        &self,
        key: &str,
        bytes: Vec<u8>,
        metadata: &[(&'static str, String)],
    ) -> Result<(), GenerateError> {
        match self {
            Output::Folder(folder) => write_whole(&folder.join(key), &bytes),
            Output::Store { store, runtime } => Ok(runtime.block_on(store.put(key, bytes.into(), metadata))?),
        }
    }

    /// After a failure: removes objects from a bucket, where they would be in the way of the next call. A folder keeps
    /// them: whoever made it can remove it as a whole.
    pub(super) fn undo(&self, error: GenerateError, keys: impl FnOnce() -> Vec<String>) -> GenerateError {
        let Output::Store { store, runtime } = self else { return error };
        match runtime.block_on(store.delete(&keys())) {
            Ok(()) => error,
            Err(left) => GenerateError::NotUndone { source: Box::new(error), left: Box::new(left) },
        }
    }

    /// How a person names a key there.
    pub(super) fn place(&self, key: &str) -> String {
        match self {
            Output::Folder(folder) => folder.join(key).display().to_string(),
            Output::Store { store, .. } => format!("{}/{key}", store.place()),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.place("")).finish()
    }
}

impl From<StoreError> for GenerateError {
    fn from(error: StoreError) -> Self {
        GenerateError::Storage(Box::new(error))
    }
}

/// Writes under a temporary name and renames. Not synced to disk: synthetic data can be made again.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), GenerateError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    let unwritable = |source| GenerateError::FileUnwritable { path: path.to_owned(), source };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(unwritable)?;
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        // Best effort: the error that led here is the one to report.
        let _ = fs::remove_file(&temporary);
        unwritable(source)
    })
}
