//! The words of the `[bridge]` table.

use std::time::Duration;

/// What must be true before `fsync` and `close` return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckPolicy {
    /// The content is in the journal of this host.
    Journal,
    /// The primary store has it.
    Primary,
    /// Both stores have it.
    Both,
}

/// Whether others change the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coherence {
    /// Nobody else does: the ledger is the truth.
    Exclusive,
    /// What the ledger knows is asked again after so long.
    Ttl(Duration),
}

/// Whether an object without receipt may be read from the store that is not preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnprovenReads {
    /// Yes, and it is counted.
    Allow,
    /// No: the read fails.
    Deny,
}
