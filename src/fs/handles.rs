//! Numbers given to the kernel for what it has open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::inodes::{InodeRef, OpenInode};
use super::open::Access;
use super::{FsError, FsResult};
use crate::cache::Lease;
use crate::object::{Ino, NanoTime, Position};

/// Names something open. Never given twice in the life of a mount, so that a late request finds nothing
/// rather than another's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// An open file.
#[derive(Debug)]
pub(super) struct FileHandle {
    pub(super) inode: InodeRef,
    pub(super) access: Access,
    pub(super) debt: Debt,
}

/// Changes made through one handle, and how many of them its closers know to be safe.
#[derive(Debug, Default)]
pub(super) struct Debt {
    made: AtomicU64,
    safe: AtomicU64,
}

impl Debt {
    /// A change was made. Counted after it: what is counted is then part of the next commit.
    pub(super) fn add(&self) {
        self.made.fetch_add(1, Ordering::SeqCst);
    }

    /// What has been made so far, if any of it is not safe yet.
    pub(super) fn open(&self) -> Option<u64> {
        let made = self.made.load(Ordering::SeqCst);
        (made > self.safe.load(Ordering::SeqCst)).then_some(made)
    }

    /// The first `made` changes are safe.
    pub(super) fn settle(&self, made: u64) {
        self.safe.fetch_max(made, Ordering::SeqCst);
    }
}

impl FileHandle {
    /// Changes the content through this handle: the times before it, so that no commit has the change
    /// without them, and the debt after it, whether or not all of it was done.
    pub(super) fn change<T>(
        &self,
        lease: &Lease,
        now: NanoTime,
        work: impl FnOnce(&OpenInode) -> FsResult<T>,
    ) -> FsResult<T> {
        self.inode.touch(lease, now);
        let done = work(&self.inode);
        self.debt.add();
        done
    }

    /// Opened to change the content.
    pub(super) fn writable(&self) -> FsResult<()> {
        if self.access.writes() { Ok(()) } else { Err(FsError::BadHandle) }
    }
}

/// An open directory.
#[derive(Debug)]
pub(super) struct DirHandle {
    pub(super) inode: InodeRef,
    /// Where the stream ends, once that is known. What is made later is not shown: a program that makes a file for each
    /// that it sees would never be done.
    pub(super) end: Mutex<Option<Position>>,
}

/// What is open, by number.
#[derive(Debug)]
pub(super) struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<HandleId, Arc<T>>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Handles<T> {
        Handles { next: AtomicU64::new(1), open: RwLock::default() }
    }
}

impl<T> Handles<T> {
    pub(super) fn insert(&self, handle: T) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.write().insert(id, Arc::new(handle));
        id
    }

    pub(super) fn get(&self, id: HandleId) -> FsResult<Arc<T>> {
        self.open.read().get(&id).map(Arc::clone).ok_or(FsError::BadHandle)
    }

    /// Whether any that is open is one of these.
    pub(super) fn any(&self, is_one: impl Fn(&T) -> bool) -> bool {
        self.open.read().values().any(|handle| is_one(handle))
    }

    pub(super) fn remove(&self, id: HandleId) -> FsResult<Arc<T>> {
        self.open.write().remove(&id).ok_or(FsError::BadHandle)
    }
}

impl Handles<FileHandle> {
    /// The handle, if it is of that inode.
    pub(super) fn of(&self, id: HandleId, ino: Ino) -> FsResult<Arc<FileHandle>> {
        let handle = self.get(id)?;
        if handle.inode.ino() == ino { Ok(handle) } else { Err(FsError::BadHandle) }
    }
}
