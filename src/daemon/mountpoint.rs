//! The directory that the bridge is mounted on: it must be there, be empty, and not be in use.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::{DaemonError, mounts};
use crate::config::Config;

/// Makes sure that a bridge can be mounted at `given`, and returns its real path. A bridgefs mount whose
/// daemon died is taken away first: it would answer everything with "Transport endpoint is not connected".
pub fn prepare_mountpoint(config: &Config, given: &Path) -> Result<PathBuf, DaemonError> {
    let refuse = |why: String| DaemonError::Mountpoint { why };
    let shown = given.display();
    let absolute = std::path::absolute(given).map_err(|error| refuse(format!("{shown}: {error}")))?;
    remove_dead_mount(&absolute)?;
    let at = absolute.canonicalize().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => refuse(format!("{shown} does not exist: make the directory first")),
        _ => refuse(format!("cannot look at the mountpoint {shown}: {error}")),
    })?;
    if let Some(kind) = mount_type(&at)? {
        return Err(refuse(format!(
            "{shown} is already a mount ({kind}): unmount it first, or choose another directory"
        )));
    }
    let mut entries = std::fs::read_dir(&at).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR) => refuse(format!("{shown} is no directory")),
        _ => refuse(format!("cannot look into {shown}: {error}")),
    })?;
    if entries.next().is_some() {
        return Err(refuse(format!(
            "{shown} is not empty: the mount would hide what is there; choose an empty directory"
        )));
    }
    config.conflict_with_mountpoint(&at).map_or(Ok(at), |why| Err(refuse(why)))
}

fn remove_dead_mount(at: &Path) -> Result<(), DaemonError> {
    let is_ours = mount_type(at)?.is_some_and(|kind| kind.starts_with("fuse.bridgefs"));
    let is_dead = |error: io::Error| error.raw_os_error() == Some(libc::ENOTCONN);
    if !is_ours || !std::fs::metadata(at).is_err_and(is_dead) {
        return Ok(());
    }
    let source = |errno: nix::errno::Errno| DaemonError::Mount { source: errno.into() };
    umount2(at, MntFlags::MNT_DETACH).map_err(source)
}

fn mount_type(at: &Path) -> Result<Option<String>, DaemonError> {
    mounts::type_at(at).map_err(|source| DaemonError::SetUp { what: "a look at the mount table", source })
}
