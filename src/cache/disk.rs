//! The few calls to the local file system that need care.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::fcntl::{FallocateFlags, fallocate};

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

/// Gives the disk space of a range back; the file keeps its length.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (to_off(offset)?, to_off(len)?);
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, offset, len).map_err(io::Error::from)
}

fn to_off(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))
}

/// Copies a whole file: shared blocks where the file system can, else inside the kernel where it can
/// (copy_file_range, sendfile), else through memory. `to` is empty. Nobody else uses the cursor of `from`.
pub(super) fn copy_content(from: &File, to: &File) -> io::Result<()> {
    let source = from.as_raw_fd().try_into().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    // SAFETY: FICLONE takes a descriptor by value; both are open for the whole call.
    if unsafe { ioctl::ficlone(to.as_raw_fd(), source) }.is_ok() {
        return Ok(());
    }
    let (mut source, mut target) = (from, to);
    source.rewind()?;
    io::copy(&mut source, &mut target).map(drop)
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
