//! When content becomes a version: flush, fsync, and the commits that nobody waits for.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::disk::leave_the_kernels_thread;
use super::handles::HandleId;
use super::inodes::{Committed, ContentState, InodeRef};
use super::{Fs, FsError, FsResult};
use crate::bridge::{BridgeErrorKind, ContentTimes};
use crate::cache::{Lease, LiveTimes};
use crate::clock::sleep;
use crate::object::{Ino, Version};

/// The first wait before a commit that nobody waits for is tried again; doubles with each failure.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Fs {
    /// A file descriptor is closed: what was written is committed and acknowledged. Closers that come at
    /// once share one commit, and each of them hears how it ended.
    pub async fn flush(&self, handle: HandleId) -> FsResult<()> {
        let file = self.files.get(handle)?;
        file.inode.check_whole()?;
        if !file.access.writes() {
            return Ok(());
        }
        let debt = file.debt.open();
        if debt.is_none() && !has_changes(&file.inode).await {
            return Ok(());
        }
        self.make_safe(&file.inode).await?;
        file.debt.settle(debt.unwrap_or(0));
        Ok(())
    }

    /// Everything written so far is committed and acknowledged when this returns, also what others wrote
    /// or committed a moment ago; and every change of attributes survives a power failure.
    pub async fn fsync(&self, handle: HandleId) -> FsResult<()> {
        self.fdatasync(handle).await?;
        Ok(self.bridge.sync_namespace().await?)
    }

    /// The same of the content alone.
    pub async fn fdatasync(&self, handle: HandleId) -> FsResult<()> {
        let file = self.files.get(handle)?;
        self.make_safe(&file.inode).await
    }

    /// Every change of names and attributes so far survives a power failure when this returns. Only the local disk is
    /// waited for, as long as it takes.
    pub async fn fsync_dir(&self) -> FsResult<()> {
        Ok(self.bridge.sync_namespace().await?)
    }

    /// Commits what is not committed, then waits for the acknowledgement.
    pub(super) async fn make_safe(&self, inode: &InodeRef) -> FsResult<()> {
        match self.commit_changes(inode).await? {
            Some(version) => Ok(self.bridge.acknowledged(inode.ino(), version).await?),
            None => Ok(()),
        }
    }

    /// Commits the staged file if it differs from the last version -> the version that now stands for
    /// it, or `None` where there is nothing to wait for. A failure leaves it as it is, to be tried again.
    pub(super) async fn commit_changes(&self, inode: &InodeRef) -> FsResult<Option<Version>> {
        if named_lease(inode).await.is_none() {
            // Neither changed nor, without a name, to be committed: who brings content in is not waited for.
            inode.check_whole()?;
            return Ok(None);
        }
        let _alone = inode.changes.lock().await;
        inode.check_whole()?;
        let Some(lease) = named_lease(inode).await else { return Ok(None) };
        if !inode.is_dirty(&lease) {
            return Ok(inode.committed().version);
        }
        leave_the_kernels_thread(lease.len()).await;
        let generation = lease.generation();
        let times = self.times_to_commit(inode, &lease).await?;
        match self.bridge.commit(&lease, times).await {
            Ok(version) => {
                inode.set_committed(Committed { generation: Some(generation), version: Some(version) });
                self.remember(inode.ino(), version);
                Ok(Some(version))
            }
            Err(error) => self.explain_failed_commit(inode, error.into()).await,
        }
    }

    /// A commit makes nothing newer: the times are those of the last change.
    async fn times_to_commit(&self, inode: &InodeRef, lease: &Lease) -> FsResult<ContentTimes> {
        let live = lease.times();
        if let LiveTimes { mtime: Some(mtime), ctime: Some(ctime), .. } = live {
            return Ok(ContentTimes { mtime, ctime });
        }
        let node = self.ask(self.bridge.node(inode.ino())).await?;
        let known = node.as_ref().map(ContentTimes::of);
        let known = known.unwrap_or_else(|| ContentTimes { mtime: self.now(), ctime: self.now() });
        Ok(ContentTimes {
            mtime: live.mtime.unwrap_or(known.mtime),
            ctime: live.ctime.unwrap_or(known.ctime),
        })
    }

    /// A file that lost its name meanwhile has no version to be; a damaged one takes no more writes.
    async fn explain_failed_commit(&self, inode: &InodeRef, error: FsError) -> FsResult<Option<Version>> {
        match error.bridge_kind() {
            Some(BridgeErrorKind::NotFound) if inode.state.read().await.orphan.is_some() => return Ok(None),
            Some(BridgeErrorKind::Damaged) => inode.refuse_writes(),
            Some(_) | None => {}
        }
        Err(error)
    }

    /// A commit failed and nobody is left to be told.
    pub(super) fn note_failed_commit(self: &Arc<Self>, inode: &InodeRef, error: &FsError) {
        tracing::error!(ino = %inode.ino(), %error, "changes of a closed file could not be committed; they are kept and tried again");
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
        self.settle_later(inode, Some(error.to_string()));
    }

    /// Keeps the staged changes of a closed file in view.
    pub(super) fn keep_unsettled(self: &Arc<Self>, inode: &InodeRef) {
        self.settle_later(inode, None);
    }

    /// The only way into the table: whatever is in it is tried again.
    fn settle_later(self: &Arc<Self>, inode: &InodeRef, error: Option<String>) {
        match self.unsettled.lock().entry(inode.ino()) {
            Entry::Occupied(mut known) => known.get_mut().1 = error.unwrap_or_else(|| known.get().1.clone()),
            Entry::Vacant(vacant) => {
                let reason = error.unwrap_or_else(|| "closed before its changes were committed".to_owned());
                vacant.insert((inode.clone(), reason));
                tokio::spawn(Arc::clone(self).settle(inode.ino()));
            }
        }
    }

    pub(super) fn forget_unsettled(&self, ino: Ino) {
        // Dropped outside the lock: the reference takes the table's.
        let gone = self.unsettled.lock().remove(&ino);
        drop(gone);
    }

    /// Goes on trying until the changes of a closed file are committed.
    async fn settle(self: Arc<Self>, ino: Ino) {
        let mut wait = RETRY_FIRST;
        loop {
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            if self.try_settle(ino).await {
                return;
            }
        }
    }

    /// One more try for a closed file -> whether there is nothing left to do.
    pub async fn try_settle(self: &Arc<Self>, ino: Ino) -> bool {
        let Some((inode, _)) = self.unsettled.lock().get(&ino).map(|(i, e)| (i.clone(), e.clone())) else {
            return true;
        };
        match self.commit_changes(&inode).await {
            Ok(_) => {
                self.forget_unsettled(ino);
                let mut state = inode.state.write().await;
                if state.handles == 0 {
                    self.let_go(&inode, &mut state).await;
                }
                true
            }
            Err(error) => {
                // If it was removed meanwhile there is nothing left to commit.
                match self.unsettled.lock().get_mut(&ino) {
                    Some((_, why)) => *why = error.to_string(),
                    None => return true,
                }
                false
            }
        }
    }
}

/// The staged file, unless it has no name any more.
async fn named_lease(inode: &InodeRef) -> Option<Lease> {
    let state = inode.state.read().await;
    match &state.content {
        ContentState::Staged(lease) if state.orphan.is_none() => Some(lease.clone()),
        ContentState::Staged(_) | ContentState::Clean(_) | ContentState::Idle => None,
    }
}

/// Whether something was written that no commit covers.
async fn has_changes(inode: &InodeRef) -> bool {
    inode.lease().await.is_some_and(|lease| inode.is_dirty(&lease))
}
