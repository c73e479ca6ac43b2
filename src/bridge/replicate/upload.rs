//! Content to a store: from the staged file, checked against one pass over it, in one request or in parts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::condition::{Placed, Write};
use super::source::{Source, SourceBytes};
use super::sync::{Made, Situation};
use super::{MEMORY_UNIT, Outcome};
use crate::bridge::{Bridge, BridgeError, BridgeResult, StoreHandle, blocking, router};
use crate::clock::sleep;
use crate::ledger::{ATTRS_UNKNOWN, Replica};
use crate::object::{Key, LinkId, Side};
use crate::store::{Condition, ErrorKind, ObjectMeta, PartReceipt, UploadId};

/// Objects up to this size go in one request, in bytes.
const PUT_BYTES_MAX: u64 = 8 << 20;
/// The usual size of a part, in bytes.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one upload under way at once.
const PARTS_AT_ONCE: usize = 4;
/// The pause before a part that failed is sent again: doubled each time, up to the last one.
const PART_PAUSE: Duration = Duration::from_millis(100);
const PART_PAUSE_LAST: Duration = Duration::from_millis(1600);

impl Bridge {
    /// Uploads a node's content under its key.
    pub(super) async fn put(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let store = &self.handle(side).store;
        if let Err(e) = store.check_key(&situation.key) {
            return Err(BridgeError::from_store(side, e).on(&situation.key));
        }
        // Before the look for a twin: once one is here, which has all that it had there, this is not known any more.
        let has_it = |replica: &Replica| router::is_current(replica, &situation.node);
        let from = if situation.replica(side).is_some_and(has_it) { side } else { side.other() };
        let found = self.found_on(from, &situation.node)?;
        if let Some(outcome) = self.copy_twin(side, situation).await? {
            return Ok(outcome);
        }
        let Some(source) = self.source(side, situation).await? else {
            return self.not_now(side, situation);
        };
        let Some(situation) = &self.situation_of(&source, situation)? else {
            return self.not_now(side, situation);
        };
        self.replicator.held_back.let_go(situation.node.link, side);
        let ours = self.meta_of(situation)?;
        let mut meta = self.with_inherited(from, &situation.node, found, ours).await?;
        meta.user.insert("blake3".to_owned(), source.digest.digest.to_hex());
        let first = self.expected(side, &situation.key, situation.replica(side))?;
        let op = self.op_id(&situation.node);
        let size = source.digest.size;
        let sent = if size <= PUT_BYTES_MAX.min(store.capabilities().put_bytes_max) {
            let _memory = self.upload_memory(side, size).await;
            let body = source.bytes.read(0, usize::try_from(size).expect("fits in one request"))?;
            if !source.bytes.is_unchanged() || body.len() as u64 != size {
                return self.not_now(side, situation);
            }
            self.replace(side, &situation.key, &op, first, Write::Put(&body, &meta)).await
        } else {
            match self.put_in_parts(side, situation, &source, &meta, first).await? {
                Some(placed) => Ok(placed),
                None => return self.not_now(side, situation),
            }
        };
        let placed = sent?;
        self.staging.arrived(situation.node.link, side);
        let attr_version = if placed.meta_is_current { situation.node.attr_version } else { ATTRS_UNKNOWN };
        self.record_receipt(side, situation, placed.etag, attr_version, Made::Sent((*source.digest).clone()))
            .await
    }

    /// Nothing was sent, because the content is being written or is not wanted here any more: then the ledger
    /// says what is.
    fn not_now(&self, side: Side, situation: &Situation) -> BridgeResult<Outcome> {
        let link = situation.node.link;
        if self.still_puts(side, situation)? {
            self.staging.overtaken(link, side);
            return Ok(Outcome::Later("it is being written"));
        }
        self.staging.arrived(link, side);
        Ok(Outcome::Done)
    }

    /// What is sent with this content. Bringing it back may have read the attributes for the first time; a copy is sent
    /// as the version that it is, though there may be newer ones by now. `None`: it is overtaken.
    fn situation_of(&self, source: &Source, begun: &Situation) -> BridgeResult<Option<Situation>> {
        let now = self.situation(begun.node.link)?.filter(|now| now.key == begun.key);
        let Some(mut now) = now else { return Ok(None) };
        let is_copy = matches!(source.bytes, SourceBytes::Snapshot(_));
        if now.node.version != source.version && !is_copy {
            return Ok(None);
        }
        now.node.version = source.version;
        now.node.size = source.digest.size;
        Ok(Some(now))
    }

    /// The store may have the content under another name of the file: then it is copied there and not sent
    /// once more. `None`: it must be sent.
    async fn copy_twin(&self, side: Side, situation: &Situation) -> BridgeResult<Option<Outcome>> {
        let node = &situation.node;
        if node.links == 1 {
            return Ok(None);
        }
        let Some(seen) = blocking(|| self.ledger.twin(node, side))? else {
            return self.twin_under_way(side, situation);
        };
        // A change of its attributes gives it another tag, and must not come in between.
        let Some(_source) = self.replicator.locks.try_share(side, &seen.receipt.key) else {
            return Ok(Some(Outcome::Later("its other name is being changed")));
        };
        let now = blocking(|| self.ledger.replicas(seen.name))?[side].take();
        let Some(twin) = now.filter(|now| *now == seen) else {
            return Ok(Some(Outcome::Later("its other name was changed")));
        };
        self.replicator.held_back.let_go(node.link, side);
        let meta = self.meta_of(situation)?;
        let first = self.expected(side, &situation.key, situation.replica(side))?;
        let write = Write::Copy(&twin.receipt.key, &twin.receipt.etag, &meta);
        match self.replace(side, &situation.key, &self.op_id(node), first, write).await {
            Ok(placed) => {
                let carried = if placed.meta_is_current { twin.attr_version } else { ATTRS_UNKNOWN };
                self.record_receipt(side, situation, placed.etag, carried, Made::Of(&twin)).await.map(Some)
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
    fn twin_under_way(&self, side: Side, situation: &Situation) -> BridgeResult<Option<Outcome>> {
        let first = LinkId::first(situation.node.ino);
        let Some(key) = blocking(|| self.ledger.key_of(first))? else { return Ok(None) };
        // It may have come to where the object of this name still stands, which is locked by this very step.
        let is_mine = key == situation.key || key == *situation.stands_at(side);
        let running = !is_mine && self.replicator.locks.is_changing(side, &key);
        Ok(running.then_some(Outcome::AfterTwin))
    }

    /// Sends parts side by side and puts them together; `None` if the file was written meanwhile, or is not
    /// wanted there any more.
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
        let sent = self.send_parts(side, situation, &upload, source).await;
        let parts = match sent {
            Ok(Some(parts)) if self.is_worth_sending(side, situation, source)? => parts,
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

    /// Whether what is under way can still become the object: a file of gigabytes is not sent to the end after it
    /// was removed, or written again.
    fn is_worth_sending(&self, side: Side, situation: &Situation, source: &Source) -> BridgeResult<bool> {
        Ok(source.bytes.is_unchanged() && self.still_puts(side, situation)?)
    }

    /// `None`: it was given up halfway.
    async fn send_parts(
        &self,
        side: Side,
        situation: &Situation,
        upload: &UploadId,
        source: &Source,
    ) -> BridgeResult<Option<Vec<PartReceipt>>> {
        let store = &self.handle(side).store;
        let size = source.digest.size;
        let limits = store.capabilities();
        let part_bytes =
            PART_BYTES.max(limits.part_bytes_min).max(size.div_ceil(u64::from(limits.parts_max.max(1))));
        let numbers = 0..size.div_ceil(part_bytes);
        // The parts under way are waited for: one that comes after the upload was given up would stay.
        let given_up = &AtomicBool::new(false);
        let parts: Vec<Option<PartReceipt>> = stream::iter(numbers)
            .map(|index| async move {
                let offset = index * part_bytes;
                let len = part_bytes.min(size - offset);
                let _memory = self.upload_memory(side, len).await;
                if given_up.load(Ordering::Relaxed) || !self.is_worth_sending(side, situation, source)? {
                    given_up.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                let body = source.bytes.read(offset, usize::try_from(len).expect("a part fits in memory"))?;
                let number = u32::try_from(index + 1).expect("the parts are as many as the store takes");
                self.send_part(side, situation, upload, number, body).await.map(Some)
            })
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(parts.into_iter().collect())
    }

    /// A part that fails is sent again, as the same part is the same bytes: else one bad answer in a thousand
    /// would keep a file of a thousand parts from ever arriving.
    async fn send_part(
        &self,
        side: Side,
        situation: &Situation,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> BridgeResult<PartReceipt> {
        let StoreHandle { store, breaker, .. } = self.handle(side);
        let key = &situation.key;
        let mut pause = PART_PAUSE;
        loop {
            let error = match store.put_part(key, upload, number, body.clone()).await {
                Ok(part) => {
                    self.replicator.acceptance(side).accepted();
                    return Ok(part);
                }
                Err(error) => error,
            };
            let again = is_passing(error.kind()) && pause <= PART_PAUSE_LAST && !breaker.is_open();
            if !again || !self.still_puts(side, situation)? {
                return Err(BridgeError::from_store(side, error).on(key));
            }
            tracing::debug!(%side, %key, number, %error, "a part is sent again");
            sleep(pause).await;
            pause *= 2;
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

    /// A share of the memory for uploads to a store. One that is larger than all of it gets all of it.
    async fn upload_memory(&self, side: Side, bytes: u64) -> tokio::sync::SemaphorePermit<'_> {
        let units = u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.replicator.memory_units);
        self.replicator.memory[side].acquire_many(units).await.expect("the semaphore is never closed")
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
