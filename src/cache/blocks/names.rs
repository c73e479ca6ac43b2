//! The names of cached files. See `docs/internals/cache-format.md`.

use std::io;
use std::path::{Path, PathBuf};

use crate::cache::disk;
use crate::object::{BLOCK_BYTES, Ino, Version};

/// What file systems allocate at least.
pub(super) const DISK_UNIT: u64 = 4096;

/// Which content a cached file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::cache) struct Name {
    pub(in crate::cache) ino: Ino,
    pub(in crate::cache) version: Version,
}

/// What a file name below `blocks/` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Content; of a one-block content that is there, its checksum.
    Data(Name, Option<u32>),
    /// The index beside a content of more than one block.
    Index(Name),
}

impl Name {
    pub(super) fn range(ino: Ino) -> std::ops::RangeInclusive<Name> {
        Name { ino, version: Version(0) }..=Name { ino, version: Version(u64::MAX) }
    }

    /// Where the content is; `sum` is the checksum of a one-block content that is there.
    pub(super) fn data_path(self, blocks: &Path, sum: Option<u32>) -> PathBuf {
        match sum {
            Some(sum) => self.shard(blocks).join(format!("{self}-{sum:08x}")),
            None => self.shard(blocks).join(self.to_string()),
        }
    }

    pub(super) fn index_path(self, blocks: &Path) -> PathBuf {
        self.shard(blocks).join(format!("{self}.i"))
    }

    /// Makes the directory that its files are in.
    pub(super) fn make_shard(self, blocks: &Path) -> io::Result<()> {
        disk::make_dir(&self.shard(blocks))
    }

    fn shard(self, blocks: &Path) -> PathBuf {
        blocks.join(format!("{:02x}", self.ino.0 & 0xff))
    }

    /// Reads what the paths above end with; nothing else.
    pub(super) fn parse(file_name: &str) -> Option<Parsed> {
        let (stem, index) = match file_name.strip_suffix(".i") {
            Some(stem) => (stem, true),
            None => (file_name, false),
        };
        let mut parts = stem.split('-');
        let mut next = || parts.next().map(|part| u64::from_str_radix(part, 16));
        let name = Name { ino: Ino(next()?.ok()?), version: Version(next()?.ok()?) };
        let sum = match next() {
            Some(sum) => Some(u32::try_from(sum.ok()?).ok()?),
            None => None,
        };
        let blocks = Path::new("");
        let (parsed, path) = if index {
            (Parsed::Index(name), name.index_path(blocks))
        } else {
            (Parsed::Data(name, sum), name.data_path(blocks, sum))
        };
        (path.file_name()? == file_name).then_some(parsed)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}", self.ino.0, self.version.0)
    }
}

/// Count of blocks of a content.
pub(super) fn block_count(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES)
}

/// Length of one block in bytes; 0 beyond the end.
pub(super) fn block_len(size: u64, block: u64) -> u64 {
    size.saturating_sub(block.saturating_mul(BLOCK_BYTES)).min(BLOCK_BYTES)
}

/// Whether a content has its index in a file of its own.
pub(super) fn has_index(size: u64) -> bool {
    size > BLOCK_BYTES
}

/// Disk that a block of this length takes.
pub(super) fn disk_cost(len: u64) -> u64 {
    len.next_multiple_of(DISK_UNIT)
}
