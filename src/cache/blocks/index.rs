//! The index beside a version of more than one block: a header, then 8 bytes a block.
//! See `docs/internals/cache-format.md`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::names::{Name, block_count};
use super::table::BlockState;
use crate::cache::disk;
use crate::object::BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"bfsindex";
const FORMAT: u64 = 1;
pub(super) const HEADER_BYTES: u64 = 64;
const ENTRY_BYTES: u64 = 8;
const ABSENT: [u8; 8] = [0; 8];

/// An open index. Each entry carries its own check, so it is written in place and never synced: an
/// entry that is torn or lost is a block that is fetched again.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    header_sum: u32,
}

/// What an index says.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) states: Vec<BlockState>,
    /// Entries that were neither empty nor right.
    pub(super) damaged: u64,
}

impl IndexFile {
    /// A new index with no block in it.
    pub(super) fn create(path: &Path, name: Name, size: u64) -> io::Result<IndexFile> {
        let file = disk::create_empty(path)?;
        let (header, header_sum) = header(name, size);
        file.write_all_at(&header, 0)?;
        Ok(IndexFile { file, header_sum })
    }

    /// The index that is there; `None` if it is not the index of this content.
    pub(super) fn open(path: &Path, name: Name, size: u64) -> io::Result<Option<IndexFile>> {
        let file = disk::open_existing(path)?;
        let found = disk::read_up_to(&file, 0, 64)?;
        let (header, header_sum) = header(name, size);
        Ok((found[..] == header[..]).then_some(IndexFile { file, header_sum }))
    }

    /// Reads all entries. Those that the file is too short for are absent.
    pub(super) fn load(&self, size: u64) -> io::Result<Loaded> {
        let count = block_count(size);
        let bytes = usize::try_from(count * ENTRY_BYTES).map_err(io::Error::other)?;
        let found = disk::read_up_to(&self.file, HEADER_BYTES, bytes)?;
        let mut loaded = Loaded { states: Vec::new(), damaged: 0 };
        for (block, entry) in (0..count).zip(found.as_chunks::<8>().0) {
            let state = self.decode(block, *entry);
            loaded.damaged += u64::from(state.is_none());
            loaded.states.push(state.unwrap_or(BlockState::Absent));
        }
        loaded.states.resize(bytes / ABSENT.len(), BlockState::Absent);
        Ok(loaded)
    }

    /// Says that a block is there. After its bytes were written.
    pub(super) fn set(&self, block: u64, sum: u32) -> io::Result<()> {
        self.file.write_all_at(&self.entry(block, sum), HEADER_BYTES + block * ENTRY_BYTES)
    }

    /// Says that all blocks are there.
    pub(super) fn set_all(&self, sums: &[u32]) -> io::Result<()> {
        let entries: Vec<u8> = (0..).zip(sums).flat_map(|(block, sum)| self.entry(block, *sum)).collect();
        self.file.write_all_at(&entries, HEADER_BYTES)
    }

    /// Says that a block is not there. Before its bytes are given up.
    pub(super) fn clear(&self, block: u64) -> io::Result<()> {
        self.file.write_all_at(&ABSENT, HEADER_BYTES + block * ENTRY_BYTES)
    }

    fn entry(&self, block: u64, sum: u32) -> [u8; 8] {
        let mut entry = ABSENT;
        entry[..4].copy_from_slice(&sum.to_le_bytes());
        entry[4..].copy_from_slice(&self.check(block, sum).to_le_bytes());
        entry
    }

    /// `None` for an entry that nobody wrote as it is.
    fn decode(&self, block: u64, entry: [u8; 8]) -> Option<BlockState> {
        if entry == ABSENT {
            return Some(BlockState::Absent);
        }
        let [a, b, c, d, check @ ..] = entry;
        let sum = u32::from_le_bytes([a, b, c, d]);
        (u32::from_le_bytes(check) == self.check(block, sum)).then_some(BlockState::Unchecked(sum))
    }

    /// Binds an entry to its content and its place.
    fn check(&self, block: u64, sum: u32) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.header_sum.to_le_bytes());
        hasher.update(&block.to_le_bytes());
        hasher.update(&sum.to_le_bytes());
        hasher.finalize()
    }
}

fn header(name: Name, size: u64) -> ([u8; 64], u32) {
    let mut header = [0; 64];
    header[..8].copy_from_slice(&MAGIC);
    let fields = [FORMAT, BLOCK_BYTES, name.ino.0, name.version.0, size];
    for (place, field) in header[8..48].chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    let sum = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&sum.to_le_bytes());
    (header, sum)
}
