use std::error::Error;
use std::fmt;
use std::io;

use crate::ledger::{LedgerError, LedgerErrorKind};
use crate::object::{Key, Side};
use crate::store::{ErrorKind, StoreError};

/// What went wrong, by what the caller does next. `fuse` maps each to one errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BridgeErrorKind {
    /// The name or node is not there.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory is needed.
    NotADirectory,
    /// A file is needed.
    IsADirectory,
    /// The directory has entries.
    NotEmpty,
    /// A directory cannot move into itself.
    Loop,
    /// Two slices with different routes: copy instead.
    CrossSlice,
    /// No store can hold the name.
    IllegalName,
    /// The file has as many names as it may have.
    TooManyLinks,
    /// The name or the whole key is too long.
    NameTooLong,
    /// The local disk, or its share for staged data, or the room beside an object is full.
    NoSpace,
    /// There is no such extended attribute.
    NoAttribute,
    /// No store that has it could be reached in time. Nothing acknowledged is lost; try again.
    Unavailable,
    /// The content that an open file was pinned to is no longer anywhere.
    Stale,
    /// What was acknowledged last was only on this host, and is not whole any more. A finding says what is left.
    Lost,
    /// The ledger, the cache or every replica is damaged.
    Damaged,
}

/// A failed operation of the bridge.
#[derive(Debug)]
pub struct BridgeError {
    kind: BridgeErrorKind,
    side: Option<Side>,
    key: Option<Key>,
    detail: String,
    store_kind: Option<ErrorKind>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The answer of the bridge.
pub type BridgeResult<T> = Result<T, BridgeError>;

impl BridgeError {
    /// A failure, explained by `detail`.
    pub fn new(kind: BridgeErrorKind, detail: impl Into<String>) -> BridgeError {
        BridgeError { kind, side: None, key: None, detail: detail.into(), store_kind: None, source: None }
    }

    /// The same, with the key that it was about.
    #[must_use]
    pub fn on(mut self, key: &Key) -> BridgeError {
        self.key = Some(key.clone());
        self
    }

    /// A store's failure that no other store could make good.
    pub(crate) fn from_store(side: Side, error: StoreError) -> BridgeError {
        let kind = match error.kind() {
            ErrorKind::NotFound | ErrorKind::PreconditionFailed => BridgeErrorKind::Stale,
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Denied | ErrorKind::Locked => {
                BridgeErrorKind::Unavailable
            }
            ErrorKind::Unsupported => BridgeErrorKind::IllegalName,
            ErrorKind::Corrupt => BridgeErrorKind::Damaged,
        };
        let (detail, store_kind) = (error.to_string(), Some(error.kind()));
        BridgeError { kind, side: Some(side), key: None, detail, store_kind, source: Some(error.into()) }
    }

    /// A failure of the local disk.
    pub(crate) fn from_disk(what: &str, error: io::Error) -> BridgeError {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let kind = if full { BridgeErrorKind::NoSpace } else { BridgeErrorKind::Damaged };
        let detail = format!("{what}: {error}");
        BridgeError { kind, side: None, key: None, detail, store_kind: None, source: Some(error.into()) }
    }

    /// What the caller does next.
    pub fn kind(&self) -> BridgeErrorKind {
        self.kind
    }

    /// What the store answered, if one did.
    pub(crate) fn store_kind(&self) -> Option<ErrorKind> {
        self.store_kind
    }
}

impl From<LedgerError> for BridgeError {
    fn from(error: LedgerError) -> BridgeError {
        let kind = match error.kind() {
            LedgerErrorKind::NotFound => BridgeErrorKind::NotFound,
            LedgerErrorKind::Exists => BridgeErrorKind::Exists,
            LedgerErrorKind::NotADirectory => BridgeErrorKind::NotADirectory,
            LedgerErrorKind::IsADirectory => BridgeErrorKind::IsADirectory,
            LedgerErrorKind::NotEmpty => BridgeErrorKind::NotEmpty,
            LedgerErrorKind::Loop => BridgeErrorKind::Loop,
            LedgerErrorKind::TooManyLinks => BridgeErrorKind::TooManyLinks,
            LedgerErrorKind::Full | LedgerErrorKind::NoRoom => BridgeErrorKind::NoSpace,
            LedgerErrorKind::NoAttribute => BridgeErrorKind::NoAttribute,
            LedgerErrorKind::InUse | LedgerErrorKind::Damaged | LedgerErrorKind::Io => {
                BridgeErrorKind::Damaged
            }
        };
        let detail = error.to_string();
        BridgeError { kind, side: None, key: None, detail, store_kind: None, source: Some(error.into()) }
    }
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = self.side {
            write!(f, "{side} store: ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.detail)
    }
}

impl Error for BridgeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
