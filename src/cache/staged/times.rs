use parking_lot::Mutex;

use super::Lease;
use crate::object::NanoTime;

/// When a staged content was changed, as far as nobody else knows it: `None` where the ledger does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveTimes {
    /// The last change of content, or what was set since.
    pub mtime: Option<NanoTime>,
    /// The last change of content.
    pub ctime: Option<NanoTime>,
    /// `mtime` was set, and nothing was written since.
    pub is_set: bool,
}

/// The times of one content: beside its bytes, so that a copy of these has those.
pub(super) type Times = Mutex<LiveTimes>;

impl Lease {
    /// When the content was changed.
    pub fn times(&self) -> LiveTimes {
        *self.content().times.lock()
    }

    /// The content changes now. Called before the change: a commit that comes in between then has the
    /// time without the change, finds the generation moved on, and is followed by another.
    pub fn touch(&self, now: NanoTime) {
        self.set_times(now, now);
    }

    /// The content is of these times.
    pub fn set_times(&self, mtime: NanoTime, ctime: NanoTime) {
        *self.content().times.lock() = LiveTimes { mtime: Some(mtime), ctime: Some(ctime), is_set: false };
    }

    /// Somebody sets the time of modification: it holds until the next change of content -> the times before.
    pub fn set_mtime(&self, mtime: NanoTime) -> LiveTimes {
        let mut times = self.content().times.lock();
        let before = *times;
        *times = LiveTimes { mtime: Some(mtime), is_set: true, ..before };
        before
    }

    /// The time could not be set after all.
    pub fn unset_mtime(&self, mtime: NanoTime, before: LiveTimes) {
        let mut times = self.content().times.lock();
        if times.is_set && times.mtime == Some(mtime) {
            *times = before;
        }
    }

    /// Nobody changes it any more: from now on the ledger knows its times.
    pub fn forget_times(&self) {
        *self.content().times.lock() = LiveTimes::default();
    }
}
