//! Rename, in its three modes.

use std::sync::Arc;

use super::inodes::ContentState;
use super::{Fs, FsError, FsResult};
use crate::bridge::BridgeErrorKind;
use crate::ledger::{Node, RenameMode};
use crate::object::{Ino, Kind};

/// A name in a directory, owned by the rename that runs to its end on its own.
#[derive(Debug, Clone)]
struct Place {
    parent: Ino,
    name: String,
}

impl Place {
    fn of((parent, name): (Ino, &str)) -> Place {
        Place { parent, name: name.to_owned() }
    }

    fn entry(&self) -> (Ino, &str) {
        (self.parent, &self.name)
    }
}

impl Fs {
    /// Renames a file or a directory with all that is in it. Who has a replaced file open goes on with
    /// its content until the last close.
    pub async fn rename(
        self: &Arc<Self>,
        from: (Ino, &str),
        to: (Ino, &str),
        mode: RenameMode,
    ) -> FsResult<()> {
        let (fs, from, to) = (Arc::clone(self), Place::of(from), Place::of(to));
        self.carry_out(async move { fs.rename_locked(&from, &to, mode).await }).await
    }

    async fn rename_locked(self: &Arc<Self>, from: &Place, to: &Place, mode: RenameMode) -> FsResult<()> {
        let source = self.named(from.parent, &from.name).await?;
        let target = self.bridge.lookup(to.parent, &to.name).await?;
        let changed = [Some(source.ino), target.as_ref().map(|target| target.ino)];
        self.rename_found(from, to, mode, (source, target)).await?;
        for ino in changed.into_iter().flatten() {
            self.inodes.ctime_changed(ino);
        }
        Ok(())
    }

    async fn rename_found(
        self: &Arc<Self>,
        from: &Place,
        to: &Place,
        mode: RenameMode,
        (source, target): (Node, Option<Node>),
    ) -> FsResult<()> {
        match (mode, target) {
            (RenameMode::Replace, Some(target)) if target.ino == source.ino => Ok(()),
            (RenameMode::Replace, Some(target)) => {
                fits(&source, &target)?;
                self.replace(from, to, target).await
            }
            (RenameMode::NoReplace, Some(_)) => {
                Err(FsError::bridge(BridgeErrorKind::Exists, format!("`{}` is there already", to.name)))
            }
            (RenameMode::Exchange, None) => Err(FsError::not_found(format!("`{}` is not there", to.name))),
            (RenameMode::Replace | RenameMode::NoReplace, None) | (RenameMode::Exchange, Some(_)) => {
                self.bridge.rename(from.entry(), to.entry(), mode, false).await?;
                Ok(())
            }
        }
    }

    async fn replace(self: &Arc<Self>, from: &Place, to: &Place, target: Node) -> FsResult<()> {
        if target.kind == Kind::Directory {
            let done = self.bridge.rename(from.entry(), to.entry(), RenameMode::Replace, false).await?;
            if let Some(gone) = done.replaced {
                self.directory_removed(gone.removed).await;
            }
            return Ok(());
        }
        let inode = self.inodes.enter(target.ino);
        let mut state = inode.state.write().await;
        self.keep_for_who_opens(&inode, &target, &mut state).await;
        let in_use = !matches!(state.content, ContentState::Idle);
        let done = self.bridge.rename(from.entry(), to.entry(), RenameMode::Replace, in_use).await;
        let done = done.map(|done| {
            if let Some(gone) = done.replaced {
                self.file_removed(&inode, &mut state, gone);
            }
        });
        self.replaced(&inode, &mut state).await;
        Ok(done?)
    }
}

/// A directory replaces only a directory, anything else only what is no directory.
fn fits(source: &Node, target: &Node) -> FsResult<()> {
    match (source.kind == Kind::Directory, target.kind == Kind::Directory) {
        (true, false) => Err(FsError::bridge(BridgeErrorKind::NotADirectory, "the target is no directory")),
        (false, true) => Err(FsError::bridge(BridgeErrorKind::IsADirectory, "the target is a directory")),
        (true, true) | (false, false) => Ok(()),
    }
}
