//! What is known and promised: nodes, replicas with their receipts, intents, tombstones, slices,
//! findings, events. SQLite, one writer with group commit, snapshot readers.
//!
//! | part | files |
//! |---|---|
//! | the file | `schema` (tables, migrations), `lock`, `check` |
//! | access | `writer` and `transaction` (group commit), `checkpoint`, `readers`, `meta` (single values, inode numbers) |
//! | the tree | `nodes` (rows), `paths`, `tree` (create, commit, unlink ...), `links` (further names), `rename`, `adopt`, `scan`, `xattrs`, `access` |
//! | the stores | `replicas`, `receipts`, `contents`, `intents`, `given_up`, `tombstones` |
//! | the operator | `slices`, `findings`, `events`, `summary` |
//!
//! Two rules hold everywhere and `check` looks for them: no tombstone stands at a key where a live replica
//! stands (its deletion would take the only copy), and whatever stops hiding a key is told to the scans
//! that run (or their old pages would bring it back).

mod access;
mod adopt;
mod check;
mod checkpoint;
mod contents;
mod error;
mod events;
mod findings;
mod given_up;
mod intents;
mod links;
mod lock;
mod meta;
mod nodes;
mod obstacles;
mod open;
mod paths;
mod readers;
mod receipts;
mod rename;
mod replicas;
mod scan;
mod schema;
mod slices;
mod summary;
mod tombstones;
mod transaction;
mod tree;
mod types;
mod uploads;
mod writer;
mod xattrs;

#[cfg(test)]
mod tests;

pub use error::{LedgerError, LedgerErrorKind, LedgerResult};
pub use obstacles::Obstacle;
pub use open::{Ledger, LedgerCounters, LedgerMode, LedgerOptions};
pub use rename::Renamed;
pub use replicas::Leaving;
pub use scan::{Scan, ScanId};
pub(crate) use slices::covers;
pub use types::*;
pub use uploads::OpenUpload;
