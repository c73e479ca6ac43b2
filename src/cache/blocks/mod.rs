//! Cached versions: blocks of contents that every store has, so that losing one costs a fetch.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::disk;
use crate::object::Ino;

mod adopt;
mod body;
mod flight;
mod homeless;
mod index;
mod names;
mod registry;
mod room;
mod scan;
mod table;
mod version;

pub(super) use adopt::Adoption;
use body::{Body, Opened};
use homeless::Homeless;
pub(super) use names::Name;
use names::{DISK_UNIT, has_index};
use registry::{Fate, Idle, Registry, Slot, State};
pub(super) use room::Limits;
pub use version::CachedVersion;
use version::Pin;

/// All cached versions of a cache.
#[derive(Debug)]
pub(super) struct Blocks {
    dir: PathBuf,
    limits: Limits,
    registry: Mutex<Registry>,
    /// A version stopped being busy.
    settled: Condvar,
    pub(super) counters: Counters,
    homeless: Homeless,
}

/// Since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) bad_blocks: AtomicU64,
}

/// How a caller came to a version.
enum Claim {
    /// It is in use; one more uses it.
    Shared(Arc<Body>),
    /// It is the caller's, with what was remembered of it and the size that it had.
    Ours(Option<(Idle, u64)>),
}

impl Blocks {
    /// Takes in what an earlier process left, and brings it under the limits.
    pub(super) fn open(dir: PathBuf, limits: Limits) -> io::Result<Arc<Blocks>> {
        let mut registry = Registry::default();
        for found in scan::scan(&dir)? {
            registry.insert_busy(found.name, found.size);
            registry.charge(found.name, found.bytes);
            registry.settle_idle(found.name, Idle { sum: found.sum, table: None });
        }
        let blocks = Blocks {
            dir,
            limits,
            registry: Mutex::new(registry),
            settled: Condvar::new(),
            counters: Counters::default(),
            homeless: Homeless::default(),
        };
        blocks.trim()?;
        Ok(Arc::new(blocks))
    }

    /// Disk taken, and count of versions.
    pub(super) fn totals(&self) -> (u64, u64) {
        let registry = self.registry.lock();
        (registry.bytes(), registry.slots.len() as u64)
    }

    pub(super) fn pin(self: &Arc<Self>, name: Name, size: u64) -> io::Result<CachedVersion> {
        let body = match self.claim(name, size)? {
            Claim::Shared(body) => body,
            Claim::Ours(idle) => {
                let opened = self.open_claimed(name, size, idle);
                self.settled.notify_all();
                opened?
            }
        };
        Ok(CachedVersion::new(Pin { blocks: Arc::clone(self), body }))
    }

    fn claim(&self, name: Name, size: u64) -> io::Result<Claim> {
        let mut registry = self.registry.lock();
        loop {
            match registry.slots.get_mut(&name) {
                None => {
                    registry.insert_busy(name, size);
                    return Ok(Claim::Ours(None));
                }
                Some(Slot { size: there, state: State::Pinned { body, pins, .. }, .. }) => {
                    if *there != size {
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a version has one size"));
                    }
                    *pins += 1;
                    return Ok(Claim::Shared(Arc::clone(body)));
                }
                Some(Slot { size: there, state: State::Idle { .. }, .. }) => {
                    let was = std::mem::replace(there, size);
                    return Ok(Claim::Ours(registry.take_idle(name).map(|idle| (idle, was))));
                }
                Some(Slot { state: State::Busy, .. }) => self.settled.wait(&mut registry),
            }
        }
    }

    /// Opens or makes the files of a version that is the caller's, and settles it.
    fn open_claimed(&self, name: Name, size: u64, idle: Option<(Idle, u64)>) -> io::Result<Arc<Body>> {
        if let Some((idle, was)) = idle {
            match self.reopen(name, size, &idle, was) {
                Ok(Some(body)) => return Ok(self.settle_pinned(body)),
                Ok(None) => self.drop_damaged(name, &idle, was),
                Err(error) => {
                    self.registry.lock().settle_idle(name, idle);
                    return Err(error);
                }
            }
        }
        match Body::create(&self.dir, name, size) {
            Ok(body) => {
                let index_bytes = if has_index(size) { DISK_UNIT } else { 0 };
                self.registry.lock().charge(name, index_bytes);
                Ok(self.settle_pinned(body))
            }
            Err(error) => {
                self.unlink(name, None, size);
                self.registry.lock().remove(name);
                Err(error)
            }
        }
    }

    fn reopen(&self, name: Name, size: u64, idle: &Idle, was: u64) -> io::Result<Option<Body>> {
        if was != size {
            return Ok(None);
        }
        let opened = Body::open(&self.dir, name, size, idle)?;
        Ok(opened.map(|Opened { body, damaged }| {
            self.counters.bad_blocks.fetch_add(damaged, Ordering::Relaxed);
            body
        }))
    }

    fn drop_damaged(&self, name: Name, idle: &Idle, size: u64) {
        tracing::warn!(%name, "a cached version was damaged; it is fetched again");
        self.counters.bad_blocks.fetch_add(1, Ordering::Relaxed);
        self.unlink(name, idle.sum, size);
        self.registry.lock().give_back(name, u64::MAX);
    }

    fn settle_pinned(&self, body: Body) -> Arc<Body> {
        let body = Arc::new(body);
        let state = State::Pinned { body: Arc::clone(&body), pins: 1, fate: Fate::Keep };
        self.registry.lock().settle(body.name, state);
        body
    }

    /// One user less. A version without a block is not worth its files.
    fn unpin(&self, body: &Body) {
        let name = body.name;
        let mut registry = self.registry.lock();
        let Some(Slot { state: State::Pinned { pins, fate, .. }, .. }) = registry.slots.get_mut(&name) else {
            return;
        };
        *pins -= 1;
        if *pins > 0 {
            return;
        }
        let fate = *fate;
        self.homeless.forget(name);
        let idle = body.to_idle();
        if fate == Fate::Keep && !body.table.is_empty() {
            registry.settle_idle(name, idle);
            return;
        }
        registry.settle(name, State::Busy);
        drop(registry);
        self.unlink(name, idle.sum, body.size);
        self.settle_removed(name);
    }

    /// Removes the versions of an inode; those in use when they are released.
    pub(super) fn forget(&self, ino: Ino) {
        let names: Vec<Name> =
            self.registry.lock().slots.range(Name::range(ino)).map(|(name, _)| *name).collect();
        for name in names {
            if let Some((idle, size)) = self.condemn(name) {
                self.unlink(name, idle.sum, size);
                self.settle_removed(name);
            }
        }
    }

    /// An idle version becomes the caller's to remove; one in use is removed later.
    fn condemn(&self, name: Name) -> Option<(Idle, u64)> {
        let mut registry = self.registry.lock();
        loop {
            let slot = registry.slots.get_mut(&name)?;
            match &mut slot.state {
                State::Busy => self.settled.wait(&mut registry),
                State::Pinned { fate, .. } => {
                    *fate = Fate::Remove;
                    return None;
                }
                State::Idle { .. } => {
                    let size = slot.size;
                    return registry.take_idle(name).map(|idle| (idle, size));
                }
            }
        }
    }

    fn unlink(&self, name: Name, sum: Option<u32>, size: u64) {
        disk::remove_or_warn(&name.data_path(&self.dir, sum));
        if has_index(size) {
            disk::remove_or_warn(&name.index_path(&self.dir));
        }
    }

    fn settle_removed(&self, name: Name) {
        self.registry.lock().remove(name);
        self.settled.notify_all();
    }
}
