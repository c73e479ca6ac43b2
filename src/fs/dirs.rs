//! Directories as streams. A position is that of a name in the ledger, so it stays right whatever is added,
//! removed or replaced meanwhile, and nothing is kept between two calls but where the stream ends.

use parking_lot::Mutex;

use super::attrs::FileInfo;
use super::handles::{DirHandle, HandleId};
use super::{Fs, FsError, FsResult};
use crate::bridge::BridgeErrorKind;
use crate::ledger::Node;
use crate::object::{Ino, Kind, Position};

/// The position after `.`.
const AFTER_SELF: u64 = 1;
/// The position after `..`; that after a name is the ledger's and this.
const AFTER_PARENT: u64 = 2;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Box<str>,
    /// The node.
    pub info: FileInfo,
    /// Where the stream goes on after it.
    pub next: u64,
}

impl Fs {
    /// Opens a directory.
    pub async fn opendir(&self, ino: Ino) -> FsResult<HandleId> {
        let inode = self.inodes.enter(ino);
        let mut state = inode.state.write().await;
        if state.orphan.is_none() && self.node(ino).await?.kind != Kind::Directory {
            return Err(FsError::bridge(BridgeErrorKind::NotADirectory, "not a directory"));
        }
        state.handles += 1;
        drop(state);
        Ok(self.dirs.insert(DirHandle { inode, end: Mutex::default() }))
    }

    /// Closes a directory.
    pub async fn releasedir(&self, handle: HandleId) -> FsResult<()> {
        let dir = self.dirs.remove(handle)?;
        let mut state = dir.inode.state.write().await;
        state.handles = state.handles.saturating_sub(1);
        Ok(())
    }

    /// Up to `limit` entries from `position` (0 is the beginning) on; empty is the end. `.` and `..` come
    /// first, alone.
    pub async fn readdir(&self, handle: HandleId, position: u64, limit: usize) -> FsResult<Vec<DirEntry>> {
        let dir = self.dirs.get(handle)?;
        let ino = dir.inode.ino();
        let orphan = dir.inode.state.read().await.orphan.as_ref().map(|orphan| orphan.node.clone());
        if position == 0 {
            *dir.end.lock() = None;
        }
        if position < AFTER_PARENT {
            return self.dots(ino, orphan, position).await;
        }
        if orphan.is_some() {
            return Ok(Vec::new());
        }
        let mut after = Position(position - AFTER_PARENT);
        loop {
            let before = self.inodes.departures();
            let end = self.end_of(&dir)?.unwrap_or(Position(u64::MAX));
            if after >= end {
                return Ok(Vec::new());
            }
            let nodes = self.ask(self.bridge.list(ino, after, limit)).await?;
            let Some(last) = nodes.last().map(|node| node.position) else { return Ok(Vec::new()) };
            let mut entries = Vec::with_capacity(nodes.len());
            for node in nodes.into_iter().take_while(|node| node.position <= end) {
                entries.extend(self.entry(node, before).await?);
            }
            // Nothing would be the end; but all of these have gone meanwhile.
            if !entries.is_empty() {
                return Ok(entries);
            }
            after = last;
        }
    }

    /// The last position of a stream: of the names that are there when it begins, or later when all are known.
    fn end_of(&self, dir: &DirHandle) -> FsResult<Option<Position>> {
        let mut end = dir.end.lock();
        if end.is_none() {
            *end = self.bridge.last_position(dir.inode.ino())?;
        }
        Ok(*end)
    }

    /// What stands at the position of a node that was just listed: that node, or the one that has replaced it.
    async fn entry(&self, mut node: Node, before: u64) -> FsResult<Option<DirEntry>> {
        loop {
            if let Some(info) = self.still_there(&node, before).await? {
                let next = node.position.0 + AFTER_PARENT;
                return Ok(Some(DirEntry { name: node.name, info, next }));
            }
            node = match self.ask(self.bridge.lookup(node.parent, &node.name)).await? {
                Some(heir) if heir.position == node.position => heir,
                Some(_) | None => return Ok(None),
            };
        }
    }

    /// The live attributes, or nothing if it was removed since it was read from the ledger.
    pub(super) async fn still_there(&self, node: &Node, before: u64) -> FsResult<Option<FileInfo>> {
        match self.live(node, before).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.bridge_kind() == Some(BridgeErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn dots(&self, ino: Ino, orphan: Option<Node>, position: u64) -> FsResult<Vec<DirEntry>> {
        let node = match orphan {
            Some(node) => node,
            None => {
                let node = self.node(ino).await?;
                if position == 0 {
                    self.note_use(&node).await;
                }
                node
            }
        };
        let parent = match self.node(node.parent).await {
            Ok(parent) => FileInfo::of(&parent),
            Err(_) => FileInfo::of(&node),
        };
        let here = DirEntry { name: ".".into(), info: FileInfo::of(&node), next: AFTER_SELF };
        let above = DirEntry { name: "..".into(), info: parent, next: AFTER_PARENT };
        Ok([here, above].into_iter().filter(|entry| entry.next > position).collect())
    }
}
