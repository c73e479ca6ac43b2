use thiserror::Error;

use crate::bridge::{BridgeError, BridgeErrorKind};
use crate::object::Ino;

/// The answer of the file system.
pub type FsResult<T> = Result<T, FsError>;

/// Why an operation failed. `fuse` maps each to one errno.
#[derive(Debug, Error)]
pub enum FsError {
    /// The bridge said so.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The handle is not open, or not in the way that the operation needs.
    #[error("no such open file")]
    BadHandle,
    /// An earlier failure of the local disk left the content in doubt: nothing is written over it until
    /// all have closed the file.
    #[error("writes to inode {0} are refused since the local disk failed; close the file and open it again")]
    Refused(Ino),
    /// Something that a mapping stored could not be kept: the content is neither read nor committed until all
    /// have closed the file, or it is cut to nothing.
    #[error("a part of what was stored in inode {0} through a mapping is lost; close the file")]
    Damaged(Ino),
    /// The end lies beyond what a file can have.
    #[error("the file would be too large")]
    TooLarge,
    /// The disk under the local files cannot do this.
    #[error("the disk cannot do this: {0}")]
    Unsupported(String),
    /// The arguments make no sense for this node.
    #[error("{0}")]
    Invalid(&'static str),
    /// Only the owner may do this.
    #[error("only the owner of the file may do this")]
    NotOwner,
    /// An extended attribute that cannot be kept here.
    #[error("{0}")]
    NotKept(&'static str),
}

impl FsError {
    /// A failure of the bridge's kinds that the file system itself saw.
    pub(super) fn bridge(kind: BridgeErrorKind, detail: impl Into<String>) -> FsError {
        FsError::Bridge(BridgeError::new(kind, detail))
    }

    /// The node or name is not there.
    pub(super) fn not_found(detail: impl Into<String>) -> FsError {
        FsError::bridge(BridgeErrorKind::NotFound, detail)
    }

    /// The bridge's kind, if the bridge's.
    pub fn bridge_kind(&self) -> Option<BridgeErrorKind> {
        match self {
            FsError::Bridge(error) => Some(error.kind()),
            FsError::BadHandle
            | FsError::Refused(_)
            | FsError::Damaged(_)
            | FsError::TooLarge
            | FsError::Unsupported(_)
            | FsError::Invalid(_)
            | FsError::NotKept(_)
            | FsError::NotOwner => None,
        }
    }
}
