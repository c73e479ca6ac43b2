//! Files and directories without a name that are still open, or that the kernel still knows: by a descriptor that
//! opens nothing (`O_PATH`), or as somebody's working directory. Those have attributes and no content.
//!
//! Whatever is removed through the kernel is known to it, and it says when it forgets it. If it does so too early
//! (it may tell of a part of its references), attributes are gone early, and nothing else.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::attrs::FileInfo;
use super::inodes::{ContentState, InodeRef, State};
use super::{Fs, FsError};
use crate::bridge::{AtLimit, Hold, Unlinked};
use crate::ledger::{Node, Removed};
use crate::object::{Ino, Xattrs};

/// What is left of a node that was removed.
#[derive(Debug)]
pub(super) struct Orphan {
    /// The node as it was, with the changes since.
    pub(super) node: Node,
    /// Its extended attributes, likewise.
    pub(super) xattrs: Xattrs,
    /// Keeps the stores from deleting the content that is still read from them.
    hold: Option<Hold>,
    /// Brings that content here.
    rescue: Option<JoinHandle<()>>,
}

impl Orphan {
    /// Nobody has it open any more: it stays as it was seen last. Ends what still runs for it, and lets the stores go
    /// on.
    pub(super) async fn end(&mut self, last: FileInfo) {
        let node = &mut self.node;
        (node.size, node.attrs.mtime, node.ctime) = (last.size, last.mtime, last.ctime);
        if let Some(rescue) = self.rescue.take() {
            rescue.abort();
            // It must be over before its staged file is thrown away. How it ended says nothing.
            let _ = rescue.await;
        }
        self.hold = None;
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(rescue) = &self.rescue {
            rescue.abort();
        }
    }
}

impl Fs {
    /// A file lost a name, perhaps its last one. `state` is locked since before the name went, so that an open
    /// at the same time either came first and shares the content, or comes later and finds nothing.
    pub(super) async fn file_removed(self: &Arc<Self>, inode: &InodeRef, state: &mut State, gone: Unlinked) {
        if gone.removed.node.ino != inode.ino() {
            // The name was given to another node while the lock was taken: that one is not open.
            tracing::warn!(locked = %inode.ino(), removed = %gone.removed.node.ino, "a name changed hands while it was removed");
            return;
        }
        if gone.removed.links_left > 0 {
            return;
        }
        self.keep_nameless(inode.clone());
        let Removed { node, xattrs, .. } = gone.removed;
        let mut orphan = Orphan { node, xattrs, hold: gone.hold, rescue: None };
        if state.handles == 0 {
            state.orphan = Some(orphan);
            self.let_go(inode, state).await;
            return;
        }
        match state.content {
            ContentState::Clean(_) => {
                orphan.rescue = Some(tokio::spawn(rescue(Arc::clone(self), inode.clone())));
            }
            // All of it is here: the stores may delete theirs.
            ContentState::Staged(_) | ContentState::Idle => orphan.hold = None,
        }
        state.orphan = Some(orphan);
    }

    /// A directory was removed: whoever has it open, or is in it, still sees what it was, without entries.
    pub(super) async fn directory_removed(&self, removed: Removed) {
        let Removed { node, xattrs, .. } = removed;
        let inode = self.inodes.enter(node.ino);
        inode.state.write().await.orphan = Some(Orphan { node, xattrs, hold: None, rescue: None });
        self.keep_nameless(inode);
    }

    fn keep_nameless(&self, inode: InodeRef) {
        let oldest = self.nameless.lock().push(inode.ino(), inode);
        // Without the lock: the last reference throws a staged file away.
        drop(oldest);
    }

    /// The kernel knows a node no longer: one without a name that nobody has open is gone now.
    pub fn forget(&self, ino: Ino) {
        let known = self.nameless.lock().pop(&ino);
        drop(known);
    }
}

/// Brings the content of an open file without a name into a local file, then lets the stores delete it.
async fn rescue(fs: Arc<Fs>, inode: InodeRef) {
    match fs.make_staged(&inode, u64::MAX, AtLimit::Refuse).await {
        Ok(_lease) => {
            if let Some(orphan) = &mut inode.state.write().await.orphan {
                orphan.hold = None;
            }
        }
        Err(FsError::BadHandle) => {}
        Err(error) => {
            tracing::warn!(ino = %inode.ino(), %error, "the content of a removed file that is still open stays on the stores");
        }
    }
}
