//! Times of access, by the rule of `relatime`: a read is noted if nothing was read since the last change,
//! or not for a day. The kernel leaves them to us, and takes no part in the rule.
//!
//! What the kernel answers from its own pages never gets here. So an open for reading drops them while a
//! read is to be noted ([`Fs::hides_a_read`]), and the first read comes through; while others have the file open they
//! must stay, and the open itself is noted. Not seen are reads of pages that another descriptor's write has
//! filled while the reader's was open, and of an empty file.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use super::handles::HandleId;
use super::inodes::{InodeRef, InodeTable, OpenInode};
use super::open::Access;
use super::{Fs, FsResult};
use crate::ledger::Node;
use crate::object::{Ino, NanoTime};

/// A time of access that is older is renewed.
const DAY: NanoTime = 24 * 60 * 60 * 1_000_000_000;

/// Until when reads of an inode in use need not be looked at.
#[derive(Debug)]
pub(super) struct QuietUntil(AtomicI64);

impl Default for QuietUntil {
    fn default() -> QuietUntil {
        QuietUntil(AtomicI64::new(NanoTime::MIN))
    }
}

impl QuietUntil {
    /// The next read must be looked at: something changed.
    pub(super) fn end(&self) {
        self.0.store(NanoTime::MIN, Ordering::SeqCst);
    }

    /// Whether the caller is the one to look at a read at `now`; if so others need not until the answer.
    fn claim(&self, now: NanoTime) -> Option<NanoTime> {
        let until = self.0.load(Ordering::SeqCst);
        let claimed = now.saturating_add(DAY);
        let is_mine = now >= until
            && self.0.compare_exchange(until, claimed, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        is_mine.then_some(claimed)
    }

    /// The answer, unless something changed since the claim.
    fn settle(&self, claimed: NanoTime, until: NanoTime) {
        // Whoever came between has ended the quiet, and is right.
        let _ = self.0.compare_exchange(claimed, until, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// Whether access times are to stay as they are, which is asked whenever one would change.
#[derive(Default)]
pub(super) struct Unless(OnceLock<Box<dyn Fn() -> bool + Send + Sync>>);

impl fmt::Debug for Unless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unless").field(&self.0.get().is_some()).finish()
    }
}

/// The times that the rule looks at.
#[derive(Debug, Clone, Copy)]
struct Times {
    atime: NanoTime,
    mtime: NanoTime,
    ctime: NanoTime,
}

impl Times {
    fn of(node: &Node) -> Times {
        Times { atime: node.atime, mtime: node.attrs.mtime, ctime: node.ctime }
    }

    /// Whether a read at `now` is noted.
    fn are_due(self, now: NanoTime) -> bool {
        let Times { atime, mtime, ctime } = self;
        atime <= mtime || atime <= ctime || now.saturating_sub(atime) >= DAY
    }
}

impl Fs {
    /// From now on reads are noted only while `keeps` does not say that access times stay as they are: a mount that
    /// is read-only changes nothing. The first call counts.
    pub fn note_reads_unless(&self, keeps: impl Fn() -> bool + Send + Sync + 'static) {
        // A second mount of one file system would be asked as the first one.
        let _ = self.unless.0.set(Box::new(keeps));
    }

    fn notes_reads(&self) -> bool {
        !self.unless.0.get().is_some_and(|keeps| keeps())
    }

    /// Somebody reads an open file. That it cannot be noted is no reason to refuse the read.
    pub(super) async fn note_read(&self, inode: &InodeRef) {
        let now = self.now();
        let Some(claimed) = inode.quiet_until.claim(now) else { return };
        match self.note_if_due(inode, now).await {
            Ok(atime) => inode.quiet_until.settle(claimed, atime.saturating_add(DAY)),
            Err(error) => {
                tracing::warn!(ino = %inode.ino(), %error, "a time of access could not be noted");
            }
        }
    }

    /// -> the last access as it is then.
    async fn note_if_due(&self, inode: &InodeRef, now: NanoTime) -> FsResult<NanoTime> {
        let times = self.times_of(inode).await?;
        if !times.are_due(now) {
            return Ok(times.atime);
        }
        if !self.notes_reads() {
            // Not asked at each read: it is again at the next open.
            return Ok(now);
        }
        if let Some(orphan) = &mut inode.state.write().await.orphan {
            orphan.node.atime = now;
            return Ok(now);
        }
        self.ask(self.bridge.accessed(inode.ino(), times.atime, now)).await?;
        Ok(now)
    }

    async fn times_of(&self, inode: &OpenInode) -> FsResult<Times> {
        let info = self.getattr(inode.ino()).await?;
        Ok(Times { atime: info.atime, mtime: info.mtime, ctime: info.ctime })
    }

    /// A directory is listed or a link is followed: both always get here. `node` is as it was just read.
    pub(super) async fn note_use(&self, node: &Node) {
        let now = self.now();
        if !Times::of(node).are_due(now) || !self.notes_reads() {
            return;
        }
        if let Err(error) = self.ask(self.bridge.accessed(node.ino, node.atime, now)).await {
            tracing::warn!(ino = %node.ino, %error, "a time of access could not be noted");
        }
    }

    /// An open whose reads are hidden counts as one.
    pub async fn note_open(&self, handle: HandleId) {
        if let Ok(file) = self.files.get(handle) {
            self.note_read(&file.inode).await;
        }
    }

    /// Whether pages that the kernel keeps would hide a read that is to be noted. `node` is the ledger's:
    /// times of a file that is being changed are newer, and then more is due, not less.
    pub(super) async fn hides_a_read(&self, ino: Ino, access: Access) -> FsResult<bool> {
        Ok(access.reads() && Times::of(&self.node(ino).await?).are_due(self.now()) && self.notes_reads())
    }
}

impl InodeTable {
    /// After a change that the next read is to be noted for, where the content has not changed.
    pub(super) fn ctime_changed(self: &Arc<Self>, ino: Ino) {
        if let Some(inode) = self.find(ino) {
            inode.quiet_until.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY, QuietUntil, Times};

    #[test]
    fn a_read_is_noted_after_a_change_and_after_a_day() {
        let due = |atime, mtime, ctime, now| Times { atime, mtime, ctime }.are_due(now);
        assert!(due(5, 5, 1, 6), "read when it was written last");
        assert!(due(5, 1, 7, 8), "its attributes were changed since");
        assert!(!due(5, 4, 4, 6));
        assert!(!due(5, 4, 4, 4 + DAY));
        assert!(due(5, 4, 4, 5 + DAY));
        assert!(!due(9, 4, 4, 6), "a time in the future is left alone");
    }

    #[test]
    fn one_reader_looks_and_a_change_meanwhile_makes_the_next_one_look() {
        let quiet = QuietUntil::default();
        let claimed = quiet.claim(10).expect("nobody looked yet");
        assert_eq!(quiet.claim(11), None);
        quiet.end();
        quiet.settle(claimed, 50);
        let claimed = quiet.claim(12).expect("something changed");
        quiet.settle(claimed, 50);
        assert_eq!(quiet.claim(49), None);
        assert!(quiet.claim(50).is_some());
    }
}
