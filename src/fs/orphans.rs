//! Files and directories without a name that are still open, or that the kernel still knows: by a descriptor that
//! opens nothing (`O_PATH`), or as somebody's working directory. Those have attributes and no content.
//!
//! Whatever is removed through the kernel is known to it, and it says when it forgets it. If it does so too early
//! (it may tell of a part of its references), attributes are gone early, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::attrs::FileInfo;
use super::inodes::{ContentState, InodeRef, State};
use super::{Fs, FsError};
use crate::bridge::{AtLimit, BridgeErrorKind, Hold, Unlinked};
use crate::clock::{sleep, timeout};
use crate::ledger::{Node, Removed};
use crate::object::{Ino, Kind, Xattrs};

/// How long the content of a replaced file stays for who was about to open it, unless the kernel says earlier that there
/// is nobody.
const OPENING_MAX: Duration = Duration::from_secs(1);

/// The first pause before the content of a removed file is asked for again; doubles with each failure.
const RESCUE_AGAIN_FIRST: Duration = Duration::from_secs(1);
/// The longest one.
const RESCUE_AGAIN_MAX: Duration = Duration::from_secs(60);

/// What is left of a node that was removed.
#[derive(Debug)]
pub(super) struct Orphan {
    /// The node as it was, with the changes since.
    pub(super) node: Node,
    /// Its extended attributes, likewise.
    pub(super) xattrs: Xattrs,
    /// Its last name was given to another node, so that it is not missing.
    is_replaced: bool,
    /// Keeps the stores from deleting the content that is still read from them.
    hold: Option<Hold>,
    /// Brings that content here.
    rescue: Option<JoinHandle<()>>,
}

impl Orphan {
    fn new(removed: Removed, hold: Option<Hold>) -> Orphan {
        let Removed { node, xattrs, .. } = removed;
        Orphan { node, xattrs, is_replaced: false, hold, rescue: None }
    }

    /// Why it cannot be opened once its content is gone. Of what was replaced the kernel looks up the name again.
    pub(super) fn without_content(&self) -> FsError {
        let kind = if self.is_replaced { BridgeErrorKind::Stale } else { BridgeErrorKind::NotFound };
        FsError::bridge(kind, "its content went with its last name")
    }

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
    pub(super) fn file_removed(self: &Arc<Self>, inode: &InodeRef, state: &mut State, gone: Unlinked) {
        if gone.removed.node.ino != inode.ino() {
            // The name was given to another node while the lock was taken.
            let removed = gone.removed.node.ino;
            tracing::warn!(locked = %inode.ino(), %removed, "a name changed hands while it was removed");
            if !self.inodes.contains(removed) {
                self.bridge.released(removed);
            }
            return;
        }
        if gone.removed.links_left > 0 {
            return;
        }
        self.keep_nameless(inode.clone());
        let mut orphan = Orphan::new(gone.removed, gone.hold);
        if !matches!(state.content, ContentState::Clean(_)) {
            // All of it is here: the stores may delete theirs.
            orphan.hold = None;
        }
        state.orphan = Some(orphan);
        if state.handles > 0 {
            self.rescue_if_nameless(inode, state);
        }
    }

    /// Somebody has a file open that has no name: its content is brought here.
    pub(super) fn rescue_if_nameless(self: &Arc<Self>, inode: &InodeRef, state: &mut State) {
        if let (Some(orphan), ContentState::Clean(_)) = (&mut state.orphan, &state.content)
            && orphan.rescue.is_none()
        {
            orphan.rescue = Some(tokio::spawn(rescue(Arc::clone(self), inode.clone())));
        }
    }

    /// A file is to be replaced, and its `state` stays locked until it is. Who has found it under its name and not
    /// opened it yet gets it or the new one, so its content stays for them. A file of which that cannot be had now is
    /// replaced all the same: then the kernel looks again.
    pub(super) async fn keep_for_who_opens(&self, inode: &InodeRef, target: &Node, state: &mut State) {
        if target.kind == Kind::File && matches!(state.content, ContentState::Idle) {
            state.content = self.pin_as_known(inode).await.unwrap_or(ContentState::Idle);
        }
    }

    /// It was replaced, or could not be.
    pub(super) async fn replaced(self: &Arc<Self>, inode: &InodeRef, state: &mut State) {
        if let Some(orphan) = &mut state.orphan {
            orphan.is_replaced = true;
        }
        match (&state.orphan, &state.content) {
            _ if state.handles > 0 => {}
            (Some(_), ContentState::Clean(_) | ContentState::Staged(_)) => {
                drop(tokio::spawn(let_go_when_forgotten(Arc::clone(self), inode.clone())));
            }
            (Some(_) | None, _) => self.let_go(inode, state).await,
        }
    }

    /// A directory was removed: whoever has it open, or is in it, still sees what it was, without entries.
    pub(super) async fn directory_removed(&self, removed: Removed) {
        let inode = self.inodes.enter(removed.node.ino);
        inode.state.write().await.orphan = Some(Orphan::new(removed, None));
        self.keep_nameless(inode);
    }

    /// Looks at what has lost its name since somebody found it.
    pub(super) async fn in_orphan<T>(&self, ino: Ino, look: impl Fn(&Orphan) -> T) -> Option<T> {
        let inode = self.inodes.find(ino)?;
        let state = inode.state.read().await;
        state.orphan.as_ref().map(look)
    }

    fn keep_nameless(&self, inode: InodeRef) {
        let oldest = self.nameless.lock().push(inode.ino(), inode);
        // Without the lock: the last reference throws a staged file away.
        drop(oldest);
    }

    /// The kernel knows a node no longer: one without a name that nobody has open is gone now.
    pub fn forget(&self, ino: Ino) {
        let known = self.nameless.lock().pop(&ino);
        if let Some(inode) = known {
            inode.forgotten.notify_one();
        }
    }
}

/// Nobody is about to open a replaced file any more.
async fn let_go_when_forgotten(fs: Arc<Fs>, inode: InodeRef) {
    // Forgotten or not: who opens it later is told to look again.
    let _ = timeout(OPENING_MAX, inode.forgotten.notified()).await;
    let mut state = inode.state.write().await;
    if state.handles == 0 {
        fs.let_go(&inode, &mut state).await;
    }
}

/// Brings the content of an open file without a name into a local file, then lets the stores delete it, or put
/// something else there. Tried until it is here or nobody has it open.
async fn rescue(fs: Arc<Fs>, inode: InodeRef) {
    let mut pause = RESCUE_AGAIN_FIRST;
    loop {
        match fs.make_staged(&inode, u64::MAX, AtLimit::Refuse).await {
            Ok(_lease) => break,
            Err(FsError::BadHandle) => return,
            Err(error) => {
                tracing::warn!(ino = %inode.ino(), %error, "the content of a removed file that is still open stays on the stores for now");
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RESCUE_AGAIN_MAX);
    }
    if let Some(orphan) = &mut inode.state.write().await.orphan {
        orphan.hold = None;
    }
}
