//! Changes of an open file that are no writes, holes, and copies between open files.

use super::disk::{self, leave_the_kernels_thread};
use super::handles::{FileHandle, HandleId};
use super::inodes::ContentState;
use super::io::{Source, source_of};
use super::{Fs, FsError, FsResult};
use crate::bridge::{AtLimit, Content};
use crate::cache::{Found, Lease, RangeChange, Region};

/// The most that one call copies from a local file: a bound on how long the kernel waits for it.
const COPY_LOCAL_MAX: u64 = 128 << 20;
/// The most that one call copies from content that may have to be fetched.
const COPY_FETCHED_MAX: u64 = 16 << 20;
/// What is fetched at a time for a copy.
const COPY_PIECE_BYTES: usize = 1 << 20;

impl Fs {
    /// Takes disk space for a range, makes it zeros, or makes it a hole. Space that was taken is there for
    /// the writes that follow; `NoSpace` says now that it is not.
    pub async fn change_range(
        &self,
        handle: HandleId,
        change: RangeChange,
        offset: u64,
        len: u64,
    ) -> FsResult<()> {
        let file = self.files.get(handle)?;
        file.writable()?;
        file.inode.check_writes()?;
        let end = end_of(offset, len)?;
        if len == 0 {
            return Err(FsError::Invalid("a range of no bytes"));
        }
        let lease = self.make_staged(&file.inode, u64::MAX, AtLimit::Refuse).await?;
        if change.takes_space() {
            self.make_room(&lease, end, len, AtLimit::Refuse).await?;
        }
        file.change(&lease, self.now(), |inode| disk::change_range(inode, &lease, change, offset, len))
    }

    /// Where data or a hole begins, at `offset` or after it; `None` if the file ends before. Content that
    /// is not being changed is data from its beginning to its end, whatever a store or the cache keeps of it.
    pub async fn seek(&self, handle: HandleId, region: Region, offset: u64) -> FsResult<Option<Found>> {
        let file = self.files.get(handle)?;
        file.inode.check_whole()?;
        let state = file.inode.state.read().await;
        match &state.content {
            ContentState::Staged(lease) => {
                let lease = lease.clone();
                drop(state);
                disk::seek(&lease, region, offset)
            }
            ContentState::Clean(content) => {
                let len = content.size();
                let at = match region {
                    Region::Data => offset,
                    Region::Hole => len,
                };
                Ok((offset < len).then_some(Found { at: Some(at), hole: len..len, len }))
            }
            ContentState::Idle => Err(FsError::BadHandle),
        }
    }

    /// Copies up to `len` bytes from one open file into another, or to another place in the same one ->
    /// how many. Fewer are no failure: callers go on from there. None is the end of `from`.
    pub async fn copy_range(&self, from: (HandleId, u64), to: (HandleId, u64), len: u64) -> FsResult<u64> {
        let (source, target) = (self.files.get(from.0)?, self.files.get(to.0)?);
        target.writable()?;
        target.inode.check_writes()?;
        source.inode.check_whole()?;
        let (from, to) = (from.1, to.1);
        if end_of(from, len)?.min(end_of(to, len)?) > from.max(to) && source.inode.ino() == target.inode.ino()
        {
            return Err(FsError::Invalid("the ranges overlap"));
        }
        let lease = self.make_staged(&target.inode, u64::MAX, AtLimit::Refuse).await?;
        self.note_read(&source.inode).await;
        loop {
            match source_of(&source.inode).await? {
                Source::Local(staged) => {
                    return self.copy_local(&target, &lease, (&staged, from), to, len).await;
                }
                Source::Pinned(content) => {
                    match self.copy_fetched(&target, &lease, (&content, from), to, len).await {
                        Err(_) if source.inode.lease().await.is_some() => {}
                        answer => return answer,
                    }
                }
            }
        }
    }

    async fn copy_local(
        &self,
        target: &FileHandle,
        lease: &Lease,
        from: (&Lease, u64),
        to: u64,
        len: u64,
    ) -> FsResult<u64> {
        let len = len.min(from.0.len().saturating_sub(from.1)).min(COPY_LOCAL_MAX);
        if len == 0 {
            return Ok(0);
        }
        self.make_room(lease, to + len, len, AtLimit::Refuse).await?;
        leave_the_kernels_thread(len).await;
        target.change(lease, self.now(), |inode| disk::copy_from(inode, lease, from, to, len))
    }

    /// A failure after the first bytes is left to the next call.
    async fn copy_fetched(
        &self,
        target: &FileHandle,
        lease: &Lease,
        from: (&Content, u64),
        to: u64,
        len: u64,
    ) -> FsResult<u64> {
        let len = len.min(from.0.size().saturating_sub(from.1)).min(COPY_FETCHED_MAX);
        let mut done = 0;
        while done < len {
            match self.copy_piece(target, lease, (from.0, from.1 + done), to + done, len - done).await {
                Ok(0) => break,
                Ok(copied) => done += copied,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    async fn copy_piece(
        &self,
        target: &FileHandle,
        lease: &Lease,
        from: (&Content, u64),
        to: u64,
        len: u64,
    ) -> FsResult<u64> {
        let most = usize::try_from(len).unwrap_or(usize::MAX).min(COPY_PIECE_BYTES);
        let bytes = self.ask(self.bridge.read(from.0, from.1, most)).await?;
        let len = bytes.len() as u64;
        self.make_room(lease, to + len, len, AtLimit::Refuse).await?;
        target.change(lease, self.now(), |inode| disk::write_at(inode, lease, to, &bytes))?;
        Ok(len)
    }

    /// Waits until there is room for a change of `len` bytes that ends at `end`.
    pub(super) async fn make_room(
        &self,
        lease: &Lease,
        end: u64,
        len: u64,
        at_limit: AtLimit,
    ) -> FsResult<()> {
        match lease.growth(end, len) {
            0 => Ok(()),
            growth => Ok(self.bridge.reserve(growth, at_limit).await?),
        }
    }
}

fn end_of(offset: u64, len: u64) -> FsResult<u64> {
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or(FsError::TooLarge)
}
