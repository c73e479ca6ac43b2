//! The step from pinned content to a local file that can be changed.

use super::inodes::{Committed, ContentState, InodeRef, OpenInode};
use super::{Fs, FsError, FsResult, disk};
use crate::bridge::AtLimit;
use crate::cache::Lease;
use crate::object::{Ino, NanoTime, Version};

impl Fs {
    pub(super) fn now(&self) -> NanoTime {
        self.options.clock.now()
    }

    /// What an inode that nobody has open begins with.
    pub(super) async fn pin(&self, inode: &OpenInode) -> FsResult<ContentState> {
        match self.pin_staged(inode).await? {
            Some(staged) => Ok(staged),
            None => Ok(ContentState::Clean(self.ask(self.bridge.open(inode.ino())).await?)),
        }
    }

    /// The same by what is known here: no store is asked.
    pub(super) async fn pin_as_known(&self, inode: &OpenInode) -> FsResult<ContentState> {
        match self.pin_staged(inode).await? {
            Some(staged) => Ok(staged),
            None => Ok(ContentState::Clean(self.bridge.open_as_known(inode.ino())?)),
        }
    }

    async fn pin_staged(&self, inode: &OpenInode) -> FsResult<Option<ContentState>> {
        let Some(lease) = self.bridge.staged(inode.ino())? else { return Ok(None) };
        self.take_over(inode, &lease).await?;
        Ok(Some(ContentState::Staged(lease)))
    }

    /// The same for an open that throws the old content away: it is not even looked at.
    pub(super) async fn pin_empty(&self, inode: &OpenInode) -> FsResult<ContentState> {
        let ino = inode.ino();
        // The commit makes the attributes the mount's: those of an object that was only listed are guesses.
        self.ask(self.bridge.read_attrs(ino)).await?;
        let version = self.committed_version(ino).await?;
        let (lease, is_new) = self.bridge.staged_or_empty(ino)?;
        if is_new {
            inode.set_committed(Committed { generation: None, version: Some(version) });
            inode.touch(&lease, self.now());
        } else {
            self.take_over(inode, &lease).await?;
            inode.touch(&lease, self.now());
            disk::set_len(inode, &lease, 0)?;
        }
        Ok(ContentState::Staged(lease))
    }

    /// A staged file that is there when the inode comes into use is committed as it is: one that is not
    /// would have kept its inode in the table. But a file that was made and never committed has nothing
    /// that it could be equal to.
    async fn take_over(&self, inode: &OpenInode, lease: &Lease) -> FsResult<()> {
        let version = self.committed_version(inode.ino()).await?;
        let generation = (version != Version::UNCOMMITTED).then(|| lease.generation());
        inode.set_committed(Committed { generation, version: Some(version) });
        Ok(())
    }

    async fn committed_version(&self, ino: Ino) -> FsResult<Version> {
        let node = self.ask(self.bridge.node(ino)).await?;
        Ok(node.ok_or_else(|| FsError::not_found("the file is gone"))?.version)
    }

    /// The local file of an open inode, with at least the first `keep` bytes of its content. The first
    /// change brings the content in, once for all who ask; until that is done readers go on with the
    /// pinned version. No deadline: the bridge watches the progress.
    pub(super) async fn make_staged(
        &self,
        inode: &InodeRef,
        keep: u64,
        at_limit: AtLimit,
    ) -> FsResult<Lease> {
        if let Some(lease) = inode.lease().await {
            return Ok(lease);
        }
        let _alone = inode.changes.lock().await;
        let content = match &inode.state.read().await.content {
            ContentState::Staged(lease) => return Ok(lease.clone()),
            ContentState::Clean(content) => content.clone(),
            ContentState::Idle => return Err(FsError::BadHandle),
        };
        let lease = self.bridge.stage_within(&content, keep.min(content.size()), at_limit).await?;
        // What was cut off is a change; what was only brought in is not.
        let generation = (keep >= content.size()).then(|| lease.generation());
        inode.set_committed(Committed { generation, version: Some(content.version()) });
        inode.state.write().await.content = ContentState::Staged(lease.clone());
        Ok(lease)
    }

    /// Cuts the content of an open inode or lengthens it with zeros.
    pub(super) async fn set_size(&self, inode: &InodeRef, size: u64) -> FsResult<()> {
        if i64::try_from(size).is_err() {
            return Err(FsError::TooLarge);
        }
        if size > 0 {
            inode.check_writes()?;
        }
        if size == 0 && inode.check_whole().is_err() {
            return self.begin_anew(inode).await;
        }
        let lease = self.make_staged(inode, size, AtLimit::Refuse).await?;
        inode.touch(&lease, self.now());
        disk::set_len(inode, &lease, size)
    }
}
