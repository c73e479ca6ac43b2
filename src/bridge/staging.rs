//! Content on its way: brought in for writing, committed, handed to the replicator, turned into cache.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, Content, blocking, router};
use crate::cache::{Fill, Lease, Promotion, Snapshot};
use crate::clock::Instant;
use crate::ledger::{Commit, Node, Origin};
use crate::object::{BLOCK_BYTES, ContentDigest, Ino, LinkId, NanoTime, Side, Version};

/// Blocks fetched at once while content is brought in.
const FILL_AHEAD: usize = 4;

/// A file that is changed each time it is to be sent is expected to get quiet within this; then a copy of it
/// is sent.
const OVERDUE: Duration = Duration::from_secs(5);

/// What is known of each staged file beyond its bytes.
#[derive(Debug, Default)]
pub(crate) struct StagingTable {
    files: Mutex<HashMap<Ino, Arc<Committed>>>,
    /// Since when an upload to a side finds the file changed after its commit, whenever it looks.
    overtaken: Mutex<HashMap<(LinkId, Side), Instant>>,
    /// Held exclusively by who gives a file a new version that no staged file has: what an outsider wrote.
    pub(crate) outside: tokio::sync::RwLock<()>,
}

/// The state of a staged file when its version was committed.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) version: Version,
    /// The lease's generation before the commit: while it is unchanged, the file is that version.
    pub(crate) generation: u64,
    /// When it was noted here.
    since: Instant,
    /// The version is this copy, because the file itself is never quiet.
    pub(crate) snapshot: Option<Arc<Snapshot>>,
    /// One pass over the content, shared by the uploads to both stores.
    pub(crate) digest: OnceCell<Arc<ContentDigest>>,
    /// How far any pass has got, in bytes.
    digested: AtomicU64,
}

impl Committed {
    fn new(
        version: Version,
        generation: u64,
        snapshot: Option<Arc<Snapshot>>,
        digest: OnceCell<Arc<ContentDigest>>,
    ) -> Committed {
        Committed {
            version,
            generation,
            since: Instant::now(),
            snapshot,
            digest,
            digested: AtomicU64::new(0),
        }
    }

    /// Whether there has been time enough to see that nobody goes on writing.
    pub(crate) fn is_settled(&self) -> bool {
        self.since.elapsed() >= OVERDUE
    }

    #[cfg(test)]
    pub(crate) fn digested(&self) -> u64 {
        self.digested.load(atomic::Ordering::Relaxed)
    }

    /// A pass has got so far -> whether that is farther than any before.
    pub(crate) fn digested_up_to(&self, bytes: u64) -> bool {
        self.digested.fetch_max(bytes, atomic::Ordering::Relaxed) < bytes
    }
}

impl StagingTable {
    pub(crate) fn get(&self, ino: Ino) -> Option<Arc<Committed>> {
        self.files.lock().get(&ino).map(Arc::clone)
    }

    pub(crate) fn set(&self, ino: Ino, version: Version, generation: u64, digest: Option<ContentDigest>) {
        let digest = OnceCell::new_with(digest.map(Arc::new));
        self.insert(ino, Committed::new(version, generation, None, digest));
    }

    pub(crate) fn set_snapshot(&self, ino: Ino, version: Version, snapshot: Snapshot) -> Arc<Committed> {
        let generation = snapshot.generation();
        let snapshot = Some(Arc::new(snapshot));
        self.insert(ino, Committed::new(version, generation, snapshot, OnceCell::new()))
    }

    /// Never replaces a newer version: two commits of one file may end in either order.
    fn insert(&self, ino: Ino, committed: Committed) -> Arc<Committed> {
        let committed = Arc::new(committed);
        let mut files = self.files.lock();
        if files.get(&ino).is_none_or(|known| known.version <= committed.version) {
            files.insert(ino, Arc::clone(&committed));
        }
        committed
    }

    /// Whether the staged file is this version, and nothing else.
    pub(crate) fn is_at(&self, lease: &Lease, version: Version) -> bool {
        let known = self.get(lease.ino());
        known.is_some_and(|known| known.version == version && known.generation == lease.generation())
    }

    /// Nobody promotes the staged file any more who looked at it before.
    pub(crate) fn renew(&self, ino: Ino) {
        if let Some(known) = self.files.lock().get_mut(&ino) {
            let Committed { version, generation, snapshot, digest, .. } = &**known;
            *known = Arc::new(Committed::new(*version, *generation, snapshot.clone(), digest.clone()));
        }
    }

    pub(crate) fn forget(&self, ino: Ino) {
        self.files.lock().remove(&ino);
        Side::BOTH.iter().for_each(|side| self.arrived(LinkId::first(ino), *side));
    }

    /// Runs `promote` while this commit is the last one, and forgets the commit if the file is gone then.
    /// A commit holds a lease until it is noted here: it has either been noted, or `promote` sees the lease.
    fn promote_last(
        &self,
        ino: Ino,
        committed: &Arc<Committed>,
        promote: impl FnOnce() -> BridgeResult<Promotion>,
    ) -> BridgeResult<()> {
        let mut files = self.files.lock();
        if !files.get(&ino).is_some_and(|known| Arc::ptr_eq(known, committed)) {
            return Ok(());
        }
        match promote()? {
            Promotion::Done | Promotion::Absent => drop(files.remove(&ino)),
            Promotion::Leased | Promotion::Changed => {}
        }
        Ok(())
    }

    /// An upload found the file changed after its commit.
    pub(crate) fn overtaken(&self, link: LinkId, side: Side) {
        self.overtaken.lock().entry((link, side)).or_insert_with(Instant::now);
    }

    /// Whether uploads have found the file changed for too long. New commits do not count: a file that is written and
    /// synced every second would have each of its versions overtaken by the next one, for ever.
    pub(crate) fn is_overdue(&self, link: LinkId, side: Side) -> bool {
        let since = self.overtaken.lock().get(&(link, side)).copied();
        since.is_some_and(|since| since.elapsed() >= OVERDUE)
    }

    /// An upload has ended well, or is not wanted any more.
    pub(crate) fn arrived(&self, link: LinkId, side: Side) {
        self.overtaken.lock().remove(&(link, side));
    }
}

/// What becomes of content for which the limit of staged content leaves no room in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLimit {
    /// It is refused: somebody is there to be told.
    Refuse,
    /// It goes beyond the limit: the disk is the only one that can refuse it.
    Exceed,
}

/// The size of the mount as `df` shows it: that of the disk of the state directory, because that is what
/// bounds what can be written at once. Never the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// Bytes in all.
    pub bytes_total: u64,
    /// Bytes that can still be staged.
    pub bytes_free: u64,
    /// Nodes in all.
    pub files_total: u64,
    /// Nodes that can still be made.
    pub files_free: u64,
}

/// When a content was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentTimes {
    /// The last change of content, or what was set for it.
    pub mtime: NanoTime,
    /// The last change of content or attributes; an older one than the node's changes nothing.
    pub ctime: NanoTime,
}

impl ContentTimes {
    /// Those that the ledger has.
    pub fn of(node: &Node) -> ContentTimes {
        ContentTimes { mtime: node.attrs.mtime, ctime: node.ctime }
    }
}

impl Bridge {
    /// The local file of a node whose content is not on every store yet.
    pub fn staged(&self, ino: Ino) -> BridgeResult<Option<Lease>> {
        let lease = blocking(|| self.cache.lease(ino));
        lease.map_err(|e| BridgeError::from_disk("open a staged file", e))?.map(whole).transpose()
    }

    /// The same, but an empty one is made where there is none -> it, and whether it was made. Somebody else may bring
    /// the content in at any moment, to send it.
    pub fn staged_or_empty(&self, ino: Ino) -> BridgeResult<(Lease, bool)> {
        let staged = blocking(|| self.cache.lease_or_stage_empty(ino));
        let (lease, is_new) = staged.map_err(|e| BridgeError::from_disk("open a staged file", e))?;
        Ok((whole(lease)?, is_new))
    }

    /// The staged file, if it is exactly the content of this version.
    pub fn staged_as(&self, content: &Content) -> BridgeResult<Option<Lease>> {
        Ok(self.staged(content.ino())?.filter(|lease| self.staging.is_at(lease, content.version())))
    }

    /// A new, empty staged file.
    pub fn stage_empty(&self, ino: Ino) -> BridgeResult<Lease> {
        blocking(|| self.cache.stage_empty(ino)).map_err(|e| BridgeError::from_disk("make a staged file", e))
    }

    /// Brings the first `keep` bytes of a content into a staged file, to be changed there. What is changed
    /// is uploaded with its attributes, so a file that was only listed has them read first, though none
    /// of its bytes are kept: `Unavailable` if the store that has them cannot be asked.
    pub async fn stage(&self, content: &Content, keep: u64) -> BridgeResult<Lease> {
        self.stage_within(content, keep, AtLimit::Refuse).await
    }

    /// The same, for what may be beyond the limit of staged content.
    pub async fn stage_within(&self, content: &Content, keep: u64, at_limit: AtLimit) -> BridgeResult<Lease> {
        match self.staged(content.ino())? {
            Some(lease) => Ok(lease),
            None => {
                let fill = self.fill(content, keep, at_limit).await?;
                self.finish_fill(content, keep.min(content.size()), fill)
            }
        }
    }

    /// Brings a whole content into a staged file, unchanged, to be sent. `None`: it is not the file's content any
    /// more, or a program was faster and is about to change it, or has begun to.
    pub(crate) async fn stage_to_send(&self, content: &Content) -> BridgeResult<Option<Lease>> {
        if self.staged(content.ino())?.is_some() {
            return Ok(None);
        }
        let fill = self.fill(content, content.size(), AtLimit::Refuse).await?;
        // It took long: the file may have been written, sent, and let go of by now. Whoever commits has a staged file,
        // and whoever takes in what an outsider wrote has `outside`: the version stays what is read here.
        let _no_outsider = self.staging.outside.read().await;
        let mut node = Ok(None);
        let is_wanted = || {
            node = self.ledger.node(content.ino());
            matches!(&node, Ok(Some(node)) if node.version == content.version())
        };
        let lease = blocking(|| fill.finish_if(is_wanted)).map_err(failed_write)?;
        node?;
        Ok(lease)
    }

    /// The first `keep` bytes of a content, on the local disk.
    async fn fill(&self, content: &Content, keep: u64, at_limit: AtLimit) -> BridgeResult<Fill> {
        self.read_attrs(content.ino()).await?;
        self.require_proven(content)?;
        let keep = keep.min(content.size());
        self.reserve(keep, at_limit).await?;
        let fill = blocking(|| self.cache.begin_fill(content.ino(), keep)).map_err(failed_write)?;
        let into = &fill;
        let spans = (0..keep.div_ceil(BLOCK_BYTES)).map(|index| async move {
            let bytes = self.block(content, index).await?;
            let wanted = (keep - index * BLOCK_BYTES).min(bytes.len() as u64);
            let bytes = bytes.slice(..usize::try_from(wanted).expect("no longer than the block"));
            blocking(|| into.write_at(index * BLOCK_BYTES, &bytes)).map_err(failed_write)
        });
        stream::iter(spans).buffer_unordered(FILL_AHEAD).try_collect::<Vec<()>>().await?;
        Ok(fill)
    }

    /// What was opened unproven and turned out to be something else is still read, but no change is made of it. What was
    /// removed through the mount meanwhile is still itself.
    fn require_proven(&self, content: &Content) -> BridgeResult<()> {
        if content.node.origin != Origin::Unproven {
            return Ok(());
        }
        match blocking(|| self.ledger.node(content.ino()))? {
            Some(node) if node.version == content.version() => Ok(()),
            None if self.replicator.held(content.ino()).is_some() => Ok(()),
            Some(_) | None => {
                let detail = "the store that knows this name answers again and has something else under it: open it anew";
                Err(BridgeError::new(BridgeErrorKind::Stale, detail))
            }
        }
    }

    /// What was brought in whole is noted, so that it can be let go of if nobody changes it.
    fn finish_fill(&self, content: &Content, keep: u64, fill: Fill) -> BridgeResult<Lease> {
        let ino = content.ino();
        let (lease, own) = blocking(|| fill.finish()).map_err(failed_write)?;
        if lease.len() < keep {
            return Err(BridgeError::new(
                BridgeErrorKind::Damaged,
                format!("the staged file of {ino} is short"),
            ));
        }
        if own && keep == content.size() {
            self.staging.set(ino, content.version(), Fill::GENERATION, content.digest.as_deref().cloned());
        }
        Ok(lease)
    }

    /// Waits until `bytes` more may be staged.
    pub async fn reserve(&self, bytes: u64, at_limit: AtLimit) -> BridgeResult<()> {
        let deadline = self.settings.op_deadline;
        match at_limit {
            AtLimit::Exceed => {
                self.cache.reserve_or_exceed(bytes, deadline).await;
                Ok(())
            }
            AtLimit::Refuse => self.cache.reserve(bytes, deadline).await.map_err(|_full| {
                let detail = "the local space for content that is not on the stores yet is used up; it is freed \
                              as uploads end";
                BridgeError::new(BridgeErrorKind::NoSpace, detail)
            }),
        }
    }

    /// Returns when staged content gave back some space, at the latest after `longest`.
    pub async fn space_freed(&self, longest: Duration) {
        self.cache.space_freed(longest).await;
    }

    /// Makes the content of a staged file the next version: durable here when this returns, and on its
    /// way to every store that the slice writes. The point of no return. To be called once at a time for each file:
    /// versions are as new as they are high.
    pub async fn commit(&self, lease: &Lease, times: ContentTimes) -> BridgeResult<Version> {
        let ino = lease.ino();
        // Taken before the sync: a write that comes meanwhile makes the file differ from the version.
        let generation = lease.generation();
        blocking(|| lease.sync()).map_err(|e| BridgeError::from_disk("sync a staged file", e))?;
        let size = lease.len();
        let key = blocking(|| self.ledger.key_of(LinkId::first(ino)))?;
        let commit = Commit { size, mtime: times.mtime, ctime: times.ctime };
        self.replicator.quiet.disturbed(ino);
        let version = self.ledger.commit(ino, commit).await?;
        self.staging.set(ino, version, generation, None);
        self.cache.forget(ino);
        self.wake_for(key.as_ref());
        Ok(version)
    }

    /// The file system has no open file on this inode any more.
    pub fn released(&self, ino: Ino) {
        if let Err(error) = blocking(|| self.settle(ino)) {
            tracing::warn!(%ino, %error, "a staged file could not be turned into cache; it is kept");
        }
    }

    /// After a change of stage a store may no longer be waited for.
    pub(crate) fn settle_all(&self) -> BridgeResult<()> {
        let staged = blocking(|| self.cache.staged_inos())
            .map_err(|e| BridgeError::from_disk("read the staging directory", e))?;
        staged.into_iter().for_each(|ino| self.released(ino));
        Ok(())
    }

    /// Turns a staged file into ordinary cache if a store has its content, no store waits for it, and
    /// nobody uses or changed it; removes it if its node is gone, or has a newer version.
    ///
    /// It never drops the only current copy: a receipt counts only for `node.version`, and a commit makes
    /// the next version with its intents in one transaction, so one of an older version leaves an intent
    /// and no current replica. A write or commit after these looks holds a lease or has changed the
    /// generation, and one that has ended is in the staging table, which is compared while it is locked.
    /// A flip takes away neither receipts nor objects.
    pub(crate) fn settle(&self, ino: Ino) -> BridgeResult<()> {
        let disk = |e| BridgeError::from_disk("settle a staged file", e);
        let Some(node) = self.ledger.node(ino)? else {
            self.cache.discard(ino).map_err(disk)?;
            self.cache.forget(ino);
            self.staging.forget(ino);
            return Ok(());
        };
        let Some(committed) = self.staging.get(ino) else { return Ok(()) };
        let generation = committed.generation;
        // Of what nobody has digested, because it never had to be sent, the blocks that were read are cache already.
        let retire = || self.cache.retire(ino, generation).map_err(disk);
        let promote = |digest| self.cache.promote(ino, node.version, digest, generation).map_err(disk);
        // What the store has may have turned out wrong since it was asked first.
        let retire_if_safe = || match self.is_safe_elsewhere(&node)? {
            true => retire(),
            false => Ok(Promotion::Leased),
        };
        match (committed.version.cmp(&node.version), committed.digest.get()) {
            // What is committed here holds a lease until it is noted: the newer version is an outsider's, and this
            // was brought in for a write that never came.
            (Ordering::Less, _) => self.staging.promote_last(ino, &committed, retire),
            (Ordering::Equal, _) if !self.is_safe_elsewhere(&node)? => Ok(()),
            (Ordering::Equal, Some(digest)) => self.staging.promote_last(ino, &committed, || promote(digest)),
            (Ordering::Equal, None) => self.staging.promote_last(ino, &committed, retire_if_safe),
            (Ordering::Greater, _) => Ok(()),
        }
    }

    /// Whether a store has the version and none waits for it.
    fn is_safe_elsewhere(&self, node: &Node) -> BridgeResult<bool> {
        let replicas = self.ledger.replicas(node.link)?;
        let somewhere = replicas.iter().any(|(_, r)| r.as_ref().is_some_and(|r| router::is_current(r, node)));
        // Not "on every side that is written now": history is only on old, and a store that cannot be
        // asked any more because its stage was left would keep the file staged for ever.
        Ok(somewhere && !self.ledger.is_awaited(node.ino)?)
    }
}

fn whole(lease: Lease) -> BridgeResult<Lease> {
    if !lease.is_condemned() {
        return Ok(lease);
    }
    let detail = format!("the staged file of {} is damaged and could not be put away", lease.ino());
    Err(BridgeError::new(BridgeErrorKind::Damaged, detail))
}

fn failed_write(error: io::Error) -> BridgeError {
    BridgeError::from_disk("write a staged file", error)
}

#[cfg(test)]
mod tests {
    use tokio::sync::OnceCell;

    use super::Committed;
    use crate::object::Version;

    #[test]
    fn a_pass_that_begins_again_is_no_progress_until_it_gets_farther() {
        let committed = Committed::new(Version(1), 0, None, OnceCell::new());
        assert!(committed.digested_up_to(16) && committed.digested_up_to(32));
        assert!(!committed.digested_up_to(16) && !committed.digested_up_to(32));
        assert!(committed.digested_up_to(33));
    }
}
