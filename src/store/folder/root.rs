use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::StoreId;
use super::call::Call;
use super::path::{PRIVATE, open_directory};
use super::record::probe_attributes;
use crate::store::{ErrorKind, StoreError, StoreResult};

const MARKER: &str = "store";
const LOCK: &str = "lock";
const TMP: &str = "tmp";
const UPLOADS: &str = "uploads";

/// The folder by its path. It is opened anew for each call, so that a folder whose file system is mounted,
/// unmounted or swapped is seen as what it is now.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    id: OnceLock<StoreId>,
}

/// The folder, opened and recognised.
#[derive(Debug)]
pub(super) struct OpenRoot {
    pub(super) folder: OwnedFd,
    private: OwnedFd,
}

/// Mutations of one folder exclude each other, in this process and in others, while this lives.
#[derive(Debug)]
pub(super) struct RootLock(#[expect(dead_code, reason = "held for its Drop")] Flock<File>);

impl Root {
    pub(super) fn new(path: &Path, id: Option<StoreId>) -> Root {
        Root { path: path.to_owned(), id: id.map_or_else(OnceLock::new, OnceLock::from) }
    }

    pub(super) fn id(&self) -> Option<&StoreId> {
        self.id.get()
    }

    /// Opens the folder. Whatever is wrong with it says nothing about any object in it: an empty mount point
    /// would otherwise read as "everything was deleted" and swallow what is written.
    pub(super) fn open(&self, call: &Call) -> StoreResult<OpenRoot> {
        let folder = self.open_folder(call)?;
        let gone = |error: Errno| self.is_not_the_store(call, &format!("opening `{PRIVATE}`"), error.into());
        let private = open_directory(&folder, PRIVATE).map_err(gone)?;
        let root = OpenRoot { folder, private };
        let found = root.read_marker().map_err(|error| self.is_not_the_store(call, "its marker", error))?;
        let expected = self.id.get_or_init(|| found.clone());
        if *expected != found {
            let detail = format!("{} is another store: {found:?}, not {expected:?}", self.path.display());
            return Err(call.fail(ErrorKind::Unavailable, detail));
        }
        Ok(root)
    }

    /// Makes the folder a store if it is none yet, and takes away what a crash left.
    pub(super) fn create(&self, call: &Call) -> StoreResult<OpenRoot> {
        match std::fs::create_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(call.io(&format!("making {}", self.path.display()), error));
            }
            Ok(()) | Err(_) => {}
        }
        let folder = self.open_folder(call)?;
        let failed = |error: io::Error| call.io("preparing the folder", error);
        make_private(&folder, PRIVATE).map_err(failed)?;
        let private = open_directory(&folder, PRIVATE).map_err(|error| failed(error.into()))?;
        for name in [TMP, UPLOADS] {
            make_private(&private, name).map_err(failed)?;
        }
        let root = OpenRoot { folder, private };
        let lock = root.lock(call)?;
        if matches!(root.read_marker(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            root.write_marker().map_err(failed)?;
        }
        root.sweep().map_err(failed)?;
        drop(lock);
        self.open(call)
    }

    fn open_folder(&self, call: &Call) -> StoreResult<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(&self.path, flags, Mode::empty())
            .map_err(|error| call.io(&format!("opening {}", self.path.display()), error))
    }

    fn is_not_the_store(&self, call: &Call, what: &str, error: io::Error) -> StoreError {
        let path = self.path.display();
        call.io(&format!("{path} is not a store now (is its file system mounted?): {what}"), error)
    }
}

impl OpenRoot {
    /// A second handle on the folder.
    pub(super) fn reopen(&self, call: &Call) -> StoreResult<OwnedFd> {
        self.folder.try_clone().map_err(|error| call.io("opening the folder", error))
    }

    /// The directory of temporary files.
    pub(super) fn tmp(&self, call: &Call) -> StoreResult<OwnedFd> {
        open_directory(&self.private, TMP).map_err(|error| call.io("opening .bridgefs/tmp", error))
    }

    /// The directory of uploads.
    pub(super) fn uploads(&self, call: &Call) -> StoreResult<OwnedFd> {
        open_directory(&self.private, UPLOADS).map_err(|error| call.io("opening .bridgefs/uploads", error))
    }

    /// Waits for the folder's lock. It is held only for a rename or an attribute, never for a transfer.
    pub(super) fn lock(&self, call: &Call) -> StoreResult<RootLock> {
        let failed = |error: Errno| call.io("locking the folder", error);
        let mut file = File::from(create_at(&self.private, LOCK, OFlag::O_RDWR).map_err(failed)?);
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(RootLock(lock)),
                Err((again, Errno::EINTR)) => file = again,
                Err((_, error)) => return Err(failed(error)),
            }
        }
    }

    fn read_marker(&self) -> io::Result<StoreId> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut text = String::new();
        File::from(openat(&self.private, MARKER, flags, Mode::empty())?).read_to_string(&mut text)?;
        Ok(StoreId(text.trim().to_owned()))
    }

    fn write_marker(&self) -> io::Result<()> {
        let new = "store.new";
        let mut file = File::from(create_at(&self.private, new, OFlag::O_WRONLY | OFlag::O_TRUNC)?);
        probe_attributes(&file)?;
        writeln!(file, "{:032x}", rand::random::<u128>())?;
        file.sync_all()?;
        renameat(&self.private, new, &self.private, MARKER)?;
        Ok(fsync(&self.private)?)
    }

    /// Removes temporary files that nobody is writing: their writer holds a lock on each as long as it lives.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let tmp = open_directory(&self.private, TMP)?;
        let mut listing = Dir::from_fd(open_directory(&self.private, TMP)?)?;
        for entry in listing.iter() {
            let entry = entry?;
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let Ok(file) = openat(&tmp, entry.file_name(), flags, Mode::empty()) else { continue };
            if Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock).is_ok() {
                match unlinkat(&tmp, entry.file_name(), UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn create_at(directory: &OwnedFd, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let flags = flags | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::from_bits_truncate(0o600))
}

fn make_private(parent: &OwnedFd, name: &str) -> io::Result<()> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => Ok(fsync(parent)?),
        Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
