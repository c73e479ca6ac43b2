//! The few calls to the local file system that need care.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::unistd::{Whence, lseek};

/// No file system allocates in larger units; a file that takes more than its length rounded up to this
/// has space beyond its end.
const ALLOCATION_MAX: u64 = 64 << 10;
/// What is copied at a time where it has to go through memory.
const COPY_PIECE_BYTES: usize = 1 << 20;

mod ioctl {
    nix::ioctl_write_int!(ficlone, 0x94, 9);
}

/// Makes a directory that only its owner may enter; one that is there already is fine.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Makes a file that is not there yet, for its owner only.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a file, or empties the one that is there.
pub(super) fn create_empty(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Opens a file that is there.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Removes a file -> whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a file whose space we want back. What goes wrong is logged: the file is found and removed at
/// the next start.
pub(super) fn remove_or_warn(path: &Path) {
    if let Err(error) = remove(path) {
        tracing::warn!(path = %path.display(), %error, "a cache file could not be removed");
    }
}

/// Makes names that were made or removed in a directory survive a power failure.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Bytes of disk that a file takes.
pub(super) fn allocated(meta: &Metadata) -> u64 {
    meta.blocks().saturating_mul(512)
}

/// Up to `len` bytes at `offset`; fewer only at the end of the file.
pub(super) fn read_up_to(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

/// What can be done to a range of a file beside writing it. None of it changes the length.
#[derive(Debug, Clone, Copy)]
pub(super) enum RangeChange {
    /// Takes disk space for it.
    Allocate,
    /// Makes it zeros that have their disk space.
    Zero,
    /// Makes it a hole.
    Punch,
}

/// Changes a range of a file.
pub(super) fn change_range(file: &File, change: RangeChange, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (to_off(offset)?, to_off(len)?);
    let how = match change {
        RangeChange::Allocate => FallocateFlags::empty(),
        RangeChange::Zero => FallocateFlags::FALLOC_FL_ZERO_RANGE,
        RangeChange::Punch => FallocateFlags::FALLOC_FL_PUNCH_HOLE,
    };
    loop {
        match fallocate(file, how | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, len) {
            Err(Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Gives the disk space of a range back; the file keeps its length.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    change_range(file, RangeChange::Punch, offset, len)
}

/// Gives back the disk space that a file of this length takes beyond its end.
pub(super) fn cut_beyond(path: &Path, len: u64) -> io::Result<()> {
    if allocated(&fs::metadata(path)?) > len.next_multiple_of(ALLOCATION_MAX) {
        open_existing(path)?.set_len(len)?;
    }
    Ok(())
}

/// What a place in a file can be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sought {
    /// Written bytes.
    Data,
    /// A hole; there is one at the end of each file.
    Hole,
}

/// Where the next data or hole begins, at `offset` or after it; `None` beyond the last. Moves the cursor.
pub(super) fn seek(file: &File, sought: Sought, offset: u64) -> io::Result<Option<u64>> {
    let whence = match sought {
        Sought::Data => Whence::SeekData,
        Sought::Hole => Whence::SeekHole,
    };
    match lseek(file, to_off(offset)?, whence) {
        Ok(at) => u64::try_from(at).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Copies up to `len` bytes from one file into another, or within one -> how many; 0 at the end of `from`.
pub(super) fn copy_range(from: &File, at: u64, to: &File, target: u64, len: u64) -> io::Result<u64> {
    let (mut source, mut sink) = (to_off(at)?, to_off(target)?);
    let most = usize::try_from(len).unwrap_or(usize::MAX);
    match copy_file_range(from, Some(&mut source), to, Some(&mut sink), most) {
        Ok(copied) => Ok(copied as u64),
        Err(Errno::EINTR) => copy_range(from, at, to, target, len),
        // Not every file system can; through memory all can.
        Err(Errno::EXDEV | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            let piece = read_up_to(from, at, most.min(COPY_PIECE_BYTES))?;
            to.write_all_at(&piece, target)?;
            Ok(piece.len() as u64)
        }
        Err(error) => Err(error.into()),
    }
}

fn to_off(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

/// Makes a file share all blocks of another, if the file system can -> whether it does.
pub(super) fn clone_content(from: &File, to: &File) -> io::Result<bool> {
    let source = from.as_raw_fd().try_into().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    // SAFETY: FICLONE takes a descriptor by value; both are open for the whole call.
    Ok(unsafe { ioctl::ficlone(to.as_raw_fd(), source) }.is_ok())
}

/// Copies what is written in a range, or as much of it as the file has; nothing is done to `to` where there is a hole.
/// Nobody relies on the cursor of `from`.
pub(super) fn copy_written(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let Some(data) = seek(from, Sought::Data, at)? else { break };
        let end = seek(from, Sought::Hole, data)?.unwrap_or(data).min(range.end);
        at = data;
        while at < end {
            match copy_range(from, at, to, at, end - at)? {
                0 => return Ok(()),
                copied => at += copied,
            }
        }
    }
    Ok(())
}

/// Whether a write failed because there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A disk, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// All of it.
    pub(super) total: u64,
    /// What an ordinary user may still take.
    pub(super) available: u64,
}

/// Where the free space is asked; a test answers as it likes.
pub(super) trait SpaceProbe: fmt::Debug + Send + Sync {
    /// The disk as it is now.
    fn space(&self) -> io::Result<Space>;
}

/// Asks the file system that a directory is on.
#[derive(Debug)]
pub(super) struct DiskOf(pub(super) PathBuf);

impl SpaceProbe for DiskOf {
    fn space(&self) -> io::Result<Space> {
        let stat = nix::sys::statvfs::statvfs(&self.0)?;
        let unit = stat.fragment_size();
        Ok(Space { total: stat.blocks() * unit, available: stat.blocks_available() * unit })
    }
}
