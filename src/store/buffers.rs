//! Answers of the storage → bytes; those of files in buffers that are used again, since fresh memory costs a page fault for every
//! four kilobytes.

use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes as Buffer;
use object_store::{GetResult, GetResultPayload};

/// Smaller buffers are cheap to get from the allocator.
const SMALLEST_BYTES: usize = 1 << 20;
/// Most bytes that wait to be used again; what comes back beyond them is freed. One or two chunks of a large object: the next one is fetched
/// when one is done, and while a slow target is waited for whatever lies here serves nobody.
const MOST_IDLE_BYTES: usize = 12 << 20;

/// Buffers that wait to be used again.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// The one that waits longest first.
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Reads an answer to its end.
    pub(super) async fn read(self: &Arc<Self>, answer: GetResult) -> Result<Buffer, object_store::Error> {
        let (start, length) = (answer.range.start, answer.range.end.saturating_sub(answer.range.start));
        let GetResultPayload::File(mut file, _) = answer.payload else {
            // Bytes of a network come slowly: a buffer of its own for each answer under way would be memory without use.
            return answer.bytes().await;
        };
        let buffer = self.take(usize::try_from(length).unwrap_or(usize::MAX));
        let mut lent = Lent { buffer, home: Arc::clone(self) };
        let read = tokio::task::spawn_blocking(move || {
            file.seek(SeekFrom::Start(start))?;
            file.take(length).read_to_end(&mut lent.buffer)?;
            Ok::<_, std::io::Error>(lent)
        });
        let lent = read.await?.map_err(|source| generic(source.into()))?;
        Ok(Buffer::from_owner(lent))
    }

    /// An empty buffer with room for so many bytes and not for many more.
    fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes < SMALLEST_BYTES {
            return Vec::with_capacity(bytes);
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Vec<u8>| (bytes..=bytes + bytes / 4 + SMALLEST_BYTES).contains(&buffer.capacity());
        match idle.iter().position(fits) {
            Some(position) => idle.remove(position),
            None => Vec::with_capacity(bytes.next_multiple_of(SMALLEST_BYTES)),
        }
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        if !(SMALLEST_BYTES..=MOST_IDLE_BYTES).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(buffer);
        // What nobody asked for longest makes room for sizes that are asked for now.
        while idle.iter().map(Vec::capacity).sum::<usize>() > MOST_IDLE_BYTES {
            idle.remove(0);
        }
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> object_store::Error {
    object_store::Error::Generic { store: "LocalFileSystem", source }
}

/// A buffer in use; the last of its readers gives it back.
struct Lent {
    buffer: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(home: &Arc<Buffers>, bytes: usize) -> Buffer {
        Buffer::from_owner(Lent { buffer: home.take(bytes), home: Arc::clone(home) })
    }

    fn idle(home: &Buffers) -> Vec<usize> {
        home.idle.lock().unwrap().iter().map(Vec::capacity).collect()
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn a_buffer_comes_back_with_its_last_reader_and_serves_requests_of_about_its_size() {
        let home = Arc::new(Buffers::default());
        let whole = lent(&home, 4 * MIB - 5);
        let part = whole.clone();
        drop(whole);
        assert!(idle(&home).is_empty());
        drop(part);
        assert_eq!(idle(&home), [4 * MIB]);
        drop((lent(&home, 3 * MIB), lent(&home, MIB)));
        assert_eq!(idle(&home), [4 * MIB, MIB], "four are lent for three, not for one");
    }

    #[test]
    fn small_ones_are_not_kept_and_what_waits_is_bounded() {
        let home = Arc::new(Buffers::default());
        drop(lent(&home, 1_000));
        assert!(idle(&home).is_empty());
        let many: Vec<_> = (0..10).map(|_| lent(&home, 4 * MIB)).collect();
        drop(many);
        assert_eq!(idle(&home), [4 * MIB; 3]);
        drop(lent(&home, 7 * MIB));
        assert_eq!(idle(&home), [4 * MIB, 7 * MIB], "the oldest went");
        drop(lent(&home, 40 * MIB));
        assert_eq!(idle(&home), [4 * MIB, 7 * MIB], "more than may wait in all makes nobody go");
    }
}
