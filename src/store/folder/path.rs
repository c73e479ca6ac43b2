//! From a key to a file, without ever leaving the folder: each segment is opened below the one before it, and a
//! symbolic link is never followed. That holds on every kernel, where `openat2` does not.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::call::Call;
use crate::object::Key;
use crate::store::{ErrorKind, StoreResult};

/// The name inside the folder that is ours.
pub(super) const PRIVATE: &str = ".bridgefs";

/// What a bridge keeps in every store stands beside the folder's own files.
const SHARED: [&str; 3] = [".bridgefs/owner", ".bridgefs/probe/", ".bridgefs/moving/"];

/// Why the folder cannot hold `key`, if it cannot.
pub(super) fn refusal(key: &Key) -> Option<&'static str> {
    if !key.is_path() {
        return Some(
            "a folder holds only keys that are paths: no empty, `.` or `..` segment, none over 255 bytes",
        );
    }
    let shared = SHARED.iter().any(|shared| key.as_str().starts_with(shared));
    (key.is_own() && !shared).then_some("the name `.bridgefs` is reserved for the store itself")
}

/// The directories of a key and the name of its file. Only for keys that [`refusal`] lets pass.
pub(super) fn split(key: &Key) -> (Vec<&str>, &str) {
    let mut segments: Vec<&str> = key.as_str().split('/').collect();
    let name = segments.pop().expect("a split gives at least one piece");
    (segments, name)
}

/// The open directories from the root to the one that holds a file.
#[derive(Debug)]
pub(super) struct Chain<'k> {
    root: OwnedFd,
    below: Vec<(&'k str, OwnedFd)>,
}

impl<'k> Chain<'k> {
    /// Opens the directories; `None` if one of them is not there or is no directory.
    pub(super) fn open(call: &Call, root: OwnedFd, segments: &[&'k str]) -> StoreResult<Option<Chain<'k>>> {
        let mut chain = Chain { root, below: Vec::with_capacity(segments.len()) };
        for segment in segments {
            match open_directory(chain.last(), segment) {
                Ok(directory) => chain.below.push((segment, directory)),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
                Err(error) => return Err(call.io(&format!("opening the directory `{segment}`"), error)),
            }
        }
        Ok(Some(chain))
    }

    /// Opens the directories and makes those that are missing.
    pub(super) fn make(call: &Call, root: OwnedFd, segments: &[&'k str]) -> StoreResult<Chain<'k>> {
        let mut chain = Chain { root, below: Vec::with_capacity(segments.len()) };
        for segment in segments {
            let directory = make_directory(call, chain.last(), segment)?;
            chain.below.push((segment, directory));
        }
        Ok(chain)
    }

    /// The directory that holds the file.
    pub(super) fn last(&self) -> &OwnedFd {
        self.below.last().map_or(&self.root, |(_, directory)| directory)
    }

    /// The same, kept open.
    pub(super) fn into_last(mut self) -> OwnedFd {
        self.below.pop().map_or(self.root, |(_, directory)| directory)
    }

    /// Removes the directories that have become empty, the deepest first: a store has no directories. Gives
    /// the deepest one that stays.
    pub(super) fn prune(mut self) -> OwnedFd {
        while let Some((name, directory)) = self.below.pop() {
            if unlinkat(self.last(), name, UnlinkatFlags::RemoveDir).is_err() {
                return directory;
            }
        }
        self.root
    }
}

/// Opens the directory `name` in `parent`; a symbolic link is ENOTDIR or ELOOP.
pub(super) fn open_directory(parent: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens the directory, which is made if it is missing. Somebody else's deletion may remove it between the
/// two steps, since it is empty: then both are done again.
fn make_directory(call: &Call, parent: &OwnedFd, name: &str) -> StoreResult<OwnedFd> {
    for _ in 0..8 {
        match open_directory(parent, name) {
            Ok(directory) => return Ok(directory),
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let detail = format!(
                    "`{name}` is a file in this folder: it cannot hold a key and another one below it"
                );
                return Err(call.fail(ErrorKind::Unsupported, detail));
            }
            Err(error) => return Err(call.io(&format!("opening the directory `{name}`"), error)),
        }
        match mkdirat(parent, name, Mode::from_bits_truncate(0o777)) {
            Ok(()) => fsync(parent).map_err(|error| call.io("syncing a directory", error))?,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(call.io(&format!("making the directory `{name}`"), error)),
        }
    }
    Err(call.fail(ErrorKind::Unavailable, format!("the directory `{name}` is removed again and again")))
}

/// Opens the regular file `name` in `parent`; `None` if there is none. `O_NONBLOCK`, because opening a pipe that
/// somebody left here would wait for ever.
pub(super) fn open_file(parent: &OwnedFd, name: &str) -> io::Result<Option<File>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(file.metadata()?.is_file().then_some(file))
}
