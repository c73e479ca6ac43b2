//! Attributes: the ledger's, but for open files that are being changed.

use std::sync::Arc;

use super::handles::HandleId;
use super::inodes::{ContentState, State};
use super::open::{Access, Opened, Pages, Truncate};
use super::orphans::Orphan;
use super::{Caller, Fs, FsError, FsResult};
use crate::cache::Lease;
use crate::ledger::{AttrChange, Node, Origin};
use crate::object::{CAPABILITY, Ino, Kind, NanoTime, Privileges};

/// The unit of `st_blocks`, in bytes.
const BLOCK_UNIT: u64 = 512;

/// What `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, without the kind.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Disk space, in units of 512 bytes: of a file that is being changed what its local file takes, else
    /// what its bytes need, because that is what a store keeps of it.
    pub blocks: u64,
    /// Last access, by the rule of `relatime`.
    pub atime: NanoTime,
    /// Last change of content.
    pub mtime: NanoTime,
    /// Last change of content or attributes.
    pub ctime: NanoTime,
    /// Names: 0 once it is removed. Of a directory, the directories in it and 2; or 1, which means "not
    /// counted", while not all of them are known.
    pub nlink: u32,
    /// It may be something else, or nothing, as soon as a store answers again: not to be believed without asking.
    pub is_unproven: bool,
}

impl FileInfo {
    /// As the ledger has it, and a directory as if nothing stood in it.
    pub(super) fn of(node: &Node) -> FileInfo {
        let nlink = if node.kind.is_directory() { 2 } else { node.links };
        FileInfo {
            ino: node.ino,
            kind: node.kind,
            mode: node.attrs.mode,
            uid: node.attrs.uid,
            gid: node.attrs.gid,
            size: node.size,
            blocks: blocks_of(node.kind, node.size),
            atime: node.atime,
            mtime: node.attrs.mtime,
            ctime: node.ctime,
            nlink,
            is_unproven: node.origin == Origin::Unproven,
        }
    }
}

/// A change of attributes; `None` leaves a field. "Now" has been resolved by the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttrs {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<NanoTime>,
    /// Last change of content.
    pub mtime: Option<NanoTime>,
    /// Set-ID bits and capabilities end with this change, which is this caller's; `None`: they stay.
    pub ends_privileges: Option<Caller>,
}

impl SetAttrs {
    /// Whether it changes nothing but what it ends.
    pub fn is_nothing_else(self) -> bool {
        SetAttrs { ends_privileges: None, ..self } == SetAttrs::default()
    }

    fn without_size(self, privileges: Privileges, now: NanoTime) -> Option<AttrChange> {
        let SetAttrs { mode, uid, gid, size: _, atime, mtime, ends_privileges: _ } = self;
        let mode = mode.map(|m| m & 0o7777);
        let change = AttrChange { mode, uid, gid, atime, mtime, privileges, ctime: now };
        let nothing = AttrChange { ctime: now, ..AttrChange::default() };
        (change != nothing).then_some(change)
    }
}

impl Fs {
    /// What `stat` shows of a node. A file that is being changed shows its live length and times; one without
    /// a name shows what it was, as long as it is open or known to the kernel.
    pub async fn getattr(&self, ino: Ino) -> FsResult<FileInfo> {
        let inode = self.inodes.enter(ino);
        // Held until both are read: a file that is committed and closed in between would give the
        // ledger's old length without the live one.
        let state = inode.state.read().await;
        let node = match &state.orphan {
            Some(orphan) => orphan.node.clone(),
            None => self.node_or_pinned(ino, &state.content).await?,
        };
        let mut info = overlay(&node, &state);
        if node.kind.is_directory() && state.orphan.is_none() {
            info.nlink = self.bridge.directory_links(&node)?;
        }
        Ok(info)
    }

    /// The attributes of a node that was just read from the ledger while [`InodeTable::departures`] was
    /// `before`.
    ///
    /// [`InodeTable::departures`]: super::inodes::InodeTable::departures
    pub(super) async fn live(&self, node: &Node, before: u64) -> FsResult<FileInfo> {
        if node.kind.is_directory() {
            return Ok(FileInfo { nlink: self.bridge.directory_links(node)?, ..FileInfo::of(node) });
        }
        if node.kind.is_fixed() {
            return Ok(FileInfo::of(node));
        }
        if self.inodes.contains(node.ino) || self.inodes.departures() != before {
            return self.getattr(node.ino).await;
        }
        Ok(FileInfo::of(node))
    }

    /// A file that turned out not to be there, without anybody removing it, is for who has it open what it was then.
    async fn node_or_pinned(&self, ino: Ino, content: &ContentState) -> FsResult<Node> {
        match (self.ask(self.bridge.node(ino)).await?, content) {
            (Some(node), _) => Ok(node),
            (None, ContentState::Clean(content)) => Ok((*content.node).clone()),
            (None, ContentState::Idle | ContentState::Staged(_)) => Err(FsError::not_found("it is gone")),
        }
    }

    pub(super) async fn node(&self, ino: Ino) -> FsResult<Node> {
        let node = self.ask(self.bridge.node(ino)).await?;
        node.ok_or_else(|| FsError::not_found("it is gone"))
    }

    /// Changes attributes -> what `stat` shows then. A new length without a handle is committed and
    /// acknowledged before this returns, as a close would; with a handle, or while somebody has the file open
    /// for writing, that is left to the close.
    pub async fn setattr(
        self: &Arc<Self>,
        ino: Ino,
        handle: Option<HandleId>,
        change: SetAttrs,
    ) -> FsResult<FileInfo> {
        let mut ended = match change.ends_privileges {
            Some(caller) if change.is_nothing_else() => self.ended_alone(ino, caller).await?,
            Some(caller) => self.ended_by(ino, caller).await?,
            None => Privileges::Keep,
        };
        if let Some(size) = change.size {
            // Before the content changes: else a failure in between would leave them with the new one.
            self.end(ino, std::mem::take(&mut ended)).await?;
            match handle {
                Some(handle) => self.set_size_through(ino, handle, size).await?,
                None => self.set_size_alone(ino, size).await?,
            }
        }
        // `chown(-1, -1)` and a write by who is not the owner come as nothing: both set the time of change.
        let is_empty = change.ends_privileges.is_some() && change.is_nothing_else();
        let now = self.now();
        let touch = is_empty.then(|| AttrChange { ctime: now, ..AttrChange::default() });
        if let Some(attrs) = change.without_size(ended, now).or(touch) {
            self.apply(ino, attrs).await?;
        }
        self.getattr(ino).await
    }

    async fn set_size_through(&self, ino: Ino, handle: HandleId, size: u64) -> FsResult<()> {
        let file = self.files.of(handle, ino)?;
        file.writable()?;
        let done = self.set_size(&file.inode, size).await;
        file.debt.add();
        done
    }

    async fn set_size_alone(self: &Arc<Self>, ino: Ino, size: u64) -> FsResult<()> {
        if self.getattr(ino).await?.kind != Kind::File {
            return Err(FsError::Invalid("only a file has a length that can be set"));
        }
        let truncate = if size == 0 { Truncate::ToZero } else { Truncate::Keep };
        let Opened { handle, pages, .. } = self.open(ino, Access::Write, truncate).await?;
        let are_outdated = matches!(pages, Pages::Drop(_));
        drop(pages);
        let done = self.set_size_through_own(handle, size).await;
        if are_outdated {
            // The kernel writes nothing back while the length changes, so they go with the next open.
            self.pages_are_lost(ino);
        }
        done
    }

    /// Through a handle that was opened for nothing else, and is closed.
    async fn set_size_through_own(self: &Arc<Self>, handle: HandleId, size: u64) -> FsResult<()> {
        let file = self.files.get(handle)?;
        let done = self.set_size(&file.inode, size).await;
        // An `open` with O_TRUNC comes as an open and then this: its close commits what was written by then.
        let others_write = file.inode.state.read().await.writers > 1;
        if done.is_err() || others_write {
            self.files.remove(handle)?;
            self.close(&file.inode, Access::Write).await;
            return done;
        }
        let done = self.make_safe(&file.inode).await;
        drop(file);
        self.release(handle).await?;
        done
    }

    /// Attributes go to the ledger at once, whether or not the content is being changed.
    pub(super) async fn apply(&self, ino: Ino, change: AttrChange) -> FsResult<()> {
        let Some(inode) = self.inodes.find(ino) else {
            return self.change_in_ledger(ino, None, change).await;
        };
        // A commit under way carries the time from before: it must not end after this. What is only being brought here
        // is not committed, and may take long.
        let alone = match change.mtime {
            Some(_) if inode.lease().await.is_some() => Some(inode.changes.lock().await),
            Some(_) | None => None,
        };
        let lease = inode.lease().await;
        if let Some(orphan) = &mut inode.state.write().await.orphan {
            apply_to(orphan, &change);
            inode.privileges.changed();
            if let Some((lease, mtime)) = lease.zip(change.mtime) {
                lease.set_mtime(mtime);
            }
        } else {
            self.change_in_ledger(ino, lease, change).await?;
        }
        inode.quiet_until.end();
        drop(alone);
        Ok(())
    }

    /// A time that is set is the staged file's first: whatever copy of it is committed after the ledger has the
    /// time must not bring back the one before.
    async fn change_in_ledger(&self, ino: Ino, lease: Option<Lease>, change: AttrChange) -> FsResult<()> {
        let (bridge, inodes) = (Arc::clone(&self.bridge), Arc::clone(&self.inodes));
        let work = async move {
            let live = lease.zip(change.mtime).map(|(lease, mtime)| (lease.set_mtime(mtime), lease, mtime));
            let done = bridge.set_attrs(ino, change).await;
            if let Some((before, lease, mtime)) = live.filter(|_| done.is_err()) {
                lease.unset_mtime(mtime, before);
            }
            inodes.privileges_changed(ino);
            inodes.ctime_changed(ino);
            done
        };
        self.carry_out(work).await?;
        Ok(())
    }
}

fn apply_to(orphan: &mut Orphan, change: &AttrChange) {
    let AttrChange { mode, uid, gid, atime, mtime, privileges, ctime } = *change;
    let node = &mut orphan.node;
    let privileges = if node.kind.is_directory() { Privileges::Keep } else { privileges };
    if privileges != Privileges::Keep {
        // That it has none is as good.
        let _ = orphan.xattrs.remove(CAPABILITY);
    }
    let attrs = &mut node.attrs;
    attrs.mode = privileges.left_of(mode.unwrap_or(attrs.mode));
    attrs.uid = uid.unwrap_or(attrs.uid);
    attrs.gid = gid.unwrap_or(attrs.gid);
    attrs.mtime = mtime.unwrap_or(attrs.mtime);
    node.atime = atime.unwrap_or(node.atime);
    node.ctime = ctime;
}

/// A link's target is kept in the ledger, beside its other attributes.
fn blocks_of(kind: Kind, size: u64) -> u64 {
    if kind == Kind::Symlink { 0 } else { size.div_ceil(BLOCK_UNIT) }
}

/// While a file is staged, its local file is the truth about length and times.
pub(super) fn overlay(node: &Node, state: &State) -> FileInfo {
    let mut info = FileInfo::of(node);
    if state.orphan.is_some() {
        info.nlink = 0;
    }
    match &state.content {
        ContentState::Staged(lease) => {
            let live = lease.times();
            info.size = lease.len();
            info.blocks = lease.allocated().div_ceil(BLOCK_UNIT);
            info.mtime = live.mtime.unwrap_or(info.mtime);
            info.ctime = live.ctime.map_or(info.ctime, |ctime| ctime.max(info.ctime));
        }
        ContentState::Clean(content) => {
            info.size = content.size();
            info.blocks = blocks_of(info.kind, info.size);
        }
        ContentState::Idle => {}
    }
    info
}
