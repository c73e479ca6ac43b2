//! The inodes in use: one record for each, shared by all handles.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock};

use super::access::QuietUntil;
use super::orphans::Orphan;
use super::privileges::PrivilegeWatch;
use super::{FsError, FsResult};
use crate::bridge::Content;
use crate::cache::Lease;
use crate::object::{Ino, NanoTime, Version};

/// Where the content of an inode is right now.
///
/// ```text
///  Idle ──open──> Clean ──first write or truncate──> Staged ──last close──> Idle
///    └──open, a staged file is there───────────────────^
/// ```
#[derive(Debug)]
pub(super) enum ContentState {
    /// Nobody has it open.
    Idle,
    /// Pinned to a committed version, read through the cache.
    Clean(Content),
    /// In a local file, which all read and write.
    Staged(Lease),
}

/// What changes with opens, closes and the first write.
#[derive(Debug)]
pub(super) struct State {
    pub(super) handles: usize,
    /// How many of them may change the content.
    pub(super) writers: usize,
    pub(super) content: ContentState,
    /// It has no name any more.
    pub(super) orphan: Option<Orphan>,
}

/// What of a staged file is committed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Committed {
    /// The lease's generation that the last commit covers; `None` when the content as it is was never
    /// committed.
    pub(super) generation: Option<u64>,
    /// The version of the last commit.
    pub(super) version: Option<Version>,
}

/// One inode in use.
#[derive(Debug)]
pub(super) struct OpenInode {
    ino: Ino,
    /// One open at a time; taken before `state`.
    pub(super) opening: Arc<tokio::sync::Mutex<()>>,
    /// Held for moments, but while a file is opened for the first time and while its name is removed.
    pub(super) state: RwLock<State>,
    /// One at a time: bringing content in, committing, setting times. Taken before `state`.
    pub(super) changes: tokio::sync::Mutex<()>,
    committed: Mutex<Committed>,
    refuses_writes: AtomicBool,
    damaged: AtomicBool,
    pub(super) privileges: PrivilegeWatch,
    /// Whether reads must be looked at for the time of access.
    pub(super) quiet_until: QuietUntil,
    /// The kernel knows it no longer.
    pub(super) forgotten: Notify,
    /// References, counted under the table's lock.
    users: AtomicU64,
}

impl OpenInode {
    fn new(ino: Ino) -> OpenInode {
        OpenInode {
            ino,
            opening: Arc::default(),
            state: RwLock::new(State { handles: 0, writers: 0, content: ContentState::Idle, orphan: None }),
            changes: tokio::sync::Mutex::default(),
            committed: Mutex::default(),
            refuses_writes: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            privileges: PrivilegeWatch::default(),
            quiet_until: QuietUntil::default(),
            forgotten: Notify::new(),
            users: AtomicU64::new(0),
        }
    }

    pub(super) fn ino(&self) -> Ino {
        self.ino
    }

    pub(super) fn committed(&self) -> Committed {
        *self.committed.lock()
    }

    pub(super) fn set_committed(&self, committed: Committed) {
        *self.committed.lock() = committed;
    }

    /// The content changes now, in this staged file. Called before the change.
    pub(super) fn touch(&self, lease: &Lease, now: NanoTime) {
        lease.touch(now);
        self.quiet_until.end();
    }

    /// Whether the staged file differs from what was committed last.
    pub(super) fn is_dirty(&self, lease: &Lease) -> bool {
        self.committed().generation != Some(lease.generation())
    }

    /// Nothing more may be written over content that is in doubt.
    pub(super) fn refuse_writes(&self) {
        self.refuses_writes.store(true, Ordering::SeqCst);
    }

    pub(super) fn check_writes(&self) -> FsResult<()> {
        self.check_whole()?;
        if self.refuses_writes.load(Ordering::SeqCst) { Err(FsError::Refused(self.ino)) } else { Ok(()) }
    }

    /// Something that belongs into the content is lost -> whether this is the first to be lost.
    pub(super) fn begin_damage(&self) -> bool {
        !self.damaged.swap(true, Ordering::SeqCst)
    }

    /// The damaged content is gone -> whether there was any.
    pub(super) fn end_damage(&self) -> bool {
        self.damaged.swap(false, Ordering::SeqCst)
    }

    /// An error while something that belongs into the content is lost.
    pub(super) fn check_whole(&self) -> FsResult<()> {
        if self.damaged.load(Ordering::SeqCst) { Err(FsError::Damaged(self.ino)) } else { Ok(()) }
    }

    /// The first handle begins with a clean slate.
    pub(super) fn accept_writes(&self) {
        self.privileges.changed();
        self.refuses_writes.store(false, Ordering::SeqCst);
    }

    /// Forgets what is only true while somebody has it open.
    pub(super) fn reset(&self) {
        *self.committed.lock() = Committed::default();
    }

    /// The staged file, if there is one.
    pub(super) async fn lease(&self) -> Option<Lease> {
        match &self.state.read().await.content {
            ContentState::Staged(lease) => Some(lease.clone()),
            ContentState::Idle | ContentState::Clean(_) => None,
        }
    }
}

/// The inodes in use, by number.
#[derive(Debug, Default)]
pub(super) struct InodeTable {
    open: Mutex<HashMap<Ino, Arc<OpenInode>>>,
    departures: AtomicU64,
}

impl InodeTable {
    /// The record of an inode, made if it is not in use.
    pub(super) fn enter(self: &Arc<Self>, ino: Ino) -> InodeRef {
        let mut open = self.open.lock();
        let inode = open.entry(ino).or_insert_with(|| Arc::new(OpenInode::new(ino)));
        InodeRef::counted(self, inode)
    }

    /// The record of an inode that is in use.
    pub(super) fn find(self: &Arc<Self>, ino: Ino) -> Option<InodeRef> {
        let open = self.open.lock();
        open.get(&ino).map(|inode| InodeRef::counted(self, inode))
    }

    /// Whether an inode is in use.
    pub(super) fn contains(&self, ino: Ino) -> bool {
        self.open.lock().contains_key(&ino)
    }

    /// Grows when an inode leaves the table. Unchanged between a read of the ledger and a look into the
    /// table, it proves that no file was committed and closed in between, which would have made what was
    /// read outdated without a trace.
    pub(super) fn departures(&self) -> u64 {
        self.departures.load(Ordering::SeqCst)
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }
}

/// Keeps an inode in the table while it lives.
#[derive(Debug)]
pub(super) struct InodeRef {
    table: Arc<InodeTable>,
    inode: Arc<OpenInode>,
}

impl InodeRef {
    /// Only under the table's lock.
    fn counted(table: &Arc<InodeTable>, inode: &Arc<OpenInode>) -> InodeRef {
        inode.users.fetch_add(1, Ordering::SeqCst);
        InodeRef { table: Arc::clone(table), inode: Arc::clone(inode) }
    }
}

impl Clone for InodeRef {
    fn clone(&self) -> InodeRef {
        let _counting = self.table.open.lock();
        InodeRef::counted(&self.table, &self.inode)
    }
}

impl Drop for InodeRef {
    fn drop(&mut self) {
        let mut open = self.table.open.lock();
        if self.inode.users.fetch_sub(1, Ordering::SeqCst) == 1 {
            open.remove(&self.inode.ino);
            self.table.departures.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Deref for InodeRef {
    type Target = OpenInode;

    fn deref(&self) -> &OpenInode {
        &self.inode
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::InodeTable;
    use crate::object::Ino;

    #[test]
    fn an_inode_is_in_the_table_while_anybody_uses_it() {
        let table = Arc::new(InodeTable::default());
        let first = table.enter(Ino(7));
        let second = first.clone();
        let third = table.enter(Ino(7));
        drop(first);
        drop(third);
        assert!(table.contains(Ino(7)));
        assert_eq!(table.departures(), 0);
        drop(second);
        assert!(!table.contains(Ino(7)));
        assert_eq!(table.departures(), 1);
        assert!(table.find(Ino(7)).is_none());
    }
}
