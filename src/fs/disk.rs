//! Local I/O of staged files where it may block, with errors by what the caller does next.

use std::io::{self, ErrorKind};

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::inodes::OpenInode;
use super::{FsError, FsResult};
use crate::bridge::BridgeErrorKind;
use crate::cache::{Found, Lease, RangeChange, Region};

/// Runs short local I/O where it is called: on a kernel thread at once; on a worker of the runtime after
/// its other tasks were handed over, so that a slow disk does not hold up the network.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        Ok(_) | Err(_) => work(),
    }
}

/// Bytes of a staged file; fewer than `len` only at its end.
pub(super) fn read_at(lease: &Lease, offset: u64, len: usize) -> FsResult<Bytes> {
    blocking(|| lease.read_at(offset, len)).map_err(|e| explain("read a staged file", &e))
}

/// Writes all of `data`. A full disk is an answer; any other failure leaves the content in doubt.
pub(super) fn write_at(inode: &OpenInode, lease: &Lease, offset: u64, data: &[u8]) -> FsResult<()> {
    blocking(|| lease.write_at(offset, data)).map_err(|e| failed_change(inode, "write to a staged file", &e))
}

/// Writes all of `data` at the end, wherever that is by then.
pub(super) fn append(inode: &OpenInode, lease: &Lease, data: &[u8]) -> FsResult<()> {
    let appended = blocking(|| lease.append(data)).map(|_offset| ());
    appended.map_err(|e| failed_change(inode, "append to a staged file", &e))
}

/// Cuts the file or lengthens it with zeros.
pub(super) fn set_len(inode: &OpenInode, lease: &Lease, len: u64) -> FsResult<()> {
    blocking(|| lease.set_len(len)).map_err(|e| failed_change(inode, "set the length of a staged file", &e))
}

/// Takes disk space for a range, zeroes it, or gives its space back.
pub(super) fn change_range(
    inode: &OpenInode,
    lease: &Lease,
    change: RangeChange,
    offset: u64,
    len: u64,
) -> FsResult<()> {
    let changed = blocking(|| lease.change_range(change, offset, len));
    changed.map_err(|e| failed_change(inode, "change a range of a staged file", &e))
}

/// Copies a range from another staged file, or from another place in the same one -> how many bytes.
pub(super) fn copy_from(
    inode: &OpenInode,
    lease: &Lease,
    from: (&Lease, u64),
    offset: u64,
    len: u64,
) -> FsResult<u64> {
    let copied = blocking(|| lease.copy_from(from.0, from.1, offset, len));
    copied.map_err(|e| failed_change(inode, "copy between staged files", &e))
}

/// Where data or a hole begins in a staged file.
pub(super) fn seek(lease: &Lease, region: Region, offset: u64) -> FsResult<Option<Found>> {
    blocking(|| lease.seek(region, offset)).map_err(|e| explain("look for holes in a staged file", &e))
}

/// A full disk, a file that would be too large, and what the disk cannot do are answers; anything else
/// leaves the content in doubt.
fn failed_change(inode: &OpenInode, what: &str, error: &io::Error) -> FsError {
    if !is_full(error) && !matches!(error.kind(), ErrorKind::FileTooLarge | ErrorKind::Unsupported) {
        tracing::error!(ino = %inode.ino(), %error, "could not {what}: writes to it are refused until it is closed");
        inode.refuse_writes();
    }
    explain(what, error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// So many bytes take the disk longer than the kernel's other requests should wait.
const LARGE_BYTES: u64 = 1 << 20;

/// Before the disk is kept busy for long: what has not had to wait until now still runs on one of the few threads that
/// take requests from the kernel.
pub(super) async fn leave_the_kernels_thread(bytes: u64) {
    if bytes > LARGE_BYTES {
        tokio::task::yield_now().await;
    }
}

fn explain(what: &str, error: &io::Error) -> FsError {
    if error.kind() == ErrorKind::FileTooLarge {
        return FsError::TooLarge;
    }
    if error.kind() == ErrorKind::Unsupported {
        return FsError::Unsupported(format!("could not {what}: {error}"));
    }
    let kind = if is_full(error) { BridgeErrorKind::NoSpace } else { BridgeErrorKind::Damaged };
    FsError::bridge(kind, format!("could not {what}: {error}"))
}
