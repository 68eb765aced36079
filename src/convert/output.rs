//! Finished objects → a folder, where they wait under temporary names until all are there, or the object store.
//!
//! Objects of the same delivery, report and day that are there already give way only when asked for, and only after the
//! new ones are there. What was written before something failed is removed again.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::ConvertError;
use super::waiting::{blocking, within};
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

    /// Whether others see each object as soon as it is written.
    pub(super) fn is_store(&self) -> bool {
        matches!(self.target, Target::Store(_))
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

    /// Makes all objects visible, then removes the older ones of their deliveries that they did not overwrite; answers
    /// those.
    /// Errors: `OlderLeft` if all is written and older objects stand beside it.
    pub(super) async fn publish(self) -> Result<Vec<String>, Failure> {
        let deliveries: BTreeSet<&str> = self.written.iter().map(|key| delivery_part(key)).collect();
        let older = self.listed.values().flatten().filter(|key| deliveries.contains(delivery_part(key)));
        let stale: Vec<String> = older.filter(|key| !self.written.contains(*key)).cloned().collect();
        let left = |source: Failure| Failure::from(ConvertError::OlderLeft { source: Box::new(source) });
        match self.target() {
            Target::Store(store) => store.delete(&stale).await.map_err(|error| left(error.into()))?,
            Target::Folder(staging) => {
                let keys = stale.clone();
                let work = move || {
                    staging.publish()?;
                    staging.remove(&keys).map_err(|error| left(error.into()))
                };
                blocking("writing", work).await??;
            }
        }
        Ok(stale)
    }

    /// Removes the objects that were not there before, after a failure; answers it with what became of the rest.
    /// Temporary files of a folder go when this is dropped.
    pub(super) async fn undo(self, failure: Failure, patience: Option<Duration>, writes_ended: bool) -> Failure {
        let Target::Store(store) = &self.target else { return failure };
        if self.written.is_empty() {
            return failure;
        }
        let was_there = |key: &String| self.listed.values().any(|keys| keys.contains(key));
        let (older, new): (Vec<String>, Vec<String>) = self.written.iter().cloned().partition(was_there);
        let mut notes = Vec::new();
        let remedy = "remove them, or convert again with `--replace`";
        match within(patience, store.delete(&new)).await {
            Some(Ok(())) if new.is_empty() => {}
            Some(Ok(())) => notes.push("the objects written so far were removed".to_owned()),
            Some(Err(error)) => notes.push(format!("{}: {remedy}", Failure::from(error).message_with_causes())),
            None => notes.push(format!("the storage is slow to remove the objects written so far: {remedy}")),
        }
        if !writes_ended {
            notes.push(format!("objects whose writing was given up may still appear: {remedy}"));
        }
        notes.extend(replaced_note(older.len()));
        noted(&failure, &notes)
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
        write_synced(&temporary, bytes).map_err(fail)?;
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

    /// Gives each file its name. If one does not take it, the others lose theirs again, unless they took the place of
    /// older files, which cannot come back.
    fn publish(&self) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.state().waiting);
        let (mut new, mut replaced) = (Vec::new(), 0);
        let Err(error) = name_all(&waiting, &mut new, &mut replaced) else { return Ok(()) };
        let mut notes = Vec::new();
        for path in &new {
            if let Err(error) = fs::remove_file(path) {
                notes.push(format!("`{}` is left behind and could not be removed ({error})", path.display()));
            }
        }
        self.state().waiting = waiting.into_iter().filter(|(temporary, _)| temporary.exists()).collect();
        notes.extend(replaced_note(replaced));
        Err(noted(&error.into(), &notes))
    }

    /// Removes all files that can be removed.
    fn remove(&self, keys: &[String]) -> Result<(), ConvertError> {
        let (mut paths, mut first_error) = (Vec::new(), None);
        for key in keys {
            let path = self.root.join(key);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    paths.push(path);
                    first_error.get_or_insert(error);
                }
                _ => {}
            }
        }
        first_error.map_or(Ok(()), |source| Err(ConvertError::FilesLeft { paths, source }))
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

/// Renames files one after the other and notes which of them were not there before, and how many were.
fn name_all(waiting: &[(PathBuf, PathBuf)], new: &mut Vec<PathBuf>, replaced: &mut usize) -> Result<(), ConvertError> {
    let mut folders = BTreeSet::new();
    for (temporary, path) in waiting {
        let was_there = path.exists();
        fs::rename(temporary, path).map_err(|source| unwritable(path, source))?;
        if was_there {
            *replaced += 1;
        } else {
            new.push(path.clone());
        }
        folders.extend(path.parent());
    }
    // Names are lasting only with their folder.
    for folder in folders {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| unwritable(folder, source))?;
    }
    Ok(())
}

/// Writes a file down to the disk: what gets its name afterwards must not be empty after a crash.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What to say if objects of an earlier conversion may have been overwritten.
fn replaced_note(count: usize) -> Option<String> {
    (count > 0).then(|| {
        format!(
            "up to {count} older objects are overwritten: convert again with `--replace` before anything reads them"
        )
    })
}

/// The same failure with more to say.
fn noted(failure: &Failure, notes: &[String]) -> Failure {
    let message = [&[failure.message_with_causes()], notes].concat().join("; ");
    Failure::new(failure.kind, message)
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

    #[tokio::test]
    async fn files_lose_their_names_again_if_one_of_them_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join(KEY.replace("0_0", "0_1"));
        fs::create_dir_all(&in_the_way).unwrap();
        let mut output = Output::folder(folder.path(), true);
        put(&mut output, KEY, "new").await.unwrap();
        put(&mut output, &KEY.replace("0_0", "0_1"), "new").await.unwrap();
        let error = output.publish().await.unwrap_err();
        assert!(error.message.contains("cannot write") && error.message.contains("0_1.parquet"), "{error}");
        assert!(!error.message.contains("overwritten"), "{error}");
        assert_eq!(names(folder.path()), ["pod_usage.2025-10-01.7.0_1.parquet"]);

        // An older file that was there before is not lost: its successor stays, and the message says so.
        fs::write(folder.path().join(KEY), "old").unwrap();
        let mut output = Output::folder(folder.path(), true);
        put(&mut output, KEY, "new").await.unwrap();
        put(&mut output, &KEY.replace("0_0", "0_1"), "new").await.unwrap();
        let error = output.publish().await.unwrap_err();
        assert!(error.message.contains("1 older objects are overwritten"), "{error}");
        assert_eq!(fs::read(folder.path().join(KEY)).unwrap(), b"new");
    }

    #[tokio::test]
    async fn older_files_go_last_and_are_named_if_they_stay() {
        let folder = tempfile::tempdir().unwrap();
        let older = folder.path().join(KEY.replace("0_0", "0_1"));
        // No file, so it cannot be removed like one.
        fs::create_dir_all(&older).unwrap();
        let mut output = Output::folder(folder.path(), true);
        put(&mut output, KEY, "new").await.unwrap();
        let text = output.publish().await.unwrap_err().message_with_causes();
        assert!(text.contains("the new objects are there") && text.contains("0_1.parquet"), "{text}");
        assert_eq!(fs::read(folder.path().join(KEY)).unwrap(), b"new");
    }
}
