//! What the kernel keeps of a file: pages that a mapping changed, which are seen here only when they are
//! written back, and attributes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier, OpenAccMode, OpenFlags};
use parking_lot::Mutex;

use crate::object::Ino;

/// All that a file can have.
pub(super) const WHOLE: Range<u64> = 0..i64::MAX.unsigned_abs();

/// Makes the kernel write back. Connected once the session is there, which the adapter is a part of.
#[derive(Debug, Clone, Default)]
pub(super) struct KernelPages {
    notifier: Arc<OnceLock<Notifier>>,
    /// How often each file is open in a way that lets a mapping change it.
    mappable: Arc<Mutex<HashMap<Ino, usize>>>,
}

impl KernelPages {
    pub(super) fn connect(&self, notifier: Notifier) {
        // There is one session, so this is the first and only notifier.
        let _ = self.notifier.set(notifier);
    }

    /// A file was opened: only who may read and write can have a shared mapping that changes it.
    pub(super) fn opened(&self, ino: Ino, flags: OpenFlags) {
        if flags.acc_mode() == OpenAccMode::O_RDWR {
            *self.mappable.lock().entry(ino).or_default() += 1;
        }
    }

    /// The kernel is done with a file that was opened with these flags, and with its mappings.
    pub(super) fn released(&self, ino: Ino, flags: OpenFlags) {
        if flags.acc_mode() != OpenAccMode::O_RDWR {
            return;
        }
        let mut mappable = self.mappable.lock();
        if let Some(count) = mappable.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                mappable.remove(&ino);
            }
        }
    }

    /// Whether a shared mapping may change the file.
    pub(super) fn is_mappable(&self, ino: Ino) -> bool {
        self.mappable.lock().contains_key(&ino)
    }

    /// Has all that mappings stored until now sent, before something that must come after it: the kernel
    /// sends it late, and then it would look like the later change.
    pub(super) async fn settle(&self, ino: Ino) {
        if self.is_mappable(ino) && !self.write_back(ino, WHOLE).await {
            tracing::debug!(%ino, "what mappings stored may come later than a time that was set after it");
        }
    }

    /// Makes the kernel ask for the attributes again.
    pub(super) async fn forget_attrs(&self, ino: Ino) {
        let Some(notifier) = self.notifier.get().cloned() else { return };
        // Before the beginning: no pages are meant.
        let told = tokio::task::spawn_blocking(move || notifier.inval_inode(INodeNo(ino.0), -1, 0));
        if !matches!(told.await, Ok(Ok(()))) {
            tracing::debug!(%ino, "the kernel goes on with the attributes that it has");
        }
    }

    /// Has the kernel drop all that it keeps of a file whose content is lost. Runs where nobody answers requests.
    pub(super) async fn forget(&self, ino: Ino) {
        // A page that the kernel cannot write back stays, and is clean: the second time it goes.
        for _ in 0..2 {
            if !self.write_back(ino, WHOLE).await {
                tracing::debug!(%ino, "the kernel goes on with the pages that it has");
            }
        }
    }

    /// Has what a mapping changed in this range written back, and the pages dropped -> whether that is
    /// certain. The kernel sends its writes before this returns, so it runs where nobody answers requests.
    pub(super) async fn write_back(&self, ino: Ino, range: Range<u64>) -> bool {
        let (Some(notifier), Ok(offset), Ok(len)) = (
            self.notifier.get().cloned(),
            i64::try_from(range.start),
            i64::try_from(range.end - range.start),
        ) else {
            return false;
        };
        let told = tokio::task::spawn_blocking(move || notifier.inval_inode(INodeNo(ino.0), offset, len));
        matches!(told.await, Ok(Ok(())))
    }
}
