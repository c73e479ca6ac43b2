//! What can go wrong, by what the caller does next.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rusqlite::ErrorCode;

/// The result of a ledger operation.
pub type LedgerResult<T> = Result<T, LedgerError>;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerErrorKind {
    /// The name is taken.
    Exists,
    /// No such node, name or row.
    NotFound,
    /// A name was used as a directory and is none.
    NotADirectory,
    /// The operation does not take a directory.
    IsADirectory,
    /// The directory still has entries.
    NotEmpty,
    /// A directory would become its own descendant.
    Loop,
    /// The node has as many names as it may have.
    TooManyLinks,
    /// The node has no such extended attribute.
    NoAttribute,
    /// More extended attributes than a store holds beside an object.
    NoRoom,
    /// The disk of the state directory is full. Nothing of the operation was kept; it may be tried again.
    Full,
    /// Another daemon holds the state directory.
    InUse,
    /// The database is damaged, or was written by a newer program. Restore or rebuild it.
    Damaged,
    /// The disk failed, or the writer refuses because it failed before. Reopen the ledger.
    Io,
}

/// An operation that left the ledger as it was.
#[derive(Debug, Clone)]
pub struct LedgerError {
    kind: LedgerErrorKind,
    detail: Box<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl LedgerError {
    pub(super) fn new(kind: LedgerErrorKind, detail: impl Into<Box<str>>) -> LedgerError {
        LedgerError { kind, detail: detail.into(), source: None }
    }

    pub(super) fn caused(
        kind: LedgerErrorKind,
        detail: impl Into<Box<str>>,
        source: impl Error + Send + Sync + 'static,
    ) -> LedgerError {
        LedgerError { kind, detail: detail.into(), source: Some(Arc::new(source)) }
    }

    /// What the caller does next.
    pub fn kind(&self) -> LedgerErrorKind {
        self.kind
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for LedgerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> LedgerError {
        // SQLite's own codes are an open set: what is not known is a failure of the disk.
        let (kind, what) = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => (LedgerErrorKind::Full, "the disk of the state directory is full"),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (LedgerErrorKind::Damaged, "the ledger is damaged")
            }
            Some(_) | None => (LedgerErrorKind::Io, "the ledger could not be read or written"),
        };
        LedgerError::caused(kind, format!("{what}: {error}"), error)
    }
}
