//! A staged file that becomes a cached version.

use std::fs;
use std::io;
use std::path::Path;

use super::index::{HEADER_BYTES, IndexFile};
use super::names::{DISK_UNIT, block_count, has_index};
use super::registry::{Idle, State};
use super::{Blocks, Name};
use crate::cache::disk;
use crate::object::ContentDigest;

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cache) enum Adoption {
    /// It was moved into the cache.
    Moved,
    /// The cache has no use or no room for it; it is where it was.
    Declined,
}

impl Blocks {
    /// Moves the file at `from` in, as all blocks of a version. They are checked when they are first used.
    pub(in crate::cache) fn adopt(
        &self,
        from: &Path,
        name: Name,
        content: &ContentDigest,
    ) -> io::Result<Adoption> {
        let meta = fs::metadata(from)?;
        if content.block_sums.len() as u64 != block_count(content.size) || meta.len() != content.size {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the digest is of another content"));
        }
        let index_bytes = match has_index(content.size) {
            true => (HEADER_BYTES + 8 * block_count(content.size)).next_multiple_of(DISK_UNIT),
            false => 0,
        };
        if content.size == 0 || !self.vacate(name, content.size) {
            return Ok(Adoption::Declined);
        }
        let moved = match self.admit(name, disk::allocated(&meta) + index_bytes) {
            Ok(true) => self.move_in(from, name, content).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let mut registry = self.registry.lock();
        let adoption = match moved {
            Ok(Some(idle)) => {
                registry.settle_idle(name, idle);
                Ok(Adoption::Moved)
            }
            Ok(None) => {
                registry.remove(name);
                Ok(Adoption::Declined)
            }
            Err(error) => {
                registry.remove(name);
                Err(error)
            }
        };
        self.settled.notify_all();
        adoption
    }

    /// Makes the name the caller's, and what was cached under it away -> false if it is in use.
    fn vacate(&self, name: Name, size: u64) -> bool {
        let mut registry = self.registry.lock();
        while matches!(registry.slots.get(&name).map(|slot| &slot.state), Some(State::Busy)) {
            self.settled.wait(&mut registry);
        }
        let Some(slot) = registry.slots.get(&name) else {
            registry.insert_busy(name, size);
            return true;
        };
        let was = slot.size;
        let Some(idle) = registry.take_idle(name) else { return false };
        drop(registry);
        self.unlink(name, idle.sum, was);
        let mut registry = self.registry.lock();
        registry.remove(name);
        registry.insert_busy(name, size);
        true
    }

    /// The index comes first: an index without its content is removed at the next start.
    fn move_in(&self, from: &Path, name: Name, content: &ContentDigest) -> io::Result<Idle> {
        name.make_shard(&self.dir)?;
        if !has_index(content.size) {
            let sum = content.block_sums.first().copied();
            fs::rename(from, name.data_path(&self.dir, sum))?;
            return Ok(Idle { sum, table: None });
        }
        let path = name.index_path(&self.dir);
        let moved = IndexFile::create(&path, name, content.size)
            .and_then(|index| index.set_all(&content.block_sums))
            .and_then(|()| fs::rename(from, name.data_path(&self.dir, None)));
        if moved.is_err() {
            disk::remove_or_warn(&path);
        }
        moved.map(|()| Idle { sum: None, table: None })
    }
}
