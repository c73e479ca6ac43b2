//! What is known and promised: nodes, replicas with their receipts, intents, tombstones, slices,
//! findings, events. SQLite, one writer with group commit, snapshot readers.

mod types;

pub use types::*;
