//! What is known in memory of one staged file, with or without a lease.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Times;
use super::budget::Charge;
use super::copying::Changes;
use super::range::Beyond;
use crate::object::Ino;

/// One staged content, from its making to its promotion or deletion.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) ino: Ino,
    pub(super) charge: Charge,
    /// Counted under the lock of the area's slots.
    pub(super) leases: AtomicUsize,
    /// Shared by positional writers; exclusive for what depends on the length. In it, what changes while a copy is
    /// being made.
    pub(super) gate: RwLock<Option<Mutex<Changes>>>,
    /// Held by the one who makes a copy.
    pub(super) copying: Mutex<()>,
    /// What `fallocate` took beyond the end.
    pub(super) beyond: Mutex<Beyond>,
    /// When it was changed.
    pub(super) times: Times,
    len: AtomicU64,
    generation: AtomicU64,
    writers: AtomicU64,
    /// The directory entry is known to survive a power failure.
    pub(super) name_synced: AtomicBool,
    /// A sync failed: the kernel may have dropped dirty pages and would report the next sync as a success.
    pub(super) sync_failed: AtomicBool,
    /// Something that belongs into it is lost: it must never be a version.
    pub(super) condemned: AtomicBool,
}

impl Content {
    pub(super) fn new(ino: Ino, len: u64, charge: Charge) -> Content {
        Content {
            ino,
            charge,
            leases: AtomicUsize::new(0),
            gate: RwLock::new(None),
            copying: Mutex::new(()),
            beyond: Mutex::default(),
            times: Times::default(),
            len: AtomicU64::new(len),
            generation: AtomicU64::new(0),
            writers: AtomicU64::new(0),
            name_synced: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::SeqCst)
    }

    /// The file is at least so long now. Under the gate.
    pub(super) fn reached(&self, end: u64) {
        self.len.fetch_max(end, Ordering::SeqCst);
    }

    /// The file is exactly so long now. Under the exclusive gate.
    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::SeqCst);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The generation, if nobody writes. A writer is counted before it changes the generation, and
    /// changes it again before it is no longer counted: so no write lies between two equal answers.
    pub(super) fn stable(&self) -> Option<u64> {
        let before = self.generation();
        let quiet = self.writers.load(Ordering::SeqCst) == 0;
        (quiet && self.generation() == before).then_some(before)
    }

    /// Marks a write of a range as in progress until the mark is dropped, on whatever way out. Under the gate.
    pub(super) fn begin_write(&self, gate: &Option<Mutex<Changes>>, range: Range<u64>) -> Writing<'_> {
        if let Some(changes) = gate {
            changes.lock().add(range);
        }
        self.writers.fetch_add(1, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        Writing(self)
    }
}

/// A write in progress.
#[derive(Debug)]
pub(super) struct Writing<'a>(&'a Content);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.writers.fetch_sub(1, Ordering::SeqCst);
    }
}
