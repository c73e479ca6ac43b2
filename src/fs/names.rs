//! Names: looked up, made, removed. Each change is one transaction of the ledger, so directories need no
//! lock here; a file whose name goes is locked, so that a concurrent open is either before or after.

use std::sync::Arc;

use super::attrs::FileInfo;
use super::handles::HandleId;
use super::{Caller, Fs, FsError, FsResult};
use crate::bridge::BridgeErrorKind;
use crate::ledger::{NewNode, Node};
use crate::object::{Attrs, Ino, Kind};

/// New entries of a directory with this bit get its group; new directories also the bit.
const SETGID: u32 = 0o2000;

/// A file that was made and is open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedFile {
    /// Its attributes.
    pub info: FileInfo,
    /// Its first handle.
    pub handle: HandleId,
}

impl Fs {
    /// The node under a name; `None` is a positive absence.
    pub async fn lookup(&self, parent: Ino, name: &str) -> FsResult<Option<FileInfo>> {
        loop {
            let before = self.inodes.departures();
            let Some(node) = self.ask(self.bridge.lookup(parent, name)).await? else { return Ok(None) };
            // A node that has gone since may have been replaced: the name itself was there all the while.
            if let Some(info) = self.still_there(&node, before).await? {
                return Ok(Some(info));
            }
        }
    }

    /// Makes a file and opens it. Its content is committed, even if nothing is ever written, when it is
    /// flushed or released for the first time.
    pub async fn create(&self, parent: Ino, name: &str, mode: u32, caller: Caller) -> FsResult<CreatedFile> {
        let node = self.make(parent, name, Kind::File, mode, None, caller).await?;
        let lease = match self.bridge.stage_empty(node.ino) {
            Ok(lease) => lease,
            Err(error) => {
                self.take_back(parent, name).await;
                return Err(error.into());
            }
        };
        let handle = self.open_new(&node, lease).await;
        Ok(CreatedFile { info: FileInfo::of(&node), handle })
    }

    /// A name without content to write to would be a file that no close ever completes.
    async fn take_back(&self, parent: Ino, name: &str) {
        let (bridge, name) = (Arc::clone(&self.bridge), name.to_owned());
        let removal = self.carry_out(async move { bridge.unlink(parent, &name, false).await });
        if let Err(error) = removal.await {
            tracing::error!(%parent, %error, "a file that could not be opened after it was made is left without content");
        }
    }

    /// Makes a file without opening it, or a pipe, socket or device node.
    pub async fn mknod(
        self: &Arc<Self>,
        parent: Ino,
        name: &str,
        kind: Kind,
        mode: u32,
        caller: Caller,
    ) -> FsResult<FileInfo> {
        if kind.is_fixed() {
            return Ok(FileInfo::of(&self.make(parent, name, kind, mode, None, caller).await?));
        }
        let created = self.create(parent, name, mode, caller).await?;
        let flushed = self.flush(created.handle).await;
        self.release(created.handle).await?;
        flushed?;
        self.getattr(created.info.ino).await
    }

    /// Makes a directory.
    pub async fn mkdir(&self, parent: Ino, name: &str, mode: u32, caller: Caller) -> FsResult<FileInfo> {
        Ok(FileInfo::of(&self.make(parent, name, Kind::Directory, mode, None, caller).await?))
    }

    /// Makes a symbolic link to `target`, which need not exist and may be any bytes.
    pub async fn symlink(
        &self,
        parent: Ino,
        name: &str,
        target: &[u8],
        caller: Caller,
    ) -> FsResult<FileInfo> {
        let node = self.make(parent, name, Kind::Symlink, 0o777, Some(target.into()), caller).await?;
        Ok(FileInfo::of(&node))
    }

    /// Where a symbolic link points.
    pub async fn readlink(&self, ino: Ino) -> FsResult<Box<[u8]>> {
        let node = match self.node(ino).await {
            Ok(node) => {
                self.note_use(&node).await;
                node
            }
            Err(gone) => self.in_orphan(ino, |orphan| orphan.node.clone()).await.ok_or(gone)?,
        };
        node.target.ok_or(FsError::Invalid("not a symbolic link"))
    }

    /// Gives a node that is no directory a further name.
    pub async fn link(self: &Arc<Self>, ino: Ino, parent: Ino, name: &str) -> FsResult<FileInfo> {
        let (fs, name) = (Arc::clone(self), name.to_owned());
        let linking = async move {
            let to = fs.bridge.prepare_link(ino, parent, &name).await?;
            let inode = fs.inodes.enter(ino);
            // Its last name does not go meanwhile. Who uses it waits as long: for no store.
            let state = inode.state.write().await;
            if state.orphan.is_some() {
                return Err(FsError::not_found("its last name is gone"));
            }
            fs.bridge.link(ino, to).await?;
            inode.quiet_until.end();
            drop(state);
            fs.getattr(ino).await
        };
        self.carry_out(linking).await
    }

    async fn make(
        &self,
        parent: Ino,
        name: &str,
        kind: Kind,
        mode: u32,
        target: Option<Box<[u8]>>,
        caller: Caller,
    ) -> FsResult<Node> {
        let directory = self.node(parent).await?;
        if directory.kind != Kind::Directory {
            return Err(FsError::bridge(BridgeErrorKind::NotADirectory, "the parent is no directory"));
        }
        let now = self.now();
        let (gid, mode) = inherit(&directory.attrs, kind, mode & 0o7777, caller.gid);
        let attrs = Attrs { mode, uid: caller.uid, gid, mtime: now };
        let node = NewNode { kind, attrs, now, target };
        let (bridge, name) = (Arc::clone(&self.bridge), name.to_owned());
        self.carry_out(async move { bridge.create(parent, &name, node).await }).await
    }

    /// Removes a file or symbolic link. Who has it open goes on with its content until the last close.
    pub async fn unlink(self: &Arc<Self>, parent: Ino, name: &str) -> FsResult<()> {
        let (fs, name) = (Arc::clone(self), name.to_owned());
        self.carry_out(async move { fs.unlink_locked(parent, &name).await }).await
    }

    async fn unlink_locked(self: &Arc<Self>, parent: Ino, name: &str) -> FsResult<()> {
        let node = self.named(parent, name).await?;
        if node.kind == Kind::Directory {
            return Err(FsError::bridge(BridgeErrorKind::IsADirectory, "it is a directory"));
        }
        let inode = self.inodes.enter(node.ino);
        let mut state = inode.state.write().await;
        let gone = self.bridge.unlink(parent, name, state.handles > 0).await?;
        inode.quiet_until.end();
        self.file_removed(&inode, &mut state, gone);
        if state.handles == 0 {
            self.let_go(&inode, &mut state).await;
        }
        Ok(())
    }

    /// Removes an empty directory.
    pub async fn rmdir(self: &Arc<Self>, parent: Ino, name: &str) -> FsResult<()> {
        let (fs, name) = (Arc::clone(self), name.to_owned());
        let removal = async move {
            let removed = fs.bridge.rmdir(parent, &name).await?;
            fs.directory_removed(removed).await;
            Ok::<(), FsError>(())
        };
        self.carry_out(removal).await
    }

    /// The node under a name that must be there.
    pub(super) async fn named(&self, parent: Ino, name: &str) -> FsResult<Node> {
        let node = self.bridge.lookup(parent, name).await?;
        node.ok_or_else(|| FsError::not_found(format!("`{name}` is not there")))
    }
}

/// Group and mode of a new entry.
fn inherit(directory: &Attrs, kind: Kind, mode: u32, gid: u32) -> (u32, u32) {
    if directory.mode & SETGID == 0 {
        return (gid, mode);
    }
    let bit = if kind == Kind::Directory { SETGID } else { 0 };
    (directory.gid, mode | bit)
}

#[cfg(test)]
mod tests {
    use super::inherit;
    use crate::object::{Attrs, Kind};

    #[test]
    fn a_setgid_directory_passes_its_group_on_and_the_bit_only_to_directories() {
        let plain = Attrs { mode: 0o755, uid: 1, gid: 50, mtime: 0 };
        let setgid = Attrs { mode: 0o2755, ..plain };
        assert_eq!(inherit(&plain, Kind::Directory, 0o700, 7), (7, 0o700));
        assert_eq!(inherit(&setgid, Kind::Directory, 0o700, 7), (50, 0o2700));
        assert_eq!(inherit(&setgid, Kind::File, 0o640, 7), (50, 0o640));
        assert_eq!(inherit(&setgid, Kind::Symlink, 0o777, 7), (50, 0o777));
    }
}
