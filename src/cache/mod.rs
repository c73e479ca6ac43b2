//! Local files. Knows no store and no ledger.
//!
//! Two kinds, under one directory (`docs/internals/cache-format.md`):
//!
//! - **staged**: content that is not on every store yet. One file per inode, written in place through a
//!   [`Lease`], never evicted, found again after a restart.
//! - **cached**: blocks of versions that the stores have. One sparse file per version and the checksums of
//!   its blocks, read through a [`CachedVersion`]; losing one costs a fetch, never data. Two limits, bytes
//!   and free space, make the least recently used ones go.
//!
//! Every function blocks for short local I/O, but [`Cache::reserve`] and [`CachedVersion::fetch`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::object::{ContentDigest, Ino, Version};

mod blocks;
mod disk;
mod error;
mod options;
mod staged;
mod volume;

#[cfg(test)]
mod tests;

pub use blocks::CachedVersion;
use blocks::{Adoption, Blocks, Limits, Name};
use disk::{DiskOf, SpaceProbe};
pub use error::{CacheError, NoSpace};
pub use options::{CacheOptions, CacheStats, DiskSpace, KeepFree, Promotion};
use staged::StagedArea;
pub use staged::{FileEnd, Fill, Found, Lease, LiveTimes, RangeChange, Region, Snapshot};
use volume::Layout;

/// The cache directory of one bridge. That no second process uses it is the ledger's lock's concern.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    staged: Arc<StagedArea>,
    blocks: Arc<Blocks>,
}

impl Cache {
    /// Prepares the directory (0700, files 0600), removes what was left half made, takes in what is
    /// there and brings it under the limits.
    pub fn open(dir: &Path, options: CacheOptions) -> Result<Arc<Cache>, CacheError> {
        Cache::open_on(dir, options, Box::new(DiskOf(dir.to_owned())))
    }

    fn open_on(
        dir: &Path,
        options: CacheOptions,
        probe: Box<dyn SpaceProbe>,
    ) -> Result<Arc<Cache>, CacheError> {
        let layout = Layout::prepare(dir, &options.volume)?;
        let limits = Limits { bytes_max: options.bytes_max, keep_free: options.keep_free, probe };
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { path, source }
        };
        let blocks = Blocks::open(layout.blocks.clone(), limits).map_err(io_error(&layout.blocks))?;
        let dirs = (layout.staged.clone(), layout.damaged);
        let staged = StagedArea::open(dirs, options.staged_bytes_max, Arc::clone(&blocks))
            .map_err(io_error(&layout.staged))?;
        Ok(Arc::new(Cache { dir: dir.to_owned(), staged, blocks }))
    }

    /// The disk that the cache is on.
    pub fn disk_space(&self) -> io::Result<DiskSpace> {
        let stat = nix::sys::statvfs::statvfs(&self.dir)?;
        let unit = stat.fragment_size();
        Ok(DiskSpace {
            bytes_total: stat.blocks() * unit,
            bytes_free: stat.blocks_available() * unit,
            files_total: stat.files(),
            files_free: stat.files_available(),
        })
    }

    /// A new, empty staged file; `AlreadyExists` if the inode has one.
    pub fn stage_empty(self: &Arc<Self>, ino: Ino) -> io::Result<Lease> {
        self.staged.create(ino)
    }

    /// The staged file of an inode, made empty if it has none, and whether it was made.
    pub fn lease_or_stage_empty(self: &Arc<Self>, ino: Ino) -> io::Result<(Lease, bool)> {
        self.staged.lease_or_create(ino)
    }

    /// The staged file of an inode, if it has one.
    pub fn lease(self: &Arc<Self>, ino: Ino) -> io::Result<Option<Lease>> {
        self.staged.lease(ino)
    }

    /// Whether an inode has a staged file. Unlike a lease, the question keeps none from being promoted.
    pub fn is_staged(&self, ino: Ino) -> bool {
        self.staged.contains(ino)
    }

    /// Begins to bring a content of `bytes` length in as a staged file.
    pub fn begin_fill(self: &Arc<Self>, ino: Ino, bytes: u64) -> io::Result<Fill> {
        self.staged.begin_fill(ino, bytes)
    }

    /// The inodes that have a staged file, in no order.
    pub fn staged_inos(&self) -> io::Result<Vec<Ino>> {
        Ok(self.staged.inos())
    }

    /// Removes a staged file whose content nobody needs (its file was deleted) -> whether there was one.
    /// Leases that are held keep the content; new ones are not given.
    pub fn discard(&self, ino: Ino) -> io::Result<bool> {
        self.staged.discard(ino)
    }

    /// Moves a staged file whose content must never be a version, and may be of use to a person, out of the
    /// way -> where it is now; `None` if there was none. Leases that are held keep the content.
    pub fn set_aside(&self, ino: Ino) -> io::Result<Option<PathBuf>> {
        self.staged.set_aside(ino)
    }

    /// The files of an inode that were set aside and are still there.
    pub fn aside_of(&self, ino: Ino) -> io::Result<Vec<PathBuf>> {
        self.staged.aside_of(ino)
    }

    /// Removes a file that was set aside and is of no use to anybody.
    pub fn remove_aside(&self, aside: &Path) {
        disk::remove_or_warn(aside);
    }

    /// Turns a staged file, of which every store has exactly this content, into a cached version. A file
    /// that finds no room in the cache, or is empty, is removed: that too is `Done`.
    pub fn promote(
        &self,
        ino: Ino,
        version: Version,
        content: &ContentDigest,
        generation: u64,
    ) -> io::Result<Promotion> {
        let outgoing = match self.staged.take_out(ino, generation, Some(content.size)) {
            Ok(outgoing) => outgoing,
            Err(refusal) => return Ok(refusal.into()),
        };
        let path = self.staged.path(ino);
        // Space that was taken beyond the end is of no use to a content that does not change.
        disk::cut_beyond(&path, content.size)?;
        match self.blocks.adopt(&path, Name { ino, version }, content)? {
            Adoption::Moved => {}
            Adoption::Declined => drop(disk::remove(&path)?),
        }
        outgoing.gone();
        Ok(Promotion::Done)
    }

    /// Removes a staged file, which a store has, if it is still at this generation and nobody has it.
    pub fn retire(&self, ino: Ino, generation: u64) -> io::Result<Promotion> {
        let outgoing = match self.staged.take_out(ino, generation, None) {
            Ok(outgoing) => outgoing,
            Err(refusal) => return Ok(refusal.into()),
        };
        disk::remove(&self.staged.path(ino))?;
        outgoing.gone();
        Ok(Promotion::Done)
    }

    /// Disk taken by staged files, fills and snapshots, in bytes.
    pub fn staged_bytes(&self) -> u64 {
        self.staged.budget.used()
    }

    /// Waits until `bytes` more may be staged; [`NoSpace`] at the deadline, or at once if they never fit.
    /// Callers ask before a staged file grows.
    pub async fn reserve(&self, bytes: u64, deadline: Duration) -> Result<(), NoSpace> {
        self.staged.budget.wait_for(bytes, deadline).await
    }

    /// The same for what cannot be refused: returns when it fits, or when nothing has been given back for as
    /// long as `patience`. Then it goes beyond the limit; the disk is the only one that can refuse it.
    pub async fn reserve_or_exceed(&self, bytes: u64, patience: Duration) {
        self.staged.budget.wait_patiently_for(bytes, patience).await;
    }

    /// Returns when staged files have given back some space, at the latest after `longest`.
    pub async fn space_freed(&self, longest: Duration) {
        self.staged.budget.freed(longest).await;
    }

    /// Pins a version of `size` bytes, with the blocks that are there, or none.
    pub fn version(self: &Arc<Self>, ino: Ino, version: Version, size: u64) -> io::Result<CachedVersion> {
        self.blocks.pin(Name { ino, version }, size)
    }

    /// Removes all cached versions of an inode; those in use when they are released.
    pub fn forget(&self, ino: Ino) {
        self.blocks.forget(ino);
    }

    /// Evicts what is over the limits. Inserting does so by itself; this is for when others fill the disk.
    pub fn trim(&self) -> io::Result<()> {
        self.blocks.trim()
    }

    /// The numbers as they are now.
    pub fn stats(&self) -> CacheStats {
        let (bytes, files) = self.blocks.totals();
        let counters = &self.blocks.counters;
        CacheStats {
            bytes,
            files,
            hits: counters.hits.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            evictions: counters.evictions.load(Ordering::Relaxed),
            bad_blocks: counters.bad_blocks.load(Ordering::Relaxed),
            staged_bytes: self.staged_bytes(),
            staged_files: self.staged.inos().len() as u64,
        }
    }
}
