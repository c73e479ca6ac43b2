//! Reading and writing open files.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;

use super::handles::{FileHandle, HandleId};
use super::inodes::{ContentState, OpenInode};
use super::{Fs, FsError, FsResult, disk};
use crate::bridge::{AtLimit, Content};
use crate::cache::Lease;

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At this offset in bytes.
    At(u64),
    /// At the end, wherever that is when it is written.
    End,
    /// At this offset, from a mapping: the program that stored it has gone on, and cannot be told.
    Mapped(u64),
}

impl Place {
    fn at_limit(self) -> AtLimit {
        match self {
            Place::At(_) | Place::End => AtLimit::Refuse,
            Place::Mapped(_) => AtLimit::Exceed,
        }
    }
}

/// Where the content is that is read.
pub(super) enum Source {
    /// In this version: a read of it that fails is worth another look if the content is local by then.
    Pinned(Content),
    Local(Lease),
}

pub(super) async fn source_of(inode: &OpenInode) -> FsResult<Source> {
    match &inode.state.read().await.content {
        ContentState::Clean(content) => Ok(Source::Pinned(content.clone())),
        ContentState::Staged(lease) => Ok(Source::Local(lease.clone())),
        ContentState::Idle => Err(FsError::BadHandle),
    }
}

/// A write that is ready to be done: the content is local and there is room. Dropping it does nothing.
#[derive(Debug)]
pub struct Writer<'a> {
    fs: &'a Fs,
    file: Arc<FileHandle>,
    lease: Lease,
    place: Place,
}

impl Writer<'_> {
    /// Writes all of `data` to the local file, on the calling thread.
    pub fn write(self, data: &[u8]) -> FsResult<()> {
        self.file.inode.check_writes()?;
        self.file.change(&self.lease, self.fs.now(), |inode| match self.place {
            Place::At(offset) | Place::Mapped(offset) => disk::write_at(inode, &self.lease, offset, data),
            Place::End => disk::append(inode, &self.lease, data),
        })
    }
}

impl Fs {
    /// Up to `len` bytes from `offset`; fewer only at the end. A read like any other: its time is noted.
    pub async fn read(&self, handle: HandleId, offset: u64, len: usize) -> FsResult<Bytes> {
        let file = self.files.get(handle)?;
        // Side by side: a read that waits for a store does not also wait for the ledger.
        let (bytes, ()) = tokio::join!(self.read_unseen(handle, offset, len), self.note_read(&file.inode));
        bytes
    }

    /// The same without a trace, for who opened with `O_NOATIME`.
    pub async fn read_unseen(&self, handle: HandleId, offset: u64, len: usize) -> FsResult<Bytes> {
        let file = self.files.get(handle)?;
        file.inode.check_whole()?;
        loop {
            let content = match source_of(&file.inode).await? {
                Source::Local(lease) => return disk::read_at(&lease, offset, len),
                Source::Pinned(content) => content,
            };
            let error = match self.ask(self.bridge.read(&content, offset, len)).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            if file.inode.lease().await.is_some() {
                continue; // Somebody else writes the file since, and the version may be nowhere any more.
            }
            // Or it is here alone, to be sent: as long as nobody begins to write there, too.
            let Some(lease) = self.bridge.staged_as(&content)? else { return Err(error) };
            let read = disk::read_at(&lease, offset, len);
            if self.bridge.staged_as(&content)?.is_some() {
                return read;
            }
        }
    }

    /// Prepares a write of `len` bytes: everything that may wait is done here, so that the bytes
    /// themselves need not be copied to be kept for later.
    pub async fn writer(&self, handle: HandleId, place: Place, len: u64) -> FsResult<Writer<'_>> {
        let file = self.files.get(handle)?;
        file.writable()?;
        file.inode.check_writes()?;
        let at_limit = place.at_limit();
        let lease = self.make_staged(&file.inode, u64::MAX, at_limit).await?;
        let end = match place {
            Place::At(offset) | Place::Mapped(offset) => offset.saturating_add(len),
            Place::End => lease.len().saturating_add(len),
        };
        self.make_room(&lease, end, len, at_limit).await?;
        Ok(Writer { fs: self, file, lease, place })
    }

    /// The same where nothing has to be waited for; `None` where something has.
    pub fn writer_at_once(&self, handle: HandleId, place: Place, len: u64) -> Option<FsResult<Writer<'_>>> {
        let file = self.files.get(handle).ok()?;
        let is_staged = {
            let state = file.inode.state.try_read().ok()?;
            matches!(state.content, ContentState::Staged(_))
        };
        // Bringing content in is not begun here, only to be dropped at its first wait.
        if is_staged { self.writer(handle, place, len).now_or_never() } else { None }
    }

    /// Writes all of `data`. If what a mapping stored cannot be kept, the whole content is given up.
    pub async fn write(&self, handle: HandleId, place: Place, data: &[u8]) -> FsResult<()> {
        match place {
            Place::At(_) | Place::End => self.write_once(handle, place, data).await,
            Place::Mapped(_) => self.write_mapped(handle, place, data).await,
        }
    }

    pub(super) async fn write_once(&self, handle: HandleId, place: Place, data: &[u8]) -> FsResult<()> {
        self.writer(handle, place, data.len() as u64).await?.write(data)
    }
}
