use std::path::{Path, PathBuf};

use super::DaemonError;
use crate::config::Config;
use crate::fuse;

/// Makes sure that a bridge of this configuration can be mounted at `given`, and returns its real path. A
/// bridgefs mount whose daemon died is taken away first.
pub fn prepare_mountpoint(config: &Config, given: &Path) -> Result<PathBuf, DaemonError> {
    let at = fuse::prepare(given)?;
    config.conflict_with_mountpoint(&at).map_or(Ok(at), |why| Err(DaemonError::Unsafe { why }))
}
