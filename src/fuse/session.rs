//! Mount, serve, unmount. The mount is made here and not by fuser: fuser unmounts by path when a session
//! ends, whatever stands there by then, and cannot detach a mount that is in use.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::{getegid, geteuid};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::flags::MountFlags;
use super::invalidate::Invalidator;
use super::mountpoint::{self, FS_TYPE, MountError};
use super::ops::Adapter;
use super::pages::KernelPages;
use crate::clock::Clock;
use crate::fs::Fs;

/// How far the kernel reads ahead, in KiB: a request of 1 MiB instead of 128 KiB.
const READ_AHEAD_KIB: u32 = 1024;

/// How a mount is made.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// How long the kernel may believe names and attributes without asking: long if nobody else changes
    /// the buckets, else the coherence TTL. Names that are not there are always asked for.
    pub ttl: Duration,
    /// Threads that read requests from the kernel.
    pub threads: usize,
    /// Set-user-ID bits and devices mean something here. Off by default: the buckets may be written by
    /// others.
    pub suid_and_dev: bool,
    /// What else the kernel is told, such as `ro`.
    pub flags: MountFlags,
    /// The wall clock, for "now" in times that are set.
    pub clock: Clock,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        let ttl = Duration::from_secs(60);
        let flags = MountFlags::default();
        MountOptions { ttl, threads: 4, suid_and_dev: false, flags, clock: Clock::System }
    }
}

/// How a mount is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Only if nothing is open on it.
    Clean,
    /// At once from the tree; files that are open go on until they are closed.
    Detach,
}

/// How a session ended; the text is the error's.
type End = Option<Result<(), String>>;

/// A mount that is served. Dropping it detaches the mount.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    /// `major:minor`: what stands at the path later may be something else.
    device: Option<String>,
    ended: watch::Receiver<End>,
    invalidator: Invalidator,
}

/// Mounts `fs` on an empty directory and serves it on threads of its own; what has to wait runs on
/// `runtime`.
pub fn mount(
    fs: Arc<Fs>,
    mountpoint: &Path,
    options: &MountOptions,
    runtime: Handle,
) -> Result<Mounted, MountError> {
    let path = mountpoint::prepare(mountpoint)?;
    let device = open_device()?;
    mountpoint::make_free(&path)?;
    mount_device(&device, &path, options)?;
    let other = |what, source| MountError::Other { what, path: path.clone(), source };
    let at = path.clone();
    fs.note_reads_unless(move || mountpoint::keeps_access_times(&at));
    let adapter = Adapter {
        fs,
        runtime,
        clock: options.clock.clone(),
        ttl: options.ttl,
        pages: KernelPages::default(),
    };
    match serve(adapter, device, options.threads) {
        Ok((ended, invalidator)) => {
            let device = mountpoint::mounted_at(&path).ok().flatten().map(|line| line.device);
            device.as_deref().inspect(|device| read_ahead(device));
            Ok(Mounted { path, device, ended, invalidator })
        }
        Err(error) => {
            // The first error is the one to tell.
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            Err(other("starting the session", error))
        }
    }
}

fn open_device() -> Result<OwnedFd, MountError> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/fuse");
    match opened {
        Ok(device) => Ok(device.into()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(MountError::NotPermitted(e)),
        Err(e) => Err(MountError::NoDevice(e)),
    }
}

fn mount_device(device: &OwnedFd, path: &Path, options: &MountOptions) -> Result<(), MountError> {
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
        device.as_raw_fd(),
        geteuid(),
        getegid(),
    );
    let flags = options.flags.with(match options.suid_and_dev {
        true => MsFlags::empty(),
        false => MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
    });
    let mounted = nix::mount::mount(Some("bridgefs"), path, Some(FS_TYPE), flags, Some(data.as_str()));
    mounted.map_err(|errno| {
        let source = io::Error::from(errno);
        if matches!(errno, Errno::EPERM | Errno::EACCES) {
            MountError::NotPermitted(source)
        } else if errno == Errno::ENODEV {
            MountError::NoDevice(source)
        } else {
            MountError::Other { what: "mount", path: path.to_owned(), source }
        }
    })
}

fn serve(
    adapter: Adapter,
    device: OwnedFd,
    threads: usize,
) -> io::Result<(watch::Receiver<End>, Invalidator)> {
    let mut config = Config::default();
    config.n_threads = Some(threads.max(2));
    config.acl = SessionACL::All;
    let pages = adapter.pages.clone();
    let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
    pages.connect(session.notifier());
    let invalidator = Invalidator::start(session.notifier())?;
    let (tell, ended) = watch::channel(None);
    let run = move || {
        let end = session.run().map_err(|error| error.to_string());
        // Nobody may be waiting.
        let _ = tell.send(Some(end));
    };
    thread::Builder::new().name("fuse-session".to_owned()).spawn(run)?;
    Ok((ended, invalidator))
}

/// Best effort: without it, requests are smaller.
fn read_ahead(device: &str) {
    let path = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = fs::write(&path, READ_AHEAD_KIB.to_string()) {
        tracing::info!(path, %error, "the kernel's read-ahead could not be raised");
    }
}

impl Mounted {
    /// Where it is mounted, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For whoever learns of changes behind the mount.
    pub fn invalidator(&self) -> Invalidator {
        self.invalidator.clone()
    }

    /// Returns when the mount is gone and its last file is closed, whoever unmounted it. Requests that
    /// were taken over by the runtime may still be running.
    pub async fn wait(&self) -> Result<(), MountError> {
        let mut ended = self.ended.clone();
        let end = ended.wait_for(Option::is_some).await;
        match end.map(|end| end.clone()) {
            Ok(Some(Err(error))) => {
                let source = io::Error::other(error);
                Err(MountError::Other { what: "serving the mount", path: self.path.clone(), source })
            }
            Ok(Some(Ok(())) | None) | Err(_) => Ok(()),
        }
    }

    /// Takes the mount away. It is gone from the tree when this returns; [`Mounted::wait`] says when it
    /// is no longer served. Not on a worker of the runtime: the kernel may wait for our answers.
    pub fn unmount(&self, how: Unmount) -> Result<(), MountError> {
        if !self.is_there() {
            return Ok(());
        }
        let flags = match how {
            Unmount::Clean => MntFlags::UMOUNT_NOFOLLOW,
            Unmount::Detach => MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH,
        };
        match umount2(&self.path, flags) {
            // Somebody else was faster.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
            Err(Errno::EBUSY) => Err(MountError::Busy(self.path.clone())),
            Err(e) => Err(MountError::Other { what: "unmount", path: self.path.clone(), source: e.into() }),
        }
    }

    /// Whether what stands at the path is still this mount.
    fn is_there(&self) -> bool {
        match mountpoint::mounted_at(&self.path) {
            Ok(Some(line)) => {
                line.fs_type == FS_TYPE && self.device.as_ref().is_none_or(|d| *d == line.device)
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount(Unmount::Detach) {
            tracing::warn!(%error, "the mount could not be taken away");
        }
    }
}
