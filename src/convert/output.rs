//! Finished objects → a folder, where they wait under temporary names until all are there, or the object store.
//!
//! Objects of the same delivery, report and day that are there already are never mixed with new ones: either they are
//! replaced, or nothing is written.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ConvertError;
use super::waiting::blocking;
use crate::error::Failure;
use crate::store::Store;

/// Points in a file name before the counter: report, day, manifest id.
const POINTS_OF_DELIVERY: usize = 3;

/// Where objects go.
pub(super) struct Output {
    target: Target,
    replace: bool,
    /// Keys that were there before, by folder.
    listed: HashMap<String, BTreeSet<String>>,
    written: BTreeSet<String>,
}

/// The part that writes; clones write to the same place.
#[derive(Clone)]
pub(super) enum Target {
    /// A folder of this machine.
    Folder(Arc<Staging>),
    /// A bucket.
    Store(Store),
}

/// Files that wait under temporary names. Dropped before they are published, they are removed.
pub(super) struct Staging {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Nothing may be written any more.
    is_closed: bool,
    /// Temporary and final path of each file.
    waiting: Vec<(PathBuf, PathBuf)>,
}

impl Output {
    /// Output into a folder, which is created when the first object comes.
    pub(super) fn folder(root: &Path, replace: bool) -> Self {
        let staging = Staging { root: root.to_owned(), state: Mutex::default() };
        Self::new(Target::Folder(Arc::new(staging)), replace)
    }

    /// Output into a bucket.
    pub(super) fn store(store: Store, replace: bool) -> Self {
        Self::new(Target::Store(store), replace)
    }

    fn new(target: Target, replace: bool) -> Self {
        Self { target, replace, listed: HashMap::new(), written: BTreeSet::new() }
    }

    /// The part that writes.
    pub(super) fn target(&self) -> Target {
        self.target.clone()
    }

    /// To be called for each key before it is written.
    /// Errors: objects of its delivery, report and day are there and shall not be replaced.
    pub(super) async fn announce(&mut self, key: &str) -> Result<(), Failure> {
        let folder = key.rfind('/').map_or("", |at| &key[..=at]);
        if !self.listed.contains_key(folder) {
            let keys = self.target.keys(folder).await?;
            self.listed.insert(folder.to_owned(), keys);
        }
        let there = self.listed.get(folder).and_then(|keys| keys.iter().find(|other| is_same_delivery(key, other)));
        if let Some(place) = there.filter(|_| !self.replace) {
            return Err(ConvertError::OutputExists { place: place.clone() }.into());
        }
        self.written.insert(key.to_owned());
        Ok(())
    }

    /// Makes all objects visible; answers the older objects of the delivery that still stand beside them.
    pub(super) async fn publish(self) -> Result<Vec<String>, Failure> {
        let deliveries: BTreeSet<&str> = self.written.iter().map(|key| delivery_part(key)).collect();
        let older = self.listed.values().flatten().filter(|key| deliveries.contains(delivery_part(key)));
        let stale: Vec<String> = older.filter(|key| !self.written.contains(*key)).cloned().collect();
        match self.target() {
            Target::Store(_) => Ok(stale),
            Target::Folder(staging) => {
                blocking("writing", move || staging.publish(&stale)).await??;
                Ok(Vec::new())
            }
        }
    }
}

impl Target {
    /// Writes an object; in a folder it is not visible yet.
    pub(super) async fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        metadata: &[(&'static str, String)],
    ) -> Result<(), Failure> {
        match self {
            Target::Store(store) => Ok(store.put(key, bytes.into(), metadata).await?),
            Target::Folder(staging) => {
                let (staging, key) = (Arc::clone(staging), key.to_owned());
                Ok(blocking("writing", move || staging.put(&key, &bytes)).await??)
            }
        }
    }

    async fn keys(&self, folder: &str) -> Result<BTreeSet<String>, Failure> {
        match self {
            Target::Store(store) => Ok(store.list(folder).await?.into_iter().map(|entry| entry.key).collect()),
            Target::Folder(staging) => {
                let (staging, folder) = (Arc::clone(staging), folder.to_owned());
                Ok(blocking("listing", move || staging.keys(&folder)).await??)
            }
        }
    }
}

impl Staging {
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), ConvertError> {
        let path = self.root.join(key);
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        // Two conversions at once must not write into each other's file.
        let temporary = path.with_file_name(format!(".{file}.{}.part", std::process::id()));
        let fail = |source| unwritable(&path, source);
        {
            let mut state = self.state();
            if state.is_closed {
                return Ok(());
            }
            state.waiting.push((temporary.clone(), path.clone()));
        }
        fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(fail)?;
        fs::write(&temporary, bytes).map_err(fail)?;
        if self.state().is_closed {
            // Stopped meanwhile: whoever stopped it may have come before the file was there.
            let _best_effort = fs::remove_file(&temporary);
        }
        Ok(())
    }

    fn keys(&self, folder: &str) -> Result<BTreeSet<String>, ConvertError> {
        let path = self.root.join(folder);
        let fail = |source| ConvertError::InputUnreadable { path: path.clone(), source };
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(unwritable(&path, error)),
            Err(error) => return Err(fail(error)),
        };
        let names = entries.map(|entry| Ok(format!("{folder}{}", entry?.file_name().to_string_lossy())));
        names.collect::<io::Result<_>>().map_err(fail)
    }

    /// Removes what is replaced and gives each file its name.
    fn publish(&self, stale: &[String]) -> Result<(), ConvertError> {
        for key in stale {
            let path = self.root.join(key);
            fs::remove_file(&path).map_err(|source| unwritable(&path, source))?;
        }
        let waiting = std::mem::take(&mut self.state().waiting);
        for (temporary, path) in &waiting {
            if let Err(source) = fs::rename(temporary, path) {
                self.state().waiting = waiting.iter().filter(|(temporary, _)| temporary.exists()).cloned().collect();
                return Err(unwritable(path, source));
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The list is whole after each push, whatever happened to its thread.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Target::Folder(staging) = &self.target else { return };
        let mut state = staging.state();
        state.is_closed = true;
        for (temporary, _) in state.waiting.drain(..) {
            // What led here is the error to report; a leftover has a name that nobody reads.
            let _best_effort = fs::remove_file(temporary);
        }
    }
}

fn unwritable(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::FileUnwritable { path: path.to_owned(), source }
}

/// The part of a key that objects of one delivery, report and day share; the whole key if its name has another form.
fn delivery_part(key: &str) -> &str {
    let name_start = key.rfind('/').map_or(0, |at| at + 1);
    let third = key[name_start..].match_indices('.').nth(POINTS_OF_DELIVERY - 1);
    third.map_or(key, |(at, _)| &key[..=name_start + at])
}

fn is_same_delivery(key: &str, other: &str) -> bool {
    delivery_part(key) == delivery_part(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "data/x/pod_usage.2025-10-01.7.0_0.parquet";

    fn names(root: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(root.join("data/x")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    async fn put(output: &mut Output, key: &str, text: &str) -> Result<(), Failure> {
        output.announce(key).await?;
        output.target().put(key, text.as_bytes().to_vec(), &[]).await
    }

    #[tokio::test]
    async fn objects_show_when_all_are_there_and_vanish_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::folder(folder.path(), false);
        put(&mut output, KEY, "one").await.unwrap();
        assert!(names(folder.path())[0].ends_with(".part"));
        drop(output);
        assert!(names(folder.path()).is_empty());

        let mut output = Output::folder(folder.path(), false);
        put(&mut output, KEY, "one").await.unwrap();
        output.publish().await.unwrap();
        assert_eq!(names(folder.path()), ["pod_usage.2025-10-01.7.0_0.parquet"]);
    }

    #[tokio::test]
    async fn a_delivery_is_refused_or_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::folder(folder.path(), false);
        let second = KEY.replace("0_0", "0_1");
        let other = KEY.replace(".7.", ".77.");
        for key in [KEY, &second, &other] {
            put(&mut output, key, "old").await.unwrap();
        }
        output.publish().await.unwrap();

        let mut output = Output::folder(folder.path(), false);
        let error = put(&mut output, &KEY.replace("0_0", "1_0"), "new").await.unwrap_err();
        assert!(error.message.contains("is already there"), "{error}");
        drop(output);

        let mut output = Output::folder(folder.path(), true);
        put(&mut output, KEY, "new").await.unwrap();
        output.publish().await.unwrap();
        assert_eq!(names(folder.path()), ["pod_usage.2025-10-01.7.0_0.parquet", "pod_usage.2025-10-01.77.0_0.parquet"]);
        assert_eq!(fs::read(folder.path().join(KEY)).unwrap(), b"new");
        assert_eq!(fs::read(folder.path().join(other)).unwrap(), b"old");
    }
}
