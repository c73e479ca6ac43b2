//! Content to a store: from the staged file, checked against one pass over it, in one request or in parts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::condition::{Placed, Write};
use super::sync::Situation;
use super::{MEMORY_UNIT, Outcome};
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, StoreHandle, blocking};
use crate::cache::{Lease, Snapshot};
use crate::clock::sleep;
use crate::ledger::{Commit, Node};
use crate::object::{ContentDigest, ContentHasher, Key, LinkId, Side};
use crate::store::{Condition, ErrorKind, ObjectMeta, PartReceipt, StoreResult, UploadId};

/// Objects up to this size go in one request, in bytes.
const PUT_BYTES_MAX: u64 = 8 << 20;
/// The usual size of a part, in bytes.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one upload under way at once.
const PARTS_AT_ONCE: usize = 4;
/// The pause before a part that failed is sent again: doubled each time, up to the last one.
const PART_PAUSE: Duration = Duration::from_millis(100);
const PART_PAUSE_LAST: Duration = Duration::from_millis(1600);
/// What is read of a file at once while it is digested, in bytes.
const READ_BYTES: usize = 1 << 20;

/// A content that will not change while it is sent.
#[derive(Debug)]
struct Source {
    bytes: SourceBytes,
    digest: Arc<ContentDigest>,
}

/// Where the bytes of an upload are.
#[derive(Debug)]
enum SourceBytes {
    /// A symlink's target; nothing for a pipe, socket or device.
    Fixed(Bytes),
    /// The staged file itself, as long as it stays at this generation.
    Staged(Lease, u64),
    /// A copy of a staged file that is never quiet.
    Snapshot(Arc<Snapshot>),
}

impl SourceBytes {
    fn read(&self, offset: u64, len: usize) -> BridgeResult<Bytes> {
        let read = match self {
            SourceBytes::Fixed(bytes) => {
                Ok(bytes.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..))
            }
            SourceBytes::Staged(lease, _) => blocking(|| lease.read_at(offset, len)),
            SourceBytes::Snapshot(snapshot) => blocking(|| snapshot.read_at(offset, len)),
        };
        read.map_err(|e| BridgeError::from_disk("read a staged file", e))
    }

    /// Whether nobody wrote since the version was committed.
    fn is_unchanged(&self) -> bool {
        match self {
            SourceBytes::Fixed(_) | SourceBytes::Snapshot(_) => true,
            SourceBytes::Staged(lease, generation) => lease.generation() == *generation,
        }
    }
}

impl Bridge {
    /// Uploads a node's content under its key.
    pub(super) async fn put(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let store = &self.handle(side).store;
        if let Err(e) = store.check_key(&situation.key) {
            return Err(BridgeError::from_store(side, e).on(&situation.key));
        }
        if let Some(outcome) = self.copy_twin(side, situation).await? {
            return Ok(outcome);
        }
        let Some(source) = self.source(situation).await? else {
            return Ok(Outcome::Later("it is being written"));
        };
        // Bringing the content back may have read the attributes for the first time.
        let situation = &match self.situation(situation.node.link)? {
            Some(now) if now.node.version == situation.node.version && now.key == situation.key => now,
            Some(_) | None => return Ok(Outcome::Later("it was changed meanwhile")),
        };
        let mut meta = self.meta_of(situation)?;
        meta.user.insert("blake3".to_owned(), source.digest.digest.to_hex());
        let first = self.expected(side, &situation.key, situation.replica(side))?;
        let op = self.op_id(&situation.node);
        let size = source.digest.size;
        let sent = if size <= PUT_BYTES_MAX.min(store.capabilities().put_bytes_max) {
            let _memory = self.upload_memory(size).await;
            let body = source.bytes.read(0, usize::try_from(size).expect("fits in one request"))?;
            if !source.bytes.is_unchanged() || body.len() as u64 != size {
                return Ok(Outcome::Later("it was written while it was read"));
            }
            self.replace(side, &situation.key, &op, first, Write::Put(&body, &meta)).await
        } else {
            match self.put_in_parts(side, situation, &source, &meta, first).await? {
                Some(placed) => Ok(placed),
                None => return Ok(Outcome::Later("it was written while it was read")),
            }
        };
        let placed = sent?;
        let attr_version = if placed.meta_is_current { situation.node.attr_version } else { 0 };
        self.record_receipt(side, situation, placed.etag, attr_version, Some((*source.digest).clone())).await
    }

    /// The store may have the content under another name of the file: then it is copied there and not sent
    /// once more. `None`: it must be sent.
    async fn copy_twin(&self, side: Side, situation: &Situation) -> BridgeResult<Option<Outcome>> {
        let node = &situation.node;
        if node.links == 1 {
            return Ok(None);
        }
        let Some(seen) = blocking(|| self.ledger.twin(node, side))? else {
            return self.twin_under_way(side, node);
        };
        // A change of its attributes gives it another tag, and must not come in between.
        let Some(_source) = self.replicator.locks.try_lock(side, &[&seen.receipt.key]) else {
            return Ok(Some(Outcome::Later("its other name is being changed")));
        };
        let now = blocking(|| self.ledger.replicas(seen.name))?[side].take();
        let Some(twin) = now.filter(|now| *now == seen) else {
            return Ok(Some(Outcome::Later("its other name was changed")));
        };
        let meta = self.meta_of(situation)?;
        let first = self.expected(side, &situation.key, situation.replica(side))?;
        let write = Write::Copy(&twin.receipt.key, &twin.receipt.etag, &meta);
        match self.replace(side, &situation.key, &self.op_id(node), first, write).await {
            Ok(placed) => {
                let carried = if placed.meta_is_current { twin.attr_version } else { 0 };
                self.record_receipt(side, situation, placed.etag, carried, None).await.map(Some)
            }
            Err(error) => {
                if let Some(source) = self.situation(twin.name)? {
                    self.check_source(side, &source, &twin.receipt).await?;
                }
                if error.store_kind() == Some(ErrorKind::Unsupported) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// While the first name's upload runs, the others wait for it. Only while it runs: what it has to wait
    /// for may be one of them.
    fn twin_under_way(&self, side: Side, node: &Node) -> BridgeResult<Option<Outcome>> {
        let first = LinkId::first(node.ino);
        let Some(key) = blocking(|| self.ledger.key_of(first))?.filter(|_| node.link != first) else {
            return Ok(None);
        };
        let running = self.replicator.locks.try_lock(side, &[&key]).is_none();
        Ok(running.then_some(Outcome::Later("it is being sent under another name")))
    }

    /// The content to send, quiet and digested; `None` while it is being written.
    async fn source(&self, situation: &Situation) -> BridgeResult<Option<Source>> {
        let node = &situation.node;
        if node.kind.is_fixed() {
            let bytes = Bytes::from(node.target.clone().unwrap_or_default().into_vec());
            let digest = Arc::new(ContentDigest::of(&bytes));
            return Ok(Some(Source { bytes: SourceBytes::Fixed(bytes), digest }));
        }
        let lease = match self.staged(node.ino)? {
            Some(lease) => lease,
            None => self.bring_back(situation).await?,
        };
        let Some(committed) = self.staging.get(node.ino).filter(|c| c.version == node.version) else {
            return self.commit_leftover(node, &lease).await;
        };
        let bytes = match &committed.snapshot {
            Some(snapshot) => SourceBytes::Snapshot(Arc::clone(snapshot)),
            None => SourceBytes::Staged(lease, committed.generation),
        };
        let digest = committed.digest.get_or_try_init(async || self.digest(&bytes).map(Arc::new)).await;
        match digest {
            Ok(digest) if bytes.is_unchanged() && digest.size == node.size => {
                Ok(Some(Source { bytes, digest: Arc::clone(digest) }))
            }
            Err(error) if error.kind() != BridgeErrorKind::Stale => Err(error),
            Ok(_) | Err(_) => match &bytes {
                SourceBytes::Staged(lease, _) => self.commit_leftover(node, lease).await,
                SourceBytes::Fixed(_) | SourceBytes::Snapshot(_) => Ok(None),
            },
        }
    }

    /// The staged file differs from the version that was committed: somebody goes on writing, and will
    /// commit. If that takes too long, a copy of the file as it is now is committed in its place, so that
    /// a file which is never quiet still reaches the stores.
    async fn commit_leftover(&self, node: &Node, lease: &Lease) -> BridgeResult<Option<Source>> {
        if !self.staging.is_overdue(node.ino) {
            return Ok(None);
        }
        let snapshot =
            blocking(|| lease.snapshot()).map_err(|e| BridgeError::from_disk("copy a staged file", e))?;
        let _route = self.flips.read().await;
        let targets = self.targets_of(node.ino)?;
        let now = self.clock.now();
        let commit = Commit { size: snapshot.len(), mtime: now, ctime: now, targets };
        let version = self.ledger.commit(node.ino, commit).await?;
        self.staging.set_snapshot(node.ino, version, snapshot);
        self.replicator.wake_all();
        Ok(None)
    }

    /// One pass over a staged file that was just brought in.
    pub(crate) fn digest_of(&self, lease: &Lease) -> BridgeResult<ContentDigest> {
        self.digest(&SourceBytes::Staged(lease.clone(), lease.generation()))
    }

    /// One pass over a content. `Stale` if it was written meanwhile.
    fn digest(&self, bytes: &SourceBytes) -> BridgeResult<ContentDigest> {
        let mut hasher = ContentHasher::default();
        let mut offset = 0;
        loop {
            let piece = bytes.read(offset, READ_BYTES)?;
            if piece.is_empty() {
                break;
            }
            hasher.update(&piece);
            offset += piece.len() as u64;
        }
        if bytes.is_unchanged() {
            Ok(hasher.finish())
        } else {
            Err(BridgeError::new(BridgeErrorKind::Stale, "written while it was digested"))
        }
    }

    /// No staged file is left, so a store that has the version gives the content.
    async fn bring_back(&self, situation: &Situation) -> BridgeResult<Lease> {
        let content = self.open(situation.node.ino).await?;
        let lease = self.stage(&content, content.size()).await?;
        let digest = match content.digest.as_deref() {
            Some(known) => known.clone(),
            None => self.digest_of(&lease)?,
        };
        self.staging.set(situation.node.ino, content.version(), lease.generation(), Some(digest));
        Ok(lease)
    }

    /// Sends parts side by side and puts them together; `None` if the file was written meanwhile.
    async fn put_in_parts(
        &self,
        side: Side,
        situation: &Situation,
        source: &Source,
        meta: &ObjectMeta,
        first: Condition,
    ) -> BridgeResult<Option<Placed>> {
        let store = &self.handle(side).store;
        let key = &situation.key;
        let failed = |e| self.failed_write(side, key, e);
        let upload = store.start_upload(key, meta).await.map_err(failed)?;
        self.begin_upload(side, key, &upload).await?;
        let sent = self.send_parts(side, key, &upload, source).await;
        let parts = match sent {
            Ok(parts) if source.bytes.is_unchanged() => parts,
            Ok(_) => {
                self.give_up(side, key, &upload).await;
                return Ok(None);
            }
            Err(error) => {
                self.give_up(side, key, &upload).await;
                return Err(error);
            }
        };
        let op = self.op_id(&situation.node);
        let write = Write::Complete(&upload, &parts, meta);
        let placed = self.replace(side, key, &op, first, write).await;
        match &placed {
            Ok(_) => self.end_upload(side, &upload).await,
            Err(_) => self.give_up(side, key, &upload).await,
        }
        placed.map(Some)
    }

    async fn send_parts(
        &self,
        side: Side,
        key: &Key,
        upload: &UploadId,
        source: &Source,
    ) -> BridgeResult<Vec<PartReceipt>> {
        let store = &self.handle(side).store;
        let size = source.digest.size;
        let limits = store.capabilities();
        let part_bytes =
            PART_BYTES.max(limits.part_bytes_min).max(size.div_ceil(u64::from(limits.parts_max.max(1))));
        let numbers = 0..size.div_ceil(part_bytes);
        stream::iter(numbers)
            .map(|index| async move {
                let offset = index * part_bytes;
                let len = part_bytes.min(size - offset);
                let _memory = self.upload_memory(len).await;
                let body = source.bytes.read(offset, usize::try_from(len).expect("a part fits in memory"))?;
                let number = u32::try_from(index + 1).expect("the parts are as many as the store takes");
                let part = self.send_part(side, key, upload, number, body).await;
                part.map_err(|e| BridgeError::from_store(side, e).on(key))
            })
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await
    }

    /// A part that fails is sent again, as the same part is the same bytes: else one bad answer in a thousand
    /// would keep a file of a thousand parts from ever arriving.
    async fn send_part(
        &self,
        side: Side,
        key: &Key,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> StoreResult<PartReceipt> {
        let StoreHandle { store, breaker, .. } = self.handle(side);
        let mut pause = PART_PAUSE;
        loop {
            match store.put_part(key, upload, number, body.clone()).await {
                Ok(part) => {
                    self.replicator.acceptance(side).accepted();
                    return Ok(part);
                }
                Err(e) if is_passing(e.kind()) && pause <= PART_PAUSE_LAST && !breaker.is_open() => {
                    tracing::debug!(%side, %key, number, error = %e, "a part is sent again");
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Parts that will not become an object cost money until they are given up. If that fails too, the next
    /// start does it.
    async fn give_up(&self, side: Side, key: &Key, upload: &UploadId) {
        match self.handle(side).store.abort_upload(key, upload).await {
            Ok(()) => self.end_upload(side, upload).await,
            Err(error) => {
                tracing::info!(%side, %key, %error, "parts of an upload are left behind until the next start");
            }
        }
    }

    /// A share of the memory for uploads. One that is larger than all of it gets all of it.
    async fn upload_memory(&self, bytes: u64) -> tokio::sync::SemaphorePermit<'_> {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.replicator.memory_units);
        self.replicator.memory.acquire_many(units).await.expect("the semaphore is never closed")
    }
}

/// Whether the same request may well succeed in a moment.
fn is_passing(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable | ErrorKind::Throttled => true,
        ErrorKind::NotFound
        | ErrorKind::PreconditionFailed
        | ErrorKind::Denied
        | ErrorKind::Locked
        | ErrorKind::Unsupported
        | ErrorKind::Corrupt => false,
    }
}
