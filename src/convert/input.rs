//! A folder of CSVs, one CSV, or a payload → which reports there are, then their bytes block by block.
//!
//! A payload is read as a stream, twice: once to know what is in it, so that what is wrong shows before anything is
//! written, and once to convert it. Nothing of it is ever put on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use super::block::Block;
use super::blocks::{BlockReader, CutError};
use super::content::{Foreign, LOOK_BYTES};
use super::delivery::{Delivery, MANIFEST_NAME, MOST_MANIFEST_BYTES, base_name};
use super::error::ConvertError;
use super::header::Shape;
use super::payload;
use super::records::{Fields, Records};

/// Files of one delivery; the operator cuts reports into pieces of 100 MB at most.
pub(super) const MOST_FILES: usize = 10_000;
/// Ending of the files that are looked at in a folder or payload.
const ENDING: &str = ".csv";

/// What an input holds.
#[derive(Debug)]
pub(super) struct Inventory {
    /// How messages name it.
    pub(super) place: String,
    source: Source,
    /// What the manifest says, if there is one.
    pub(super) delivery: Option<Delivery>,
    /// The reports by name.
    reports: BTreeMap<String, Arc<ReportFile>>,
    /// Reports in which nothing is; they are passed over.
    pub(super) empty: Vec<String>,
    /// Files that are no reports of this delivery.
    pub(super) ignored: Vec<String>,
}

#[derive(Debug)]
enum Source {
    /// Folder, and names in it.
    Folder(PathBuf),
    File(PathBuf),
    Payload(PathBuf),
}

/// A report of the input.
#[derive(Debug)]
pub(super) struct ReportFile {
    pub(super) name: String,
    pub(super) shape: Arc<Shape>,
    header: Vec<u8>,
}

/// A piece of a report, in order; files follow each other.
#[derive(Debug)]
pub(super) enum Piece {
    /// Records of a file.
    Records(Arc<ReportFile>, Block),
    /// The file has ended.
    End(Arc<ReportFile>),
}

/// The outcome of looking at one header; `None` where a file has none because nothing is in it.
type Header = Result<Option<(Shape, Vec<u8>)>, ConvertError>;

impl Inventory {
    /// Looks at an input.
    pub(super) fn of(path: &Path) -> Result<Self, ConvertError> {
        let place = format!("`{}`", path.display());
        let unreadable = |source| ConvertError::InputUnreadable { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let mut found = Found::default();
        let source = if metadata.is_dir() {
            found.look_at_folder(path, &place)?;
            Source::Folder(path.to_owned())
        } else if !metadata.is_file() {
            // Opening a pipe would wait for whoever writes it, and it could not be read twice.
            return Err(ConvertError::NoFile { path: path.to_owned(), kind: "a pipe or a device" });
        } else if payload::is_gzip(path).map_err(unreadable)? {
            found.look_at_payload(path, &place)?;
            if found.manifest.is_none() {
                return Err(ConvertError::ManifestMissing { path: path.to_owned() });
            }
            Source::Payload(path.to_owned())
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let header = read_header(&name, path, File::open(path).map_err(unreadable)?);
            found.headers.insert(name, header);
            Source::File(path.to_owned())
        };
        found.into_inventory(place, source)
    }

    /// Number of reports.
    pub(super) fn report_count(&self) -> usize {
        self.reports.len()
    }

    /// Hands out all pieces until `send` answers that nobody wants more.
    pub(super) fn read(&self, send: &mut dyn FnMut(Piece) -> bool) -> Result<(), ConvertError> {
        match &self.source {
            Source::File(path) => self.read_file(path, send).map(|_| ()),
            Source::Folder(folder) => {
                for name in self.reports.keys() {
                    if !self.read_file(&folder.join(name), send)? {
                        break;
                    }
                }
                Ok(())
            }
            Source::Payload(path) => self.read_payload(path, send),
        }
    }

    /// Errors: `Changed` if the payload no longer holds each report once.
    fn read_payload(&self, path: &Path, send: &mut dyn FnMut(Piece) -> bool) -> Result<(), ConvertError> {
        let changed = |file: &str| ConvertError::Changed { file: file.to_owned() };
        let mut left: BTreeSet<&str> = self.reports.keys().map(String::as_str).collect();
        let mut is_wanted = true;
        payload::for_each_file(path, |name, size, reader| {
            let Some(report) = self.reports.get(name) else { return Ok(true) };
            if !left.remove(name) {
                return Err(changed(name));
            }
            is_wanted = read_pieces(report, path, Some(size), reader, send)?;
            Ok(is_wanted)
        })?;
        match left.first() {
            Some(lost) if is_wanted => Err(changed(lost)),
            _ => Ok(()),
        }
    }

    fn read_file(&self, path: &Path, send: &mut dyn FnMut(Piece) -> bool) -> Result<bool, ConvertError> {
        let file =
            File::open(path).map_err(|source| ConvertError::InputUnreadable { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let report = self.reports.get(name.as_ref()).expect("only files of the inventory are read");
        read_pieces(report, path, None, file, send)
    }
}

/// What was found while looking.
#[derive(Debug, Default)]
struct Found {
    headers: BTreeMap<String, Header>,
    manifest: Option<Vec<u8>>,
    others: Vec<String>,
}

impl Found {
    fn look_at_folder(&mut self, folder: &Path, place: &str) -> Result<(), ConvertError> {
        let unreadable = |path: &Path, source| ConvertError::InputUnreadable { path: path.to_owned(), source };
        for entry in fs::read_dir(folder).map_err(|source| unreadable(folder, source))? {
            let path = entry.map_err(|source| unreadable(folder, source))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_wanted = name == MANIFEST_NAME || name.ends_with(ENDING);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {}
                Ok(metadata) if is_wanted => {
                    let kind = if metadata.is_dir() { "a folder and no file" } else { "a pipe or a device" };
                    return Err(ConvertError::NoFile { path, kind });
                }
                // A link that leads nowhere, for instance.
                Err(source) if is_wanted => return Err(unreadable(&path, source)),
                _ => continue,
            }
            let file = || File::open(&path).map_err(|source| unreadable(&path, source));
            if name == MANIFEST_NAME {
                self.manifest = Some(read_manifest(place, &path, file()?)?);
            } else if name.ends_with(ENDING) {
                self.headers.insert(name.clone(), read_header(&name, &path, file()?));
            } else {
                self.others.push(name);
            }
            self.check_count(place)?;
        }
        Ok(())
    }

    fn look_at_payload(&mut self, path: &Path, place: &str) -> Result<(), ConvertError> {
        payload::for_each_file(path, |name, _, reader| {
            let is_known = self.headers.contains_key(name) || (name == MANIFEST_NAME && self.manifest.is_some());
            if is_known {
                return Err(ConvertError::NameTwice { place: place.to_owned(), file: name.to_owned() });
            }
            if name == MANIFEST_NAME {
                self.manifest = Some(read_manifest(place, path, reader)?);
            } else if name.ends_with(ENDING) {
                self.headers.insert(name.to_owned(), read_header(name, path, reader));
            } else {
                self.others.push(name.to_owned());
            }
            self.check_count(place)?;
            Ok(true)
        })
    }

    fn check_count(&self, place: &str) -> Result<(), ConvertError> {
        if self.headers.len() + self.others.len() > MOST_FILES {
            return Err(ConvertError::TooManyFiles { place: place.to_owned(), most: MOST_FILES });
        }
        Ok(())
    }

    fn into_inventory(mut self, place: String, source: Source) -> Result<Inventory, ConvertError> {
        let delivery = self.manifest.map(|text| Delivery::parse(&place, &text)).transpose()?;
        if let Some(delivery) = &delivery {
            let listed: BTreeSet<&str> = delivery.files.iter().map(String::as_str).collect();
            let missing: Vec<&&str> = listed.iter().filter(|name| !self.headers.contains_key(**name)).collect();
            if let Some(first) = missing.first() {
                return Err(ConvertError::FilesMissing { place, count: missing.len(), first: (**first).to_owned() });
            }
            let unlisted: Vec<String> =
                self.headers.keys().filter(|name| !listed.contains(name.as_str())).cloned().collect();
            for name in unlisted {
                self.headers.remove(&name);
                self.others.push(name);
            }
        }
        self.others.sort();
        if self.headers.is_empty() {
            return Err(ConvertError::NoReports { place, others: self.others });
        }
        let mut reports = BTreeMap::new();
        let mut empty = Vec::new();
        for (name, header) in self.headers {
            let Some((shape, header)) = header? else {
                empty.push(name);
                continue;
            };
            let report = ReportFile { name: name.clone(), shape: Arc::new(shape), header };
            reports.insert(name, Arc::new(report));
        }
        match (reports.is_empty(), empty.first(), &source) {
            (true, Some(first), Source::File(_)) => {
                return Err(ConvertError::Foreign { what: file_named(first), found: Foreign::Empty });
            }
            (true, Some(first), _) => {
                return Err(ConvertError::AllEmpty { place, count: empty.len(), first: first.clone() });
            }
            _ => {}
        }
        for file in &empty {
            warn!(file, "the file is empty and is passed over");
        }
        Ok(Inventory { place, source, delivery, reports, empty, ignored: self.others })
    }
}

fn file_named(name: &str) -> String {
    format!("file `{name}`")
}

/// Looks at the header of a file. What is wrong with a file that is no CSV at all is that, and not what its bytes look like as one.
fn read_header(name: &str, path: &Path, mut reader: impl Read) -> Header {
    let mut start = Vec::with_capacity(LOOK_BYTES);
    let looked = reader.by_ref().take(LOOK_BYTES as u64).read_to_end(&mut start);
    looked.map_err(|source| cut_error(name, path, CutError::Io(source)))?;
    let foreign = Foreign::of(&start).filter(|found| *found != Foreign::Empty);
    let refuse = |found| Err(ConvertError::Foreign { what: file_named(name), found });
    if let Some(found) = foreign.filter(|found| found.is_certain()) {
        return refuse(found);
    }
    match (parse_header(name, path, start.as_slice().chain(reader)), foreign) {
        (Err(ConvertError::Row { .. } | ConvertError::ReportUnknown { .. }), Some(found)) => refuse(found),
        (header, _) => header,
    }
}

fn parse_header(name: &str, path: &Path, reader: impl Read) -> Header {
    let header = BlockReader::new(reader).header().map_err(|error| cut_error(name, path, error))?;
    if header.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(&header)
        .map_err(|_| cut_error(name, path, CutError::Row(1, super::error::RowProblem::NotUtf8)))?;
    let mut fields = Fields::default();
    Records::new(text).next_into(&mut fields);
    Ok(Some((Shape::of_header(name, text, &fields)?, header)))
}

fn read_manifest(place: &str, path: &Path, reader: impl Read) -> Result<Vec<u8>, ConvertError> {
    let mut text = Vec::new();
    let read = reader.take(MOST_MANIFEST_BYTES + 1).read_to_end(&mut text);
    read.map_err(|source| ConvertError::InputUnreadable { path: path.to_owned(), source })?;
    if text.len() as u64 > MOST_MANIFEST_BYTES {
        let problem = format!("is larger than {MOST_MANIFEST_BYTES} bytes");
        return Err(ConvertError::ManifestUnusable { place: place.to_owned(), problem });
    }
    Ok(text)
}

/// Hands out one file; answers whether more is wanted. `size`: what the archive promised.
fn read_pieces(
    report: &Arc<ReportFile>,
    path: &Path,
    size: Option<u64>,
    reader: impl Read,
    send: &mut dyn FnMut(Piece) -> bool,
) -> Result<bool, ConvertError> {
    let fail = |error| cut_error(&report.name, path, error);
    let mut blocks = BlockReader::new(reader);
    if blocks.header().map_err(fail)? != report.header {
        return Err(ConvertError::Changed { file: report.name.clone() });
    }
    while let Some(block) = blocks.next_block().map_err(fail)? {
        if !send(Piece::Records(Arc::clone(report), block)) {
            return Ok(false);
        }
    }
    if size.is_some_and(|size| size != blocks.bytes_read()) {
        return Err(fail(CutError::Io(io::Error::from(io::ErrorKind::UnexpectedEof))));
    }
    Ok(send(Piece::End(Arc::clone(report))))
}

fn cut_error(name: &str, path: &Path, error: CutError) -> ConvertError {
    match error {
        CutError::Io(source) => ConvertError::InputUnreadable { path: path.to_owned(), source },
        CutError::Row(line, problem) => ConvertError::Row { file: name.to_owned(), line, problem },
    }
}

/// The name by which a file of an archive is known.
pub(super) fn name_of(path: &[u8]) -> String {
    base_name(&String::from_utf8_lossy(path)).to_owned()
}

/// Buffered reading of a file.
pub(super) fn buffered(path: &Path) -> io::Result<BufReader<File>> {
    Ok(BufReader::with_capacity(1 << 18, File::open(path)?))
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const REPORT: &str = "report_period_start,report_period_end,interval_start,interval_end,node,node_labels\n";

    fn pack(path: &Path, names: &[&str]) {
        let mut archive = tar::Builder::new(GzEncoder::new(File::create(path).unwrap(), Compression::fast()));
        let manifest = r#"{"uuid": "u", "files": ["a.csv", "b.csv"]}"#;
        for name in names {
            let content = if *name == MANIFEST_NAME { manifest } else { REPORT };
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn a_payload_that_changes_between_look_and_reading_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.tar.gz");
        let whole = [MANIFEST_NAME, "a.csv", "b.csv"];
        pack(&path, &whole);
        let inventory = Inventory::of(&path).unwrap();
        assert!(inventory.read(&mut |_| true).is_ok());
        for changed in [&whole[..2], &["a.csv", "b.csv", "b.csv"]] {
            pack(&path, changed);
            let error = inventory.read(&mut |_| true).unwrap_err();
            assert!(matches!(&error, ConvertError::Changed { file } if file == "b.csv"), "{error}");
        }
        // Whoever wants no more does not miss anything.
        pack(&path, &whole[..2]);
        assert!(inventory.read(&mut |_| false).is_ok());
    }
}
