//! The content of an upload: quiet, and known by one pass over it.
//!
//! The pass is made in pieces, because of a large file it takes minutes: between two of them it is seen whether
//! anybody still wants it, the task can be stopped, and those who wait for an acknowledgement are told that it goes on.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::sync::Situation;
use crate::bridge::staging::Committed;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, ContentTimes, blocking};
use crate::cache::{Fill, Lease, LiveTimes, Region, Snapshot};
use crate::ledger::{Commit, Node};
use crate::object::{ContentDigest, ContentHasher, Ino, Side, Version};

/// What is read of a file at once, in bytes.
const READ_BYTES: usize = 1 << 20;
/// What is digested between two looks, in bytes.
const PIECE_BYTES: u64 = 16 << 20;

/// A content that will not change while it is sent.
#[derive(Debug)]
pub(super) struct Source {
    /// The version that it is: newer than the node's when the task began, if a copy had to be made.
    pub(super) version: Version,
    pub(super) bytes: SourceBytes,
    pub(super) digest: Arc<ContentDigest>,
}

/// Where the bytes of an upload are.
#[derive(Debug)]
pub(super) enum SourceBytes {
    /// A symlink's target; nothing for a pipe, socket or device.
    Fixed(Bytes),
    /// The staged file itself, as long as it stays at this generation.
    Staged(Lease, u64),
    /// A copy of a staged file that is never quiet.
    Snapshot(Arc<Snapshot>),
}

impl SourceBytes {
    /// Up to `len` bytes from `offset`; fewer only at the end.
    pub(super) fn read(&self, offset: u64, len: usize) -> BridgeResult<Bytes> {
        let read = match self {
            SourceBytes::Fixed(bytes) => Ok(tail_of(bytes, offset)),
            SourceBytes::Staged(..) | SourceBytes::Snapshot(_) => blocking(|| self.read_here(offset, len)),
        };
        read.map_err(|e| BridgeError::from_disk("read a staged file", e))
    }

    fn read_here(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self {
            SourceBytes::Fixed(bytes) => Ok(tail_of(bytes, offset)),
            SourceBytes::Staged(lease, _) => lease.read_at(offset, len),
            SourceBytes::Snapshot(snapshot) => snapshot.read_at(offset, len),
        }
    }

    /// Where bytes that were written begin, at `offset` or after it: the end if nothing but a hole is left,
    /// `None` from the end on.
    fn data_from(&self, offset: u64) -> io::Result<Option<u64>> {
        match self {
            SourceBytes::Fixed(bytes) => Ok((offset < bytes.len() as u64).then_some(offset)),
            SourceBytes::Staged(lease, _) => {
                Ok(lease.seek(Region::Data, offset)?.map(|found| found.at.unwrap_or(found.len)))
            }
            SourceBytes::Snapshot(snapshot) => snapshot.data_from(offset),
        }
    }

    /// Whether nobody wrote since the version was committed.
    pub(super) fn is_unchanged(&self) -> bool {
        match self {
            SourceBytes::Fixed(_) | SourceBytes::Snapshot(_) => true,
            SourceBytes::Staged(lease, generation) => lease.generation() == *generation,
        }
    }
}

fn tail_of(bytes: &Bytes, offset: u64) -> Bytes {
    bytes.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..)
}

/// One pass over a content, as far as it has got.
#[derive(Debug, Default)]
struct Pass {
    hasher: ContentHasher,
    offset: u64,
    /// Bytes that had to be read: holes are not.
    read: u64,
}

impl Pass {
    /// Goes on by one piece -> whether there may be more.
    fn advance(&mut self, bytes: &SourceBytes) -> io::Result<bool> {
        let end = self.offset + PIECE_BYTES;
        while self.offset < end {
            let Some(data) = bytes.data_from(self.offset)? else { return Ok(false) };
            if data > self.offset {
                let zeros = data.min(end) - self.offset;
                self.hasher.update_zeros(zeros);
                self.offset += zeros;
                continue;
            }
            let piece = bytes.read_here(self.offset, READ_BYTES)?;
            if piece.is_empty() {
                return Ok(false);
            }
            self.hasher.update(&piece);
            self.offset += piece.len() as u64;
            self.read += piece.len() as u64;
        }
        Ok(true)
    }
}

impl Bridge {
    /// The content to send, quiet and digested; `None` while it is being written, or if it is not wanted any more.
    pub(super) async fn source(&self, side: Side, situation: &Situation) -> BridgeResult<Option<Source>> {
        let node = &situation.node;
        if node.kind.is_fixed() {
            let bytes = Bytes::from(node.target.clone().unwrap_or_default().into_vec());
            let digest = Arc::new(ContentDigest::of(&bytes));
            return Ok(Some(Source { version: node.version, bytes: SourceBytes::Fixed(bytes), digest }));
        }
        let lease = match self.staged(node.ino)? {
            Some(lease) => lease,
            None => match self.bring_back(node.ino).await? {
                Some(lease) => lease,
                None => return Ok(None),
            },
        };
        let is_overdue = self.staging.is_overdue(node.link, side);
        let is_quiet = |c: &Committed| c.generation == lease.generation() && (!is_overdue || c.is_settled());
        let committed = match self.staging.get(node.ino).filter(|c| c.version == node.version) {
            Some(committed) if committed.snapshot.is_some() || is_quiet(&committed) => committed,
            Some(_) | None => match self.hold_still(side, node, &lease).await? {
                Some(copied) => copied,
                None => return Ok(None),
            },
        };
        let bytes = match &committed.snapshot {
            Some(snapshot) => SourceBytes::Snapshot(Arc::clone(snapshot)),
            None => SourceBytes::Staged(lease, committed.generation),
        };
        let go_on = |so_far| {
            self.note_progress(situation, &committed, so_far);
            self.still_puts(side, situation)
        };
        let pass = async || self.digest(&bytes, go_on).await.map(Arc::new);
        match committed.digest.get_or_try_init(pass).await {
            // A copy that was made just now is a newer version than the node's, with a length of its own.
            Ok(digest)
                if bytes.is_unchanged()
                    && (committed.version != node.version || digest.size == node.size) =>
            {
                let digest = Arc::clone(digest);
                Ok(Some(Source { version: committed.version, bytes, digest }))
            }
            Err(error) if error.kind() != BridgeErrorKind::Stale => Err(error),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// A pass that gets farther is progress on every store that waits for it; one that begins again is none
    /// until it gets farther than the one before.
    fn note_progress(&self, situation: &Situation, committed: &Committed, so_far: u64) {
        if committed.digested_up_to(so_far) {
            for side in situation.routing.route.write_sides() {
                self.replicator.acceptance(side).progressed();
                self.replicator.held_back.let_go(situation.node.link, side);
            }
        }
    }

    /// The staged file differs from the version that was committed: somebody goes on writing, and will be done. If that
    /// takes too long, a copy of the file as it is now is sent, so that a file which is never quiet still reaches the
    /// stores.
    async fn hold_still(
        &self,
        side: Side,
        node: &Node,
        lease: &Lease,
    ) -> BridgeResult<Option<Arc<Committed>>> {
        // What was brought in to be changed, and is not yet, may be of before what an outsider wrote: it is no version.
        let is_older = |c: &Committed| c.version < node.version && c.generation == lease.generation();
        if !self.staging.is_overdue(node.link, side)
            || self.staging.get(node.ino).is_some_and(|c| is_older(&c))
        {
            return Ok(None);
        }
        let snapshot = match blocking(|| lease.snapshot()) {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::info!(ino = %node.ino, "no room for a copy of a busy file: it is sent when it is quiet");
                return Ok(None);
            }
            Err(error) => return Err(BridgeError::from_disk("copy a staged file", error)),
        };
        self.commit_copy(node, lease, snapshot).await
    }

    /// Makes a copy that was begun when the file was `begun` the next version, unless it is the one that was committed.
    /// What was committed while it was made is in it: else a large file that is synced faster than it can be copied
    /// would never be sent. `None`: whoever writes has committed more than it has.
    pub(super) async fn commit_copy(
        &self,
        begun: &Node,
        lease: &Lease,
        snapshot: Snapshot,
    ) -> BridgeResult<Option<Arc<Committed>>> {
        let ino = begun.ino;
        let Some(node) = blocking(|| self.ledger.node(ino))? else { return Ok(None) };
        let known = self.staging.get(ino).filter(|known| known.version == node.version);
        if lease.is_condemned() {
            return Ok(None); // What is known may be of the file that has taken its place.
        }
        // Commits of a file come one after the other: none before this one is of a later moment.
        let is_in_copy = |known: &Arc<Committed>| known.generation <= snapshot.generation();
        if node.version != begun.version && !known.as_ref().is_some_and(is_in_copy) {
            return Ok(None);
        }
        if known.is_some_and(|known| known.generation == snapshot.generation()) && snapshot.len() == node.size
        {
            return Ok(Some(self.staging.set_snapshot(ino, node.version, snapshot)));
        }
        let (size, copied, lease) = (snapshot.len(), snapshot.times(), lease.clone());
        let commit = move |node: &Node| {
            let ContentTimes { mtime, ctime } = times_of_copy(copied, lease.times(), ContentTimes::of(node));
            (!lease.is_condemned()).then_some(Commit { size, mtime, ctime })
        };
        let Some(version) = self.ledger.commit_after(ino, node.version, commit).await? else {
            return Ok(None);
        };
        Ok(Some(self.staging.set_snapshot(ino, version, snapshot)))
    }

    /// One pass over a staged file, which must be at this generation from its beginning to its end.
    pub(crate) async fn digest_of(&self, lease: &Lease, generation: u64) -> BridgeResult<ContentDigest> {
        self.digest(&SourceBytes::Staged(lease.clone(), generation), |_so_far| Ok(true)).await
    }

    /// One pass over a content. After each piece `go_on` is told how far it got; `Stale` if it wants no more, or
    /// if the content was written meanwhile.
    async fn digest(
        &self,
        bytes: &SourceBytes,
        go_on: impl Fn(u64) -> BridgeResult<bool>,
    ) -> BridgeResult<ContentDigest> {
        let mut pass = Pass::default();
        let disk = |e| BridgeError::from_disk("read a staged file", e);
        let stale = |why| Err(BridgeError::new(BridgeErrorKind::Stale, why));
        while blocking(|| pass.advance(bytes)).map_err(disk)? {
            if !bytes.is_unchanged() {
                break;
            }
            if !go_on(pass.offset)? {
                return stale("nobody needs its digest any more");
            }
            // Here the task ends if it is stopped.
            tokio::task::yield_now().await;
        }
        if bytes.is_unchanged() { Ok(pass.hasher.finish()) } else { stale("written while it was digested") }
    }

    /// No staged file is left, so a store that has the version gives the content. `None`: a program has begun to
    /// change the file meanwhile; what it has written is not this version.
    pub(crate) async fn bring_back(&self, ino: Ino) -> BridgeResult<Option<Lease>> {
        let content = self.open(ino).await?;
        let Some(lease) = self.stage_to_send(&content).await? else { return Ok(None) };
        // Also if it cannot be digested now it is known for what it is, so that it can be let go of.
        self.staging.set(ino, content.version(), Fill::GENERATION, None);
        let digest = match content.digest.as_deref() {
            Some(known) => known.clone(),
            None => match self.digest_of(&lease, Fill::GENERATION).await {
                Ok(digest) => digest,
                Err(error) if error.kind() == BridgeErrorKind::Stale => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        self.staging.set(ino, content.version(), Fill::GENERATION, Some(digest));
        Ok(Some(lease))
    }
}

/// The times of a copy: those of its content's last change, and not of a later write, so that the next version
/// differs in time and content. But a time that was set since holds.
fn times_of_copy(copied: LiveTimes, now: LiveTimes, known: ContentTimes) -> ContentTimes {
    let mtime = if now.is_set { now.mtime } else { copied.mtime };
    ContentTimes { mtime: mtime.unwrap_or(known.mtime), ctime: copied.ctime.unwrap_or(known.ctime) }
}

#[cfg(test)]
mod tests {
    use super::{PIECE_BYTES, Pass, SourceBytes, times_of_copy};
    use crate::bridge::ContentTimes;
    use crate::cache::{Cache, CacheOptions, KeepFree, Lease};
    use crate::object::{ContentDigest, Ino, NanoTime};

    /// An empty staged file, and the directory that it is in.
    fn staged_file() -> (tempfile::TempDir, Lease) {
        let dir = tempfile::TempDir::new().expect("a directory");
        let keep_free = KeepFree::Bytes(0);
        let options =
            CacheOptions { bytes_max: 1 << 30, keep_free, staged_bytes_max: 1 << 30, volume: "v".to_owned() };
        let cache = Cache::open(dir.path(), options).expect("a cache");
        let lease = cache.stage_empty(Ino(7)).expect("a staged file");
        (dir, lease)
    }

    /// What a copy's times are that was made after `before`, and committed after `meanwhile`.
    fn mtime_of_copy(before: impl Fn(&Lease), meanwhile: impl Fn(&Lease)) -> NanoTime {
        let (_dir, lease) = staged_file();
        before(&lease);
        let copied = lease.snapshot().expect("copied").times();
        meanwhile(&lease);
        let known = ContentTimes { mtime: 1, ctime: 1 };
        times_of_copy(copied, lease.times(), known).mtime
    }

    #[test]
    fn a_copy_has_the_time_of_its_last_change_or_the_one_that_was_set_since() {
        let nothing = |_: &Lease| {};
        let write = |lease: &Lease| lease.touch(2);
        let set = |lease: &Lease| {
            lease.set_mtime(3);
        };
        assert_eq!(mtime_of_copy(nothing, nothing), 1, "what the ledger knows");
        assert_eq!(mtime_of_copy(write, nothing), 2);
        assert_eq!(mtime_of_copy(write, |lease| lease.touch(4)), 2, "the later write is not in it");
        assert_eq!(mtime_of_copy(write, set), 3, "it holds for what was written before");
        assert_eq!(mtime_of_copy(set, |lease| lease.touch(4)), 3);
        assert_eq!(mtime_of_copy(nothing, set), 3);
        let in_vain = |lease: &Lease| lease.unset_mtime(3, lease.set_mtime(3));
        assert_eq!(mtime_of_copy(write, in_vain), 2);
    }

    #[test]
    fn holes_are_digested_as_zeros_without_being_read() {
        let (_dir, lease) = staged_file();
        // A hole, data across the end of a piece, a hole longer than a piece with data in it, a hole at the end.
        let len = 4 * PIECE_BYTES + 5;
        lease.write_at(PIECE_BYTES - 3, b"across").expect("written");
        lease.write_at(3 * PIECE_BYTES + 1, b"alone").expect("written");
        lease.set_len(len).expect("set");
        let whole = lease.read_at(0, usize::try_from(len).expect("fits")).expect("read");
        let digest = ContentDigest::of(&whole);
        let snapshot = lease.snapshot().expect("copied");
        for bytes in [SourceBytes::Staged(lease.clone(), 0), SourceBytes::Snapshot(snapshot.into())] {
            let mut pass = Pass::default();
            while pass.advance(&bytes).expect("read") {}
            assert_eq!(pass.hasher.finish(), digest);
            assert!(pass.read < PIECE_BYTES, "{} bytes were read", pass.read);
        }
    }
}
