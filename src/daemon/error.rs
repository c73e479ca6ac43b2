use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::bridge::BridgeError;
use crate::cache::CacheError;
use crate::fuse::MountError;
use crate::ledger::LedgerError;
use crate::store::StoreError;

/// Why there is no mount, or why it ended badly: what happened, and what to do.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// A folder of the bridge's own cannot be made or written.
    #[error("cannot use {}: {source}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A store refused, or does not exist.
    #[error("store \"{name}\": {source}\n{advice}")]
    Store {
        /// Its name in the configuration.
        name: String,
        /// What it said.
        source: StoreError,
        /// What to do.
        advice: &'static str,
    },
    /// Stores, clocks or folders that would destroy data.
    #[error("{why}")]
    Unsafe {
        /// Why not, and what to do.
        why: String,
    },
    /// The ledger.
    #[error("the ledger in {}: {source}", .state_dir.display())]
    Ledger {
        /// Where it is.
        state_dir: PathBuf,
        /// What is wrong.
        source: LedgerError,
    },
    /// The cache.
    #[error("the cache in {}: {source}", .dir.display())]
    Cache {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong.
        source: CacheError,
    },
    /// The bridge could not recover what the last run left.
    #[error("cannot start: {source}. Nothing was changed; keep the state directory as it is")]
    Bridge {
        /// Why.
        #[from]
        source: BridgeError,
    },
    /// The mountpoint cannot be used, or the kernel refused.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The control socket, the runtime or a signal handler.
    #[error("cannot set up {what}: {source}")]
    SetUp {
        /// What.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The process could not go into the background.
    #[error("cannot go into the background: {source}")]
    Detach {
        /// Why.
        source: io::Error,
    },
    /// The daemon ended without a word.
    #[error("the daemon died while it started; see {}", .log.display())]
    Died {
        /// Where its last words are.
        log: PathBuf,
    },
    /// The daemon gave a reason.
    #[error("{reason}")]
    Reported {
        /// As it wrote it.
        reason: String,
    },
}
