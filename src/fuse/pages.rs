//! What the kernel keeps of a file: pages that a mapping changed, which are seen here only when they are
//! written back, and attributes.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};

use crate::object::Ino;

/// Makes the kernel write back. Connected once the session is there, which the adapter is a part of.
#[derive(Debug, Clone, Default)]
pub(super) struct KernelPages(Arc<OnceLock<Notifier>>);

impl KernelPages {
    pub(super) fn connect(&self, notifier: Notifier) {
        // There is one session, so this is the first and only notifier.
        let _ = self.0.set(notifier);
    }

    /// Makes the kernel ask for the attributes again.
    pub(super) async fn forget_attrs(&self, ino: Ino) {
        let Some(notifier) = self.0.get().cloned() else { return };
        // Before the beginning: no pages are meant.
        let told = tokio::task::spawn_blocking(move || notifier.inval_inode(INodeNo(ino.0), -1, 0));
        if !matches!(told.await, Ok(Ok(()))) {
            tracing::debug!(%ino, "the kernel goes on with the attributes that it has");
        }
    }

    /// Has what a mapping changed in this range written back, and the pages dropped -> whether that is
    /// certain. The kernel sends its writes before this returns, so it runs where nobody answers requests.
    pub(super) async fn write_back(&self, ino: Ino, range: Range<u64>) -> bool {
        let (Some(notifier), Ok(offset), Ok(len)) =
            (self.0.get().cloned(), i64::try_from(range.start), i64::try_from(range.end - range.start))
        else {
            return false;
        };
        let told = tokio::task::spawn_blocking(move || notifier.inval_inode(INodeNo(ino.0), offset, len));
        matches!(told.await, Ok(Ok(())))
    }
}
