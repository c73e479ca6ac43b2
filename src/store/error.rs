use std::error::Error;
use std::fmt;

use crate::object::Key;

/// What went wrong, by what the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A positive answer: nothing is there.
    NotFound,
    /// Something else is there than the condition said: look again.
    PreconditionFailed,
    /// No answer, or one that says nothing about the object (timeout, 5xx, open breaker): ask the other
    /// store, try again later. A mutation may have happened.
    Unavailable,
    /// The store asks to be slower (429, 503 SlowDown): try again later, with less.
    Throttled,
    /// The credentials do not allow it (401, 403): unknown, not absent; a person must act.
    Denied,
    /// Object lock, legal hold, archive tier: this object cannot be changed or read now; a finding.
    Locked,
    /// The store cannot hold or do this (illegal key, too many bytes): never by trying again; a finding.
    Unsupported,
    /// Bytes, length, checksum or answer are not what was promised: ask the other store; a finding.
    Corrupt,
}

impl ErrorKind {
    /// All kinds, for tables of metrics and tests.
    pub const ALL: [ErrorKind; 8] = [
        ErrorKind::NotFound,
        ErrorKind::PreconditionFailed,
        ErrorKind::Unavailable,
        ErrorKind::Throttled,
        ErrorKind::Denied,
        ErrorKind::Locked,
        ErrorKind::Unsupported,
        ErrorKind::Corrupt,
    ];

    /// The word of the kind, in metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not-found",
            ErrorKind::PreconditionFailed => "precondition-failed",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Throttled => "throttled",
            ErrorKind::Denied => "denied",
            ErrorKind::Locked => "locked",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Corrupt => "corrupt",
        }
    }

    /// Whether the answer leaves open what the store holds.
    pub const fn is_unknown(self) -> bool {
        matches!(self, ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Denied)
    }
}

/// A failed call to one store: which operation on which key, and why.
#[derive(Debug)]
pub struct StoreError {
    kind: ErrorKind,
    operation: &'static str,
    key: Option<Key>,
    detail: String,
    may_yet_happen: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of `operation`, explained by `detail`.
    pub fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> StoreError {
        let may_yet_happen = kind == ErrorKind::Unavailable;
        StoreError { kind, operation, key: None, detail: detail.into(), may_yet_happen, source: None }
    }

    /// The same, of a call that is over: it was never sent, or has ended. It will not take effect later.
    #[must_use]
    pub fn settled(mut self) -> StoreError {
        self.may_yet_happen = false;
        self
    }

    /// The same, with the key that it was about.
    #[must_use]
    pub fn on(mut self, key: &Key) -> StoreError {
        self.key = Some(key.clone());
        self
    }

    /// The same, with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        self.source = Some(source.into());
        self
    }

    /// What the caller does next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the answer was lost: a mutation may take effect later, after whatever is done next.
    pub fn may_yet_happen(&self) -> bool {
        self.may_yet_happen
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if let Some(key) = &self.key {
            write!(f, " `{key}`")?;
        }
        write!(f, ": {}: {}", self.kind.as_str(), self.detail)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
