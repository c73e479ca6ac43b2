//! What our answers look like to the kernel.

use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr,
};

use super::time;
use crate::bridge::StatFs;
use crate::fs::{CreatedFile, DirEntry, FileInfo, Fs, FsResult, HandleId};
use crate::object::Kind;

/// The block size that is reported: of `st_blksize` and `statfs`.
const BLOCK_BYTES: u32 = 4096;
/// Inode numbers are never given twice.
const GENERATION: Generation = Generation(0);
/// Entries that are read from the ledger at a time; a reply holds up to a few hundred.
const ENTRIES_PER_BATCH: usize = 64;

/// A reply that can say no.
pub(super) trait Refuse: Send + 'static {
    /// Answers with an errno.
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
    }
}

pub(super) fn attr(info: &FileInfo) -> FileAttr {
    FileAttr {
        ino: INodeNo(info.ino.0),
        size: info.size,
        blocks: info.blocks,
        atime: time::system(info.atime),
        mtime: time::system(info.mtime),
        ctime: time::system(info.ctime),
        crtime: time::system(info.ctime),
        kind: kind(info.kind),
        perm: u16::try_from(info.mode & 0o7777).expect("twelve bits fit"),
        nlink: info.nlink,
        uid: info.uid,
        gid: info.gid,
        rdev: info.kind.device().map_or(0, |device| device.0),
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// How long the kernel believes it without asking.
fn believed(ttl: Duration, info: &FileInfo) -> Duration {
    if info.is_unproven { Duration::ZERO } else { ttl }
}

pub(super) fn entry(reply: ReplyEntry, ttl: Duration, info: &FileInfo) {
    reply.entry(&believed(ttl, info), &attr(info), GENERATION);
}

pub(super) fn attributes(reply: ReplyAttr, ttl: Duration, info: &FileInfo) {
    reply.attr(&believed(ttl, info), &attr(info));
}

/// Without `keep_pages` the kernel drops what it kept from an earlier open, after the answer, when others may be writing.
pub(super) fn opened(reply: ReplyOpen, handle: HandleId, keep_pages: bool) {
    let keep = if keep_pages { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
    reply.opened(FileHandle(handle.0), keep);
}

pub(super) fn created(reply: ReplyCreate, ttl: Duration, made: &CreatedFile) {
    let fh = FileHandle(made.handle.0);
    reply.created(&ttl, &attr(&made.info), GENERATION, fh, FopenFlags::FOPEN_KEEP_CACHE);
}

pub(super) fn statfs(reply: ReplyStatfs, stat: &StatFs) {
    let blocks = |bytes: u64| bytes / u64::from(BLOCK_BYTES);
    reply.statfs(
        blocks(stat.bytes_total),
        blocks(stat.bytes_free),
        blocks(stat.bytes_free),
        stat.files_total,
        stat.files_free,
        BLOCK_BYTES,
        255,
        BLOCK_BYTES,
    );
}

/// Where directory entries go -> whether it was full.
pub(super) trait Entries: Refuse {
    fn push(&mut self, entry: &DirEntry, ttl: Duration) -> bool;
    fn finish(self);
}

impl Entries for ReplyDirectory {
    fn push(&mut self, entry: &DirEntry, _ttl: Duration) -> bool {
        self.add(INodeNo(entry.info.ino.0), entry.next, kind(entry.info.kind), &*entry.name)
    }

    fn finish(self) {
        self.ok();
    }
}

impl Entries for ReplyDirectoryPlus {
    fn push(&mut self, entry: &DirEntry, ttl: Duration) -> bool {
        let ino = INodeNo(entry.info.ino.0);
        let ttl = believed(ttl, &entry.info);
        self.add(ino, entry.next, &*entry.name, &ttl, &attr(&entry.info), GENERATION)
    }

    fn finish(self) {
        self.ok();
    }
}

/// Puts as many entries into a listing as fit.
pub(super) async fn fill(
    fs: &Fs,
    dir: HandleId,
    offset: u64,
    ttl: Duration,
    reply: &mut impl Entries,
) -> FsResult<()> {
    let mut position = offset;
    loop {
        let entries = fs.readdir(dir, position, ENTRIES_PER_BATCH).await?;
        let Some(last) = entries.last() else { return Ok(()) };
        position = last.next;
        if entries.iter().any(|entry| reply.push(entry, ttl)) {
            return Ok(());
        }
    }
}
