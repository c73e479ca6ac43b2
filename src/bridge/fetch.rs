//! One block, from whichever store has the version: the preferred one first, the other if that one is
//! sick, does not have it or sends something else than was promised.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use crate::bridge::patience::PAUSE;
use crate::bridge::{Bridge, BridgeError, BridgeErrorKind, BridgeResult, Content, Counts, blocking, router};
use crate::clock::{Instant, sleep};
use crate::ledger::{FindingKind, NewFinding, Node, Replica};
use crate::object::{
    BLOCK_BYTES, ContentHasher, Digest, ETag, Ino, Key, LinkId, OpId, PerSide, Receipt, Side, Version,
};
use crate::store::{ByteRange, ErrorKind, ObjectInfo, StoreError};

/// An object with another tag than its receipt says is digested as a whole up to this length, in bytes.
pub(crate) const RETAGGED_BYTES_MAX: u64 = 64 << 20;

/// How often an object must read the same before it is called another's: a line that flips bits must not make an
/// object of ours a stranger, and of a tiny one it flips the same bit twice.
fn reads_alike(size: u64) -> u32 {
    if size < 4096 { 4 } else { 2 }
}

/// What a failed read says of the replica that it asked for.
enum Judgement {
    /// Nothing: ask again, or elsewhere.
    Unknown,
    /// It is there all the same; if under another tag or key, the ledger now knows.
    There,
    /// The store does not have what it confirmed.
    Wrong,
}

impl Bridge {
    /// Fetches block `index`, checked. Tries again until the deadline while a store that has it is
    /// unknown; a store that answered wrongly is reported and not asked again.
    pub(crate) async fn fetch_block(&self, content: &Content, index: u64) -> BridgeResult<Bytes> {
        let deadline = Instant::now() + self.settings.op_deadline;
        loop {
            let failure = match self.fetch_round(content, index).await? {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => failure,
            };
            if failure.kind() != BridgeErrorKind::Unavailable || Instant::now() >= deadline {
                return Err(failure);
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks each store that has the version once. The outer error is final.
    async fn fetch_round(&self, content: &Content, index: u64) -> BridgeResult<BridgeResult<Bytes>> {
        let (node, replicas) = self.replicas_of(content)?;
        let key = blocking(|| self.ledger.key_of(node.link))?;
        let order = self.routing(key.as_ref()).read_order(&node, &replicas);
        let mut failure = None;
        for (rank, side) in order.iter().copied().enumerate() {
            let Some(replica) = &replicas[side] else { continue };
            match self.fetch_sure(side, &replica.receipt, content, index).await {
                Ok(bytes) => {
                    if rank > 0 {
                        Counts::bump(&self.counts.fallback_reads);
                    }
                    return Ok(Ok(bytes));
                }
                Err(error) => {
                    // What is unknown outweighs what is wrong: trying again can still bring the bytes.
                    match self.judge_read(content, side, replica, &error).await? {
                        Judgement::Unknown => failure = Some(BridgeError::from_store(side, error)),
                        Judgement::Wrong if failure.is_some() => {}
                        Judgement::Wrong => failure = Some(BridgeError::from_store(side, error)),
                        Judgement::There => {
                            let detail =
                                "the store has it, but did not give it as it was asked for; asked again";
                            failure = Some(BridgeError::new(BridgeErrorKind::Unavailable, detail));
                        }
                    }
                }
            }
        }
        match failure {
            Some(failure) => Ok(Err(failure)),
            None => Ok(Err(self.nowhere(content.ino(), content.version())?)),
        }
    }

    /// No store has the content: not any more, or it was lost before any of them had it.
    pub(crate) fn nowhere(&self, ino: Ino, version: Version) -> BridgeResult<BridgeError> {
        Ok(if blocking(|| self.ledger.is_unconfirmed(ino, version))? {
            let detail = format!(
                "version {version} of it was lost on this host before any store had it: see `bridgefs findings`"
            );
            BridgeError::new(BridgeErrorKind::Lost, detail)
        } else {
            let detail = format!("no store has version {version} of it any more");
            BridgeError::new(BridgeErrorKind::Stale, detail)
        })
    }

    /// The replicas as they are now: a rename moves them. A node that has left the tree is read from where
    /// it was then, one that has a newer version from where it was when it was opened.
    fn replicas_of(&self, content: &Content) -> BridgeResult<(Node, PerSide<Option<Replica>>)> {
        blocking(|| match self.ledger.readable_node(content.ino())? {
            Some((node, replicas)) if node.version == content.version() => Ok((node, replicas)),
            Some(_) => Ok(((*content.node).clone(), (*content.replicas).clone())),
            None => {
                let held = self.replicator.held(content.ino());
                let held = held.filter(|held| held.iter().any(|(_, r)| is_of(r.as_ref(), content)));
                Ok(((*content.node).clone(), held.unwrap_or_else(|| (*content.replicas).clone())))
            }
        })
    }

    /// One block from one store. Bytes that are wrong once may have become so on their way: only what is wrong
    /// twice is wrong in the store.
    pub(crate) async fn fetch_sure(
        &self,
        side: Side,
        receipt: &Receipt,
        content: &Content,
        index: u64,
    ) -> Result<Bytes, StoreError> {
        match self.fetch_from(side, receipt, content, index).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::info!(%side, key = %receipt.key, %error, "read once more");
                self.fetch_from(side, receipt, content, index).await
            }
            other => other,
        }
    }

    async fn fetch_from(
        &self,
        side: Side,
        receipt: &Receipt,
        content: &Content,
        index: u64,
    ) -> Result<Bytes, StoreError> {
        let (start, len) = content.block_span(index);
        let whole = content.size() <= BLOCK_BYTES;
        let range = if whole { ByteRange::All } else { ByteRange::Part { start, len } };
        let known = Some(&receipt.etag).filter(|etag| !etag.as_str().is_empty());
        let download = self.handle(side).store.get(&receipt.key, range, known).await?;
        let corrupt = |detail: String| StoreError::new(ErrorKind::Corrupt, "get", detail).on(&receipt.key);
        if known.is_some_and(|etag| *etag != download.info.etag) {
            let detail = format!("asked for {}, got {}", receipt.etag, download.info.etag);
            return Err(StoreError::new(ErrorKind::PreconditionFailed, "get", detail).on(&receipt.key));
        }
        if download.info.size != content.size() {
            return Err(corrupt(format!("{} bytes instead of {}", download.info.size, content.size())));
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(len).expect("a block fits in memory"));
        let mut body = download.body;
        while let Some(piece) = body.try_next().await? {
            if bytes.len() as u64 + piece.len() as u64 > len {
                return Err(corrupt("more bytes than were asked for".to_owned()));
            }
            bytes.extend_from_slice(&piece);
        }
        let bytes = bytes.freeze();
        check_block(content, index, len, whole, &bytes).map_err(corrupt)?;
        Ok(bytes)
    }

    /// What a failed read says of the replica: unknown leaves it, anything else is a finding and the
    /// replica is made again.
    async fn judge_read(
        &self,
        content: &Content,
        side: Side,
        replica: &Replica,
        error: &StoreError,
    ) -> BridgeResult<Judgement> {
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Denied | ErrorKind::Locked => {
                Ok(Judgement::Unknown)
            }
            ErrorKind::NotFound | ErrorKind::PreconditionFailed | ErrorKind::Unsupported => {
                if self.is_there(content, side, replica).await? {
                    return Ok(Judgement::There);
                }
                self.report_missing(replica.name, side, &replica.receipt).await?;
                Ok(Judgement::Wrong)
            }
            ErrorKind::Corrupt => {
                self.report_mismatch(replica.name, side, &replica.receipt, error).await?;
                Ok(Judgement::Wrong)
            }
        }
    }

    /// Whether the very version stands there: as the receipt says, so that the answer to the read was a mistake, or
    /// under another tag or key than was asked for. A change of attributes gives the object a new tag, and a rename a
    /// new key; between that and the receipt (which a crash may have lost) a read would take our own change for
    /// somebody else's.
    async fn is_there(&self, content: &Content, side: Side, replica: &Replica) -> BridgeResult<bool> {
        let receipt = &replica.receipt;
        let info = match self.handle(side).store.head(&receipt.key).await {
            Ok(info) => Some(info),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            // Nothing is known now, so nothing is said of the replica.
            Err(_) => return Ok(true),
        };
        // Of this version: one that was overwritten is not there however often it is asked for.
        let (_, now) = self.replicas_of(content)?;
        if now[side].as_ref().is_some_and(|r| r.receipt != *receipt) {
            return Ok(true);
        }
        if info.as_ref().is_some_and(|info| is_as_confirmed(info, receipt)) {
            return Ok(true);
        }
        let Some(info) = info else { return Ok(false) };
        match self.is_version(&content.node, side, receipt, &info).await {
            Ok(Some(true)) => {
                self.take_tag(&content.node, replica, side, info.etag).await?;
                Ok(true)
            }
            Ok(Some(false) | None) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    /// Whether what stands there, under another tag than the receipt's, is this very version. `None`: its metadata does
    /// not say that it is.
    pub(crate) async fn is_version(
        &self,
        node: &Node,
        side: Side,
        receipt: &Receipt,
        info: &ObjectInfo,
    ) -> Result<Option<bool>, StoreError> {
        let op = self.op_id(node);
        if info.meta.user.get("bridgefs_op").is_none_or(|named| named != op.as_str()) {
            return Ok(None);
        }
        if info.size != receipt.size || info.size > RETAGGED_BYTES_MAX {
            // A large one is not read twice: its blocks are checked one by one as they are read.
            return Ok(Some(info.size == receipt.size));
        }
        self.is_our_upload(side, &receipt.key, info).await.map(Some)
    }

    /// The object that a replica is has this tag now.
    pub(crate) async fn take_tag(
        &self,
        node: &Node,
        replica: &Replica,
        side: Side,
        etag: ETag,
    ) -> BridgeResult<()> {
        self.replicator.retagged(node.ino, side, &replica.receipt, &etag);
        self.ledger.retagged(replica.name, side, &replica.receipt, etag).await?;
        self.replicator.wake_all();
        Ok(())
    }

    /// A store does not have what its receipt says.
    pub(crate) async fn report_missing(
        &self,
        name: LinkId,
        side: Side,
        receipt: &Receipt,
    ) -> BridgeResult<()> {
        let detail = format!(
            "the {side} store gave a receipt for version {} (ETag {}), but now has nothing or something else \
             there. Reads come from the other store if it has the version; the object is written again from \
             there. Somebody deleted or replaced it without the mount: find out who.",
            receipt.version, receipt.etag
        );
        self.mark(name, side, receipt, FindingKind::Missing, detail).await
    }

    async fn report_mismatch(
        &self,
        name: LinkId,
        side: Side,
        receipt: &Receipt,
        error: &StoreError,
    ) -> BridgeResult<()> {
        let detail = format!(
            "the {side} store sent bytes that are not those of version {}: {error}. They were not served: \
             reads come from the other store, and the object is written again from there.",
            receipt.version
        );
        self.mark(name, side, receipt, FindingKind::Mismatch, detail).await
    }

    async fn mark(
        &self,
        name: LinkId,
        side: Side,
        receipt: &Receipt,
        kind: FindingKind,
        detail: String,
    ) -> BridgeResult<()> {
        let finding = NewFinding { kind, side: Some(side), key: Some(receipt.key.clone()), detail };
        self.ledger.mark_mismatched(name, side, receipt, finding).await?;
        self.replicator.wake_all();
        Ok(())
    }

    /// Someone changed a bucket behind the mount.
    pub(crate) async fn report_bypass(
        &self,
        side: Side,
        key: &Key,
        info: &ObjectInfo,
        done: &str,
    ) -> BridgeResult<()> {
        let detail = format!(
            "the {side} store holds an object (ETag {}, {} bytes) that did not come through this mount. {done} \
             Find out who writes to the bucket and let them use the mount.",
            info.etag, info.size
        );
        let finding =
            NewFinding { kind: FindingKind::Bypass, side: Some(side), key: Some(key.clone()), detail };
        Ok(self.ledger.find(finding).await?)
    }

    /// Whether an object is an upload of this bridge, byte for byte. Its metadata alone proves nothing: other
    /// programs keep it when they replace the content (rclone does). So it is read and digested; that happens only
    /// where something else stands than a receipt says. An object that was there before the bridge, and of which
    /// it has only set the metadata, has no digest there; if none is known here either, what its metadata says is
    /// all that can be said, and the bytes are still what they were.
    pub(crate) async fn is_our_upload(
        &self,
        side: Side,
        key: &Key,
        info: &ObjectInfo,
    ) -> Result<bool, StoreError> {
        if !self.is_ours(info) {
            return Ok(false);
        }
        let named = info.meta.user.get("blake3").and_then(|hex| Digest::from_hex(hex));
        let op = info.meta.user.get("bridgefs_op").map(|raw| OpId::from_metadata(raw));
        let known = || op.and_then(|op| self.known_digest(&op));
        let Some(named) = named.or_else(known) else { return Ok(true) };
        let mut before = None;
        for _ in 0..reads_alike(info.size) {
            let found = self.digest_object(side, key, info).await?;
            if found == named {
                return Ok(true);
            }
            if before.is_some_and(|before| before != found) {
                let detail = "it reads differently each time: what it is cannot be said now";
                return Err(StoreError::new(ErrorKind::Corrupt, "get", detail).on(key));
            }
            before = Some(found);
        }
        Ok(false)
    }

    /// The digest of the content that an upload's id names.
    pub(crate) fn known_digest(&self, op: &OpId) -> Option<Digest> {
        let (ino, version) = op.content()?;
        let known = blocking(|| self.ledger.content(ino)).ok().flatten();
        known.filter(|(of, _)| *of == version).map(|(_, content)| content.digest)
    }

    /// The digest of an object as it reads now, in exactly the state `info`.
    pub(crate) async fn digest_object(
        &self,
        side: Side,
        key: &Key,
        info: &ObjectInfo,
    ) -> Result<Digest, StoreError> {
        let download = self.handle(side).store.get(key, ByteRange::All, Some(&info.etag)).await?;
        let mut hasher = ContentHasher::default();
        let mut body = download.body;
        while let Some(piece) = body.try_next().await? {
            hasher.update(&piece);
        }
        Ok(hasher.finish().digest)
    }

    /// Whether an object carries the metadata of an upload of this bridge.
    pub(crate) fn is_ours(&self, info: &ObjectInfo) -> bool {
        info.meta.user.get("bridgefs_op").is_some_and(|op| op.starts_with(self.ledger.bridge_id()))
    }
}

/// Whether a store shows the very object of a receipt. Of what was only listed the tag may not be known.
pub(crate) fn is_as_confirmed(info: &ObjectInfo, receipt: &Receipt) -> bool {
    !receipt.etag.as_str().is_empty() && info.etag == receipt.etag && info.size == receipt.size
}

/// Whether a replica has the version that was opened.
fn is_of(replica: Option<&Replica>, content: &Content) -> bool {
    replica.is_some_and(|replica| router::is_current(replica, &content.node))
}

/// Length, then the strongest checksum that is known for these bytes.
fn check_block(content: &Content, index: u64, len: u64, whole: bool, bytes: &Bytes) -> Result<(), String> {
    if bytes.len() as u64 != len {
        return Err(format!("{} bytes instead of {len}", bytes.len()));
    }
    if let Some(sum) = content.block_sum(index)
        && crc32fast::hash(bytes) != sum
    {
        return Err(format!("the checksum of block {index} is wrong"));
    }
    match &content.digest {
        Some(known) if whole && Digest::of(bytes) != known.digest => Err("the digest is wrong".to_owned()),
        Some(_) | None => Ok(()),
    }
}
