use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::call::Call;
use super::path::{Chain, open_file, split};
use super::record::{Record, describe};
use super::root::OpenRoot;
use crate::object::{ETag, Key};
use crate::store::{Condition, ErrorKind, StoreResult};

/// A change that is done, and the directory to sync before it may be told.
pub(super) type Done<T> = (T, Option<OwnedFd>);

/// A file that has no name among the objects yet. If it never gets one, it goes with its handle, and after
/// a crash with the next [`sweep`](super::FolderStore::sweep): its lock tells that nobody writes it.
#[derive(Debug)]
pub(super) struct TempFile {
    directory: OwnedFd,
    name: String,
    file: Flock<File>,
}

impl Drop for TempFile {
    fn drop(&mut self) {
        match unlinkat(&self.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => {
                tracing::warn!(%error, name = self.name, "a temporary file stays until the next start");
            }
        }
    }
}

impl TempFile {
    /// A file that `fill` has written, with its metadata, on the disk.
    pub(super) fn write(
        call: &Call,
        root: &OpenRoot,
        record: Option<&Record>,
        fill: impl FnOnce(&mut File) -> StoreResult<()>,
    ) -> StoreResult<TempFile> {
        let mut temp = TempFile::create(call, root)?;
        fill(&mut temp.file)?;
        if let Some(record) = record {
            record.apply(call, &temp.file)?;
        }
        temp.file.sync_all().map_err(|error| call.io("syncing the content", error))?;
        Ok(temp)
    }

    fn create(call: &Call, root: &OpenRoot) -> StoreResult<TempFile> {
        let directory = root.tmp(call)?;
        let name = format!("{:032x}", rand::random::<u128>());
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&directory, name.as_str(), flags, Mode::from_bits_truncate(0o600))
            .map_err(|error| call.io("making a temporary file", error))?;
        let file = Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock)
            .map_err(|(_, error)| call.io("locking a temporary file", error))?;
        Ok(TempFile { directory, name, file })
    }

    /// Gives it the name of `key` if `condition` holds. The caller holds the folder's lock.
    pub(super) fn publish(
        &self,
        call: &Call,
        root: &OpenRoot,
        key: &Key,
        condition: &Condition,
    ) -> StoreResult<Done<ETag>> {
        check(call, root, key, condition)?;
        let (segments, name) = split(key);
        for _ in 0..8 {
            let chain = Chain::make(call, root.reopen(call)?, &segments)?;
            make_room(call, chain.last(), name)?;
            match renameat(&self.directory, self.name.as_str(), chain.last(), name) {
                Ok(()) => return Ok((describe(call, &self.file)?.etag, Some(chain.into_last()))),
                // Another program removed the directory that was just made: once more.
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(call.io("giving the file its name", error)),
            }
        }
        Err(call.fail(ErrorKind::Unavailable, "the directory is removed again and again"))
    }

    /// Gives it the name `name` in a directory of our own.
    pub(super) fn move_to(&self, call: &Call, directory: &OwnedFd, name: &str) -> StoreResult<()> {
        renameat(&self.directory, self.name.as_str(), directory, name)
            .map_err(|error| call.io("giving the part its name", error))
    }
}

/// The file of `key`; `None` is a positive answer.
pub(super) fn find(call: &Call, root: &OpenRoot, key: &Key) -> StoreResult<Option<File>> {
    let (segments, name) = split(key);
    let Some(chain) = Chain::open(call, root.reopen(call)?, &segments)? else { return Ok(None) };
    open_file(chain.last(), name).map_err(|error| call.io("opening the file", error))
}

fn check(call: &Call, root: &OpenRoot, key: &Key, condition: &Condition) -> StoreResult<()> {
    if *condition == Condition::Always {
        return Ok(());
    }
    let there = match find(call, root, key)? {
        Some(file) => Some(describe(call, &file)?.etag),
        None => None,
    };
    match (condition, &there) {
        (Condition::Always, _) | (Condition::Absent, None) => Ok(()),
        (Condition::Matches(wanted), Some(there)) if wanted == there => Ok(()),
        (Condition::Absent | Condition::Matches(_), Some(there)) => Err(changed(call, there)),
        (Condition::Matches(_), None) => Err(call.fail(ErrorKind::PreconditionFailed, "nothing is there")),
    }
}

pub(super) fn changed(call: &Call, there: &ETag) -> crate::store::StoreError {
    call.fail(ErrorKind::PreconditionFailed, format!("the object has the tag {there}"))
}

/// Makes sure that a rename to `name` replaces a plain file or nothing.
fn make_room(call: &Call, parent: &OwnedFd, name: &str) -> StoreResult<()> {
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(call.io("looking at what is there", error)),
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFREG {
        Ok(())
    } else if kind != SFlag::S_IFDIR {
        let detail = format!("`{name}` is a link or a device in this folder, which is not ours to replace");
        Err(call.fail(ErrorKind::Unsupported, detail))
    } else {
        // A directory that a crash or another program left empty holds no object.
        unlinkat(parent, name, UnlinkatFlags::RemoveDir).map_err(|error| {
            if !matches!(error, Errno::ENOTEMPTY | Errno::EEXIST) {
                return call.io("removing an empty directory", error);
            }
            let detail = format!(
                "`{name}` is a directory in this folder: it cannot hold a key and another one below it"
            );
            call.fail(ErrorKind::Unsupported, detail).caused_by(io::Error::from(error))
        })
    }
}

/// Removes the file of `key`, in the state `if_match`, and the directories that it leaves empty. The caller
/// holds the folder's lock.
pub(super) fn remove(
    call: &Call,
    root: &OpenRoot,
    key: &Key,
    if_match: Option<&ETag>,
) -> StoreResult<Done<()>> {
    let (segments, name) = split(key);
    let chain = Chain::open(call, root.reopen(call)?, &segments)?.ok_or_else(|| call.not_found())?;
    let file = open_file(chain.last(), name).map_err(|error| call.io("opening the file", error))?;
    let file = file.ok_or_else(|| call.not_found())?;
    if let Some(wanted) = if_match {
        let there = describe(call, &file)?.etag;
        if there != *wanted {
            return Err(changed(call, &there));
        }
    }
    unlinkat(chain.last(), name, UnlinkatFlags::NoRemoveDir)
        .map_err(|error| call.io("removing the file", error))?;
    Ok(((), Some(chain.prune())))
}
