//! What is known and promised: nodes, replicas with their receipts, intents, tombstones, slices,
//! findings, events. SQLite, one writer with group commit, snapshot readers.

mod error;
mod stub;
mod types;

pub use error::{LedgerError, LedgerErrorKind, LedgerResult};
pub use stub::Scan;
pub use types::*;

use crate::clock::Clock;

/// The ledger of one bridge.
#[derive(Debug)]
pub struct Ledger {
    _options: LedgerOptions,
}

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Where writes run.
    pub mode: LedgerMode,
    /// Whether durable commits are synced to the disk; `false` only with `LedgerMode::Inline`, for speed.
    pub sync: bool,
    /// What time it is.
    pub clock: Clock,
}

/// Where writes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerMode {
    /// On a thread of their own, committed in groups.
    Threaded,
    /// On the calling thread, one at a time: for deterministic tests.
    Inline,
}

/// What the writer did since the ledger was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerCounters {
    /// Commits that were synced to the disk.
    pub syncs: u64,
    /// Commits.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
}

/// Names one scan; a later scan has a larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScanId(pub u64);

/// What a rename did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The node that was named, under its new name.
    pub moved: Node,
    /// What stood there before and is gone.
    pub replaced: Option<Removed>,
    /// With [`RenameMode::Exchange`]: the node that now has the old name.
    pub exchanged: Option<Node>,
}
