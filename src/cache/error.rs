use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a cache directory cannot be used.
#[derive(Debug, Error)]
pub enum CacheError {
    /// Another bridge's unfinished writes are in it. Refused: they may be the only copy.
    #[error(
        "{} holds {files} staged files of another bridge ({found:?}), which may be the only copy of \
         that data: mount that bridge to finish its uploads, or name another cache directory",
        dir.display()
    )]
    Foreign {
        /// The cache directory.
        dir: PathBuf,
        /// Whose it says it is; empty if it does not say.
        found: String,
        /// Count of staged files.
        files: usize,
    },
    /// The directory could not be read or prepared.
    #[error("cache directory {}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Staged data is at its limit and stayed there until the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{staged} bytes are staged and {wanted} more do not fit under the limit of {limit}")]
pub struct NoSpace {
    /// Staged bytes at the deadline.
    pub staged: u64,
    /// Bytes that were asked for.
    pub wanted: u64,
    /// The limit.
    pub limit: u64,
}
