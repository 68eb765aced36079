//! A payload (`.tar.gz`) → its files one after the other, as streams; what it unpacks to is bounded.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::MultiGzDecoder;
use tar::{Archive, PaxExtensions};

use super::content::{Foreign, LOOK_BYTES, is_end_of_tar, is_tar};
use super::error::ConvertError;
use super::input::{buffered, name_of};

/// First bytes of gzip.
const GZIP_MARK: [u8; 2] = [0x1f, 0x8b];
/// How much larger than the payload its content may be. Reports shrink to a tenth or a fiftieth.
const MOST_EXPANSION: u64 = 500;
/// What any payload may unpack to, however small it is.
const ALWAYS_ALLOWED_BYTES: u64 = 8 << 20;
/// Bytes of an extended header: a long name, or a handful of attributes.
const MOST_EXTENDED_BYTES: u64 = 64 << 10;
/// Entries of an archive, folders and others included.
const MOST_ENTRIES: usize = 100_000;

/// Whether a file is compressed; decided by its first bytes, not its name.
pub(super) fn is_gzip(path: &Path) -> io::Result<bool> {
    let mut start = Vec::with_capacity(GZIP_MARK.len());
    File::open(path)?.take(GZIP_MARK.len() as u64).read_to_end(&mut start)?;
    Ok(start == GZIP_MARK)
}

/// Calls `visit` with name, size and content of each file until it answers that it wants no more.
pub(super) fn for_each_file(
    path: &Path,
    mut visit: impl FnMut(&str, u64, &mut dyn Read) -> Result<bool, ConvertError>,
) -> Result<(), ConvertError> {
    let is_bomb = Arc::new(AtomicBool::new(false));
    let explain = |error| match error {
        ConvertError::InputUnreadable { .. } if is_bomb.load(Ordering::Relaxed) => {
            ConvertError::Bomb { path: path.to_owned(), factor: MOST_EXPANSION }
        }
        other => other,
    };
    let unreadable = |source| explain(ConvertError::InputUnreadable { path: path.to_owned(), source });
    let file = buffered(path).map_err(unreadable)?;
    let packed = file.get_ref().metadata().map_err(unreadable)?.len();
    let left = ALWAYS_ALLOWED_BYTES.max(packed.saturating_mul(MOST_EXPANSION));
    let bounded = Bounded { reader: MultiGzDecoder::new(file), left, is_bomb: Arc::clone(&is_bomb) };
    let mut archive = Archive::new(archive_of(path, bounded).map_err(explain)?);
    // Raw: extended headers stay entries of their own, which the library would read into memory at whatever size they claim.
    let entries = archive.entries().map_err(unreadable)?.raw(true);
    let mut extended = Extended::default();
    for (index, entry) in entries.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        if index >= MOST_ENTRIES {
            return Err(ConvertError::TooManyFiles { place: format!("`{}`", path.display()), most: MOST_ENTRIES });
        }
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            extended.read(&mut entry, kind.is_pax_local_extensions()).map_err(unreadable)?;
            continue;
        }
        // Long names of link targets stand between a long name and its file.
        if kind.is_gnu_longlink() {
            continue;
        }
        let Extended { path: long_path, size: long_size } = std::mem::take(&mut extended);
        if !kind.is_file() {
            continue;
        }
        let (name, size) = (name_of(long_path.as_deref().unwrap_or(&entry.path_bytes())), entry.size());
        if long_size.is_some_and(|long_size| long_size != size) {
            return Err(unreadable(io::Error::other(format!("file `{name}` is too large for an archive of reports"))));
        }
        if !visit(&name, size, &mut entry).map_err(explain)? {
            break;
        }
    }
    Ok(())
}

/// The stream from its beginning, if it is that of an archive: the library would only say that some number of its header is none.
fn archive_of<R: Read>(path: &Path, mut reader: R) -> Result<impl Read, ConvertError> {
    let mut start = Vec::with_capacity(LOOK_BYTES);
    let looked = reader.by_ref().take(LOOK_BYTES as u64).read_to_end(&mut start);
    looked.map_err(|source| ConvertError::InputUnreadable { path: path.to_owned(), source })?;
    if !is_tar(&start) && !is_end_of_tar(&start) {
        let found = Foreign::of(&start);
        let advice = found.map_or("unpack it with gunzip and name the CSV file", Foreign::advice);
        return Err(ConvertError::NoArchive { path: path.to_owned(), found, advice });
    }
    Ok(Cursor::new(start).chain(reader))
}

/// What stands before an entry because its own header has no room for it.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    /// Takes a header of GNU, which is a path, or of POSIX, which is a list of attributes.
    fn read(&mut self, entry: &mut impl Read, is_posix: bool) -> io::Result<()> {
        let mut text = Vec::new();
        entry.take(MOST_EXTENDED_BYTES + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MOST_EXTENDED_BYTES {
            return Err(io::Error::other(format!("an extended header is longer than {MOST_EXTENDED_BYTES} bytes")));
        }
        if !is_posix {
            text.truncate(memchr::memchr(0, &text).unwrap_or(text.len()));
            self.path = Some(text);
            return Ok(());
        }
        for attribute in PaxExtensions::new(&text) {
            let attribute = attribute?;
            match attribute.key_bytes() {
                b"path" => self.path = Some(attribute.value_bytes().to_vec()),
                b"size" => self.size = attribute.value().ok().and_then(|size| size.parse().ok()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Stops a stream that grows beyond belief.
struct Bounded<R> {
    reader: R,
    left: u64,
    is_bomb: Arc<AtomicBool>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => {
                self.is_bomb.store(true, Ordering::Relaxed);
                Err(io::Error::other("the content is too large"))
            }
        }
    }
}
