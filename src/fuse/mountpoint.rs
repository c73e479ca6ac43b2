//! The directory that is mounted on: what is there, and whether we may have it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::statvfs::statvfs;
use thiserror::Error;

/// What `/proc/self/mountinfo` calls our mounts.
pub(super) const FS_TYPE: &str = "fuse.bridgefs";

/// Why there is no mount. Each message says what to do.
#[derive(Debug, Error)]
pub enum MountError {
    /// The mountpoint is missing or is no directory.
    #[error("the mountpoint {} cannot be used: {source}. It must be an empty directory: {}", path.display(), to_do(source))]
    NoDirectory {
        /// The mountpoint.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Files would be hidden by the mount.
    #[error("the mountpoint {} is not empty, and its files would be hidden. Use an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// It is mounted already.
    #[error("{} is mounted already. `bridgefs umount` it first, or use another directory", .0.display())]
    AlreadyMounted(PathBuf),
    /// There is a dead mount of something else.
    #[error("{} is a dead mount that is not ours ({fs_type}). Unmount it with `umount -l` first", path.display())]
    DeadForeign {
        /// The mountpoint.
        path: PathBuf,
        /// What is mounted there.
        fs_type: String,
    },
    /// The kernel has no FUSE here.
    #[error(
        "there is no /dev/fuse ({0}). Load the kernel module (`modprobe fuse`); in a container, pass the device in"
    )]
    NoDevice(io::Error),
    /// Mounting needs a privilege.
    #[error("mounting is not permitted ({0}). Run as root; in a container, add the capability SYS_ADMIN")]
    NotPermitted(io::Error),
    /// What is there is not ours to change.
    #[error("{} is no bridgefs mount; nothing was done", .0.display())]
    NotOurs(PathBuf),
    /// Files are open for writing, and it was to become read-only.
    #[error(
        "{} cannot be made read-only: files are open for writing. Close what writes (`fuser -vm` shows it)", .0.display()
    )]
    Written(PathBuf),
    /// Files are open on the mount.
    #[error("{} is in use. Close what uses it (`fuser -vm` shows it), or force it", .0.display())]
    Busy(PathBuf),
    /// Anything else.
    #[error("{what} failed on {}: {source}", path.display())]
    Other {
        /// What was tried.
        what: &'static str,
        /// The mountpoint.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn to_do(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound { "create it and mount again" } else { "name another one" }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountLine {
    /// `major:minor`.
    pub(super) device: String,
    path: PathBuf,
    /// Of this mount, as `mount -o` has them.
    options: String,
    pub(super) fs_type: String,
}

impl MountLine {
    /// Whether `option` holds for the mount.
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|word| word == option)
    }
}

/// What is mounted on top at exactly `path`, if anything. Asks only the kernel's table, never the mount.
pub(super) fn mounted_at(path: &Path) -> io::Result<Option<MountLine>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(table.lines().filter_map(parse).rfind(|line| line.path == path))
}

/// Whether what is mounted at `path` is not to note reads, as the kernel has it now: a remount asks nobody else.
pub(super) fn keeps_access_times(path: &Path) -> bool {
    let line = mounted_at(path).ok().flatten().filter(|line| line.fs_type == FS_TYPE);
    line.is_some_and(|line| line.has("ro") || line.has("noatime"))
}

/// Whether a bridgefs mount, alive or dead, is on top at exactly `path`.
pub fn is_mounted(path: &Path) -> io::Result<bool> {
    Ok(mounted_at(path)?.is_some_and(|line| line.fs_type == FS_TYPE))
}

fn parse(line: &str) -> Option<MountLine> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (device, path, options) = (fields.nth(2)?, fields.nth(1)?, fields.next()?.to_owned());
    let fs_type = after.split(' ').next()?;
    let (device, fs_type) = (device.to_owned(), fs_type.to_owned());
    Some(MountLine { device, path: unescape(path).into(), options, fs_type })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(path: &str) -> String {
    let octals = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    octals.iter().fold(path.to_owned(), |path, (code, char)| path.replace(code, char))
}

/// Makes sure that `path` can be mounted on -> its absolute form. A dead mount that an earlier daemon left behind
/// is no hindrance, and stays until [`make_free`]: as long as it is there, programs get errors, and without it
/// they would write into the directory below.
pub fn prepare(path: &Path) -> Result<PathBuf, MountError> {
    let path = absolute(path)?;
    let other = |what, source| MountError::Other { what, path: path.clone(), source };
    let mounted = mounted_at(&path).map_err(|e| other("reading /proc/self/mountinfo", e))?;
    if let Some(line) = mounted {
        match (is_dead(&path), line.fs_type == FS_TYPE) {
            (true, true) => return Ok(path),
            (true, false) => return Err(MountError::DeadForeign { path, fs_type: line.fs_type }),
            (false, true) => return Err(MountError::AlreadyMounted(path)),
            (false, false) => {}
        }
    }
    let no_directory = |source| MountError::NoDirectory { path: path.clone(), source };
    let mut entries = fs::read_dir(&path).map_err(no_directory)?;
    match entries.next() {
        None => Ok(path),
        Some(_) => Err(MountError::NotEmpty(path)),
    }
}

/// Takes away dead mounts of earlier daemons, to be mounted in their place at once. What programs managed to write
/// into the directory below is said, and no reason to stay away: they are writing.
pub(super) fn make_free(path: &Path) -> Result<(), MountError> {
    let other = |what, source| MountError::Other { what, path: path.to_owned(), source };
    let mut was_dead = false;
    while is_mounted(path).map_err(|e| other("reading /proc/self/mountinfo", e))? && is_dead(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(|e| other("removing a dead mount", e.into()))?;
        was_dead = true;
    }
    if was_dead && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        tracing::warn!(
            mountpoint = %path.display(),
            "there are files in the directory below the mountpoint, written while nothing was mounted: they are on no store, \
             and hidden by the mount. Look at them through a bind mount of the parent directory, and copy what is wanted \
             into the mount"
        );
    }
    Ok(())
}

/// Whether nobody serves the mount any more. Asked with `statfs`, which the kernel never answers by itself:
/// attributes it would still have in its cache.
fn is_dead(path: &Path) -> bool {
    statvfs(path).is_err_and(|errno| errno == Errno::ENOTCONN)
}

/// Without touching the last part, which may be a dead mount that nothing can look into.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, MountError> {
    let no_directory = |source| MountError::NoDirectory { path: path.to_owned(), source };
    let full = std::path::absolute(path).map_err(no_directory)?;
    match (full.parent(), full.file_name()) {
        (Some(parent), Some(name)) => {
            let full = parent.canonicalize().map_err(no_directory)?.join(name);
            match full.is_symlink() {
                true => full.canonicalize().map_err(no_directory),
                false => Ok(full),
            }
        }
        _ => Ok(full),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{MountError, parse, prepare};

    #[test]
    fn a_line_of_the_mount_table_is_understood() {
        let line = "61 27 0:45 / /mnt/a\\040b rw,nosuid - fuse.bridgefs bridgefs rw,user_id=0";
        let parsed = parse(line).expect("a line");
        assert_eq!(parsed.device, "0:45");
        assert_eq!(parsed.path.to_str(), Some("/mnt/a b"));
        assert_eq!(parsed.fs_type, "fuse.bridgefs");
        assert!(parsed.has("nosuid") && !parsed.has("suid") && !parsed.has("nodev"));
    }

    #[test]
    fn only_an_empty_directory_is_mounted_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("empty")).expect("made");
        fs::write(at("file"), "").expect("made");
        assert!(prepare(&at("empty")).is_ok());
        assert!(matches!(prepare(&at("file")), Err(MountError::NoDirectory { .. })));
        assert!(matches!(prepare(&at("missing")), Err(MountError::NoDirectory { .. })));
        assert!(matches!(prepare(dir.path()), Err(MountError::NotEmpty(_))));
    }
}
