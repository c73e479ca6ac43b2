//! One request, one call, one reply.
//!
//! What is not here is answered by fuser with ENOSYS, which the kernel takes for the life of the mount as "do
//! it yourself": `access` (the kernel checks modes itself), `poll`, locks (then they are local to this
//! host, which is right).

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use metrics::{counter, histogram};
use tokio::runtime::Handle;

use super::data;
use super::errno;
use super::hybrid;
use super::killpriv;
use super::modes::rename_mode;
use super::pages::KernelPages;
use super::replies::{self, Entries, Refuse};
use super::time;
use crate::clock::{Clock, Instant};
use crate::fs::{Caller, Fs, HandleId, SetAttrs};
use crate::metrics::{FUSE_ERRORS, FUSE_SECONDS};
use crate::object::{Device, Ino, Kind};

/// The largest read or write that the kernel sends, in bytes (its own default limit).
const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Read-ahead, and what mappings changed, that the kernel has under way at once: all that it has. What is read ahead of a
/// silent store waits for its deadline, and with a limit all other reads and closes would wait behind it.
const BACKGROUND_MAX: u16 = u16::MAX;

/// What the kernel may do for us. Not writeback caching: the order of writes is ours to know, and it
/// excludes passthrough. KILLPRIV_V2: `killpriv` says what it asks of us in return. Neither AUTO_INVAL_DATA nor
/// EXPLICIT_INVAL_DATA: pages are kept or dropped at `open` by version, and dropped when a size changes behind
/// the kernel. Not ATOMIC_O_TRUNC: the kernel then asks us to truncate before it has refused the open of a
/// running program.
const CAPABILITIES: [InitFlags; 5] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

/// Answers the kernel.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) fs: Arc<Fs>,
    pub(super) runtime: Handle,
    pub(super) clock: Clock,
    /// How long the kernel may believe names and attributes.
    pub(super) ttl: Duration,
    pub(super) pages: KernelPages,
}

impl Adapter {
    /// Runs `work`, measures it, and replies with its value or its errno.
    pub(super) fn serve<R, T>(
        &self,
        operation: &'static str,
        reply: R,
        work: impl Future<Output = Result<T, Errno>> + Send + 'static,
        respond: impl FnOnce(R, T) + Send + 'static,
    ) where
        R: Refuse,
        T: Send,
    {
        let started = Instant::now();
        hybrid::run(&self.runtime, operation, async move {
            let outcome = work.await;
            measure(operation, started, outcome.as_ref().err());
            match outcome {
                Ok(value) => respond(reply, value),
                Err(errno) => reply.refuse(errno),
            }
        });
    }

    pub(super) fn fs(&self) -> Arc<Fs> {
        Arc::clone(&self.fs)
    }

    fn list<R: Entries>(&self, operation: &'static str, fh: FileHandle, offset: u64, mut reply: R) {
        let (fs, ttl, started) = (self.fs(), self.ttl, Instant::now());
        hybrid::run(&self.runtime, operation, async move {
            let filled =
                replies::fill(&fs, HandleId(fh.0), offset, ttl, &mut reply).await.map_err(Errno::from);
            measure(operation, started, filled.as_ref().err());
            match filled {
                Ok(()) => reply.finish(),
                Err(errno) => reply.refuse(errno),
            }
        });
    }
}

pub(super) fn measure(operation: &'static str, started: Instant, errno: Option<&Errno>) {
    histogram!(FUSE_SECONDS.name, "operation" => operation).record(started.elapsed());
    if let Some(errno) = errno {
        counter!(FUSE_ERRORS.name, "operation" => operation, "errno" => errno::word(*errno)).increment(1);
    }
}

pub(super) fn caller(request: &Request, umask: u32) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), umask, pid: request.pid() }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::info!(?capability, "the kernel does not offer this; going on without");
            }
        }
        // An older kernel has smaller limits and takes the nearest that it can.
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, name, ttl) = (self.fs(), errno::name(name), self.ttl);
        let work = async move { fs.lookup(Ino(parent.0), &name?).await?.ok_or(Errno::ENOENT) };
        self.serve("lookup", reply, work, move |reply, info| replies::entry(reply, ttl, &info));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, _nlookup: u64) {
        self.fs.forget(Ino(ino.0));
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let (fs, ttl) = (self.fs(), self.ttl);
        let work = async move { Ok(fs.getattr(Ino(ino.0)).await?) };
        self.serve("getattr", reply, work, move |reply, info| replies::attributes(reply, ttl, &info));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (fs, ttl, now) = (self.fs(), self.ttl, self.clock.now());
        let resolved = |time: Option<TimeOrNow>| time.map(|time| time::resolve(time, now));
        let (atime, mtime) = (resolved(atime), resolved(mtime));
        let mut change = SetAttrs { mode, uid, gid, size, atime, mtime, ends_privileges: None };
        change.ends_privileges = killpriv::ended_by_setattr(request, &change);
        let handle = fh.map(|fh| HandleId(fh.0));
        // While the size is changed the kernel writes nothing back, so nobody may wait for it.
        let (pages, ino) = (self.pages.clone(), Ino(ino.0));
        let work = async move {
            if mtime.is_some() && size.is_none() {
                pages.settle(ino).await;
            }
            let changed = fs.setattr(ino, handle, change).await;
            if changed.is_err() && size.is_some() {
                // It may have another length all the same, and only not be acknowledged.
                pages.forget_attrs(ino).await;
            }
            Ok(changed?)
        };
        self.serve("setattr", reply, work, move |reply, info| replies::attributes(reply, ttl, &info));
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.fs();
        let work = async move { Ok(fs.readlink(Ino(ino.0)).await?) };
        self.serve("readlink", reply, work, |reply, target| reply.data(&target));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (fs, name, ttl, caller) = (self.fs(), errno::name(name), self.ttl, caller(request, umask));
        let work = async move {
            let kind = Kind::from_mode(mode, Device(rdev)).filter(|kind| !kind.is_directory());
            Ok(fs.mknod(Ino(parent.0), &name?, kind.ok_or(Errno::EINVAL)?, mode, caller).await?)
        };
        self.serve("mknod", reply, work, move |reply, info| replies::entry(reply, ttl, &info));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (fs, name, ttl, caller) = (self.fs(), errno::name(name), self.ttl, caller(request, umask));
        let work = async move { Ok(fs.mkdir(Ino(parent.0), &name?, mode, caller).await?) };
        self.serve("mkdir", reply, work, move |reply, info| replies::entry(reply, ttl, &info));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.fs(), errno::name(name));
        let work = async move { Ok(fs.unlink(Ino(parent.0), &name?).await?) };
        self.serve("unlink", reply, work, |reply, ()| reply.ok());
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.fs(), errno::name(name));
        let work = async move { Ok(fs.rmdir(Ino(parent.0), &name?).await?) };
        self.serve("rmdir", reply, work, |reply, ()| reply.ok());
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (fs, name, ttl, caller) = (self.fs(), errno::name(name), self.ttl, caller(request, 0));
        let target: Box<[u8]> = target.as_os_str().as_bytes().into();
        let work = async move { Ok(fs.symlink(Ino(parent.0), &name?, &target, caller).await?) };
        self.serve("symlink", reply, work, move |reply, info| replies::entry(reply, ttl, &info));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (fs, from, to) = (self.fs(), errno::name(name), errno::name(newname));
        let work = async move {
            Ok(fs.rename((Ino(parent.0), &from?), (Ino(newparent.0), &to?), rename_mode(flags)?).await?)
        };
        self.serve("rename", reply, work, |reply, ()| reply.ok());
    }

    fn link(&self, _request: &Request, ino: INodeNo, to: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, name, ttl) = (self.fs(), errno::name(name), self.ttl);
        let work = async move { Ok(fs.link(Ino(ino.0), Ino(to.0), &name?).await?) };
        self.serve("link", reply, work, move |reply, info| replies::entry(reply, ttl, &info));
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.open_file(Ino(ino.0), flags, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (fs, name, ttl, caller) = (self.fs(), errno::name(name), self.ttl, caller(request, umask));
        let pages = self.pages.clone();
        let work = async move {
            let made = fs.create(Ino(parent.0), &name?, mode, caller).await?;
            pages.opened(made.info.ino, OpenFlags(flags));
            Ok(made)
        };
        self.serve("create", reply, work, move |reply, made| replies::created(reply, ttl, &made));
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.read_data(fh, offset, size, flags, reply);
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let ends = killpriv::ended_by_write(request, write_flags);
        self.write_data((Ino(ino.0), fh), data::place(offset, write_flags, flags), data, ends, reply);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.allocate(fh, offset, length, mode, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.seek(ino, fh, offset, whence, reply);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.copy(ino_in, (fh_in, offset_in), (fh_out, offset_out), len, reply);
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let fs = self.fs();
        let work = async move { Ok(fs.flush(HandleId(fh.0)).await?) };
        self.serve("flush", reply, work, |reply, ()| reply.ok());
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.close_handle(ino, fh, flags, reply);
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let (fs, handle) = (self.fs(), HandleId(fh.0));
        let work = async move {
            let synced = if datasync { fs.fdatasync(handle).await } else { fs.fsync(handle).await };
            Ok(synced?)
        };
        self.serve("fsync", reply, work, |reply, ()| reply.ok());
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.fs();
        let work = async move { Ok(fs.opendir(Ino(ino.0)).await?) };
        let none = FopenFlags::empty();
        self.serve("opendir", reply, work, move |reply, dir| reply.opened(FileHandle(dir.0), none));
    }

    fn readdir(&self, _request: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.list("readdir", fh, offset, reply);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list("readdirplus", fh, offset, reply);
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs();
        let work = async move { Ok(fs.releasedir(HandleId(fh.0)).await?) };
        self.serve("releasedir", reply, work, |reply, ()| reply.ok());
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs();
        let work = async move { Ok(fs.fsync_dir().await?) };
        self.serve("fsyncdir", reply, work, |reply, ()| reply.ok());
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let fs = self.fs();
        let work = async move { Ok(fs.statfs()?) };
        self.serve("statfs", reply, work, |reply, stat| replies::statfs(reply, &stat));
    }

    fn setxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.set_xattr(ino, name, value, flags, reply);
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.get_xattr(ino, name, size, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.list_xattrs(request, ino, size, reply);
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove_xattr(ino, name, reply);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}
