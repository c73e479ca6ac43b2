//! Requests about the bytes of open files, where an answer takes more than one call.

use fuser::{
    Errno, FileHandle, INodeNo, OpenFlags, ReplyData, ReplyEmpty, ReplyLseek, ReplyOpen, ReplyWrite,
    WriteFlags,
};

use super::hybrid;
use super::modes::access;
use super::ops::{Adapter, measure};
use super::pages::{KernelPages, WHOLE};
use super::replies;
use crate::cache::{FileEnd, Found, RangeChange, Region};
use crate::clock::Instant;
use crate::fs::{Caller, Fs, FsError, FsResult, HandleId, Pages, Place, Release, Truncate};
use crate::object::Ino;

/// How often a hole is looked at again because a mapping changes it all the time; then it is called data.
const LOOKS_MAX: u32 = 4;

impl Adapter {
    pub(super) fn open_file(&self, ino: Ino, flags: OpenFlags, reply: ReplyOpen) {
        let (fs, pages) = (self.fs(), self.pages.clone());
        let work = async move {
            let opened = fs.open(ino, access(flags), Truncate::Keep).await?;
            pages.opened(ino, flags);
            if opened.has_new_attrs {
                pages.forget_attrs(ino).await;
            }
            let keep_pages = match opened.pages {
                Pages::Keep => true,
                Pages::KeepAndNote => {
                    if is_seen(flags) {
                        fs.note_open(opened.handle).await;
                    }
                    true
                }
                Pages::Drop(alone) => {
                    let dropped = pages.write_back(ino, WHOLE).await;
                    drop(alone);
                    dropped
                }
            };
            Ok((opened.handle, keep_pages))
        };
        self.serve("open", reply, work, |reply, (handle, keep)| replies::opened(reply, handle, keep));
    }

    pub(super) fn read_data(
        &self,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        reply: ReplyData,
    ) {
        let (fs, handle) = (self.fs(), HandleId(fh.0));
        let len = usize::try_from(size).expect("32 bits fit in an address");
        let is_seen = is_seen(flags);
        let work = async move {
            let bytes = match is_seen {
                true => fs.read(handle, offset, len).await?,
                false => fs.read_unseen(handle, offset, len).await?,
            };
            Ok(bytes)
        };
        self.serve("read", reply, work, |reply, bytes| reply.data(&bytes));
    }

    /// Writes where the data stands if nothing has to be waited for, else keeps a copy of it.
    pub(super) fn write_data(
        &self,
        (ino, fh): (Ino, FileHandle),
        place: Place,
        data: &[u8],
        ends: Option<Caller>,
        reply: ReplyWrite,
    ) {
        let (handle, started) = (HandleId(fh.0), Instant::now());
        let is_mapped = matches!(place, Place::Mapped(_));
        let size = u32::try_from(data.len()).expect("the kernel sends at most 1 MiB");
        // Mostly nothing has to be waited for, and then the data need not be copied to be kept.
        let at_once = || {
            if ends.is_some() && !self.fs.writes_end_nothing(handle) {
                return None;
            }
            let ready = self.fs.writer_at_once(handle, place, data.len() as u64)?;
            match ready.and_then(|writer| writer.write(data)) {
                // What a mapping stored is not given up before everything was tried.
                Err(_) if is_mapped => None,
                written => Some(written),
            }
        };
        match hybrid::at_once(&self.runtime, "write", at_once) {
            Some(Some(written)) => {
                let written = written.map_err(Errno::from);
                measure("write", started, written.as_ref().err());
                match written {
                    Ok(()) => reply.written(size),
                    Err(errno) => reply.error(errno),
                }
            }
            Some(None) => {
                let (fs, data, pages) = (self.fs(), Box::<[u8]>::from(data), self.pages.clone());
                let work = async move {
                    if let Some(caller) = ends {
                        fs.end_privileges_of(handle, caller).await?;
                    }
                    let written = fs.write(handle, place, &data).await;
                    // Only the first loss: the kernel meets the later ones while it forgets.
                    if is_mapped && written.as_ref().is_err_and(|e| !matches!(e, FsError::Damaged(_))) {
                        drop(tokio::spawn(async move { pages.forget(ino).await }));
                    }
                    Ok(written?)
                };
                self.serve("write", reply, work, move |reply, ()| reply.written(size));
            }
            None => reply.error(Errno::EIO),
        }
    }

    /// Once nobody has a damaged file open, the kernel asks again what it is.
    pub(super) fn close_handle(&self, ino: INodeNo, fh: FileHandle, flags: OpenFlags, reply: ReplyEmpty) {
        let (fs, pages) = (self.fs(), self.pages.clone());
        let work = async move {
            pages.released(Ino(ino.0), flags);
            match fs.release(HandleId(fh.0)).await? {
                Release::AsWritten => {}
                Release::Damaged => pages.forget(Ino(ino.0)).await,
            }
            Ok(())
        };
        self.serve("release", reply, work, |reply, ()| reply.ok());
    }

    pub(super) fn allocate(&self, fh: FileHandle, offset: u64, len: u64, mode: i32, reply: ReplyEmpty) {
        let fs = self.fs();
        let work = async move {
            let change = range_change(mode).ok_or(Errno::EOPNOTSUPP)?;
            Ok(fs.change_range(HandleId(fh.0), change, offset, len).await?)
        };
        self.serve("fallocate", reply, work, |reply, ()| reply.ok());
    }

    pub(super) fn seek(&self, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (fs, pages) = (self.fs(), self.pages.clone());
        let work = async move {
            let region = match whence {
                libc::SEEK_DATA => Region::Data,
                libc::SEEK_HOLE => Region::Hole,
                _ => return Err(Errno::EINVAL),
            };
            // Before the beginning is as far outside as beyond the end.
            let Ok(offset) = u64::try_from(offset) else { return Err(Errno::ENXIO) };
            let file = Sought { fs: &fs, pages: &pages, ino: Ino(ino.0), handle: HandleId(fh.0) };
            let at = file.seek(region, offset).await?.ok_or(Errno::ENXIO)?;
            i64::try_from(at).map_err(|_too_large| Errno::EOVERFLOW)
        };
        self.serve("lseek", reply, work, ReplyLseek::offset);
    }

    pub(super) fn copy(
        &self,
        ino: INodeNo,
        from: (FileHandle, u64),
        to: (FileHandle, u64),
        len: u64,
        reply: ReplyWrite,
    ) {
        let (fs, pages) = (self.fs(), self.pages.clone());
        let work = async move {
            let (from, to) = ((HandleId(from.0.0), from.1), (HandleId(to.0.0), to.1));
            let copied = fs.copy_range(from, to, len).await?;
            // That the source was read is the one thing that the kernel does not think of.
            pages.forget_attrs(Ino(ino.0)).await;
            Ok(u32::try_from(copied).expect("far less than 4 GiB is copied at a time"))
        };
        self.serve("copy_file_range", reply, work, ReplyWrite::written);
    }
}

/// Whether reads through the descriptor are to be noted.
fn is_seen(flags: OpenFlags) -> bool {
    flags.0 & libc::O_NOATIME == 0
}

/// The flags are those of the moment (`fcntl` changes them). Pages of a mapping have their place whatever
/// the descriptor says. So have the pieces of a direct write: the kernel sends them at once, and they
/// come in any order; it holds the inode's lock over all of them, so its end is the end.
pub(super) fn place(offset: u64, write_flags: WriteFlags, flags: OpenFlags) -> Place {
    let is_append = flags.0 & libc::O_APPEND != 0 && flags.0 & libc::O_DIRECT == 0;
    if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
        return Place::Mapped(offset);
    }
    match is_append {
        true => Place::End,
        false => Place::At(offset),
    }
}

/// A file in which a region is looked for.
struct Sought<'a> {
    fs: &'a Fs,
    pages: &'a KernelPages,
    ino: Ino,
    handle: HandleId,
}

impl Sought<'_> {
    /// Where the region begins. `lseek`, unlike all others, does not write back what a mapping changed
    /// before it asks; who copies only what we call data would lose it. So a hole is believed once the
    /// kernel has no page in it that we have not seen.
    async fn seek(&self, region: Region, offset: u64) -> FsResult<Option<u64>> {
        let mut found = self.look(region, offset).await?;
        for _ in 0..LOOKS_MAX {
            let Some(Found { at, hole, .. }) = &found else { return Ok(None) };
            if hole.is_empty() || !self.pages.is_mappable(self.ino) {
                return Ok(*at);
            }
            if !self.pages.write_back(self.ino, hole.clone()).await {
                break;
            }
            let again = self.look(region, offset).await?;
            if again == found {
                return Ok(*at);
            }
            found = again;
        }
        Ok(found.map(|found| match region {
            Region::Data => offset,
            Region::Hole => found.len,
        }))
    }

    async fn look(&self, region: Region, offset: u64) -> FsResult<Option<Found>> {
        self.fs.seek(self.handle, region, offset).await
    }
}

fn range_change(mode: i32) -> Option<RangeChange> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_AND_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(RangeChange::Allocate(FileEnd::Reaches)),
        libc::FALLOC_FL_KEEP_SIZE => Some(RangeChange::Allocate(FileEnd::Stays)),
        PUNCH => Some(RangeChange::Punch),
        libc::FALLOC_FL_ZERO_RANGE => Some(RangeChange::Zero(FileEnd::Reaches)),
        ZERO_AND_KEEP => Some(RangeChange::Zero(FileEnd::Stays)),
        _ => None,
    }
}
