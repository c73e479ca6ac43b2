//! POSIX on the bridge: a plain object that needs no mount and no kernel.
//!
//! | file | what |
//! |---|---|
//! | `inodes` | the table of inodes in use and what is known of each |
//! | `handles` | numbers given to the kernel for what it has open |
//! | `staging` | the step from pinned content to a local file that can be changed |
//! | `open` | open, create's second half, release |
//! | `io` | read, write |
//! | `ranges` | allocation, holes, copies between open files |
//! | `commit` | flush, fsync, what happens when nobody is left to be told of a failure |
//! | `damage` | what a mapping stored and could not be kept |
//! | `access` | times of access |
//! | `attrs` | getattr, setattr |
//! | `xattrs` | extended attributes |
//! | `privileges` | set-ID bits and capabilities that end with a change |
//! | `names` | lookup, create, mkdir, symlink, unlink, rmdir |
//! | `rename` | rename in its three modes |
//! | `orphans` | what has no name any more and is still open, or known to the kernel |
//! | `dirs` | directories as streams |
//! | `disk` | local I/O of staged files where it may block |
//!
//! State lives with the inode, not with the handle: all who have a file open see one content. Memory grows
//! with the inodes in use, not with those that the kernel knows: inode numbers are the ledger's.

use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use crate::bridge::{Bridge, BridgeErrorKind, BridgeResult, Change, StatFs};
use crate::clock::{Clock, timeout};
use crate::object::{Ino, Version};

mod access;
mod attrs;
mod commit;
mod damage;
mod dirs;
mod disk;
mod error;
mod handles;
mod inodes;
mod io;
mod names;
mod open;
mod orphans;
mod privileges;
mod ranges;
mod rename;
mod staging;
mod xattrs;

#[cfg(test)]
mod tests;

pub use attrs::{FileInfo, SetAttrs};
pub use dirs::DirEntry;
pub use error::{FsError, FsResult};
pub use handles::HandleId;
pub use io::{Place, Writer};
pub use names::CreatedFile;
pub use open::{Access, Opened, Pages, Release, Truncate};

use handles::{DirHandle, FileHandle, Handles};
use inodes::{InodeRef, InodeTable};

/// Versions that are remembered as "the kernel's page cache holds this one".
const REMEMBERED_VERSIONS: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// Nodes without a name that are remembered until the kernel forgets them, about a kilobyte each; beyond, the
/// oldest that nobody has open are gone at once.
const NAMELESS_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// On whose behalf an operation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The process's file mode creation mask; the kernel has applied it already.
    pub umask: u32,
    /// Process, 0 where the kernel asks for itself.
    pub pid: u32,
}

/// What the operator chose.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// The longest that an operation waits for the bridge before it fails as unavailable. Not for content
    /// that is brought in or acknowledged: those have deadlines of their own, by progress.
    pub deadline: Duration,
    /// Whether a change of names or attributes is answered only when it survives a power failure, as `mount -o sync`
    /// and `dirsync` ask: of a FUSE mount the kernel sees to the content alone.
    pub sync_names: bool,
    /// The wall clock.
    pub clock: Clock,
}

impl Default for FsOptions {
    fn default() -> FsOptions {
        FsOptions { deadline: Duration::from_secs(60), sync_names: false, clock: Clock::System }
    }
}

/// A file that was closed while its last changes could not be committed. Nobody was left to be told, so
/// it stays here, and goes on being tried, until it succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// Which.
    pub ino: Ino,
    /// Why the last try failed.
    pub error: String,
}

/// The file system over one bridge.
#[derive(Debug)]
pub struct Fs {
    bridge: Arc<Bridge>,
    options: FsOptions,
    inodes: Arc<InodeTable>,
    files: Handles<FileHandle>,
    dirs: Handles<DirHandle>,
    /// Changed, closed, and not committed: kept in the table by the reference.
    unsettled: Mutex<HashMap<Ino, (InodeRef, String)>>,
    failed_commits: AtomicU64,
    /// Nodes without a name that the kernel may still ask about, kept in the table by the reference.
    nameless: Mutex<LruCache<Ino, InodeRef>>,
    unless: access::Unless,
    /// The version that was last opened or committed through this mount; none if that content is lost.
    seen: Mutex<LruCache<Ino, Option<Version>>>,
}

impl Fs {
    /// A file system over `bridge`. Its operations must run inside a tokio runtime.
    pub fn new(bridge: Arc<Bridge>, options: FsOptions) -> Arc<Fs> {
        Arc::new(Fs {
            bridge,
            options,
            inodes: Arc::default(),
            files: Handles::default(),
            dirs: Handles::default(),
            unsettled: Mutex::default(),
            failed_commits: AtomicU64::new(0),
            unless: access::Unless::default(),
            nameless: Mutex::new(LruCache::new(NAMELESS_MAX)),
            seen: Mutex::new(LruCache::new(REMEMBERED_VERSIONS)),
        })
    }

    /// The size of the mount: from local knowledge only.
    pub fn statfs(&self) -> FsResult<StatFs> {
        Ok(self.bridge.statfs()?)
    }

    /// Files whose last changes could not be committed when they were closed.
    pub fn unsettled(&self) -> Vec<Unsettled> {
        let unsettled = self.unsettled.lock();
        unsettled.iter().map(|(ino, (_, error))| Unsettled { ino: *ino, error: error.clone() }).collect()
    }

    /// Commits that failed after the last `close` that could have been told, since the start.
    pub fn failed_commits(&self) -> u64 {
        self.failed_commits.load(Ordering::Relaxed)
    }

    /// Inodes that are in use right now.
    pub fn open_inodes(&self) -> usize {
        self.inodes.len()
    }

    /// A question to the bridge, with the deadline.
    async fn ask<T>(&self, question: impl Future<Output = BridgeResult<T>>) -> FsResult<T> {
        Ok(self.in_time(question).await??)
    }

    /// What is waited for with the deadline.
    async fn in_time<T>(&self, wait: impl Future<Output = T>) -> FsResult<T> {
        timeout(self.options.deadline, wait).await.map_err(|_elapsed| self.too_late())
    }

    /// A change: runs to its end whatever becomes of who asked for it. Past the deadline the caller gets an error, and
    /// what only waits for a store until then is given up: nothing happens later behind the back of who was told that
    /// it failed. What has begun has the local disk to wait for, and as long again.
    async fn carry_out<T, E>(
        &self,
        change: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> FsResult<T>
    where
        T: Send + 'static,
        E: Into<FsError> + Send + 'static,
    {
        let promise = Arc::new(Change::default());
        let mut running = tokio::spawn(Arc::clone(&promise).run(change));
        let mut ended = timeout(self.options.deadline, &mut running).await;
        if ended.is_err() && !promise.give_up() {
            ended = timeout(self.options.deadline, &mut running).await;
        }
        match ended {
            Ok(Ok(done)) => {
                let done = done.map_err(Into::into)?;
                if self.options.sync_names {
                    self.bridge.sync_namespace().await?;
                }
                Ok(done)
            }
            Ok(Err(panic)) => Err(FsError::bridge(BridgeErrorKind::Damaged, format!("a bug: {panic}"))),
            Err(_elapsed) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> FsError {
        let detail = format!("no answer within {:?}", self.options.deadline);
        FsError::bridge(BridgeErrorKind::Unavailable, detail)
    }
}
